"""Uploads, as clients send them: TUS 1.0, without its creation of uploads, for the api makes the pass.

    HEAD  /upload?token=     how much of the file has come
    PATCH /upload?token=     the bytes from `Upload-Offset` on; with the last one, the file is in the folder

Of two requests for one upload the later one goes on: the earlier may be of a connection that was cut unheard.
`dst_dir` in the query, which the public client knows, names a directory of the folder below which the path comes.
"""

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from aiohttp import StreamReader, web
from prometheus_client import Counter

from api.http.problems import Problem, invalid
from api.storage.guarding import Doors, too_much, unbroken, wrong_pass
from api.storage.paths import last_of
from api.storage.uploads import Unfinished, write
from domain.vfolder.operations import Operation
from infra.storage_passes import UploadPass

VERSION: Final = "1.0.0"
HEADERS: Final = {"Tus-Resumable": VERSION, "Cache-Control": "no-store"}

_PIECE_BYTES: Final = 1024 * 1024  # written at once
_SILENCE_SECONDS: Final = 60.0
_UPLOADS_MAX: Final = 500  # at once

_received = Counter("refold_storage_received_bytes", "Bytes of uploads that were written.")


class _Turn:
    """Of one request, to write to an upload."""

    def __init__(self) -> None:
        self._is_over = False
        self._reading: asyncio.Timeout | None = None
        self.ended = asyncio.Event()

    def give_up(self) -> None:
        """Somebody else wants it."""
        self._is_over = True
        if self._reading is not None:
            self._reading.reschedule(0)

    async def read(self, content: StreamReader) -> bytes:
        """What comes next; nothing at the end. Raises `Problem` (408, 409), and what `content` raises."""
        try:
            async with asyncio.timeout(0 if self._is_over else _SILENCE_SECONDS) as self._reading:
                return await content.readany()
        except TimeoutError:
            if self._is_over:
                raise Problem(409, "superseded", "Superseded", "another request goes on with the upload") from None
            raise Problem(408, "timeout", "Too slow", f"nothing came for {_SILENCE_SECONDS:.0f} seconds") from None
        finally:
            self._reading = None


class Uploads:
    """The routes for uploads."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._turns: dict[str, _Turn] = {}

    async def head(self, request: web.Request) -> web.StreamResponse:
        upload, _ = await self._upload(request)
        offset = await asyncio.to_thread(lambda: upload.offset)
        return web.Response(headers=HEADERS | {"Upload-Offset": str(offset), "Upload-Length": str(upload.size)})

    async def patch(self, request: web.Request) -> web.StreamResponse:
        if request.content_type != "application/offset+octet-stream":
            detail = "the body of a PATCH is of type application/offset+octet-stream"
            raise Problem(415, "unsupported-media-type", "Not an upload", detail, field="Content-Type")
        begins = request.headers.get("Upload-Offset", "")
        if not re.fullmatch("[0-9]{1,19}", begins):
            raise invalid("Upload-Offset", "not_a_number", "the header Upload-Offset says where the bytes begin")
        upload, given = await self._upload(request)
        async with self._turn(given.pass_id) as turn:
            offset = await self._begin(request, upload, int(begins))
            offset = await self._take(request.content, upload, offset, given, turn)
            if offset == upload.size:
                await unbroken(self._finish(upload, given))
        return web.Response(status=204, headers=HEADERS | {"Upload-Offset": str(offset)})

    async def _upload(self, request: web.Request) -> tuple[Unfinished, UploadPass]:
        given = self._doors.pass_of(request.query.get("token", ""))
        if not isinstance(given, UploadPass):
            raise wrong_pass("upload")
        if request.headers.get("Tus-Resumable", VERSION) != VERSION:
            detail = f"only version {VERSION} of the protocol is spoken here"
            raise Problem(412, "tus-version", "Not that version", detail, headers={"Tus-Version": VERSION})
        last_of(given.path)
        directory = request.query.get("dst_dir", "")
        path = f"{directory}/{given.path}" if directory else given.path
        last_of(path, "dst_dir")
        return Unfinished(await self._doors.place(given.folder), given, path, self._doors.owner), given

    @asynccontextmanager
    async def _turn(self, pass_id: str) -> AsyncIterator[_Turn]:
        """For the block. Whose turn it was gives it up first."""
        while (earlier := self._turns.get(pass_id)) is not None:
            earlier.give_up()
            await earlier.ended.wait()
        if len(self._turns) >= _UPLOADS_MAX:
            raise too_much("uploads")
        turn = self._turns[pass_id] = _Turn()
        try:
            yield turn
        finally:
            del self._turns[pass_id]
            turn.ended.set()

    async def _begin(self, request: web.Request, upload: Unfinished, begins: int) -> int:
        """How many bytes have come. Raises `Problem` unless those of the request come next."""
        used_up, offset = await asyncio.to_thread(lambda: (upload.is_used_up, upload.offset))
        if used_up:
            raise Problem(410, "pass-used", "Used up", "the pass is used up: the file is in the folder", field="token")
        if begins != offset:
            raise Problem(
                409,
                "wrong-offset",
                "Not what comes next",
                f"the next byte that is wanted is {offset}, not {begins}",
                field="Upload-Offset",
                headers={"Upload-Offset": str(offset)},
            )
        if (request.content_length or 0) > upload.size - offset:
            raise _too_large(upload)
        return offset

    async def _take(
        self, content: StreamReader, upload: Unfinished, offset: int, given: UploadPass, turn: _Turn
    ) -> int:
        """How many bytes have come at the end of the body. What has come by then is kept when it breaks off."""
        handle = await asyncio.to_thread(upload.open)
        try:
            more = True
            while more:
                pieces: list[bytes] = []
                count = 0
                try:
                    while more and count < _PIECE_BYTES:
                        piece = await turn.read(content)
                        more = bool(piece)
                        pieces.append(piece)
                        count += len(piece)
                finally:
                    if count > upload.size - offset:
                        raise _too_large(upload)
                    if count:
                        await self._doors.places.admit(given.folder, count)
                        await unbroken(asyncio.to_thread(write, handle, pieces, offset))
                    offset += count
                    _received.inc(count)
        finally:
            os.close(handle)
        return offset

    async def _finish(self, upload: Unfinished, given: UploadPass) -> None:
        await asyncio.to_thread(upload.finish)
        self._doors.note(given, Operation.UPLOAD, upload.path, size_bytes=upload.size)


def _too_large(upload: Unfinished) -> Problem:
    detail = f"the pass is for a file of {upload.size} bytes"
    return Problem(413, "too-large", "Too large", detail, field="Upload-Length")
