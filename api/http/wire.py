"""A request on the wire, and what the routes are told of it: paths and methods go by several names, and a body is read
once."""

import re
from collections.abc import MutableMapping
from typing import Final
from urllib.parse import parse_qs

from starlette.types import Message, Receive, Scope

from api.http.problems import Problem

BODY_BYTES_MAX: Final = 256 * 1024

_COOKIES: Final = "/func"
_MAJORS: Final = frozenset("4567")
_PREFIX: Final = re.compile(r"/v(?P<major>\d+)(?P<rest>/.*)?", re.DOTALL)
_OLD_NAME: Final = re.compile(r"(?P<stream>/stream)?/kernel(?=/|$)")
"""What the reference called sessions before."""

_OVERRIDABLE: Final = frozenset({"GET", "REPORT", "PUT", "PATCH", "DELETE", "POST"})


def enter(scope: Scope, headers: MutableMapping[str, str]) -> bool:
    """Rewrite path and method to what the routes know; whether it is one of those where a cookie counts."""
    by_cookie: bool = scope["path"].startswith(_COOKIES + "/")
    if by_cookie:
        scope["path"] = scope["path"].removeprefix(_COOKIES)
    match = _PREFIX.fullmatch(scope["path"])
    if match is not None:
        major = match["major"]
        if major not in _MAJORS:
            raise Problem(404, "unsupported-api-version", "Unsupported API version", f"there is no v{major[:20]}")
        if match["rest"]:
            scope["path"] = match["rest"]
    if (old := _OLD_NAME.match(scope["path"])) is not None:
        scope["path"] = (old["stream"] or "") + "/session" + scope["path"][old.end() :]
    if scope["type"] == "websocket":
        return by_cookie
    override = headers.get("x-method-override", "").upper()
    if override and scope["method"] == "POST" and override in _OVERRIDABLE:
        scope["method"] = override
    if scope["method"] == "REPORT":
        scope["method"] = "GET"
    return by_cookie


def target_of(scope: Scope) -> str:
    """Path and query exactly as on the wire."""
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    query: bytes = scope["query_string"]
    return (raw + b"?" + query if query else raw).decode("latin-1")


def owner_named(query: bytes) -> str | None:
    """The access key for which somebody else wants to act."""
    if b"owner_access_key=" not in query:
        return None
    return parse_qs(query.decode("latin-1")).get("owner_access_key", [None])[0]


async def body_of(scope: Scope, headers: MutableMapping[str, str], receive: Receive) -> bytes:
    """All of it; none of a request for a WebSocket. Raises `Problem` (400, 413)."""
    if scope["type"] == "websocket":
        return b""
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


def replayed(body: bytes, receive: Receive) -> Receive:
    """The body once more, and then whatever comes: that the client went away."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return waiting.pop() if waiting else await receive()

    return again
