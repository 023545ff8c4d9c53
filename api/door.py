"""The front door: what every request passes before a route sees it, and every answer on its way out.

Pure ASGI, because it is in the way of each request: size limits, the `/v<major>` prefix, the signature, and at the end
the one place where an error becomes a problem. Nobody gets past it unsigned but to what `_PUBLIC` lists.
"""

import re
import time
from collections.abc import Callable, MutableMapping
from typing import Any, Final
from urllib.parse import parse_qs

import structlog
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api import metrics
from api.auth import Caller, Gate, Signed
from api.problems import Problem, from_error, internal, invalid

BODY_BYTES_MAX: Final = 256 * 1024
CALLER: Final = "refold.caller"
BODY: Final = "refold.body"
HEADERS: Final = "refold.headers"
"""Lower-case name → text: looked up faster than in a Starlette request, and often."""

_PUBLIC: Final = frozenset(
    {"/", "/health", "/ready", "/metrics", "/docs", "/docs/oauth2-redirect", "/openapi.json", "/asyncapi.json"}
)
_LOCAL: Final = frozenset({"/refold/status"})  # unsigned only from this machine: for `infra/up` and probes beside us
_LOOPBACK: Final = frozenset({"127.0.0.1", "::1"})
_PROXIED: Final = frozenset({"x-forwarded-for", "forwarded", "via"})  # then it is the proxy that is on this machine
_MAJORS: Final = frozenset({4, 5, 6, 7})
_MAJOR_ONLY: Final = re.compile(r"/v\d{1,4}")
_PREFIX: Final = re.compile(r"/v(?P<major>\d{1,4})(?P<rest>/.*)?", re.DOTALL)
_OVERRIDABLE: Final = frozenset({"GET", "REPORT", "PUT", "PATCH", "DELETE", "POST"})

_log = structlog.get_logger("api")


class Door:
    """`gate` gives the gatekeeper once the directory is known; raises a `Problem` before."""

    def __init__(self, app: ASGIApp, gate: Callable[[], Gate]) -> None:
        self._app = app
        self._gate = gate

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

    async def _pass(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        body = await _body(headers, receive)
        target = _target(scope)
        method = scope["method"]
        _enter(scope, headers)
        if not self._is_open(scope, headers):
            owner = _owner(scope["query_string"])
            scope[CALLER] = self._gate().admit(Signed(method, target, headers, body), owner)
        if b"\x00" in scope["path"].encode(errors="surrogatepass") or b"%00" in scope["query_string"]:
            raise invalid("path", "no_nul", "NUL characters are not allowed")
        scope[BODY], scope[HEADERS] = body, headers
        await self._app(scope, _replayed(body, receive), send)

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


def _enter(scope: Scope, headers: MutableMapping[str, str]) -> None:
    """Rewrite path and method to what the routes know."""
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
    """`send`, remembering with which status the answer began."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self.status: int | None = None

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)
