"""Paths that cannot leave the home folder, whatever the session's programs do to it meanwhile.

A path is walked name by name with a handle on each folder, and no name is ever resolved by the system: links
are read and walked by hand. So `..` and links work as long as they stay inside, and one that leads out is a
`Failure` even if it was put there between two looks. (`openat2` would do the same in one call; Python has none.)
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from .failures import Failure, of_system

LINKS_MAX = 40  # as the system itself
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class Place(NamedTuple):
    """Where a path leads: a name in an open folder. The home folder itself is `.` in itself."""

    folder: int
    name: str
    path: str  # as the user knows it, absolute


class Home:
    """The folder nothing leaves."""

    def __init__(self, folder: str) -> None:
        self.folder = os.path.realpath(folder)

    @contextmanager
    def place(self, path: str, *, make_folders: bool = False, follow_last: bool = True) -> Iterator[Place]:
        """A path, absolute or from home, whose last name need not exist. `make_folders`: those on the way are
        made. Without `follow_last`, a link at the end is the place itself."""
        if "\0" in path:
            raise Failure("bad-path", "a path has no NUL")
        handles: list[int] = []
        names: list[str] = []
        try:
            try:
                handles.append(os.open(self.folder, FOLDER))
                last = self._walk(path, handles, names, make_folders, follow_last)
            except OSError as error:
                raise of_system(error, path) from None
            yield Place(handles[-1], last, os.path.join(self.folder, *names, "" if last == "." else last).rstrip("/"))
        finally:
            for handle in handles:
                os.close(handle)

    def _walk(self, path: str, handles: list[int], names: list[str], make: bool, follow_last: bool) -> str:
        """Leaves the handles of the folders on the way, and returns the last name."""
        links = 0
        left = self._from_home(path)
        while left:
            name = left.pop(0)
            if name == "..":
                if len(handles) == 1:
                    raise Failure("outside-home", f"{path}: leads out of the home folder")
                os.close(handles.pop())
                names.pop()
                continue
            target = _link(handles[-1], name) if left or follow_last else None
            if target is not None:
                links += 1
                if links > LINKS_MAX:
                    raise Failure("too-many-links", f"{path}: too many links on the way")
                if target.startswith("/"):
                    left = self._from_home(target) + left
                    while len(handles) > 1:
                        os.close(handles.pop())
                    names.clear()
                else:
                    left = _names(target) + left
                continue
            if not left:
                return name
            if make:
                _make(handles[-1], name)
            handles.append(os.open(name, FOLDER, dir_fd=handles[-1]))
            names.append(name)
        return "."

    def _from_home(self, path: str) -> list[str]:
        names = _names(path)
        if not path.startswith("/"):
            return names
        home = _names(self.folder)
        if names[: len(home)] != home:
            raise Failure("outside-home", f"{path}: lies outside of the home folder")
        return names[len(home) :]


def _names(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


def _link(folder: int, name: str) -> str | None:
    try:
        if stat.S_ISLNK(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode):
            return os.readlink(name, dir_fd=folder)
    except FileNotFoundError:
        pass  # whoever needs it will say so
    except OSError as error:
        if error.errno != errno.EINVAL:  # it was a link a moment ago
            raise
    return None


def _make(folder: int, name: str) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=folder)
