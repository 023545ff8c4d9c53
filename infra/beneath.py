"""Opening what lies below a folder, whoever may change what is in that folder meanwhile.

No step of a path leads out: neither `..`, nor a slash in front, nor a symbolic link, wherever it points (whoever only
reads may follow those that stay inside). Linux sees to
that in one call (`openat2`, since 5.6); where it lacks that, each folder is opened below the one before. Of the
standard library only, so that programs can use it that have nothing else.
"""

import ctypes
import errno
import os
import stat
from contextlib import suppress
from typing import Final

_OPENAT2: Final = 437  # on every architecture
_NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x02, 0x04, 0x08
_AGAIN_MAX: Final = 128
"""How often the system may say that somebody renamed a folder on the way just now."""

_libc = ctypes.CDLL(None, use_errno=True)


class _How(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(folder: int, path: str, flags: int, mode: int = 0, *, follow: bool = False) -> int:
    """A descriptor, not inherited by other programs. `folder`: a descriptor too. An empty path, or `.`, is itself.

    `follow`: links are followed that stay inside, where Linux sees to it; else none is, as without it.
    Raises OSError: ELOOP for a link, EXDEV for what leads out, EINVAL for a NUL, and what opening a file raises.
    """
    if "\0" in path:
        raise OSError(errno.EINVAL, "a path has no NUL", path)
    path = path or "."
    flags |= os.O_CLOEXEC
    for _ in range(_AGAIN_MAX):
        how = _How(flags, mode, _BENEATH | _NO_MAGICLINKS | (0 if follow else _NO_SYMLINKS))
        done = _libc.syscall(_OPENAT2, folder, os.fsencode(path), ctypes.byref(how), ctypes.sizeof(how))
        if done >= 0:
            return int(done)
        match error := ctypes.get_errno():
            case errno.EAGAIN | errno.EINTR:
                continue
            case errno.ENOSYS | errno.EPERM:  # a container's filter may answer so for calls that it does not know
                return _walked(folder, path, flags, mode)
            case _:
                raise OSError(error, os.strerror(error), path)
    raise OSError(errno.EAGAIN, os.strerror(errno.EAGAIN), path)


def open_folder(root: str | os.PathLike[str], *steps: str) -> int:
    """A descriptor (O_PATH) of a folder below `root`. No step leads out of where the one before has led."""
    at = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    for step in steps:
        try:
            below = open_beneath(at, step, os.O_PATH | os.O_DIRECTORY)
        finally:
            os.close(at)
        at = below
    return at


def _walked(folder: int, path: str, flags: int, mode: int) -> int:
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/") or ".." in names:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    *before, last = names or ["."]
    at = os.dup(folder)
    for name, how in (*((name, os.O_PATH | os.O_DIRECTORY) for name in before), (last, flags)):
        try:
            below = _step(at, name, how, mode)
        finally:
            os.close(at)
        at = below
    return at


def _step(folder: int, name: str, flags: int, mode: int) -> int:
    try:
        found = os.open(name, flags | os.O_NOFOLLOW | os.O_CLOEXEC, mode, dir_fd=folder)
    except NotADirectoryError:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name) from None
        raise
    if stat.S_ISLNK(os.fstat(found).st_mode):  # O_PATH opens the link itself
        os.close(found)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    return found


def make_folders(folder: int, path: str, owner: tuple[int, int] | None = None) -> int:
    """A descriptor (O_PATH) of the folder there; it and those above it are made where they are missing.

    `owner`: user and group of what is made, if that is not our own. Raises OSError as `open_beneath` does.
    """
    names = [name for name in path.split("/") if name not in ("", ".")]
    if path.startswith("/") or ".." in names:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV), path)
    at = os.dup(folder)
    for name in names:
        try:
            with suppress(FileExistsError):
                os.mkdir(name, 0o755, dir_fd=at)
                if owner is not None:
                    os.chown(name, *owner, dir_fd=at, follow_symlinks=False)
            below = _step(at, name, os.O_PATH | os.O_DIRECTORY, 0)
        finally:
            os.close(at)
        at = below
    return at
