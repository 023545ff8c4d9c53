"""Folders in a kernel that is a process: in a mount namespace of its own, where nobody else sees them.

As root the files of a folder are shown as the kernel's user's (an idmapped mount, Linux 5.12), since each kernel has
another user. An ordinary user's kernels are that user, and need a user namespace to mount anything; where the host lets
nobody have one, a folder that may be written to is reached by a link in the home, and no other can be had.

Run by the keeper in the kernel's process, before it gives up its rights. Of the standard library and `infra.beneath`
only.
"""

import ctypes
import errno
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from infra.beneath import make_folders, open_folder

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_REC, MS_SLAVE = 0x4000, 0x80000
SYS_OPEN_TREE, SYS_MOVE_MOUNT, SYS_MOUNT_SETATTR = 428, 429, 442  # on every architecture
AT_EMPTY_PATH, OPEN_TREE_CLONE = 0x1000, 1
BETWEEN_DESCRIPTORS = 0x04 | 0x40
RDONLY, NOSUID, NODEV, IDMAP = 0x1, 0x2, 0x4, 0x00100000
_FOLDER = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC

libc = ctypes.CDLL(None, use_errno=True)


class _Attributes(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("set", "clear", "propagation", "userns"))


def mount_folders(mounts: Sequence[dict[str, Any]], home: str, uid: int | None) -> None:
    """`mounts`: `root`, `path` and `part` of each, where it goes below the `home` (`at`), whether it is `read_only`.

    `uid`: the kernel's user and group, if that is not ours. Raises OSError.
    """
    if not mounts:
        return
    try:
        if _own_namespace(uid):
            _mount_all(mounts, home, uid)
        elif uid is not None or any(each["read_only"] for each in mounts):
            raise OSError(errno.EPERM, "nobody may have a mount namespace here")
        else:
            _link_all(mounts, home)
    except OSError as error:
        raise OSError(error.errno, f"folders cannot be mounted on this host: {error}") from error


def _own_namespace(uid: int | None) -> bool:
    """Whether it could be had."""
    user, group = os.geteuid(), os.getegid()
    alone = uid is None and user != 0
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS if alone else CLONE_NEWNS) != 0:
        return False
    if alone:
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1")
    # What the host mounts and unmounts from here on shows itself to the kernel, and nothing the other way round.
    _called(libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None))
    return True


def _mount_all(mounts: Sequence[dict[str, Any]], home: str, uid: int | None) -> None:
    place = os.open(home, _FOLDER)
    for each in mounts:
        source = open_folder(each["root"], each["path"], each["part"])
        target = make_folders(place, each["at"], None if uid is None else (uid, uid))
        tree = _called(libc.syscall(SYS_OPEN_TREE, source, b"", AT_EMPTY_PATH | OPEN_TREE_CLONE | os.O_CLOEXEC))
        flags, owner, users = NOSUID | NODEV | (RDONLY if each["read_only"] else 0), os.fstat(source), 0
        if uid is not None and owner.st_uid not in (0, uid):
            flags, users = flags | IDMAP, _as_users(owner, uid)
        how = _Attributes(flags, 0, 0, users)
        _called(libc.syscall(SYS_MOUNT_SETATTR, tree, b"", AT_EMPTY_PATH, ctypes.byref(how), ctypes.sizeof(how)))
        _called(libc.syscall(SYS_MOVE_MOUNT, tree, b"", target, b"", BETWEEN_DESCRIPTORS))


def _as_users(owner: os.stat_result, uid: int) -> int:
    """A user namespace in which what is the owner's, and his group's, is the user's."""
    ready, told = os.pipe()
    done, hold = os.pipe()
    if (child := os.fork()) == 0:
        try:
            os.close(hold)
            if libc.unshare(CLONE_NEWUSER) == 0:
                os.write(told, b"1")
            os.close(told)
            os.read(done, 1)
        finally:
            os._exit(0)
    os.close(told)
    try:
        if not os.read(ready, 1):
            raise OSError(errno.EPERM, "nobody may have a user namespace here")
        Path(f"/proc/{child}/uid_map").write_text(f"{owner.st_uid} {uid} 1")
        Path(f"/proc/{child}/gid_map").write_text(f"{owner.st_gid} {uid} 1")
        return os.open(f"/proc/{child}/ns/user", os.O_RDONLY | os.O_CLOEXEC)
    finally:
        for end in (ready, done, hold):
            os.close(end)
        os.waitpid(child, 0)


def _link_all(mounts: Sequence[dict[str, Any]], home: str) -> None:
    place = os.open(home, _FOLDER)
    for each in mounts:
        parents, _, name = each["at"].rpartition("/")
        folder = make_folders(place, parents)
        with suppress(OSError):  # what an earlier start left
            if os.readlink(name, dir_fd=folder):
                os.unlink(name, dir_fd=folder)
        os.symlink(os.path.join(each["root"], each["path"], each["part"]), name, dir_fd=folder)


def _called(done: int) -> int:
    if done < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return done
