"""Downloads: a file, or a part of one, straight from disk to connection (`sendfile`); a directory as an archive.

GET|HEAD /download?token=               the file of the pass
GET|HEAD /download?token=&format=tar    the directory of the pass; a zip if no format is asked for
"""

import asyncio
import mimetypes
import os
from collections.abc import Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from io import FileIO
from pathlib import Path, PurePosixPath
from typing import Final
from urllib.parse import quote

from aiohttp import web
from prometheus_client import Counter

from api.http.problems import invalid
from api.storage.archives import Format, archived
from api.storage.guarding import Doors, too_much, unbroken, wrong_pass
from api.storage.paths import FOLDER, names_of, opened_root
from api.storage.ranges import Part, part_of
from api.storage.trees import open_file
from infra.beneath import open_beneath
from infra.storage_passes import DownloadPass

_PIECE_BYTES: Final = 64 * 1024 * 1024
_PIECE_SECONDS: Final = 600.0  # a client that takes longer for a piece does not read any more
_ARCHIVE_SECONDS: Final = 60.0  # the same, for much smaller pieces
_DOWNLOADS_MAX: Final = 500  # at once

_sent = Counter("refold_storage_sent_bytes", "Bytes of downloads that were sent.")


class Downloads:
    """The route for downloads."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._under_way = 0

    async def get(self, request: web.Request) -> web.StreamResponse:
        given = self._doors.pass_of(request.query.get("token", ""))
        if not isinstance(given, DownloadPass):
            raise wrong_pass("download")
        with self._counted():
            root = (await self._doors.place(given.folder)).root
            send = self._archive if given.archive else self._file
            return await send(request, root, given.path)

    @contextmanager
    def _counted(self) -> Iterator[None]:
        if self._under_way >= _DOWNLOADS_MAX:
            raise too_much("downloads")
        self._under_way += 1
        try:
            yield
        finally:
            self._under_way -= 1

    async def _file(self, request: web.Request, root: Path, path: str) -> web.StreamResponse:
        def opened() -> int:
            with opened_root(root) as folder:
                return open_file(folder, path)

        with os.fdopen(await unbroken(asyncio.to_thread(opened)), "rb", buffering=0) as file:
            its = os.fstat(file.fileno())
            etag = f'"{its.st_mtime_ns:x}-{its.st_size:x}-{its.st_ino:x}"'
            part = part_of(request.headers, its.st_size, etag, int(its.st_mtime))
            name = PurePosixPath(path).name
            answer = web.StreamResponse(status=part.status, headers=_headers(name))
            answer.headers["ETag"] = etag
            answer.headers["Last-Modified"] = formatdate(int(its.st_mtime), usegmt=True)
            answer.headers["Accept-Ranges"] = "bytes"
            if part.status == 206:
                last = part.offset + part.length - 1
                answer.headers["Content-Range"] = f"bytes {part.offset}-{last}/{its.st_size}"
            if part.status == 416:
                answer.headers["Content-Range"] = f"bytes */{its.st_size}"
            if part.status != 304:
                answer.content_type = mimetypes.guess_type(name)[0] or "application/octet-stream"
                answer.content_length = part.length
            await answer.prepare(request)
            if request.method != "HEAD":
                await _send(request, file, part)
            await answer.write_eof()
        return answer

    async def _archive(self, request: web.Request, root: Path, path: str) -> web.StreamResponse:
        format_ = _format(request)

        def opened() -> int:
            with opened_root(root) as folder:
                return open_beneath(folder, "/".join(names_of(path)), FOLDER, follow=True)

        directory = await unbroken(asyncio.to_thread(opened))
        try:
            name = PurePosixPath(path).name or "folder"
            answer = web.StreamResponse(headers=_headers(f"{name}.{format_}") | {"Accept-Ranges": "none"})
            answer.content_type = {"zip": "application/zip", "tar": "application/x-tar"}[format_]
            answer.enable_chunked_encoding()
            await answer.prepare(request)
            if request.method != "HEAD":
                await _send_archive(answer, directory, format_)
            await answer.write_eof()
        finally:
            os.close(directory)
        return answer


async def _send(request: web.Request, file: FileIO, part: Part) -> None:
    """Raises `ConnectionResetError` where the client has gone, reads no more, or waits for bytes that the file has no
    more."""
    loop = asyncio.get_running_loop()
    ends = part.offset + part.length
    for offset in range(part.offset, ends, _PIECE_BYTES):
        transport = request.transport
        if transport is None:
            raise ConnectionResetError("the client has hung up")
        count = min(_PIECE_BYTES, ends - offset)
        try:
            async with asyncio.timeout(_PIECE_SECONDS):
                sent = await loop.sendfile(transport, file, offset, count)
        except TimeoutError:
            sent = 0
        if sent < count:
            transport.abort()
            raise ConnectionResetError("the file has become shorter, or nobody reads it")
        _sent.inc(sent)


async def _send_archive(answer: web.StreamResponse, directory: int, format_: Format) -> None:
    """Raises `ConnectionResetError`; what breaks off half-way has no end that could be taken for one."""
    with closing(archived(directory, format_)) as pieces:
        while piece := await unbroken(asyncio.to_thread(next, pieces, b"")):
            try:
                async with asyncio.timeout(_ARCHIVE_SECONDS):
                    await answer.write(piece)
            except TimeoutError:
                raise ConnectionResetError("nobody reads it") from None
            _sent.inc(len(piece))


def _headers(name: str) -> dict[str, str]:
    """Files come from anybody: a browser saves them and runs nothing in them."""
    return {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(name, safe='')}",
        "Content-Security-Policy": "sandbox; default-src 'none'",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "private, no-cache",
    }


def _format(request: web.Request) -> Format:
    match request.query.get("format"):
        case None | "":
            return "tar" if "application/x-tar" in request.headers.get("Accept", "") else "zip"
        case "zip":
            return "zip"
        case "tar":
            return "tar"
        case _:
            raise invalid("format", "unknown", "format is zip or tar")
