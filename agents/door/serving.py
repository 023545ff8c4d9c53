"""The agent's own door, on an internal address: what the api asks for on behalf of a user. Each request carries a token
that opens one kernel for a minute; a WebSocket may stay for longer, and the api ends it when its user must go.

    GET /kernels/{kernel_id}/logs            the latest output of the kernel, as bytes
    GET /kernels/{kernel_id}/runner          WebSocket: each binary message is a frame of `agents/runner`, either way
    GET /kernels/{kernel_id}/ports/{port}    WebSocket: bytes to and from a TCP port of the kernel

Before a WebSocket opens: 404 where the kernel is not here or has no such thing, 503 where it does not answer.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from agents.door.relaying import FRAME_BYTES_MAX, PIECE_BYTES_MAX, Ends, Used, open_socket, relay_bytes, relay_frames
from agents.door.uses import Uses
from agents.runtime import Runtime, RuntimeUnavailable
from domain.messages import AgentId, KernelId
from infra.secrets import BadToken, check_internal_token
from infra.settings import Settings

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Relay = Callable[[web.WebSocketResponse, Ends, Used], Awaitable[None]]

_RUNNER_SECONDS: Final = 10.0  # a kernel runs from its first process on; its runner listens a moment later
_PORT_SECONDS: Final = 5.0
_SILENCE_SECONDS: Final = 60.0  # after which an api that answers no ping is taken for dead


def kernel_routes(settings: Settings, agent_id: AgentId, runtime: Runtime, uses: Uses) -> list[web.RouteDef]:
    """For who has a token of the kernel, for this agent. What is done in it is noted in `uses`."""

    def guarded(handler: Handler) -> Handler:
        async def guard(request: web.Request) -> web.StreamResponse:
            scheme, _, token = request.headers.get("Authorization", "").partition(" ")
            try:
                if scheme != "Bearer":
                    raise BadToken("a bearer token is needed")
                check_internal_token(settings, agent_id, token, KernelId(request.match_info["kernel_id"]))
            except BadToken as error:
                return _no(401, str(error))
            try:
                return await handler(request)
            except RuntimeUnavailable as error:
                return _no(503, str(error))

        return guard

    doors = _Doors(runtime, uses)
    return [
        web.get("/kernels/{kernel_id}/logs", guarded(doors.logs)),
        web.get("/kernels/{kernel_id}/runner", guarded(doors.runner)),
        web.get(r"/kernels/{kernel_id}/ports/{port:\d{1,5}}", guarded(doors.port)),
    ]


class _Doors:
    def __init__(self, runtime: Runtime, uses: Uses) -> None:
        self._runtime = runtime
        self._uses = uses

    async def logs(self, request: web.Request) -> web.StreamResponse:
        output = await self._runtime.output(request.match_info["kernel_id"])
        return web.Response(body=output, content_type="application/octet-stream")

    async def runner(self, request: web.Request) -> web.StreamResponse:
        path = self._runtime.runner(request.match_info["kernel_id"])
        if path is None:
            return _no(404, "this kernel has no runner here")
        try:
            ends = await open_socket(path, _RUNNER_SECONDS)
        except OSError as error:
            return _no(503, f"the runner does not answer: {str(error) or 'not in time'}")
        return await self._relayed(request, ends, relay_frames, heartbeat=_SILENCE_SECONDS)

    async def port(self, request: web.Request) -> web.StreamResponse:
        port = int(request.match_info["port"])
        host = await self._runtime.address(request.match_info["kernel_id"])
        if host is None or not 0 < port < 65536:
            return _no(404, "this kernel has no such port here")
        try:
            async with asyncio.timeout(_PORT_SECONDS):
                ends = await asyncio.open_connection(host, port, limit=PIECE_BYTES_MAX)
        except OSError as error:
            return _no(503, f"port {port} does not answer: {str(error) or 'not in time'}")
        # No heartbeat: whoever does not read for a while, because what he got is not read, answers no ping either.
        return await self._relayed(request, ends, relay_bytes, heartbeat=None)

    async def _relayed(
        self, request: web.Request, ends: Ends, relay: Relay, heartbeat: float | None
    ) -> web.StreamResponse:
        kernel_id = request.match_info["kernel_id"]
        socket = web.WebSocketResponse(max_msg_size=FRAME_BYTES_MAX, compress=False, heartbeat=heartbeat)
        try:
            await socket.prepare(request)
        except BaseException:
            ends[1].close()
            raise
        await relay(socket, ends, lambda: self._uses.note(kernel_id))
        return socket


def _no(status: int, reason: str) -> web.Response:
    return web.json_response({"error": reason}, status=status)
