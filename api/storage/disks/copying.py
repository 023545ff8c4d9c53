"""Copies of folders: as references to the same blocks where the file system can, else by the kernel, holes kept.

A file gets the time of its source when all of it is there, so that a copy begun again passes over what is done.
"""

import ctypes
import errno
import fcntl
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from api.storage.disks.walking import Tell, walk

_FICLONE: Final = 0x40049409
_PIECE_BYTES: Final = 16 * 2**20
_INTO: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT: Final = {errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTTY, errno.ETXTBSY}
"""What the kernel answers when it cannot copy between these two files."""

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


def copy(source: Path, target: Path, owner: tuple[int, int] | None, tell: Tell) -> None:
    """Everything below `source` also below `target`: files, folders and symbolic links; not pipes and the like.

    `owner`: whose it will be. Raises `OSError`, and what `tell` raises. Where the copy is, nobody else is.
    """
    fd = os.open(target, _INTO)
    try:
        for step in walk(source):
            if step.what == "entered":
                fd = _enter(fd, step.name, owner)
            elif step.what == "left":
                fd = _leave(fd, step.stat)
            elif stat.S_ISREG(step.stat.st_mode):
                tell(0)
                _file(step.fd, fd, step.name, step.stat, owner, tell)
            elif stat.S_ISLNK(step.stat.st_mode):
                _link(step.fd, fd, step.name, owner)
        if _LIBC.syncfs(fd):
            raise OSError(ctypes.get_errno(), "what was copied cannot be written to the disk")
    finally:
        os.close(fd)


def _enter(fd: int, name: str, owner: tuple[int, int] | None) -> int:
    with suppress(FileExistsError):
        os.mkdir(name, 0o700, dir_fd=fd)
    into = os.open(name, _INTO, dir_fd=fd)
    try:
        os.fchmod(into, 0o700)
        if owner:
            os.fchown(into, *owner)
    except OSError:
        os.close(into)
        raise
    os.close(fd)
    return into


def _leave(fd: int, its: os.stat_result) -> int:
    """A folder may be read-only, so it gets its mode when all is in it."""
    os.fchmod(fd, stat.S_IMODE(its.st_mode) & 0o1777)
    os.utime(fd, ns=(its.st_atime_ns, its.st_mtime_ns))
    up = os.open("..", _INTO, dir_fd=fd)
    os.close(fd)
    return up


def _file(source: int, target: int, name: str, its: os.stat_result, owner: tuple[int, int] | None, tell: Tell) -> None:
    if _is_done(target, name, its):
        tell(its.st_size)
        return
    try:
        reading = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=source)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP):  # it went, or is a link now
            return
        raise
    try:
        now = os.fstat(reading)
        if not stat.S_ISREG(now.st_mode):
            return
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        writing = os.open(name, flags, 0o600, dir_fd=target)
        try:
            _content(reading, writing, now.st_size, tell)
            if owner:
                os.fchown(writing, *owner)
            os.fchmod(writing, stat.S_IMODE(now.st_mode) & 0o1777)
            os.utime(writing, ns=(now.st_atime_ns, now.st_mtime_ns))
        finally:
            os.close(writing)
    finally:
        os.close(reading)


def _is_done(target: int, name: str, its: os.stat_result) -> bool:
    try:
        there = os.stat(name, dir_fd=target, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return (there.st_size, there.st_mtime_ns) == (its.st_size, its.st_mtime_ns)


def _content(reading: int, writing: int, size: int, tell: Tell) -> None:
    try:
        fcntl.ioctl(writing, _FICLONE, reading)
        tell(size)
        return
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    os.ftruncate(writing, size)
    place = 0
    while place < size:
        begins, ends = _piece(reading, place, size)
        tell(begins - place)
        place = begins
        while place < ends:
            count = _some(reading, writing, place, min(_PIECE_BYTES, ends - place))
            if not count:  # it became shorter
                return
            tell(count)
            place += count


def _piece(reading: int, place: int, size: int) -> tuple[int, int]:
    """Where the next data begin and end; what is before is a hole."""
    try:
        begins = os.lseek(reading, place, os.SEEK_DATA)
        return min(begins, size), min(os.lseek(reading, begins, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a hole up to the end
            return size, size
        raise


def _some(reading: int, writing: int, place: int, count: int) -> int:
    try:
        return os.copy_file_range(reading, writing, count, place, place)
    except OSError as error:
        if error.errno not in _CANNOT:
            raise
    return os.pwrite(writing, os.pread(reading, count, place), place)


def _link(source: int, target: int, name: str, owner: tuple[int, int] | None) -> None:
    try:
        leads = os.readlink(name, dir_fd=source)
        os.symlink(leads, name, dir_fd=target)
    except (FileNotFoundError, FileExistsError):
        return
    except OSError as error:
        if error.errno == errno.EINVAL:  # it is no link any more
            return
        raise
    if owner:
        os.chown(name, *owner, dir_fd=target, follow_symlinks=False)
