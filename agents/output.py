"""The output of kernels, kept on the agent's host: bounded, rotated, and still there when the kernel is not.

Each incarnation has a file and, once that is half as big as all that may be kept, the one before it:

    <folder>/<kernel id>/1.log.1  1.log  2.log …

so that between half of and all of the bound is there, the latest part. Imports nothing but the standard
library, because the keeper of a process (`agents/process/keeper.py`) writes with it too.
"""

import os
import shutil
import time
from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, Self


class OutputWriter:
    """Appends to one incarnation's output. Exactly one process writes it."""

    def __init__(self, path: Path, bytes_max: int) -> None:
        """`bytes_max` bounds what this writer leaves on disk, the rotated file included."""
        self._path = path
        self._half = max(bytes_max // 2, 1)
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = os.fstat(self._file).st_size

    def write(self, data: bytes) -> None:
        """Add output; rotates as often as it must. A full disk loses output, never the kernel."""
        view = memoryview(data)
        while view:
            if self._size >= self._half:
                self._rotate()
            piece = view[: self._half - self._size]
            try:
                self._size += os.write(self._file, piece)
            except OSError:
                return
            view = view[len(piece) :]

    def _rotate(self) -> None:
        os.close(self._file)
        os.replace(self._path, _older(self._path))
        self._file = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
        self._size = 0

    def close(self) -> None:
        """Nothing is buffered; this only gives the file back."""
        os.close(self._file)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class OutputStore:
    """Everything kernels printed that is still kept, `bytes_max` for each kernel."""

    def __init__(self, folder: Path, bytes_max: int) -> None:
        self.folder = folder
        self.bytes_max = bytes_max

    def writer(self, kernel_id: str, incarnation: int) -> OutputWriter:
        """Goes on where an earlier writer of this incarnation stopped."""
        self._make_room(kernel_id, incarnation)
        return OutputWriter(self._path(kernel_id, incarnation), self.bytes_max)

    def put(self, kernel_id: str, incarnation: int, data: bytes) -> None:
        """Everything that an incarnation printed, at once. Putting it again replaces it, so it can be
        repeated."""
        self._make_room(kernel_id, incarnation)
        path = self._path(kernel_id, incarnation)
        draft = path.with_suffix(".draft")
        draft.write_bytes(data[-self.bytes_max :])
        draft.replace(path)

    def read(self, kernel_id: str, live: Mapping[int, bytes] = MappingProxyType({})) -> bytes:
        """What is kept of all incarnations, oldest first, at most `bytes_max`.

        `live` is what somebody else has of some incarnations; it counts instead of what is kept of those.
        """
        pieces = list[bytes]()
        kept = 0
        for incarnation in sorted({*self._incarnations(kernel_id), *live}, reverse=True):
            piece = live.get(incarnation)
            pieces.append(_read(self._path(kernel_id, incarnation)) if piece is None else piece)
            kept += len(pieces[-1])
            if kept >= self.bytes_max:
                break
        return b"".join(reversed(pieces))[-self.bytes_max :]

    def has(self, kernel_id: str, incarnation: int) -> bool:
        """Whether anything was kept of an incarnation, were it nothing."""
        return incarnation in self._incarnations(kernel_id)

    def kernels(self) -> Collection[str]:
        """Those of which anything is kept."""
        return os.listdir(self.folder) if self.folder.is_dir() else ()

    def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:
        """Deletes what was last written to before then, but for the kernels to `keep`; the ids of the others."""
        old = {folder.name for folder in self.folder.glob("*/") if _written_at(folder) < before.timestamp()} - set(keep)
        for kernel_id in old:
            shutil.rmtree(self.folder / kernel_id, ignore_errors=True)
        return old

    def _path(self, kernel_id: str, incarnation: int) -> Path:
        return self.folder / kernel_id / f"{incarnation}.log"

    def _incarnations(self, kernel_id: str) -> list[int]:
        names = os.listdir(self.folder / kernel_id) if (self.folder / kernel_id).is_dir() else []
        return sorted({int(name.partition(".")[0]) for name in names if name.endswith((".log", ".log.1"))})

    def _make_room(self, kernel_id: str, incarnation: int) -> None:
        """Deletes incarnations that later ones already push over the bound."""
        (self.folder / kernel_id).mkdir(parents=True, exist_ok=True, mode=0o700)
        kept = 0
        for earlier in reversed(self._incarnations(kernel_id)):
            path = self._path(kernel_id, earlier)
            if kept >= self.bytes_max and earlier != incarnation:
                path.unlink(missing_ok=True)
                _older(path).unlink(missing_ok=True)
            else:
                kept += len(_read(path))


def _written_at(folder: Path) -> float:
    """When something in it was last written, in seconds since 1970; now if somebody is just deleting it."""
    try:
        return max(path.stat().st_mtime for path in (folder, *folder.iterdir()))
    except FileNotFoundError:
        return time.time()


def _older(path: Path) -> Path:
    return path.with_name(path.name + ".1")


def _read(path: Path) -> bytes:
    """Both files of an incarnation as one, though a writer may rotate them meanwhile."""
    while True:
        with ExitStack() as files:
            older, latest = _open(_older(path), files), _open(path, files)
            if _same(older, _older(path)):  # an open file keeps its inode, so no other can have been given it
                return b"".join(file.read() for file in (older, latest) if file is not None)


def _open(path: Path, files: ExitStack) -> BinaryIO | None:
    try:
        return files.enter_context(path.open("rb"))
    except FileNotFoundError:
        return None


def _same(file: BinaryIO | None, path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return file is None
    return file is not None and os.path.samestat(os.fstat(file.fileno()), found)
