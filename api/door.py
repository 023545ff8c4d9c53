"""The front door: what every request passes before a route sees it, and every answer on its way out.

Pure ASGI, because it is in the way of each request: size limits, the `/v<major>` prefix, the signature, the rate limit,
and at the end the one place where an error becomes a problem. Nobody gets past it unsigned but to what `_PUBLIC` lists.

Under `/func` stands the same application once more, where the cookie of a sign-in counts, and nothing else does.
"""

import re
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final, Protocol
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics
from api.auth import Caller, Gate, Signed
from api.problems import Problem, from_error, internal, invalid
from api.ratelimit import Kind, Limiter, Standing
from api.signin import Client, SignIns
from api.visitors import Visitors, counted_as, is_allowed, refuse_foreign

BODY_BYTES_MAX: Final = 256 * 1024
CALLER: Final = "refold.caller"
BODY: Final = "refold.body"
CLIENT: Final = "refold.client"
HEADERS: Final = "refold.headers"
"""Lower-case name → text: looked up faster than in a Starlette request, and often."""

SIGN_IN_PATHS: Final = "/server/"
"""Where browsers sign in and out; the routes there look at the cookie by themselves."""

_COOKIES: Final = "/func"
_PUBLIC: Final = frozenset(
    {"/", "/health", "/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/asyncapi.json"}
    | {"/auth/signup", "/auth/update-password-no-auth"}
)
_LOCAL: Final = frozenset({"/refold/status"})  # unsigned only from this machine: for `infra/up` and probes beside us
_PROBES: Final = frozenset({"/health", "/ready", "/metrics"}) | _LOCAL
"""Not limited: a load balancer that is refused would take us for dead."""

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_PROXIED: Final = frozenset({"x-forwarded-for", "forwarded", "via"})  # then it is the proxy that is on this machine
_MAJORS: Final = frozenset({4, 5, 6, 7})
_MAJOR_ONLY: Final = re.compile(r"/v\d{1,4}")
_PREFIX: Final = re.compile(r"/v(?P<major>\d{1,4})(?P<rest>/.*)?", re.DOTALL)
_OVERRIDABLE: Final = frozenset({"GET", "REPORT", "PUT", "PATCH", "DELETE", "POST"})

_log = structlog.get_logger("api")


class Inside(Protocol):
    """What the door needs of `api.deps.Services`."""

    limiter: Limiter
    sign_ins: SignIns

    def admitted(self) -> Gate:
        """Raises `Problem` until the directory is whole."""


class Door:
    """`services` gives what is inside; `unsigned_max`: requests from one address in a window of `api.ratelimit`."""

    def __init__(self, app: ASGIApp, visitors: Visitors, services: Callable[[], Inside], unsigned_max: int) -> None:
        self._app = app
        self._visitors = visitors
        self._services = services
        self._unsigned_max = unsigned_max

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        watched = _Watched(send)
        try:
            await self._pass(scope, receive, watched)
        except Exception as error:
            problem = from_error(error)
            if problem is None:
                _log.exception("request failed", method=scope["method"], path=scope["path"])
                problem = internal()
            if watched.status is not None:
                raise  # the answer has begun: all that is left is to break it off
            await problem.response(scope["path"])(scope, receive, watched)
        finally:
            metrics.observe(scope, watched.status or 500, time.perf_counter() - began)

    async def _pass(self, scope: Scope, receive: Receive, watched: "_Watched") -> None:
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
        scope[BODY], scope[HEADERS] = body, headers
        scope[CLIENT] = Client(address, self._visitors.is_secure(scope, headers), headers.get("cookie", ""))
        await self._app(scope, _replayed(body, receive), watched)

    async def _admit(
        self,
        scope: Scope,
        headers: MutableMapping[str, str],
        receive: Receive,
        watched: "_Watched",
        address: str,
    ) -> bytes:
        """The body, once it is known that the request may pass, and whose it is. Raises `Problem`."""
        target, method = _target(scope), scope["method"]
        by_cookie = _enter(scope, headers)
        is_sign_in = not by_cookie and scope["path"].startswith(SIGN_IN_PATHS)
        if by_cookie or is_sign_in:
            refuse_foreign(method, headers)
        if is_sign_in or self._is_open(scope, headers):
            if scope["path"] not in _PROBES:
                self._count(watched, Kind.ADDRESS, counted_as(address), self._unsigned_max)
            if is_sign_in:
                self._services().admitted()
            return await _body(headers, receive)
        services = self._services()
        gate = services.admitted()
        body = await _body(headers, receive)
        if by_cookie:
            caller = await services.sign_ins.caller(headers.get("cookie", ""))
        else:
            caller = await gate.let_in(Signed(method, target, headers, body))
        self._count(watched, Kind.KEYPAIR, caller.access_key, caller.identity.keypair.spec.rate_limit)
        if not is_allowed(address, caller.identity.user.spec.allowed_client_ip):
            raise Problem(403, "client-address-not-allowed", "Forbidden operation", "not from this address")
        scope[CALLER] = gate.acting_for(caller, _owner(scope["query_string"]))
        return body

    def _count(self, watched: "_Watched", kind: Kind, who: str, limit: int) -> None:
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


def _enter(scope: Scope, headers: MutableMapping[str, str]) -> bool:
    """Rewrite path and method to what the routes know; whether it is one of those where a cookie counts."""
    by_cookie: bool = scope["path"].startswith(_COOKIES + "/")
    if by_cookie:
        scope["path"] = scope["path"].removeprefix(_COOKIES)
    match = _PREFIX.fullmatch(scope["path"])
    if match is not None:
        if int(match["major"]) not in _MAJORS:
            raise Problem(404, "unsupported-api-version", "Unsupported API version", f"there is no v{match['major']}")
        if match["rest"]:
            scope["path"] = match["rest"]
    override = headers.get("x-method-override", "").upper()
    if override and scope["method"] == "POST" and override in _OVERRIDABLE:
        scope["method"] = override
    if scope["method"] == "REPORT":
        scope["method"] = "GET"
    return by_cookie


def _target(scope: Scope) -> str:
    """Path and query exactly as on the wire."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


def _owner(query: bytes) -> str | None:
    if b"owner_access_key=" not in query:
        return None
    return parse_qs(query.decode("latin-1")).get("owner_access_key", [None])[0]


async def _body(headers: MutableMapping[str, str], receive: Receive) -> bytes:
    length = headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > BODY_BYTES_MAX:
        raise _too_large()
    pieces = []
    size = 0
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "incomplete-request", "Incomplete request", "the connection ended within the body")
        piece: bytes = message.get("body", b"")
        size += len(piece)
        if size > BODY_BYTES_MAX:
            raise _too_large()
        pieces.append(piece)
        more = message.get("more_body", False)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _too_large() -> Problem:
    return Problem(
        413,
        "body-too-large",
        "The request body is too large",
        f"a request may have {BODY_BYTES_MAX} bytes",
        headers={"Connection": "close"},
    )


def _replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then whatever comes: that the client went away."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again


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
