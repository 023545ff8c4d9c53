"""Where apps are found: on ports of their own, or all on one by their names. `REFOLD_PROXY_APPS_URL` says which."""

import asyncio
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Final

import structlog

from api.access.auth import Caller
from api.access.visitors import Visitors, is_allowed
from api.http.deps import Services
from api.http.problems import Problem
from api.proxy.browsing import Browser, carry
from api.proxy.circuits import Circuit, Circuits, Wish
from api.proxy.leading import PIECE_BYTES_MAX, tunnel_to
from api.proxy.traffic import Connection

HTTP: Final = "http"
TCP: Final = "tcp"
_NAME_MAX: Final = 40
_LISTEN_SECONDS: Final = 60.0
_SILENCE_SECONDS: Final = 60  # until the kernel asks whether the other side is still there, and between two such asks

_log = structlog.get_logger("api.proxy")


class Apps:
    """All apps of one proxy process, with the sockets they are reached by."""

    def __init__(self, services: Services) -> None:
        self.services = services
        self.visitors = Visitors(services.settings.trusted_proxies)
        self.circuits = Circuits(services.sign_ins.is_still_in, services.settings.proxy_idle_seconds)
        self._settings = services.settings
        first, _, last = services.settings.proxy_ports.partition("-")
        self._ports = range(int(first), int(last) + 1)
        self._by_port: dict[int, Circuit] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._opening = asyncio.Lock()  # one after another, so that what is wanted twice is opened once

    @property
    def has_names(self) -> bool:
        """Whether apps have names; else they have ports."""
        return "{subdomain}" in self._settings.proxy_apps_url

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._connections)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """For the block."""
        server = await self._listen(self._ports[0], self._http) if self.has_names else None
        loops = [asyncio.create_task(loop) for loop in (self.circuits.run(), self._end_with_sessions())]
        try:
            yield
        finally:
            for task in loops:
                task.cancel()
            self.circuits.close_all()
            if server is not None:
                server.close()
            for task in self._connections:
                task.cancel()
            await asyncio.gather(*loops, *self._connections, return_exceptions=True)

    async def _end_with_sessions(self) -> None:
        """Apps are closed when their session ends. That of a session which ended unheard is found closed when used."""
        live = self.services.tail.live
        listener = live.listen(None)
        try:
            while True:
                happening = await listener.next(_LISTEN_SECONDS)
                if listener.overflowed:
                    listener.start_over()
                elif happening is not None and happening.kind == "SessionEnded":
                    for circuit in self.circuits.of_session(happening.session_id):
                        self.circuits.close(circuit)
        finally:
            live.leave(listener)

    async def open(self, wish: Wish, opener: Caller, *, anew: bool = False) -> tuple[Circuit, bool]:
        """The circuit for that, and whether it was there already. `anew`: another is opened in its place.

        Raises `Problem` (403, 503).
        """
        if wish.is_public and not self._settings.proxy_public_apps:
            raise _forbidden("apps are not opened to everybody here", "open_to_public")
        async with self._opening:
            circuit = self.circuits.find(wish.circuit_id)
            if circuit is not None and not anew:
                return circuit, True
            if circuit is not None:
                self.circuits.close(circuit)
            circuit = await (self._with_name(wish, opener) if self.has_names else self._with_port(wish, opener))
            self.circuits.add(circuit)
        _log.info("app opened", session=wish.session_id, app=wish.app.name, url=circuit.url, public=wish.is_public)
        return circuit, False

    def circuit(self, port: int, host: str) -> Circuit:
        """Raises `Problem` (404, 421)."""
        if self.has_names:
            known = self.circuits.find(host.partition(".")[0].rpartition("-")[2])
        else:
            known = self._by_port.get(port)
        if known is None:
            detail = "no app is open here: start the service again"
            raise Problem(404, "app-not-open", "No such app", detail, error_code="E20009")
        if known.host.removesuffix(":80").removesuffix(":443") != host.removesuffix(":80").removesuffix(":443"):
            raise Problem(421, "misdirected", "Not here", "this app is not found under that name")
        return known

    async def _with_name(self, wish: Wish, opener: Caller) -> Circuit:
        if wish.app.protocol != HTTP:
            raise _forbidden("only apps that speak HTTP are found by a name", "protocol")
        name = f"{re.sub('[^a-z0-9]+', '-', wish.app.name.lower())[:_NAME_MAX].strip('-')}-{wish.circuit_id}"
        url = self._settings.proxy_apps_url.replace("{subdomain}", name)
        return Circuit(wish, wish.circuit_id, url, opener, close=lambda: None)

    async def _with_port(self, wish: Wish, opener: Caller) -> Circuit:
        """The port that it derives from its id if that is free, else the next."""
        if wish.app.protocol != HTTP and not self._settings.proxy_tcp_apps:
            raise _forbidden("only apps that speak HTTP are opened here", "protocol")
        serve = self._http if wish.app.protocol == HTTP else self._tcp
        first = int(wish.circuit_id, 16) % len(self._ports)
        for port in (*self._ports[first:], *self._ports[:first]):
            if port in self._by_port:
                continue
            try:
                server = await self._listen(port, serve)
            except OSError:
                continue  # somebody else has it

            def close(port: int = port, server: asyncio.Server = server) -> None:
                server.close()
                del self._by_port[port]

            url = self._settings.proxy_apps_url.replace("{port}", str(port))
            if wish.app.protocol != HTTP:
                url = url.replace("https:", "tcp:").replace("http:", "tcp:")
            circuit = self._by_port[port] = Circuit(wish, wish.circuit_id, url, opener, close)
            return circuit
        raise Problem(
            503, "no-free-port", "No free port", "all ports for apps are in use", retryable=True, retry_after=60
        )

    async def _listen(self, port: int, serve: Callable[[Browser], Awaitable[None]]) -> asyncio.Server:
        """Raises `OSError`."""

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            if len(self._connections) >= self._settings.proxy_connections_max:
                writer.transport.abort()
                return
            self._connections.add(task)
            browser = Browser(reader, writer)
            try:
                _watch(writer)
                await serve(browser)
                await browser.hang_up()
            except asyncio.CancelledError:
                pass  # whoever it was had to go; nobody waits for this task
            finally:
                writer.transport.abort()
                self._connections.discard(task)

        return await asyncio.start_server(
            connected, self._settings.proxy_host, port, limit=PIECE_BYTES_MAX, reuse_address=True
        )

    async def _http(self, browser: Browser) -> None:
        await Connection(browser, self).run()

    async def _tcp(self, browser: Browser) -> None:
        """Bytes both ways. Nobody is asked who he is: that is the app's affair (`proxy_tcp_apps`)."""
        circuit = self._by_port.get(browser.port)
        if circuit is None or not is_allowed(browser.peer[0], circuit.wish.clients):
            return
        opening = tunnel_to(circuit.wish.session_id, circuit.wish.app, circuit.opener, self.services)
        with circuit.used(circuit.opener), suppress(Problem):
            async with opening as tunnel:
                await carry(browser, tunnel)


def _watch(writer: asyncio.StreamWriter) -> None:
    """Who is gone without a word is noticed: the system asks for him."""
    connection: socket.socket = writer.get_extra_info("socket")
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option in (socket.TCP_KEEPIDLE, socket.TCP_KEEPINTVL):
        connection.setsockopt(socket.IPPROTO_TCP, option, _SILENCE_SECONDS)


def _forbidden(why: str, field: str) -> Problem:
    return Problem(403, "app-not-allowed", "Forbidden operation", why, field=field, error_code="E20002")
