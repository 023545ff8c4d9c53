"""A walk through a folder that somebody else may change meanwhile, and that never leaves it.

Each folder is entered by its name in the one that is open, never through a symbolic link nor into another file system;
and left by `..`, which must be where the walk came from. So at any depth one file descriptor is enough.
"""

import errno
import os
import stat
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from api.storage.disks.figures import Usage

Tell = Callable[[int], None]
"""So much more is done: so many bytes or files. What it raises ends the work."""

_INTO: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Step:
    """`found`: something other than a folder, called `name` in the open folder `fd`. `entered`: `fd` is that folder
    now. `left`: `fd` is the folder again in which it is called `name`."""

    what: Literal["found", "entered", "left"]
    fd: int
    name: str
    stat: os.stat_result


class Moved(OSError):
    """The folder the walk was in was taken elsewhere."""


def _nobody(_: int) -> None:
    pass


def walk(folder: Path | int) -> Iterator[Step]:
    """Everything below a folder, or one that is open: each folder's files before its folders. What vanishes is passed
    over. Raises `OSError`."""
    fd = os.dup(folder) if isinstance(folder, int) else os.open(folder, _INTO)
    came: list[tuple[os.stat_result, str, os.stat_result, list[str]]] = []
    try:
        device = os.fstat(fd).st_dev
        folders = yield from _files(fd)
        while True:
            if folders:
                name = folders.pop()
                entered = _enter(fd, name, device)
                if entered is None:
                    continue
                came.append((os.fstat(fd), name, os.fstat(entered), folders))
                os.close(fd)
                fd = entered
                yield Step("entered", fd, name, came[-1][2])
                folders = yield from _files(fd)
            elif came:
                above, name, itself, folders = came.pop()
                up = os.open("..", _INTO, dir_fd=fd)
                os.close(fd)
                fd = up
                if not os.path.samestat(os.fstat(fd), above):
                    raise Moved(f"{name!r} was moved while it was read")
                yield Step("left", fd, name, itself)
            else:
                return
    finally:
        os.close(fd)


def measure(folder: Path, tell: Tell = _nobody) -> Usage:
    """What is in it. Raises `OSError`, and what `tell` raises."""
    used = files = 0
    linked: set[int] = set()
    for step in walk(folder):
        if step.what != "found":
            continue
        files += 1
        tell(1)
        if step.stat.st_nlink > 1:
            if step.stat.st_ino in linked:
                continue
            linked.add(step.stat.st_ino)
        used += step.stat.st_size
    return Usage(used, files)


def remove(folder: Path, tell: Tell = _nobody) -> None:
    """Delete it and all below it. What is not there is removed already. Raises `OSError`, and what `tell` raises."""
    try:
        for step in walk(folder):
            if step.what == "found":
                os.unlink(step.name, dir_fd=step.fd)
                tell(1)
            elif step.what == "entered":
                os.fchmod(step.fd, stat.S_IRWXU)  # its owner may have shut it
            else:
                os.rmdir(step.name, dir_fd=step.fd)
        os.rmdir(folder)
    except FileNotFoundError:
        if folder.exists():
            raise


def _files(fd: int) -> Generator[Step, None, list[str]]:
    """Yields what is no folder; returns the names of the folders."""
    folders = []
    with os.scandir(fd) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                folders.append(entry.name)
                continue
            try:
                found = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            yield Step("found", fd, entry.name, found)
    return folders


def _enter(fd: int, name: str, device: int) -> int | None:
    """None: it is no folder (any more), or another file system."""
    try:
        entered = os.open(name, _INTO, dir_fd=fd)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            return None
        raise
    if os.fstat(entered).st_dev == device:
        return entered
    os.close(entered)
    return None
