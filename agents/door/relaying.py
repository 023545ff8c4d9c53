"""Bytes between a WebSocket of the api and what they are meant for: a kernel's runner, or a port of it.

Nobody here reads faster than the other side writes: a slow reader slows down its writer, and no more than a message or
two is held in between.
"""

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from aiohttp import WSCloseCode, WSMsgType, web

from agents.runner.framing import BODY_BYTES_MAX, LENGTHS, OBJECT_BYTES_MAX

FRAME_BYTES_MAX: Final = LENGTHS.size + OBJECT_BYTES_MAX + BODY_BYTES_MAX
PIECE_BYTES_MAX: Final = 64 * 1024
_AGAIN_SECONDS: Final = 0.05
_LINGER_SECONDS: Final = 5.0

Ends = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Used = Callable[[], None]
"""Somebody uses the kernel now."""

_LOOKING: Final = b'"terminal-read"'
_LOOKING_WITHIN: Final = 64  # where the api, which writes what it asks for right behind a number, has it


async def open_socket(path: Path, seconds: float) -> Ends:
    """A connection to a Unix socket that may be there only in a moment. Raises `TimeoutError`.

    The folder belongs to somebody who is not trusted: what lies there instead of a socket is never followed elsewhere.
    """
    async with asyncio.timeout(seconds):
        while True:
            with suppress(FileNotFoundError, ConnectionRefusedError, BlockingIOError):
                return await _connected(path)
            await asyncio.sleep(_AGAIN_SECONDS)


async def _connected(path: Path) -> Ends:
    handle = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        connecting = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            connecting.setblocking(False)
            # This very file, whatever happens to its name; and a socket's path has at most 107 bytes.
            await asyncio.get_running_loop().sock_connect(connecting, f"/proc/self/fd/{handle}")
            return await asyncio.open_unix_connection(sock=connecting)
        except BaseException:
            connecting.close()
            raise
    finally:
        os.close(handle)


async def relay_frames(api: web.WebSocketResponse, ends: Ends, used: Used) -> None:
    """Each message is one frame of the runner's protocol, its two lengths included, until either side leaves.

    What is asked for is use of the kernel, but for looking at a terminal: that goes on while nobody is there.
    """
    reader, writer = ends

    def is_good(message: bytes) -> bool:
        if _LOOKING not in message[: LENGTHS.size + _LOOKING_WITHIN]:
            used()
        return _is_frame(message)

    async with _hung_up(writer):
        await _until_either_ends(_frames_to_api(reader, api), _to_writer(api, writer, is_good))
    await api.close(code=WSCloseCode.GOING_AWAY, message=b"the runner is gone")


async def relay_bytes(api: web.WebSocketResponse, ends: Ends, used: Used) -> None:
    """Messages are pieces of a stream, until either side leaves. Each is use of the kernel, whichever way it goes."""
    reader, writer = ends

    def is_good(_: bytes) -> bool:
        used()
        return True

    async with _hung_up(writer):
        await _until_either_ends(_bytes_to_api(reader, api, used), _to_writer(api, writer, is_good))
    await api.close()


@asynccontextmanager
async def _hung_up(writer: asyncio.StreamWriter) -> AsyncIterator[None]:
    """Afterwards. What was written before still goes out, unless nobody reads it: then it never would."""
    try:
        yield
    finally:
        writer.close()
        try:
            with suppress(OSError):
                async with asyncio.timeout(_LINGER_SECONDS):
                    await writer.wait_closed()
        finally:
            writer.transport.abort()


async def _frames_to_api(reader: asyncio.StreamReader, api: web.WebSocketResponse) -> None:
    while True:
        lengths = await reader.readexactly(LENGTHS.size)
        text_bytes, body_bytes = LENGTHS.unpack(lengths)
        if text_bytes > OBJECT_BYTES_MAX or body_bytes > BODY_BYTES_MAX:
            return  # who says that is not our runner, or not any more
        await api.send_bytes(lengths + await reader.readexactly(text_bytes + body_bytes))


async def _bytes_to_api(reader: asyncio.StreamReader, api: web.WebSocketResponse, used: Used) -> None:
    while piece := await reader.read(PIECE_BYTES_MAX):
        used()
        await api.send_bytes(piece)


async def _to_writer(
    api: web.WebSocketResponse, writer: asyncio.StreamWriter, is_good: Callable[[bytes], bool]
) -> None:
    async for message in api:
        if message.type is not WSMsgType.BINARY or not is_good(message.data):
            return
        writer.write(message.data)
        await writer.drain()


def _is_frame(message: bytes) -> bool:
    return len(message) >= LENGTHS.size and LENGTHS.size + sum(LENGTHS.unpack_from(message)) == len(message)


async def _until_either_ends(*directions: Awaitable[None]) -> None:
    """That one side hangs up is how it always ends."""
    tasks = [asyncio.ensure_future(direction) for direction in directions]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, (OSError, asyncio.IncompleteReadError)):
            raise end
