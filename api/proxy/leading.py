"""From the proxy to an app: a connection through its agent into the kernel, as a stream of bytes."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Final

from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed
from websockets.protocol import State

from api.access.auth import Caller
from api.http.deps import Services
from api.kernels.apps import start
from api.kernels.reaching import Unreachable, connected, place_of
from domain.directory.images import ServicePort

PIECE_BYTES_MAX: Final = 64 * 1024
_MESSAGE_BYTES_MAX: Final = 1024 * 1024  # more than the agent sends at once


class Tunnel:
    """A TCP connection to a port of a kernel. Neither side is read faster than the other takes it."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket = socket

    @property
    def is_open(self) -> bool:
        """Whether neither side has hung up, as far as is known here."""
        return self._socket.state is State.OPEN

    async def read(self) -> bytes:
        """What comes next; nothing at the end."""
        try:
            piece = await self._socket.recv()
        except ConnectionClosed:
            return b""
        return piece if isinstance(piece, bytes) else b""  # an agent sends bytes only

    async def write(self, data: bytes) -> None:
        """Raises `ConnectionResetError` once the app has hung up."""
        try:
            for at in range(0, len(data), PIECE_BYTES_MAX):
                await self._socket.send(data[at : at + PIECE_BYTES_MAX])
        except ConnectionClosed as error:
            raise ConnectionResetError("the app has hung up") from error


@asynccontextmanager
async def tunnel_to(session_id: str, app: ServicePort, caller: Caller, all_: Services) -> AsyncIterator[Tunnel]:
    """For the block. Starts the app where it does not listen. Raises `Problem`: as `place_of`, `connected`, `start`."""
    place = await place_of(session_id, caller, all_)
    async with AsyncExitStack() as stack:
        port = partial(connected, place, f"ports/{app.port}", caller, all_, _MESSAGE_BYTES_MAX)
        try:
            socket = await stack.enter_async_context(port())
        except Unreachable:  # its agent, or only its port: nothing listens there yet, or not any more
            await start(place, app, {}, {}, caller, all_)
            socket = await stack.enter_async_context(port())
        yield Tunnel(socket)
