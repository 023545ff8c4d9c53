"""`GET /events/session`: what happens to sessions, as server-sent events.

A subscription by name or id begins with that session's life so far; it may also be made before the session exists.
Every message has an id, from which the stream goes on without gap or repeat, across restarts of everything.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Annotated, Final

from fastapi import APIRouter, Header, Query, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.auth import Caller as Signer
from api.authority import is_superadmin
from api.deps import All, Caller, Services
from api.problems import Problem, invalid
from api.streams import Stream, Wish, open_stream

router = APIRouter(tags=["events"])

_RETRY_MS: Final = 2000
_PUBLIC_CLIENT: Final = "Backend.AI Client"
_SCOPES: Final = frozenset({"session", "kernel"})
_ANY: Final = frozenset({None, "", "*"})
_LENGTH_MAX: Final = 128

_open: Counter[str] = Counter()

Text = Annotated[str | None, Query(max_length=_LENGTH_MAX)]


@router.get(
    "/events/session",
    response_class=Response,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def session_events(
    request: Request,
    caller: Caller,
    all_: All,
    session_name: Annotated[str | None, Query(alias="sessionName", max_length=_LENGTH_MAX)] = None,
    name: Text = None,
    session_id: Annotated[str | None, Query(alias="sessionId", max_length=_LENGTH_MAX)] = None,
    owner: Annotated[str | None, Query(alias="ownerAccessKey", max_length=_LENGTH_MAX)] = None,
    group: Text = None,
    scope: Annotated[str, Query(max_length=_LENGTH_MAX)] = "*",
    after: Annotated[str | None, Query(max_length=8192)] = None,
    bookmarks: bool = False,
    last_event_id: Annotated[str | None, Header()] = None,
) -> Response:
    """Without a name or id: all sessions of the access key; superadmins get everybody's with `ownerAccessKey=*` or
    `group=*`.

    `scope` is `session`, `kernel`, both as a list, or `*`. `Last-Event-ID` (or `after`) resumes. With `bookmarks`, an
    idle stream also tells every 15 seconds how far it has read.
    """
    scopes = _SCOPES if scope == "*" else frozenset(scope.split(","))
    if not scopes <= _SCOPES:
        raise invalid("scope", "one_of", "scope must be *, session, kernel, or a list of the latter two")
    wanted_name = session_name or name
    named = wanted_name not in _ANY or session_id not in _ANY
    everybody = is_superadmin(caller.identity) and (owner == "*" or (group == "*" and owner is None and not named))
    if not everybody and owner not in _ANY:
        caller = all_.gate.acting_for(caller, owner)
    is_anybodys = everybody or (is_superadmin(caller.identity) and session_id not in _ANY and owner is None)
    wish = Wish(
        owner=None if is_anybodys else caller.owner,
        session_id=None if session_id in _ANY else session_id,
        name=None if wanted_name in _ANY else wanted_name,
        group=None if group in _ANY else group,
        sessions="session" in scopes,
        kernels="kernel" in scopes,
        bookmarks=bookmarks,
    )
    _check_room(all_, caller.access_key)
    stream = await open_stream(all_, wish, last_event_id or after)
    is_public_client = _PUBLIC_CLIENT in request.headers.get("user-agent", "")
    return _Streaming(_counted(stream, caller, all_, says_retry=not is_public_client))


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


def _check_room(all_: Services, access_key: str) -> None:
    if _open[access_key] >= all_.settings.streams_per_key_max:
        raise Problem(
            429,
            "too-many-streams",
            "Too many event streams",
            f"an access key may have {all_.settings.streams_per_key_max} event streams open here",
            retryable=True,
            retry_after=10,
        )


async def _counted(stream: Stream, caller: Signer, all_: Services, *, says_retry: bool) -> AsyncGenerator[bytes, None]:
    """For as long as its listener would be let in again: nothing is told to whom that was taken from."""
    access_key = caller.access_key
    _open[access_key] += 1
    try:
        if says_retry:
            # In milliseconds, as the standard has it. The public client takes it for seconds, and an event of its own.
            yield b"retry: %d\n\n" % _RETRY_MS
        async with aclosing(stream.chunks()) as chunks:
            async for chunk in chunks:
                if not all_.sign_ins.is_still_in(caller):
                    return
                yield chunk
    finally:
        _open[access_key] -= 1
        if not _open[access_key]:
            del _open[access_key]
