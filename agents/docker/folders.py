"""Folders in containers: bound in from where they lie on the host.

A whole folder of a volume is told to the daemon by its path. A part of one cannot be: what its user made of the path by
the time the daemon walks it is his choice. So it is mounted first, from the descriptor that was checked, below a folder
of ours, which only root can do, and only where the daemon sees what the agent mounts:

    <folder>/<kernel id>/<incarnation>/<number>/     a part of a folder, as long as this incarnation is there

Nothing below is ever deleted but empty folders.
"""

import ctypes
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from agents.docker.container import bind
from agents.given.folders import Folders, Place, in_home
from agents.runtime import StartFailed, Task
from infra.beneath import make_folders

_BIND, _PRIVATE, _DETACH = 0x1000, 0x40000, 0x2
_libc: Final = ctypes.CDLL(None, use_errno=True)


class DockerFolders:
    """For the containers of one daemon. `place`: where parts of folders are mounted."""

    def __init__(self, place: Path, folders: Folders) -> None:
        self._place = place
        self._folders = folders

    def make(self, task: Task, home: Path, owner: tuple[int, int] | None) -> Sequence[Mapping[str, Any]]:
        """The mounts of a container; and what they need in its home, which has this owner if that is not the agent's.

        Raises StartFailed, MountRefused, OSError.
        """
        mounts = []
        for number, mount in enumerate(task.outfit.mounts):
            found = self._folders.find(mount)
            if (at := in_home(mount)) is not None:
                _make_way(home, at, owner)
            source = found.root / found.path if found.settled else self._part(task, number, found)
            mounts.append(bind(source, mount.path, read_only=not mount.permission.writes))
        return mounts

    def release(self, kernel_id: str, incarnation: int) -> None:
        """It has ended. May be repeated."""
        place = self._place / kernel_id / str(incarnation)
        with suppress(FileNotFoundError):
            for part in list(place.iterdir()):
                while _libc.umount2(os.fsencode(part), _DETACH) == 0:  # two starts at once may both have mounted it
                    pass
                with suppress(OSError):
                    part.rmdir()
        for empty in (place, place.parent):
            with suppress(OSError):
                empty.rmdir()

    def forget(self, kernel_id: str) -> None:
        """Nothing of the kernel is kept any more."""
        with suppress(FileNotFoundError):
            for incarnation in list((self._place / kernel_id).iterdir()):
                self.release(kernel_id, int(incarnation.name))

    def _part(self, task: Task, number: int, found: Place) -> Path:
        if os.geteuid() != 0:
            raise StartFailed("only an agent that is root can give containers a part of a folder, or an unmanaged one")
        part = self._place / task.kernel_id / str(task.incarnation) / str(number)
        part.mkdir(parents=True, exist_ok=True, mode=0o711)
        folder = found.open()
        try:
            if not os.path.samestat(os.fstat(folder), os.stat(part)):
                _mount(f"/proc/self/fd/{folder}", part, _BIND)
                _mount("none", part, _PRIVATE)
        finally:
            os.close(folder)
        return part


def _make_way(home: Path, path: str, owner: tuple[int, int] | None) -> None:
    """Where a mount goes in the home there is a folder; what Docker makes itself is root's."""
    place = os.open(home, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.close(make_folders(place, path, owner))
    finally:
        os.close(place)


def _mount(source: str, target: Path, flags: int) -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), None, flags, None) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), str(target))
