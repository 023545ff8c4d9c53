"""The service `ttyd`: a page with a terminal, by HTTP, for whoever reaches the kernel's port.

    GET /       the page, and below it what it is made of (`page/`)
    GET /ws     WebSocket: a shell of its own. To us, binary: "0" and what was typed, or "1" and the size as JSON
                ({"rows", "cols"}); from us: what the terminal puts out. When the socket ends the shell is hung up

Nobody is asked who he is: the port is reached through the app proxy or a tunnel of the api, which do. But a browser
that reaches it by a tunnel on its own machine shows pages of others too, so those are not let in (`Origin`).
"""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress

from .failures import Failure
from .terminals import Terminal, Terminals
from .websocket import PROTOCOL_ERROR, Closed, WebSocket, accept_key

CONNECTIONS_MAX = 64
HEAD_BYTES_MAX = 16 * 1024
HEAD_SECONDS = 15.0
READ_BYTES_MAX = 64 * 1024
POLL_SECONDS = 30.0
ENDED = 1000
TYPED, RESIZED = b"0", b"1"
PAGE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "page")
FILES = {
    "/": ("terminal.html", "text/html; charset=utf-8"),
    "/terminal.js": ("terminal.js", "text/javascript; charset=utf-8"),
    "/xterm.js": ("xterm.js", "text/javascript; charset=utf-8"),
    "/addon-fit.js": ("addon-fit.js", "text/javascript; charset=utf-8"),
    "/xterm.css": ("xterm.css", "text/css; charset=utf-8"),
}
POLICY = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; connect-src 'self'; img-src data:"
SECURITY = (
    ("Content-Security-Policy", f"{POLICY}; frame-ancestors 'self'"),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cache-Control", "no-cache"),
)


class WebTerminal:
    """`terminals`: where its shells are opened; `address`: at which it listens."""

    def __init__(self, terminals: Terminals, address: str) -> None:
        self._terminals = terminals
        self._address = address
        self._server: asyncio.AbstractServer | None = None
        self._connections: set[asyncio.Task[None]] = set()

    async def start(self, port: int) -> None:
        """Listens when it returns, as long as the kernel lives."""
        if self._server is None:
            try:
                self._server = await asyncio.start_server(self._connected, self._address, port, limit=HEAD_BYTES_MAX)
            except OSError as error:
                raise Failure("service-died", f"ttyd cannot listen on port {port}: {error.strerror}") from None

    async def stop(self) -> None:
        """Ends every connection, and their shells."""
        for task in self._connections:
            task.cancel()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._connections) >= CONNECTIONS_MAX:
            writer.close()
            return
        self._connections.add(task)
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.CancelledError, asyncio.TimeoutError, asyncio.IncompleteReadError, ConnectionError):
            pass
        except (asyncio.LimitOverrunError, ValueError):
            with suppress(ConnectionError):
                await _say(writer, 400, b"this is no request of a browser", "text/plain")
        finally:
            self._connections.discard(task)
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """One request. Whether another may follow."""
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), HEAD_SECONDS)
        method, path, headers = _read(head)
        if method not in ("GET", "HEAD"):
            await _say(writer, 405, b"only GET is answered", "text/plain")
            return False
        if path == "/ws":
            await self._open(reader, writer, headers)
            return False
        name, kind = FILES.get(path, ("", ""))
        if not name:
            await _say(writer, 404, b"there is nothing here", "text/plain")
            return True
        await _say(writer, 200, _content(name), kind, is_head=method == "HEAD")
        return True

    async def _open(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, headers: Mapping[str, str]
    ) -> None:
        key, origin = headers.get("sec-websocket-key"), headers.get("origin")
        if headers.get("upgrade", "").lower() != "websocket" or key is None:
            await _say(writer, 400, b"this is for WebSockets", "text/plain")
            return
        if origin is not None and origin.partition("://")[2].lower() != headers.get("host", "").lower():
            await _say(writer, 403, b"a page of another site asks for this", "text/plain")
            return
        try:
            name, terminal = self._terminals.open(None, None, None, {})
        except Failure as failure:
            await _say(writer, 503, failure.why.encode(), "text/plain")
            return
        try:
            told = f"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept_key(key)}"
            writer.write(f"HTTP/1.1 101 Switching Protocols\r\n{told}\r\n\r\n".encode())
            await _relay(WebSocket(reader, writer), terminal)
        finally:
            await self._terminals.close(name)


async def _relay(socket: WebSocket, terminal: Terminal) -> None:
    """Until the shell ends or the browser leaves."""
    both = [asyncio.ensure_future(_show(socket, terminal)), asyncio.ensure_future(_type(socket, terminal))]
    try:
        await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in both:
            task.cancel()
        await asyncio.gather(*both, return_exceptions=True)


async def _show(socket: WebSocket, terminal: Terminal) -> None:
    after = 0
    while True:
        told, data = await terminal.read(after, READ_BYTES_MAX, POLL_SECONDS)
        after = told["next"]
        if data:
            await socket.send(data)
        if told["exitCode"] is not None:
            await socket.close(ENDED)
            return


async def _type(socket: WebSocket, terminal: Terminal) -> None:
    try:
        while True:
            message = await socket.receive()
            kind, rest = message[:1], message[1:]
            if kind == TYPED:
                await _typed(terminal, rest)
            elif kind == RESIZED:
                terminal.resize(*_size(rest))
    except Closed as closed:
        await socket.close(closed.code if closed.code != 1006 else ENDED)


async def _typed(terminal: Terminal, data: bytes) -> None:
    """Waits where the program does not read: so does the browser then."""
    while True:
        try:
            terminal.type(data)
            return
        except Failure as failure:
            if failure.code != "terminal-busy":
                return  # the shell has ended, which the other direction tells
        await asyncio.sleep(0.1)


def _size(text: bytes) -> tuple[int, int]:
    try:
        told = json.loads(text)
        rows, cols = int(told["rows"]), int(told["cols"])
    except (ValueError, KeyError, TypeError):
        raise Closed(PROTOCOL_ERROR) from None
    return min(max(rows, 1), 2000), min(max(cols, 1), 2000)


def _content(name: str) -> bytes:
    with open(os.path.join(PAGE, name), "rb") as file:
        return file.read()


def _read(head: bytes) -> tuple[str, str, Mapping[str, str]]:
    """Method, path without its query, and headers by lower-case name. Raises `ValueError`."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, version = first.split(" ")
    if not version.startswith("HTTP/1.") or not target.startswith("/"):
        raise ValueError("not HTTP/1.1")
    headers = {}
    for line in lines:
        if line:
            name, colon, value = line.partition(":")
            if not colon:
                raise ValueError("not a header")
            headers[name.strip().lower()] = value.strip()
    if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
        raise ValueError("no request here has a body")
    return method, target.partition("?")[0], headers


async def _say(writer: asyncio.StreamWriter, status: int, body: bytes, kind: str, *, is_head: bool = False) -> None:
    reason = {200: "OK", 400: "Bad Request", 403: "Forbidden", 404: "Not Found", 405: "Method Not Allowed"}
    lines = [f"HTTP/1.1 {status} {reason.get(status, 'Service Unavailable')}"]
    lines += [f"Content-Type: {kind}", f"Content-Length: {len(body)}", *map(": ".join, SECURITY)]
    writer.write("\r\n".join([*lines, "", ""]).encode() + (b"" if is_head else body))
    await writer.drain()
