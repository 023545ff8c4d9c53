"""WebSockets, as the door has them: how one is refused, for how long it may stay, and how it ends.

What a route raises before it has accepted is an answer like any other, a problem with its status. After that a socket
is closed with a code of its own, 4000 and the status, and the problem's kind and detail as the reason.
"""

import asyncio
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final

from starlette.types import ASGIApp, Receive, Scope, Send

from api import metrics
from api.access.ratelimit import Standing
from api.http.problems import Problem, of_status

MESSAGE_BYTES_MAX: Final = 1024 * 1024
"""Of one message of a client; uvicorn closes with 1009 beyond."""

PING_SECONDS: Final = 20.0
SILENCE_SECONDS: Final = 120.0
"""After which a client that answers no ping is gone. Long, because who is held up by a slow session answers none."""

UPGRADE: Final = "WEBSOCKET"
"""Stands for the method of a request that would open one."""

_CHECK_SECONDS: Final = 0.5
_REASON_BYTES_MAX: Final = 123
_RESTARTING: Final = 1012
_FAILED: Final = 1011
_DENIAL: Final = "websocket.http.response"


def code_of(problem: Problem) -> int:
    """The code with which a socket is closed because of it."""
    return 4000 + problem.status


class Socket:
    """`send` of one socket, which knows how far it has come. `standing` is told with the answer to the handshake."""

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._scope = scope
        self._receive = receive
        self._send = send
        self._is_open = False
        self._is_over = False
        self.status: int | None = None
        self.standing: Standing | None = None

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        match message["type"]:
            case "websocket.accept":
                self._is_open, self.status = True, 101
                metrics.SOCKETS.inc()
                message = self._with_standing(message)
            case "websocket.http.response.start":
                self._is_over, self.status = True, message["status"]
                message = self._with_standing(message)
            case "websocket.close" if not self._is_open:
                await self.refuse(of_status(404))  # the framework knows no such route; ours raise a problem instead
                return
            case "websocket.close":
                self._is_over = True
        await self._send(message)

    def _with_standing(self, message: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
        if self.standing is None:
            return message
        return {**message, "headers": [*message.get("headers", ()), *self.standing.headers]}

    async def run(self, app: ASGIApp, may_stay: Callable[[], Problem | None], is_stopping: Callable[[], bool]) -> None:
        """The app, for as long as its client would be let in again. Raises what the app does, and `Problem`."""
        going = asyncio.ensure_future(app(self._scope, self._receive, self))
        try:
            while not (await asyncio.wait({going}, timeout=_CHECK_SECONDS))[0]:
                if is_stopping():
                    await self._close(_RESTARTING, "connect again")
                    return
                if (problem := may_stay()) is not None:
                    raise problem
        finally:
            going.cancel()
            ends = await asyncio.gather(going, return_exceptions=True)
        if isinstance(ends[0], Exception):
            raise ends[0]

    async def refuse(self, problem: Problem) -> None:
        """Whatever state it is in."""
        if self._is_over:
            return
        if self._is_open:
            await self._close(
                code_of(problem) if problem.status != 500 else _FAILED, f"{problem.kind}: {problem.detail}"
            )
        elif _DENIAL in self._scope.get("extensions", {}):
            await problem.response(self._scope["path"])(self._scope, self._receive, self)
        else:
            self._is_over, self.status = True, problem.status
            await self._send({"type": "websocket.close", "code": code_of(problem), "reason": _cut(problem.kind)})

    async def _close(self, code: int, reason: str) -> None:
        if self._is_open and not self._is_over:
            with suppress(OSError):  # its client has left meanwhile
                await self({"type": "websocket.close", "code": code, "reason": _cut(reason)})

    def ended(self) -> None:
        """Nothing follows."""
        metrics.observe_socket(self._scope, self.status or 500)
        if self._is_open:
            metrics.SOCKETS.dec()


def _cut(reason: str) -> str:
    return reason.encode()[:_REASON_BYTES_MAX].decode(errors="ignore")
