"""The front door: what every request passes before a route sees it, and every answer on its way out.

Pure ASGI, because it is in the way of each request: size limits, the `/v<major>` prefix, the signature, the rate limit,
and at the end the one place where an error becomes a problem. Nobody gets past it unsigned but to what `_PUBLIC` lists;
agents prove themselves by tokens of their own, and get to what is theirs only.

Under `/func` stands the same application once more, where the cookie of a sign-in counts, and nothing else does.

A WebSocket is let in the same way, by the request that asks for it; and it is ended when its client would not be let in
any more (`api/http/sockets.py`).
"""

import re
import time
from collections.abc import Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final, Protocol

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from starlette.websockets import WebSocketDisconnect

from api import metrics
from api.access.auth import Caller, Gate, Signed
from api.access.ratelimit import Kind, Limiter, Standing
from api.access.signin import Client, SignIns
from api.access.uses import Uses
from api.access.visitors import Visitors, counted_as, is_allowed, refuse_foreign
from api.hosts.tokens import INTERNAL, STARTING, starting
from api.http.problems import Problem, from_error, internal, invalid
from api.http.sockets import UPGRADE, Socket
from api.http.wire import body_of, enter, owner_named, replayed, target_of
from infra.settings import Settings

CALLER: Final = "refold.caller"
BODY: Final = "refold.body"
CLIENT: Final = "refold.client"
HEADERS: Final = "refold.headers"
"""Lower-case name → text: looked up faster than in a Starlette request, and often."""

SIGN_IN_PATHS: Final = "/server/"
"""Where browsers sign in and out; the routes there look at the cookie by themselves."""

_PUBLIC: Final = frozenset(
    {"/", "/health", "/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/asyncapi.json"}
    | {"/auth/authorize", "/auth/signup", "/auth/update-password-no-auth"}
)
_LOCAL: Final = frozenset({"/refold/status"})  # unsigned only from this machine: for `infra/up` and probes beside us
_PROBES: Final = frozenset({"/health", "/ready", "/metrics"}) | _LOCAL
"""Not limited: a load balancer that is refused would take us for dead."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_PROXIED: Final = frozenset({"x-forwarded-for", "forwarded", "via"})  # then it is the proxy that is on this machine
_STREAMS: Final = re.compile(r"/session/[^/]+/upload")
"""Whose routes read the body themselves, and may read more of it; a signature does not cover it then."""

_MAJOR_ONLY: Final = re.compile(r"/v\d+")

_log = structlog.get_logger("api")


class Inside(Protocol):
    """What the door needs of `api.http.deps.Services`."""

    settings: Settings
    limiter: Limiter
    sign_ins: SignIns
    uses: Uses
    stopping: bool

    def admitted(self) -> Gate:
        """Raises `Problem` until the directory is whole."""


class Door:
    """`services` gives what is inside; `unsigned_max`: requests of one address in a window (`api.access.ratelimit`)."""

    def __init__(self, app: ASGIApp, visitors: Visitors, services: Callable[[], Inside], unsigned_max: int) -> None:
        self._app = app
        self._visitors = visitors
        self._services = services
        self._unsigned_max = unsigned_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        match scope["type"]:
            case "http":
                await self._answer(scope, receive, _Watched(send))
            case "websocket":
                await self._open(scope, Socket(scope, receive, send), receive)
            case _:
                await self._app(scope, receive, send)

    async def _answer(self, scope: Scope, receive: Receive, watched: "_Watched") -> None:
        began = time.perf_counter()
        try:
            body = await self._pass(scope, receive, watched)
            await self._app(scope, receive if body is None else replayed(body, receive), watched)
        except Exception as error:
            problem = _problem_of(error, scope)
            if watched.status is not None:
                raise  # the answer has begun: all that is left is to break it off
            await problem.response(scope["path"])(scope, receive, watched)
        finally:
            metrics.observe(scope, watched.status or 500, time.perf_counter() - began)

    async def _open(self, scope: Scope, socket: Socket, receive: Receive) -> None:
        try:
            await self._pass(scope, receive, socket)
            await socket.run(self._app, lambda: self._may_stay(scope), lambda: self._services().stopping)
        except WebSocketDisconnect:
            pass  # the client has left
        except Exception as error:
            with suppress(OSError):  # so does one who leaves meanwhile
                await socket.refuse(_problem_of(error, scope))
        finally:
            socket.ended()

    def _may_stay(self, scope: Scope) -> Problem | None:
        caller: Caller | None = scope.get(CALLER)
        if caller is None or self._services().sign_ins.is_still_in(caller):
            return None
        return Problem(401, "no-longer-admitted", "Unauthorized access", "who opened this would not be let in any more")

    async def _pass(self, scope: Scope, receive: Receive, watched: "_Standing") -> bytes | None:
        """The body, once whoever sent it may go on to a route; None if that reads it. Raises `Problem`."""
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        address = self._visitors.address(scope, headers)
        try:
            body = await self._admit(scope, headers, receive, watched, address)
        except Problem:
            if watched.standing is None:  # whoever it was, he has not proven it
                self._count(watched, Kind.ADDRESS, counted_as(address), self._unsigned_max)
            raise
        if b"\x00" in scope["path"].encode(errors="surrogatepass") or b"%00" in scope["query_string"]:
            raise invalid("path", "no_nul", "NUL characters are not allowed")
        scope[BODY], scope[HEADERS] = body or b"", headers
        scope[CLIENT] = Client(address, self._visitors.is_secure(scope, headers), headers.get("cookie", ""))
        return body

    async def _admit(
        self,
        scope: Scope,
        headers: MutableMapping[str, str],
        receive: Receive,
        watched: "_Standing",
        address: str,
    ) -> bytes | None:
        """The body, once it is known that the request may pass, and whose it is. Raises `Problem`."""
        target, is_socket = target_of(scope), scope["type"] == "websocket"
        method = "GET" if is_socket else scope["method"]
        by_cookie = enter(scope, headers)
        if scope["path"].startswith(INTERNAL):
            scope[STARTING] = starting(scope["path"], headers, self._services().settings)
            return await body_of(scope, headers, receive)
        is_sign_in = not by_cookie and scope["path"].startswith(SIGN_IN_PATHS)
        if by_cookie or is_sign_in:
            refuse_foreign(UPGRADE if is_socket else method, headers)
        if is_sign_in or self._is_open(scope, headers):
            if scope["path"] not in _PROBES:
                self._count(watched, Kind.ADDRESS, counted_as(address), self._unsigned_max)
            if is_sign_in:
                self._services().admitted()
            return await body_of(scope, headers, receive)
        services = self._services()
        gate = services.admitted()
        is_stream = _STREAMS.fullmatch(scope["path"]) is not None and not services.settings.signed_bodies
        body = None if is_stream else await body_of(scope, headers, receive)
        if by_cookie:
            caller = await services.sign_ins.caller(headers.get("cookie", ""))
        else:
            caller = await gate.let_in(Signed(method, target, headers, body or b""))
        self._count(watched, Kind.KEYPAIR, caller.access_key, caller.identity.keypair.spec.rate_limit)
        if not is_allowed(address, caller.identity.user.spec.allowed_client_ip):
            raise Problem(403, "client-address-not-allowed", "Forbidden operation", "not from this address")
        services.uses.note(caller.access_key)
        scope[CALLER] = gate.acting_for(caller, owner_named(scope["query_string"]))
        return body

    def _count(self, watched: "_Standing", kind: Kind, who: str, limit: int) -> None:
        """Raises `Problem` (429)."""
        watched.standing = self._services().limiter.hit(kind, who, limit)
        watched.standing.check()

    def _is_open(self, scope: Scope, headers: MutableMapping[str, str]) -> bool:
        path = scope["path"]
        if path in _PUBLIC or _MAJOR_ONLY.fullmatch(path):
            return True
        client = scope.get("client")
        is_local = client is not None and client[0] in _LOOPBACK and not _PROXIED & headers.keys()
        return path in _LOCAL and is_local and "authorization" not in headers


def caller_of(scope: Scope) -> Caller:
    """Who signed the request; every route but the public ones has one."""
    caller: Caller = scope[CALLER]
    return caller


def client_of(scope: Scope) -> Client:
    """From where the request came."""
    client: Client = scope[CLIENT]
    return client


def _problem_of(error: Exception, scope: Scope) -> Problem:
    problem = from_error(error)
    if problem is None:
        _log.exception("request failed", method=scope.get("method", UPGRADE), path=scope["path"])
        problem = internal()
    return problem


class _Standing(Protocol):
    standing: Standing | None


class _Watched:
    """`send`, which tells the caller how he stands, and remembers with which status the answer began."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None
        self.standing: Standing | None = None

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            if self.standing is not None:
                message = {**message, "headers": [*message.get("headers", ()), *self.standing.headers]}
        await self._send(message)
