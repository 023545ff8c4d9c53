"""Kits: programs of this host that work in any container, whatever C library that has, or none.

A kit is a folder with the programs, every library they load, and the loader itself. patchelf writes into each program
where its loader and its libraries will be, so a kit is good for one place, at which containers have it read-only:

    /opt/refold/ssh       the host's OpenSSH: ssh, ssh-keygen, sshd and what belongs to them
    /opt/refold/python    the agent's own Python with its standard library

Like the runner's code, kits are made once for each version of what they are made of, and kept.
"""

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog

SSH: Final = "/opt/refold/ssh"
PYTHON: Final = "/opt/refold/python"

_RUN_SECONDS_MAX: Final = 60.0
_ELF: Final = b"\x7fELF"
_SBIN: Final = "/usr/sbin:/usr/local/sbin:/sbin"  # not in everybody's PATH
_SSH_PROGRAMS: Final = ("sshd", "ssh", "ssh-keygen")
_SSH_HELPERS: Final = ("sshd-session", "sshd-auth")  # OpenSSH 9.8 divided sshd, 10.0 once more
_HELPER_FOLDERS: Final = ("/usr/lib/openssh", "/usr/libexec/openssh", "/usr/lib/ssh", "/usr/libexec")
_NOT_IN_PYTHON: Final = shutil.ignore_patterns(
    "site-packages", "dist-packages", "test", "tests", "idlelib", "tkinter", "turtledemo", "ensurepip", "lib2to3",
    "pydoc_data", "config-*", "*.a", "*.opt-?.pyc", "_tkinter.*", "_test*", "_ctypes_test*", "xx*",
)  # fmt: skip

_log = structlog.get_logger("agents")


class NoKit(Exception):
    """This host has not what the kit is made of."""


@dataclass(frozen=True)
class Kit:
    """`folder`: on this host; `place`: where containers have it."""

    folder: Path
    place: str

    def program(self, name: str) -> str:
        """Its path in a container."""
        return f"{self.place}/bin/{name}"


def ssh_kit(folder: Path) -> Kit | None:
    """Below this folder; None where the host has no OpenSSH server, or it cannot be put together."""
    try:
        programs = [_found(name) for name in _SSH_PROGRAMS]
        programs += [path for name in _SSH_HELPERS for path in _helper(name)]

        def fill(draft: Path) -> None:
            for program in programs:
                shutil.copy(program, draft / "bin" / program.name)
            _with_libraries(draft, SSH, [draft / "bin" / program.name for program in programs])

        return Kit(_made(folder, "ssh", programs, fill), SSH)
    except (NoKit, OSError, subprocess.SubprocessError) as error:
        _log.warning("sessions on this host have no sshd", reason=str(error))
        return None


def python_kit(folder: Path) -> Kit | None:
    """Below this folder; None where it cannot be put together."""
    try:
        executable = Path(os.path.realpath(getattr(sys, "_base_executable", sys.executable)))
        library = Path(sysconfig.get_path("stdlib"))

        def fill(draft: Path) -> None:
            program = draft / "bin" / "python3"
            shutil.copy(executable, program)
            copied = draft / sys.platlibdir / library.name
            shutil.copytree(library, copied, ignore=_NOT_IN_PYTHON)
            _with_libraries(draft, PYTHON, [program], [*copied.glob("lib-dynload/*.so")])

        return Kit(_made(folder, "python", [executable, library / "os.py"], fill), PYTHON)
    except (NoKit, OSError, subprocess.SubprocessError, shutil.Error) as error:
        _log.warning("images without a Python have no runner on this host", reason=str(error))
        return None


def make_once(place: Path, fill: Callable[[Path], None]) -> Path:
    """A folder that `fill` has filled, for whoever may walk there; read-only. Nobody ever sees half of it."""
    if place.exists():
        return place
    place.parent.mkdir(parents=True, exist_ok=True, mode=0o755)
    draft = Path(tempfile.mkdtemp(dir=place.parent, prefix="draft-"))
    try:
        fill(draft)
        for path in (draft, *draft.rglob("*")):
            if not path.is_symlink():
                path.chmod(0o755 if path.stat().st_mode & stat.S_IXUSR else 0o444)
        with suppress(OSError):  # another agent was first
            draft.rename(place)
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return place


def _made(folder: Path, name: str, sources: Sequence[Path], fill: Callable[[Path], None]) -> Path:
    version = hashlib.sha256()
    for source in (*sources, Path(__file__)):
        version.update(source.read_bytes())

    def filled(draft: Path) -> None:
        (draft / "bin").mkdir()
        (draft / "lib").mkdir()
        fill(draft)

    return make_once(folder / f"{name}-{version.hexdigest()[:16]}", filled)


def _with_libraries(draft: Path, place: str, programs: Sequence[Path], modules: Sequence[Path] = ()) -> None:
    """Copies what the programs and the modules they load need, and makes the programs look for it there."""
    copied = [Path(shutil.copy(library, draft / "lib" / library.name)) for library in _libraries([*programs, *modules])]
    loader = Path(_run(_patchelf(), "--print-interpreter", str(programs[0])).strip())
    shutil.copy(loader, draft / "lib" / loader.name)
    (draft / "lib" / loader.name).chmod(0o755)
    _run(_patchelf(), "--remove-rpath", *map(str, [*copied, *modules]))  # they would be looked for where they came from
    _run(
        _patchelf(),
        *("--set-interpreter", f"{place}/lib/{loader.name}"),
        *("--force-rpath", "--set-rpath", f"{place}/lib"),  # and not as RUNPATH: LD_LIBRARY_PATH would go before it
        *map(str, programs),
    )


def _libraries(files: Iterable[Path]) -> set[Path]:
    """All shared libraries that these load, and these in turn."""
    found: set[Path] = set()
    for line in _run("ldd", *map(str, files)).splitlines():
        _, arrow, told = line.partition("=>")
        path = told.strip().partition(" (")[0]
        if arrow and path == "not found":
            raise NoKit(f"a library is missing: {line.strip()}")
        if arrow and path.startswith("/"):
            found.add(Path(path))
    return found


def _found(program: str) -> Path:
    path = shutil.which(program) or shutil.which(program, path=_SBIN)
    if path is None:
        raise NoKit(f"this host has no {program}")
    with open(path, "rb") as file:
        if file.read(len(_ELF)) != _ELF:
            raise NoKit(f"{path} is no program that could be copied")
    return Path(os.path.realpath(path))


def _helper(name: str) -> list[Path]:
    """The one there is."""
    return [path for folder in _HELPER_FOLDERS if (path := Path(folder) / name).exists()][:1]


def _patchelf() -> str:
    """It comes with the agent, as a Python package."""
    path = shutil.which("patchelf", path=sysconfig.get_path("scripts")) or shutil.which("patchelf")
    if path is None:
        raise NoKit("patchelf is missing")
    return path


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_RUN_SECONDS_MAX, check=False)
    if done.returncode:
        raise NoKit(f"{command[0]} failed: {done.stderr.strip()[-300:]}")
    return done.stdout
