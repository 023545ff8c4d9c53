"""Files of the session: what is there, put one there, get some of them as a tar archive.

An upload is there whole or not at all. A download is read piece by piece, as fast as the reader wants it, and
holds one open file at a time however much it is.
"""

from __future__ import annotations

import io
import os
import stat
import tarfile
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing, suppress

from .failures import Failure, of_system
from .framing import Object
from .paths import FOLDER, Home

ENTRIES_MAX = 10_000
DEPTH_MAX = 100  # of folders in an archive: each holds a handle
READ_BYTES = 256 * 1024
FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC  # not to hang at a pipe somebody put there


def list_folder(home: Home, path: str) -> Object:
    """What a folder holds, by name; or the one file, if it is none."""
    with home.place(path) as place:
        try:
            about = os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            if not stat.S_ISDIR(about.st_mode):
                parent, name = os.path.split(place.path)
                return {"folder": parent, "entries": [_entry(name, about)], "left_out": 0}
            folder = os.open(place.name, FOLDER, dir_fd=place.folder)
        except OSError as error:
            raise of_system(error, path) from None
        try:
            names = sorted(os.listdir(folder))
            entries = []
            for name in names[:ENTRIES_MAX]:
                with suppress(FileNotFoundError):  # gone since
                    entries.append(_entry(name, os.stat(name, dir_fd=folder, follow_symlinks=False)))
        except OSError as error:
            raise of_system(error, path) from None
        finally:
            os.close(folder)
        return {"folder": place.path, "entries": entries, "left_out": max(0, len(names) - ENTRIES_MAX)}


def upload(home: Home, path: str, content: bytes, mode: int, bytes_max: int) -> Object:
    """The file is there whole or not at all, and takes the place of one that was there. Folders on the way are
    made. A link in its place is replaced, not followed."""
    if len(content) > bytes_max:
        raise Failure("too-large", f"{path}: {len(content)} bytes; at most {bytes_max} are allowed")
    with home.place(path, make_folders=True, follow_last=False) as place:
        if place.name == "." or path.endswith("/"):
            raise Failure("is-a-folder", f"{path}: names no file")
        draft = f".{os.urandom(8).hex()}.upload"
        try:
            file = os.open(
                draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode & 0o777, dir_fd=place.folder
            )
            try:
                with os.fdopen(file, "wb") as writer:
                    writer.write(content)
                    os.fchmod(writer.fileno(), mode & 0o777)
                os.rename(draft, place.name, src_dir_fd=place.folder, dst_dir_fd=place.folder)
            except BaseException:
                with suppress(OSError):
                    os.unlink(draft, dir_fd=place.folder)
                raise
        except OSError as error:
            raise of_system(error, path) from None
        return {"path": place.path, "bytes": len(content)}


class Download:
    """Bytes to come."""

    def __init__(self, pieces: Generator[bytes, None, None], size: int | None) -> None:
        self._pieces = pieces
        self._waiting = b""
        self.bytes = size  # None: not known before

    def read(self, bytes_max: int) -> tuple[bytes, bool]:
        """The next bytes, and whether they are the last."""
        chunk = bytearray(self._waiting)
        is_last = False
        while len(chunk) <= bytes_max:  # one byte more than asked for tells that it is not the last
            piece = next(self._pieces, None)
            if piece is None:
                is_last = True
                break
            chunk += piece
        self._waiting = bytes(chunk[bytes_max:])
        return bytes(chunk[:bytes_max]), is_last and not self._waiting

    def close(self) -> None:
        """Lets go of what is open."""
        self._pieces.close()


def download_one(home: Home, path: str) -> Download:
    """The content of one file."""
    file = _open_file(home, path)
    about = os.fstat(file)
    if not stat.S_ISREG(about.st_mode):
        os.close(file)
        raise Failure("is-a-folder" if stat.S_ISDIR(about.st_mode) else "not-a-file", f"{path}: is no ordinary file")
    pieces = _started(_content(file, about.st_size))
    return Download(pieces, about.st_size)


def download_archive(home: Home, paths: Sequence[str]) -> Download:
    """A tar archive of files and folders, by their paths from home. Links stay links; pipes, sockets and
    devices are left out. A file that changes while it is read has the size it had at first."""
    for path in paths:
        with home.place(path) as place:
            try:
                os.stat(place.name, dir_fd=place.folder, follow_symlinks=False)
            except OSError as error:
                raise of_system(error, path) from None
    return Download(_archive(home, paths), None)


def _archive(home: Home, paths: Sequence[str]) -> Generator[bytes, None, None]:
    written = 0
    for path in paths:
        try:
            with home.place(path) as place:
                name = os.path.relpath(place.path, home.folder)
                for piece in _entries(place.folder, place.name, name, DEPTH_MAX):
                    written += len(piece)
                    yield piece
        except Failure:
            continue  # it went away since the download was opened
    yield bytes(-(written + 2 * tarfile.BLOCKSIZE) % tarfile.RECORDSIZE + 2 * tarfile.BLOCKSIZE)


def _entries(parent: int, name: str, shown: str, depth: int) -> Iterator[bytes]:
    """One entry of an archive, and if it is a folder all below it. What cannot be read is left out."""
    try:
        about = os.stat(name, dir_fd=parent, follow_symlinks=False)
        entry = tarfile.TarInfo(shown)
        entry.mode, entry.mtime = stat.S_IMODE(about.st_mode), int(about.st_mtime)
        if stat.S_ISLNK(about.st_mode):
            entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(name, dir_fd=parent)
            yield _header(entry)
        elif stat.S_ISREG(about.st_mode):
            file = os.open(name, FILE, dir_fd=parent)
            entry.size = os.fstat(file).st_size
            with closing(_started(_content(file, entry.size))) as content:
                yield _header(entry)
                yield from content
            yield bytes(-entry.size % tarfile.BLOCKSIZE)
        elif stat.S_ISDIR(about.st_mode) and depth > 0:
            folder = os.open(name, FOLDER, dir_fd=parent)
            try:
                if shown != ".":
                    entry.type = tarfile.DIRTYPE
                    yield _header(entry)
                for below in sorted(os.listdir(folder)):
                    yield from _entries(folder, below, below if shown == "." else f"{shown}/{below}", depth - 1)
            finally:
                os.close(folder)
    except OSError:
        return


def _header(entry: tarfile.TarInfo) -> bytes:
    return entry.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _content(file: int, size: int) -> Generator[bytes, None, None]:
    """Exactly so many bytes: filled up if the file became shorter (or cannot be read), cut if it became longer."""
    with io.FileIO(file) as reader:
        yield b""  # from here on the file is closed whatever happens
        while size > 0:
            piece = b""
            with suppress(OSError):
                piece = reader.read(min(size, READ_BYTES)) or b""
            piece = piece or bytes(min(size, READ_BYTES))
            size -= len(piece)
            yield piece


def _started(pieces: Generator[bytes, None, None]) -> Generator[bytes, None, None]:
    next(pieces)
    return pieces


def _open_file(home: Home, path: str) -> int:
    with home.place(path) as place:
        try:
            return os.open(place.name, FILE, dir_fd=place.folder)
        except OSError as error:
            raise of_system(error, path) from None


def _entry(name: str, about: os.stat_result) -> Object:
    kinds = ((stat.S_ISDIR, "folder"), (stat.S_ISREG, "file"), (stat.S_ISLNK, "link"))
    return {
        "name": name,
        "kind": next((kind for test, kind in kinds if test(about.st_mode)), "other"),
        "bytes": about.st_size,
        "mode": stat.filemode(about.st_mode),
        "mtime": about.st_mtime,
        "ctime": about.st_ctime,
        "atime": about.st_atime,
    }
