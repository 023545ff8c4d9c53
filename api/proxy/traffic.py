"""One connection of a browser to an app, from its first byte to its last: who may, and what goes where.

Requests are read one after another (h11), each is judged by itself, and all of a connection go through one tunnel, so a
slow side slows down the other. After a 101 the bytes go as they are: what a WebSocket says is between its two ends.
"""

from contextlib import AsyncExitStack, suppress
from typing import Final, Protocol
from urllib.parse import parse_qs, quote, urlsplit

import h11
import structlog
from starlette.responses import Response

from api.access.auth import Caller
from api.access.visitors import Visitors, is_allowed, refuse_foreign
from api.http.deps import Services
from api.http.problems import Problem, from_error, internal
from api.http.sockets import UPGRADE
from api.proxy.browsing import Browser, Leaving
from api.proxy.circuits import Circuit, Circuits
from api.proxy.exchanging import Way
from api.proxy.heads import cookie_in, texts, to_app, wants_upgrade
from api.proxy.leading import tunnel_to

ENTER: Final = "/.refold/enter"
"""The path of an app's origin that is ours: with a ticket it leaves the cookie, and goes on to where the app begins."""

HEAD_SECONDS: Final = 15.0
IDLE_SECONDS: Final = 75.0  # between two requests of a connection
_AS_IT_IS: Final = "%/?#[]@!$&'()*+,;=:"

_log = structlog.get_logger("api.proxy")


class Inside(Protocol):
    """What a connection needs to know. `circuit`: which one is meant by the `Host` of a request."""

    services: Services
    circuits: Circuits
    visitors: Visitors

    def circuit(self, port: int, host: str) -> Circuit:
        """Raises `Problem` (404, 421)."""


class Connection:
    """Of a browser. `run` returns once it is over."""

    def __init__(self, browser: Browser, inside: Inside) -> None:
        self._browser = browser
        self._inside = inside
        self._stack = AsyncExitStack()
        self._way: Way | None = None

    async def run(self) -> None:
        """Never raises but `CancelledError`."""
        browser, seconds, path = self._browser, HEAD_SECONDS, "/"
        try:
            async with self._stack:
                while True:
                    request = await browser.request(seconds)
                    path = request.target.decode("latin-1")
                    if not await self._serve(request):
                        break
                    browser.http.start_next_cycle()
                    seconds = IDLE_SECONDS
        except (Leaving, TimeoutError):
            pass
        except h11.ProtocolError as error:
            with suppress(Leaving, h11.ProtocolError):
                problem = Problem(error.error_status_hint, "bad-request", "Not HTTP/1.1", str(error))
                await browser.answer(_shown(problem, path))
        except Exception as error:
            problem = from_error(error) or internal()
            if problem.status >= 500 and not isinstance(error, Problem):
                _log.exception("connection to an app failed")
            with suppress(Leaving, h11.ProtocolError):
                await browser.answer(_shown(problem, path))

    async def _serve(self, request: h11.Request) -> bool:
        """One request. Whether another may follow. Raises `Problem`, `Leaving`, `h11.ProtocolError`."""
        headers = [*request.headers]
        told = texts(headers)
        target = request.target.decode("latin-1")
        host = told.get("host", "").lower()
        if not target.startswith("/") or request.method in {b"CONNECT", b"TRACE"}:
            raise Problem(400, "bad-request", "Not for a proxy", "requests name a path, and are for what is behind it")
        circuit = self._inside.circuit(self._browser.port, host)
        scope = {"client": self._browser.peer, "scheme": "https" if circuit.is_secure else "http"}
        address = self._inside.visitors.address(scope, told)
        if not is_allowed(address, circuit.wish.clients):
            raise Problem(403, "client-address-not-allowed", "Forbidden operation", "not from this address")
        if target.partition("?")[0] == ENTER:
            await self._browser.answer(self._enter(circuit, target))
            return False
        caller = self._caller(circuit, request, address)
        with circuit.used(caller):
            if self._way is None or self._way.circuit is not circuit or self._way.is_over:
                await self._stack.aclose()
                opening = tunnel_to(circuit.wish.session_id, circuit.wish.app, circuit.opener, self._inside.services)
                self._way = Way(circuit, self._browser, await self._stack.enter_async_context(opening))
            forwarded = to_app(headers, address, host, is_secure=circuit.is_secure)
            return await self._way.exchange(
                h11.Request(method=request.method, target=request.target, headers=forwarded)
            )

    def _caller(self, circuit: Circuit, request: h11.Request, address: str) -> Caller:
        """Who may send this. Raises `Problem`."""
        if circuit.wish.is_public:
            return circuit.opener
        headers = [*request.headers]
        secret = cookie_in(headers, circuit.cookie)
        if secret is None:
            raise _unauthorized("E20004", "there is no cookie of this app")
        caller = circuit.holder(secret)
        if caller is None or not self._inside.services.sign_ins.is_still_in(caller):
            raise _unauthorized("E20005", "the cookie of this app is not good any more")
        if not is_allowed(address, caller.identity.user.spec.allowed_client_ip):
            raise Problem(403, "client-address-not-allowed", "Forbidden operation", "not from this address")
        told, method = texts(headers), request.method.decode("latin-1")
        is_page = told.get("sec-fetch-mode") == "navigate" and told.get("sec-fetch-dest") != "object"
        # What is no page by itself may not be used by others' pages either: apps may share a site, so SameSite is none.
        refuse_foreign(UPGRADE if wants_upgrade(headers) or not is_page else method, told)
        return caller

    def _enter(self, circuit: Circuit, target: str) -> Response:
        """Raises `Problem`."""
        asked = parse_qs(urlsplit(target).query)
        secret = circuit.admit(self._inside.circuits.redeem(circuit, asked.get("ticket", [""])[-1]))
        headers = {"location": begin_at(asked.get("to", ["/"])[-1]), "cache-control": "no-store"}
        response = Response(None, 302, headers | {"referrer-policy": "no-referrer"})
        response.set_cookie(circuit.cookie, secret, httponly=True, samesite="lax", secure=circuit.is_secure)
        return response


def begin_at(path: str) -> str:
    """A place within the app, whatever was asked for."""
    is_within = path.startswith("/") and not path.startswith(("//", "/\\", ENTER)) and path.isprintable()
    return quote(path, safe=_AS_IT_IS) if is_within else "/"


def _shown(problem: Problem, path: str) -> Response:
    response = problem.response(path)
    response.headers["cache-control"] = "no-store"
    return response


def _unauthorized(code: str, why: str) -> Problem:
    return Problem(401, "app-cookie", "Unauthorized access", f"{why}: start the service again", error_code=code)
