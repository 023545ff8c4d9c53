"""Paths of users: what one may look like, and what it leads to, which is never outside of the folder, whatever programs
do in it meanwhile (`infra.beneath`). For reading, links are followed that stay inside; for writing, none.

    BadPath        not a path inside of a folder; `rule` says why, `field` which one it was
"""

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.beneath import open_beneath

PATH_BYTES_MAX: Final = 4095  # as the system: 4096 with its NUL
NAME_BYTES_MAX: Final = 255

FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
FILE: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC  # not to hang at a pipe somebody put there


class BadPath(Exception):
    def __init__(self, rule: str, detail: str, field: str) -> None:
        super().__init__(detail)
        self.rule = rule
        self.field = field


def names_of(path: str, field: str = "path") -> list[str]:
    """The names that lead to it; none for the folder itself. `field`: what a client calls it. Raises `BadPath`."""
    try:
        path.encode()
    except UnicodeEncodeError:
        raise BadPath("not_text", "a path is text that can be written as UTF-8", field) from None
    if "\0" in path:
        raise BadPath("nul_character", "a path has no NUL character", field)
    if path.startswith("/"):
        raise BadPath("absolute", "a path begins in the folder, not with /", field)
    names = [name for name in path.split("/") if name not in ("", ".")]
    if ".." in names:
        raise BadPath("leads_out", "a path does not go up by ..", field)
    if any(len(name.encode()) > NAME_BYTES_MAX for name in names):
        raise BadPath("too_long", f"a name has at most {NAME_BYTES_MAX} bytes", field)
    if len("/".join(names).encode()) > PATH_BYTES_MAX:
        raise BadPath("too_long", f"a path has at most {PATH_BYTES_MAX} bytes", field)
    return names


def last_of(path: str, field: str = "path") -> tuple[list[str], str]:
    """The names of the directory it is in, and its own. Raises `BadPath`, also for the folder itself."""
    names = names_of(path, field)
    if not names:
        raise BadPath("the_folder_itself", "this would be the folder itself, not something in it", field)
    return names[:-1], names[-1]


@contextmanager
def opened_root(root: Path) -> Iterator[int]:
    """The folder, as a descriptor for the block. Raises `OSError`."""
    handle = os.open(root, FOLDER | os.O_NOFOLLOW)
    try:
        yield handle
    finally:
        os.close(handle)


@contextmanager
def directory(root: int, names: list[str], *, follow: bool = False) -> Iterator[int]:
    """A directory of the folder, open for the block. Raises `OSError`."""
    handle = open_beneath(root, "/".join(names), FOLDER, follow=follow)
    try:
        yield handle
    finally:
        os.close(handle)


def stat_of(parent: int, name: str) -> os.stat_result | None:
    """What has that name there, itself and not what it links to; None if nothing has."""
    try:
        return os.stat(name, dir_fd=parent, follow_symlinks=False)
    except FileNotFoundError:
        return None


def is_directory(found: os.stat_result | None) -> bool:
    return found is not None and stat.S_ISDIR(found.st_mode)
