"""The runner (`agents/runner`) as it is put into kernels: its code, how it is started, and where the agent meets it.

The code is copied into the agent's folder, by version. So an agent that was upgraded brings a copy of its own, and what
runs goes on with the one it began with. (A copy has some 700 kB, and is kept.)

    <folder>/<version>/                                  the code; read-only in containers
    <folder>/<kernel id>/<incarnation>/runner.sock       in another folder: the socket; only the kernel's user, who
                                                         makes it, and root may go there
"""

import compileall
import hashlib
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

from agents.given.kits import make_once

SOURCE: Final = Path(__file__).parents[1] / "runner"
SOCKET_NAME: Final = "runner.sock"
SERVICE_DEFINITIONS: Final = "/etc/backend.ai/service-defs"
ANY_ADDRESS: Final = "0.0.0.0"
BOOTSTRAP: Final = "/opt/container/bootstrap.sh"
MODES: Final = ("query", "batch")
QUERY_LABELS: Final = {
    "refold.query.command": "--query-command",
    "refold.query.jupyter-kernel": "--jupyter-kernel",
}
"""What runs code in query mode, if it is not our Python (`agents/runner/__init__.py`)."""

NOT_RUN: Final = "app"
"""The runtime type of images that hold services only, and run no code."""

_LOOK: Final = """
import sys
if sys.version_info < (3, 8):
    sys.exit(1)
from importlib import import_module
from os.path import split
folder, name = split(sys.argv[1])
sys.path.insert(0, folder)
import_module(name + ".program")
print(sys.executable)
"""


def install(folder: Path) -> Path:
    """The runner's code below this folder, for whoever may walk there. Made once for each version."""
    paths = sorted((*SOURCE.glob("*.py"), *SOURCE.glob("page/*")))
    sources = {path.relative_to(SOURCE): path.read_bytes() for path in paths}
    place = folder / f"runner-{hashlib.sha256(repr(sources).encode()).hexdigest()[:16]}"

    def fill(draft: Path) -> None:
        for name, source in sources.items():
            (draft / name).parent.mkdir(exist_ok=True)
            (draft / name).write_bytes(source)
        # Of use to Pythons of our own version only: others compile it at each start, which takes them some 0.05 s.
        compileall.compile_dir(draft, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)

    return make_once(place, fill)


def looking(python: str, code: str) -> Sequence[str]:
    """The command that tries whether a Python can run the runner: it ends with 0 and prints the Python's full path."""
    return (python, "-I", "-S", "-c", _LOOK, code)


def answered(printed: str) -> str | None:
    """The path in what was printed; None if that is no path."""
    path = printed.strip()
    return path if path.startswith("/") and len(path.splitlines()) == 1 and path.isprintable() else None


@dataclass(frozen=True)
class Places:
    """Where a kernel finds what: the runner's code, its socket, the home, the folder of
    `agents/given/belongings.py`, and the kit with OpenSSH, if it has one. `web_terminal`: whether nobody
    but its own session and its agent reaches its ports, so that it may have a service that asks nobody who he is."""

    code: str
    socket: str
    home: str
    config: str
    ssh: str | None = None
    web_terminal: bool = False


def runner_command(
    python: str, places: Places, labels: Mapping[str, str], command: Sequence[str] | None
) -> Sequence[str]:
    """What a kernel's first process is. `labels` are the image's."""
    words = [python, "-I", "-S", places.code, "--socket", places.socket, "--home", places.home]
    words += ["--config", places.config]
    if places.ssh is not None:
        words += ["--ssh", places.ssh]
    if places.web_terminal:
        words += ["--web-terminal", ANY_ADDRESS]
    kind = labels.get("ai.backend.runtime-type", "python")
    words += ["--runtime-type", kind]
    if path := labels.get("ai.backend.runtime-path"):
        words += ["--runtime-path", path]
    words += [f"{option}={labels[label]}" for label, option in QUERY_LABELS.items() if label in labels]
    features = labels.get("ai.backend.features", " ".join(MODES)).split()
    words += ["--modes", ",".join(mode for mode in MODES if mode in features and kind != NOT_RUN)]
    words += ["--service-defs", SERVICE_DEFINITIONS, "--bootstrap", BOOTSTRAP]
    return [*words, "--", *command] if command is not None else words


class Sockets:
    """A folder for the socket of each incarnation. The path may be longer than a socket's can be: see
    `agents.door.relaying.open_socket` and the runner for how both sides get along with that."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, kernel_id: str, incarnation: int, owner: tuple[int, int] | None) -> Path:
        """The folder in which the kernel may make its socket. `owner`: user and group, if that is not the agent's."""
        place = self._folder / kernel_id / str(incarnation)
        for folder, mode in ((self._folder, 0o711), (place.parent, 0o711), (place, 0o700)):
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(mode)  # whatever the mask is
        if owner is not None:
            os.chown(place, *owner)
        return place

    def find(self, kernel_id: str) -> Path | None:
        """Where the socket of the latest incarnation is, or will be in a moment."""
        folder = self._folder / kernel_id
        with suppress(FileNotFoundError):
            if incarnations := [int(name) for name in os.listdir(folder)]:
                return folder / str(max(incarnations)) / SOCKET_NAME
        return None

    def remove(self, kernel_id: str, incarnation: int) -> None:
        """Of an incarnation that has ended."""
        shutil.rmtree(self._folder / kernel_id / str(incarnation), ignore_errors=True)
        with suppress(OSError):
            (self._folder / kernel_id).rmdir()
