"""A directory as one file, made while it is sent: nothing is kept but the piece that goes next.

Symbolic links go into a tar as links and are left out of a zip; pipes and the like are left out of both. What changes
meanwhile is as it was when it was read.
"""

import os
import stat
import tarfile
import zipfile
from collections.abc import Generator, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from typing import IO, Final, Literal, cast

from api.storage.disks.walking import Step, walk

Format = Literal["zip", "tar"]

_PIECE_BYTES: Final = 1024 * 1024
_ZIP_FIRST_YEAR: Final = 1980
_ZIP_LAST_YEAR: Final = 2107
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class _Sink:
    """What is written, until it is taken."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._count = 0

    def write(self, data: bytes) -> int:
        self._pieces.append(bytes(data))
        self._count += len(data)
        return len(data)

    def flush(self) -> None:
        """Nothing lies between this and whoever takes it."""

    @property
    def is_full(self) -> bool:
        return self._count >= _PIECE_BYTES

    def take(self) -> bytes:
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._count = 0
        return taken


def archived(directory: int, format_: Format) -> Generator[bytes, None, None]:
    """The archive of an open directory, in pieces, none of them empty. Blocks. Raises `OSError`."""
    sink = _Sink()
    for _ in (_zipped if format_ == "zip" else _tarred)(directory, cast(IO[bytes], sink)):
        if sink.is_full:
            yield sink.take()
    yield sink.take()  # an archive has an end


def _zipped(directory: int, sink: IO[bytes]) -> Iterator[None]:
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED, allowZip64=True) as archive:
        for path, step in _entries(directory):
            if step.what == "entered":
                archive.writestr(_zip_info(path + "/", step.stat), b"")
                yield
            elif stat.S_ISREG(step.stat.st_mode) and (file := _opened(step)) is not None:
                with file, archive.open(_zip_info(path, os.fstat(file.fileno())), "w", force_zip64=True) as entry:
                    while piece := file.read(_PIECE_BYTES):
                        entry.write(piece)
                        yield
                yield


def _zip_info(path: str, its: os.stat_result) -> zipfile.ZipInfo:
    moment = datetime.fromtimestamp(its.st_mtime, UTC)
    year = min(max(moment.year, _ZIP_FIRST_YEAR), _ZIP_LAST_YEAR)
    info = zipfile.ZipInfo(_text(path), (year, *moment.timetuple()[1:6]))
    info.external_attr = (its.st_mode & 0xFFFF) << 16 | (0x10 if path.endswith("/") else 0)
    return info


def _tarred(directory: int, sink: IO[bytes]) -> Iterator[None]:
    with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT, bufsize=_PIECE_BYTES) as archive:
        for path, step in _entries(directory):
            if step.what == "entered":
                archive.addfile(_tar_info(path, step.stat, tarfile.DIRTYPE))
            elif stat.S_ISLNK(step.stat.st_mode):
                info = _tar_info(path, step.stat, tarfile.SYMTYPE)
                with suppress(OSError):  # it has just been replaced
                    info.linkname = os.readlink(step.name, dir_fd=step.fd)
                    archive.addfile(info)
            elif stat.S_ISREG(step.stat.st_mode) and (file := _opened(step)) is not None:
                with file:
                    its = os.fstat(file.fileno())
                    info = _tar_info(path, its, tarfile.REGTYPE)
                    info.size = its.st_size
                    yield from _tar_file(archive, info, file)
            yield


def _tar_file(archive: tarfile.TarFile, info: tarfile.TarInfo, file: IO[bytes]) -> Iterator[None]:
    """As `addfile` does it, but piece by piece: the size is said before, so what is missing then is zeros."""
    archive.addfile(info)
    sink = cast(IO[bytes], archive.fileobj)
    left = info.size
    while left:
        piece = file.read(min(left, _PIECE_BYTES))
        piece = piece or bytes(min(left, _PIECE_BYTES))
        sink.write(piece)
        left -= len(piece)
        yield
    padding = -info.size % tarfile.BLOCKSIZE
    sink.write(bytes(padding))
    archive.offset += info.size + padding


def _tar_info(path: str, its: os.stat_result, type_: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(path)
    info.type = type_
    info.mode = stat.S_IMODE(its.st_mode)
    info.mtime = int(its.st_mtime)
    return info


def _entries(directory: int) -> Iterator[tuple[str, Step]]:
    """Each with its path from there; directories when they are entered."""
    above: list[str] = []
    for step in walk(directory):
        if step.what == "left":
            above.pop()
            continue
        if step.what == "entered":
            above.append(step.name)
            yield "/".join(above), step
        else:
            yield "/".join([*above, step.name]), step


def _opened(step: Step) -> IO[bytes] | None:
    """The file; None if it is gone, or something else by now."""
    try:
        handle = os.open(step.name, _READ, dir_fd=step.fd)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return os.fdopen(handle, "rb", buffering=0)
    os.close(handle)
    return None


def _text(path: str) -> str:
    return os.fsencode(path).decode(errors="replace")
