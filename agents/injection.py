"""The runner (`agents/runner`) as it is put into kernels: its code, how it is started, and where the agent meets it.

The code is copied into the agent's folder, by version. So an agent that was upgraded brings a copy of its own, and what
runs goes on with the one it began with. (A copy has some 300 kB, and is kept.)

    <folder>/<version>/                                  the code; read-only in containers
    <folder>/<kernel id>/<incarnation>/runner.sock       in another folder: the socket; only the kernel's user, who
                                                         makes it, and root may go there
"""

import compileall
import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from py_compile import PycInvalidationMode
from typing import Final

SOURCE: Final = Path(__file__).parent / "runner"
SOCKET_NAME: Final = "runner.sock"
SERVICE_DEFINITIONS: Final = "/etc/backend.ai/service-defs"
BOOTSTRAP: Final = "/opt/container/bootstrap.sh"
MODES: Final = ("query", "batch")
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
    sources = {path.name: path.read_bytes() for path in sorted(SOURCE.glob("*.py"))}
    place = folder / f"runner-{hashlib.sha256(repr(sources).encode()).hexdigest()[:16]}"
    if place.exists():
        return place
    folder.mkdir(parents=True, exist_ok=True, mode=0o755)
    draft = Path(tempfile.mkdtemp(dir=folder, prefix="draft-"))
    try:
        for name, source in sources.items():
            (draft / name).write_bytes(source)
        # Of use to Pythons of our own version only: others compile it at each start, which takes them some 0.05 s.
        compileall.compile_dir(draft, quiet=2, invalidation_mode=PycInvalidationMode.UNCHECKED_HASH)
        for path in (draft, *draft.rglob("*")):
            path.chmod(0o755 if path.is_dir() else 0o444)
        with suppress(OSError):  # another agent was first
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def looking(python: str, code: str) -> Sequence[str]:
    """The command that tries whether a Python can run the runner: it ends with 0 and prints the Python's full path."""
    return (python, "-I", "-S", "-c", _LOOK, code)


def answered(printed: str) -> str | None:
    """The path in what was printed; None if that is no path."""
    path = printed.strip()
    return path if path.startswith("/") and len(path.splitlines()) == 1 and path.isprintable() else None


def runner_command(
    python: str, code: str, socket: str, home: str, labels: Mapping[str, str], command: Sequence[str] | None
) -> Sequence[str]:
    """What a kernel's first process is. `labels` are the image's."""
    words = [python, "-I", "-S", code, "--socket", socket, "--home", home]
    kind = labels.get("ai.backend.runtime-type", "python")
    words += ["--runtime-type", kind]
    if path := labels.get("ai.backend.runtime-path"):
        words += ["--runtime-path", path]
    features = labels.get("ai.backend.features", " ".join(MODES)).split()
    words += ["--modes", ",".join(mode for mode in MODES if mode in features and kind != NOT_RUN)]
    words += ["--service-defs", SERVICE_DEFINITIONS, "--bootstrap", BOOTSTRAP]
    return [*words, "--", *command] if command is not None else words


class Sockets:
    """A folder for the socket of each incarnation. The path may be longer than a socket's can be: see
    `agents.relaying.open_socket` and the runner for how both sides get along with that."""

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
