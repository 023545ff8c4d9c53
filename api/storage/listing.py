"""What is in a directory, page by page.

The names in a large directory are remembered, so that its next page need not read it again from the beginning.
"""

import os
import stat
import time
from bisect import bisect_right
from contextlib import suppress
from typing import Any, Final
from urllib.parse import quote_from_bytes, unquote_to_bytes

from api.storage.paths import directory, names_of, stat_of

_LARGE: Final = 5_000  # names; fewer are read at once
_REMEMBERED_MAX: Final = 8
_SETTLED_SECONDS: Final = 2.0  # a directory that was changed later than that may change again unseen

_remembered: dict[tuple[int, ...], list[str]] = {}
"""By which directory it is, and when it was changed."""


def listed(root: int, path: str, limit: int, after: str | None) -> tuple[list[dict[str, Any]], str | None]:
    """Up to `limit` entries, by name, and what to give as `after` for those that follow; None: there are no more.

    Blocks. Raises `OSError` and `BadPath`.
    """
    with directory(root, names_of(path), follow=True) as folder:
        names = _names(folder)
        begins = 0 if after is None else bisect_right(names, os.fsdecode(unquote_to_bytes(after)))
        page = names[begins : begins + limit]
        found = [(name, stat_of(folder, name)) for name in page]
        files = [_entry(folder, name, its) for name, its in found if its is not None]
    return files, quote_from_bytes(os.fsencode(page[-1])) if begins + limit < len(names) else None


def shown(name: str) -> str:
    """A name for people: one that is no text cannot be asked for, but is seen."""
    return os.fsencode(name).decode(errors="replace")


def _names(folder: int) -> list[str]:
    its = os.fstat(folder)
    which = (its.st_dev, its.st_ino, its.st_mtime_ns, its.st_ctime_ns)
    names = _remembered.get(which)
    if names is None:
        names = sorted(os.listdir(folder))
        if len(names) > _LARGE and time.time() - its.st_ctime > _SETTLED_SECONDS:
            while len(_remembered) >= _REMEMBERED_MAX:
                _remembered.pop(next(iter(_remembered)), None)
            _remembered[which] = names
    return names


def _entry(folder: int, name: str, its: os.stat_result) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "name": shown(name),
        "type": "FILE",
        "size": its.st_size,
        "mode": its.st_mode,
        "created": its.st_ctime,
        "modified": its.st_mtime,
        "accessed": its.st_atime,
    }
    if stat.S_ISDIR(its.st_mode):
        entry["type"] = "DIRECTORY"
    elif stat.S_ISLNK(its.st_mode):
        entry["type"] = "SYMBOLIC_LINK"
        with suppress(OSError):  # it has just been replaced
            entry["target"] = shown(os.readlink(name, dir_fd=folder))
    return entry
