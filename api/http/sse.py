"""Streams of server-sent events: who may have one, how many, and how it ends."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any, Final

from fastapi import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.access.auth import Caller
from api.http.deps import Services
from api.http.problems import Problem

DOCUMENTED: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}
}
"""For `responses` of a route."""

_RETRY_MS: Final = 2000
_PUBLIC_CLIENT: Final = "Backend.AI Client"

_open: Counter[str] = Counter()


def is_public_client(request: Request) -> bool:
    """Some of its words differ from the manual's."""
    return _PUBLIC_CLIENT in request.headers.get("user-agent", "")


def check_room(all_: Services, caller: Caller) -> None:
    """Raises `Problem` (429) where his access key has all the streams it may have."""
    if _open[caller.access_key] >= all_.settings.streams_per_key_max:
        raise Problem(
            429,
            "too-many-streams",
            "Too many event streams",
            f"an access key may have {all_.settings.streams_per_key_max} event streams open here",
            retryable=True,
            retry_after=10,
        )


def streamed(chunks: AsyncGenerator[bytes, None], caller: Caller, all_: Services, *, says_retry: bool) -> Response:
    """The answer that sends them, for as long as its listener is there and would be let in again."""
    return _Streaming(_counted(chunks, caller, all_, says_retry=says_retry))


class _Streaming(Response):
    """Sends until the stream ends or its client has gone, and closes the stream in either case, at once."""

    def __init__(self, chunks: AsyncGenerator[bytes, None]) -> None:
        super().__init__(None, 200, {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}, "text/event-stream")
        del self.headers["content-length"]
        self._chunks = chunks

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.ensure_future(self._send(send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait([sending, gone], return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            sending.cancel()
            ends = await asyncio.gather(sending, gone, return_exceptions=True)
        for end in ends:
            if isinstance(end, Exception):
                raise end

    async def _send(self, send: Send) -> None:
        async with aclosing(self._chunks) as chunks:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _counted(
    chunks: AsyncGenerator[bytes, None], caller: Caller, all_: Services, *, says_retry: bool
) -> AsyncGenerator[bytes, None]:
    """For as long as its listener would be let in again: nothing is told to whom that was taken from."""
    access_key = caller.access_key
    _open[access_key] += 1
    try:
        if says_retry:
            # In milliseconds, as the standard has it. The public client takes it for seconds, and an event of its own.
            yield b"retry: %d\n\n" % _RETRY_MS
        async with aclosing(chunks):
            async for chunk in chunks:
                if not all_.sign_ins.is_still_in(caller):
                    return
                yield chunk
    finally:
        _open[access_key] -= 1
        if not _open[access_key]:
            del _open[access_key]
