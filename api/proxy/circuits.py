"""Circuits: apps that are open, each at an origin of its own, and who may use them.

They live in the memory of one proxy. After a restart whoever wants to go on starts the service again, and finds it
where it was before, if nobody else has taken that place: a circuit's port or name derives from what it leads to.
"""

import asyncio
import hashlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final

import structlog

from api.access.auth import Caller
from api.http.problems import Problem
from domain.directory.images import ServicePort

TICKET_SECONDS: Final = 60.0  # from one redirect to the next
COOKIE: Final = "refold_app_"
"""Begins the names of our cookies; the circuit's id follows, because browsers keep them apart by host, not by port."""

_CHECK_SECONDS: Final = 0.5
_ID_BYTES: Final = 10
_SECRET_BYTES: Final = 32
_HOLDERS_MAX: Final = 64  # browsers of one user; the oldest has to come again

_log = structlog.get_logger("api.proxy")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a circuit is opened for. `clients`: the networks its users come from; everybody where there are none.

    `is_public`: who comes need prove nothing.
    """

    session_id: str
    app: ServicePort
    owner: str
    access_key: str
    is_public: bool = False
    clients: tuple[str, ...] = ()

    @property
    def circuit_id(self) -> str:
        """The same for the same wish. It is no secret, and cannot be reckoned back."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[: 2 * _ID_BYTES]


@dataclass(slots=True, eq=False)
class Circuit:
    """`url`: of its origin, without a slash at its end. `opener`: in whose name the kernel is reached."""

    wish: Wish
    circuit_id: str
    url: str
    opener: Caller
    close: Callable[[], None]
    holders: dict[str, Caller] = field(default_factory=dict)
    connections: dict["asyncio.Task[None]", Caller] = field(default_factory=dict)
    used_at: float = field(default_factory=time.monotonic)

    @property
    def cookie(self) -> str:
        """The name of the cookie that opens it."""
        return COOKIE + self.circuit_id

    @property
    def host(self) -> str:
        """As a browser names it in `Host`."""
        return self.url.partition("://")[2]

    @property
    def is_secure(self) -> bool:
        """Whether browsers come by https."""
        return self.url.startswith("https:")

    def admit(self, caller: Caller) -> str:
        """A cookie's value for him."""
        secret = secrets.token_urlsafe(_SECRET_BYTES)
        self.holders[_hash(secret)] = caller
        if len(self.holders) > _HOLDERS_MAX:
            del self.holders[next(iter(self.holders))]
        return secret

    def holder(self, secret: str) -> Caller | None:
        """Whose cookie that is."""
        return self.holders.get(_hash(secret))

    @contextmanager
    def used(self, caller: Caller) -> Iterator[None]:
        """For the block, the current task counts as a connection of his: it is cancelled when he must go."""
        task = asyncio.current_task()
        assert task is not None
        self.connections[task] = caller
        try:
            yield
        finally:
            del self.connections[task]
            self.used_at = time.monotonic()


class Circuits:
    """Those of one proxy. `may_stay`: whether who came in would be let in again."""

    def __init__(self, may_stay: Callable[[Caller], bool], idle_seconds: float) -> None:
        self._may_stay = may_stay
        self._idle_seconds = idle_seconds
        self._circuits: dict[str, Circuit] = {}
        self._tickets: dict[str, tuple[str, Caller, float]] = {}

    def __len__(self) -> int:
        return len(self._circuits)

    def find(self, circuit_id: str) -> Circuit | None:
        return self._circuits.get(circuit_id)

    def add(self, circuit: Circuit) -> None:
        self._circuits[circuit.circuit_id] = circuit

    def close(self, circuit: Circuit) -> None:
        """And its connections. Closing twice is closing once."""
        if self._circuits.get(circuit.circuit_id) is circuit:
            del self._circuits[circuit.circuit_id]
            circuit.close()
            for task in circuit.connections:
                task.cancel()

    def close_all(self) -> None:
        for circuit in [*self._circuits.values()]:
            self.close(circuit)

    def of_session(self, session_id: str) -> Sequence[Circuit]:
        return [circuit for circuit in self._circuits.values() if circuit.wish.session_id == session_id]

    def ticket(self, circuit: Circuit, caller: Caller) -> str:
        """Good once, for who is on his way from here to the circuit's origin."""
        now = time.monotonic()
        for old in [each for each, (_, _, until) in self._tickets.items() if until < now]:
            del self._tickets[old]
        ticket = secrets.token_urlsafe(_SECRET_BYTES)
        self._tickets[_hash(ticket)] = circuit.circuit_id, caller, now + TICKET_SECONDS
        return ticket

    def redeem(self, circuit: Circuit, ticket: str) -> Caller:
        """Who came with it. Raises `Problem` (401)."""
        circuit_id, caller, until = self._tickets.get(_hash(ticket), ("", None, 0.0))
        if caller is None or circuit_id != circuit.circuit_id or until < time.monotonic():
            raise Problem(401, "invalid-token", "Unauthorized access", "start the service again: this way is used up")
        del self._tickets[_hash(ticket)]
        return caller

    async def run(self) -> None:
        """Ends what may not go on, and what nobody uses."""
        while True:
            await asyncio.sleep(_CHECK_SECONDS)
            for circuit in [*self._circuits.values()]:
                self._check(circuit)

    def _check(self, circuit: Circuit) -> None:
        is_idle = not circuit.connections and time.monotonic() - circuit.used_at > self._idle_seconds
        if is_idle or not self._may_stay(circuit.opener):
            _log.info("app closed", session=circuit.wish.session_id, app=circuit.wish.app.name, idle=is_idle)
            self.close(circuit)
            return
        for task, caller in circuit.connections.items():
            if not self._may_stay(caller):
                task.cancel()
        for secret, caller in [*circuit.holders.items()]:
            if not self._may_stay(caller):
                with suppress(KeyError):
                    del circuit.holders[secret]


def _hash(secret: str) -> str:
    """So that what is looked up tells nothing by how long that takes, and memory holds nothing that opens a door."""
    return hashlib.sha256(secret.encode()).hexdigest()
