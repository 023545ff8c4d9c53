"""WebSockets `/stream/session/{id}/tcpproxy?app=` and `…/httpproxy?app=`: a TCP connection to a service of the session.

Each binary message is a piece of what the connection carries, either way; one socket is one connection. The service is
started if it does not run, and the socket opens once its port is open. Neither side is read faster than the other
takes it.
"""

import asyncio
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Query
from starlette.websockets import WebSocket, WebSocketDisconnect
from websockets.asyncio.client import ClientConnection
from websockets.exceptions import ConnectionClosed

from api.http.deps import All, Caller, Directory
from api.http.problems import invalid
from api.http.sockets import MESSAGE_BYTES_MAX
from api.kernels.apps import NAME_MAX, service_of, start
from api.kernels.reaching import connected, place_of

router = APIRouter(tags=["services of sessions"])

_SAID_MAX: Final = 16_384

Said = Annotated[str, Query(max_length=_SAID_MAX)]


@router.websocket("/stream/session/{reference}/tcpproxy")
@router.websocket("/stream/session/{reference}/httpproxy")
@router.websocket("/stream/kernel/{reference}/tcpproxy")
@router.websocket("/stream/kernel/{reference}/httpproxy")
async def tunnel(
    socket: WebSocket,
    reference: str,
    caller: Caller,
    all_: All,
    directory: Directory,
    app: Annotated[str, Query(min_length=1, max_length=NAME_MAX)],
    arguments: Said = "{}",
    envs: Said = "{}",
) -> None:
    """`arguments`, `envs`: for the program, as JSON, where this connection starts it and its definition allows them."""
    words, variables = _object("arguments", arguments), _object("envs", envs)
    place = await place_of(reference, caller, all_)
    service = service_of(place, app, directory)
    await start(place, service, words, variables, caller, all_)
    async with connected(place, f"ports/{service.port}", caller, all_, MESSAGE_BYTES_MAX) as port:
        await socket.accept()
        await _until_either_leaves(socket, port)
    await socket.close()


def _object(name: str, text: str) -> dict[str, Any]:
    try:
        told = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise invalid(name, "json_invalid", f"{name} is not JSON: {error}") from error
    if not isinstance(told, dict):
        raise invalid(name, "object", f"{name} must be a JSON object")
    return told


async def _until_either_leaves(socket: WebSocket, port: ClientConnection) -> None:
    """Raises `WebSocketDisconnect` if it was the client, or `Problem` if he does not keep to the rules."""
    both = [asyncio.create_task(_in(socket, port)), asyncio.create_task(_out(socket, port))]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        ends = await asyncio.gather(*both, return_exceptions=True)
    for end in ends:
        if isinstance(end, Exception) and not isinstance(end, ConnectionClosed):
            raise end


async def _in(socket: WebSocket, port: ClientConnection) -> None:
    while True:
        message = await socket.receive()
        if message["type"] == "websocket.disconnect":
            raise WebSocketDisconnect(message.get("code", 1005))
        piece = message.get("bytes")
        if piece is None:
            raise invalid("frame", "binary", "frames are binary: pieces of what a TCP connection carries")
        await port.send(piece)


async def _out(socket: WebSocket, port: ClientConnection) -> None:
    async for piece in port:
        if isinstance(piece, bytes):
            await socket.send_bytes(piece)
