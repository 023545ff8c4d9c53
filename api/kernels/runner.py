"""A conversation with the program inside a kernel. What can be asked of it is told in `agents/runner/__init__.py`.

async with runner_of(place, caller, all_) as runner:
    entries, _ = await runner.request("files-list", path=".")
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import orjson
import structlog
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from api.access.auth import Caller
from api.http.deps import Services
from api.kernels.failures import Gone, broken, failed, silent
from api.kernels.reaching import Place, counted, opened

BODY_BYTES_MAX: Final = 4 * 1024 * 1024
"""Of one request or answer; longer things go in pieces."""

_OBJECT_BYTES_MAX: Final = 16 * 1024 * 1024
_LENGTHS: Final = struct.Struct(">II")
_PROTOCOL: Final = 1
_ANSWER_SECONDS: Final = 15.0

Answer = tuple[dict[str, Any], bytes]

_log = structlog.get_logger("api.kernels")


@asynccontextmanager
async def runner_of(place: Place, caller: Caller, all_: Services) -> AsyncIterator["Runner"]:
    """A connection for the block, counted as one of the caller's. Raises `Problem` (429, 501, 502)."""
    with counted(caller, all_):
        async with opened_runner(place, all_) as runner:
            yield runner


@asynccontextmanager
async def opened_runner(place: Place, all_: Services) -> AsyncIterator["Runner"]:
    """A connection for the block. Raises `Problem` (501, 502)."""
    frame_bytes_max = _LENGTHS.size + _OBJECT_BYTES_MAX + BODY_BYTES_MAX
    async with opened(place, "runner", all_, frame_bytes_max) as socket:
        runner = Runner(socket)
        reading = asyncio.create_task(runner.read())
        try:
            await runner.greeted()
            yield runner
        finally:
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)


class Runner:
    """One connection. Any number of requests may be under way; each has its own answer."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket
        self._waiting: dict[int, asyncio.Future[Answer]] = {}
        self._greeting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._last_id = 0
        self._end: Exception | None = None

    @property
    def is_over(self) -> bool:
        """Nothing is answered any more."""
        return self._end is not None

    async def request(self, do: str, body: bytes = b"", *, seconds: float = 0.0, **fields: Any) -> Answer:
        """What the runner answers, and the bytes behind it. `seconds`: how long it was told that it may take.

        Raises `Problem`: `Gone` (502) if the connection ends, 504 without an answer in time, else what it failed of
        (`failures.py`; `.kind` is the runner's code).
        """
        if self._end is not None:
            raise self._end
        self._last_id += 1
        number = self._last_id
        answer: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._waiting[number] = answer
        try:
            async with asyncio.timeout(seconds + _ANSWER_SECONDS):
                await self._socket.send(_packed({"id": number, "do": do, "with": fields}, body))
                return await answer
        except ConnectionClosed as error:
            raise Gone from error
        except TimeoutError as error:
            raise silent() from error
        finally:
            del self._waiting[number]

    async def greeted(self) -> None:
        """Raises `Problem` where nobody is there who speaks as we do."""
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                await self._greeting
        except TimeoutError as error:
            raise silent() from error

    async def read(self) -> None:
        """Hands over answers until the connection ends."""
        try:
            async for message in self._socket:
                self._take(*_unpacked(message))
        except ConnectionClosed:
            self._fail(Gone())
        except Exception as error:  # whatever it sent, it is the session's user who may have made it up
            _log.warning("a runner does not speak as agreed", error=repr(error))
            self._fail(broken("its runner does not speak as agreed"))
        else:
            self._fail(Gone())

    def _take(self, message: dict[str, Any], body: bytes) -> None:
        if not self._greeting.done():
            if message.get("protocol") != _PROTOCOL:
                raise ValueError("another protocol")
            self._greeting.set_result(None)
            return
        answer = self._waiting.get(message["id"])
        if answer is None or answer.done():
            return  # nobody waits for it any more
        if "ok" in message:
            answer.set_result(({**message["ok"]}, body))
        else:
            answer.set_exception(failed({**message["failed"]}))

    def _fail(self, error: Exception) -> None:
        self._end = error
        waiting: list[asyncio.Future[Any]] = [self._greeting, *self._waiting.values()]
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def _packed(message: dict[str, Any], body: bytes) -> bytes:
    if len(body) > BODY_BYTES_MAX:
        raise ValueError(f"{len(body)} bytes go in pieces of {BODY_BYTES_MAX}")
    text = to_json(message)
    return _LENGTHS.pack(len(text), len(body)) + text + body


def _unpacked(frame: str | bytes) -> Answer:
    """Raises `ValueError`, `RecursionError`."""
    if isinstance(frame, str) or len(frame) < _LENGTHS.size:
        raise ValueError("not a frame")
    text_bytes, body_bytes = _LENGTHS.unpack_from(frame)
    body_at = _LENGTHS.size + text_bytes
    text, body = frame[_LENGTHS.size : body_at], frame[body_at:]
    if len(text) != text_bytes or len(body) != body_bytes:
        raise ValueError("not a whole frame")
    try:
        message = orjson.loads(text)
    except orjson.JSONDecodeError:
        message = json.loads(text)  # a name that is no UTF-8 travels as lone surrogates, escaped
    if not isinstance(message, dict):
        raise ValueError("not an object")
    return message, body


def to_json(message: Any) -> bytes:
    """With lone surrogates as escapes, which JSON allows and UTF-8 does not."""
    try:
        return orjson.dumps(message)
    except orjson.JSONEncodeError:
        return json.dumps(message, separators=(",", ":")).encode()
