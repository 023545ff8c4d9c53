"""A browser's side of a connection: HTTP/1.1 (h11) over a TCP stream, and bytes as they are."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final

import h11
from starlette.responses import Response

from api.proxy.leading import PIECE_BYTES_MAX, Tunnel

HEAD_BYTES_MAX: Final = 64 * 1024
_LEFT_SECONDS: Final = 1.0
_LINGER_SECONDS: Final = 2.0


class Leaving(Exception):
    """The other side has, or it must; there is nothing more to say."""


class Browser:
    """Its side of a connection, as HTTP/1.1."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.http = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        self.peer = writer.get_extra_info("peername")
        self.port: int = writer.get_extra_info("sockname")[1]

    async def request(self, seconds: float) -> h11.Request:
        """The next. Raises `Leaving`, `h11.RemoteProtocolError`, `TimeoutError`."""
        async with asyncio.timeout(seconds):
            event = await self.event()
        if isinstance(event, h11.Request):
            return event
        raise Leaving

    async def event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        """The next one. Raises `Leaving`, `h11.RemoteProtocolError`."""
        while True:
            event = self.http.next_event()
            if event is not h11.NEED_DATA:
                if isinstance(event, h11.ConnectionClosed):
                    raise Leaving
                return event
            try:
                self.http.receive_data(await self.reader.read(PIECE_BYTES_MAX))
            except ConnectionError as error:
                raise Leaving from error

    async def send(self, event: h11.Event) -> None:
        """Raises `Leaving`."""
        data = self.http.send(event)
        if data:
            await self.write(data)

    async def write(self, data: bytes) -> None:
        """Raises `Leaving`."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError as error:
            raise Leaving from error

    async def left(self) -> None:
        """Returns once it has hung up, though nothing is read from it: an app may be silent for hours."""
        while not self.reader.at_eof():  # noqa: ASYNC110  # a stream tells nobody of it
            await asyncio.sleep(_LEFT_SECONDS)

    async def hang_up(self) -> None:
        """Gently, so that the last words arrive though not all was read that it says; then by force."""
        try:
            with suppress(OSError, TimeoutError):
                self.writer.write_eof()
                async with asyncio.timeout(_LINGER_SECONDS):
                    while await self.reader.read(PIECE_BYTES_MAX):
                        pass
        finally:
            self.writer.transport.abort()

    async def answer(self, response: Response) -> None:
        """One of ours, after which the connection ends. Raises `Leaving`."""
        if self.http.our_state is not h11.SEND_RESPONSE and self.http.our_state is not h11.IDLE:
            raise Leaving
        headers = [*response.raw_headers, (b"connection", b"close")]
        await self.send(h11.Response(status_code=response.status_code, headers=headers))
        await self.send(h11.Data(data=bytes(response.body)))
        await self.send(h11.EndOfMessage())


async def carry(browser: Browser, tunnel: Tunnel, ahead: tuple[bytes, bytes] = (b"", b"")) -> None:
    """Bytes both ways as they are, until either side leaves. `ahead`: what was read of the browser, of the app."""
    both = [
        asyncio.create_task(_copy(ahead[0], lambda: browser.reader.read(PIECE_BYTES_MAX), tunnel.write)),
        asyncio.create_task(_copy(ahead[1], tunnel.read, browser.write)),
    ]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _copy(first: bytes, read: Callable[[], Awaitable[bytes]], write: Callable[[bytes], Awaitable[None]]) -> None:
    piece = first
    with suppress(Leaving, ConnectionError):
        while True:
            if piece:
                await write(piece)
            piece = await read()
            if not piece:
                return
