"""Uploads that are not whole yet. What has come lies in a file beside the folder, as long as what has come; when all is
there, it is renamed into the folder. So an upload goes on where it was after whatever happened, and a folder never
holds half a file.

    <uploads>/<pass id>         what has come
    <uploads>/<pass id>.done    all had come: the file gets its place; once it has it, the pass is used up

All of it blocks, and raises `OSError`, `BadPath` and `Refused`.
"""

import os
import stat
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from api.storage.paths import opened_root
from api.storage.places import Place
from api.storage.trees import Owner, give, put
from infra.storage_passes import UPLOAD_SECONDS, UploadPass

_KEPT_SECONDS: Final = UPLOAD_SECONDS + 3600.0  # no pass of that age is good any more, even where clocks differ
_PIECES_MAX: Final = os.sysconf("SC_IOV_MAX")


class Unfinished:
    """One upload. `path`: where in the folder the file comes."""

    def __init__(self, place: Place, given: UploadPass, path: str, owner: Owner) -> None:
        self._place = place
        self._owner = owner
        self._part = place.uploads / given.pass_id
        self._done = place.uploads / f"{given.pass_id}.done"
        self.path = path
        self.size = given.size

    @property
    def is_used_up(self) -> bool:
        return self._done.exists() and not self._part.exists()

    @property
    def offset(self) -> int:
        """How many bytes have come."""
        try:
            return self._part.lstat().st_size
        except FileNotFoundError:
            return self.size if self._done.exists() else 0

    def open(self) -> int:
        """A descriptor to write with."""
        return os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)

    def finish(self) -> None:
        """The file is in its place, on disk. Whoever was killed in it calls it again."""
        handle = self.open()
        try:
            give(handle, self._owner)
            os.fsync(handle)
        finally:
            os.close(handle)
        self._done.touch()
        with opened_root(self._place.root) as root:
            put(root, self.path, self._part, self._owner)


def write(handle: int, pieces: Sequence[bytes], offset: int) -> None:
    """All of them, there."""
    left = [memoryview(piece) for piece in pieces]
    while left:
        count = os.pwritev(handle, left[:_PIECES_MAX], offset)
        offset += count
        while left and count >= len(left[0]):
            count -= len(left.pop(0))
        if count:
            left[0] = left[0][count:]


def left_over(uploads: Path) -> list[Path]:
    """What was being deleted when the process ended."""
    return list(uploads.glob("*.gone"))


def sweep(uploads: Path) -> None:
    """What nobody can go on with is deleted."""
    now = time.time()
    for path in uploads.iterdir():
        with suppress(FileNotFoundError):
            its = path.lstat()
            if now - its.st_mtime > _KEPT_SECONDS and not stat.S_ISDIR(its.st_mode):
                path.unlink()
