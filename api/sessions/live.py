"""Sessions as the tail sees them right now: who lives under which name, and who wants to be told what happens.

An event is put into words once, however many listen to it. Each listener has a bounded queue: one who is slower than
the log is let go with a `gap`, and takes it up again from the log.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import chain
from typing import Final, cast

import orjson

from api.sessions.lifecycle import Card, Told, tell
from domain.session.consequences import SESSION
from domain.session.messages import SessionEvents, SessionRenamed, SessionRequested
from domain.session.status import ENDED, SessionStatus
from infra.decoding import read_event
from infra.log import Record

_LIVING_MAX: Final = 50_000  # sessions remembered, about 500 bytes each; older ones are looked up in the projection
QUEUE_MAX: Final = 2_000  # events a listener may be behind; at 100 per second that is 20 seconds

STARTED_OR_ENDED: Final = {SessionStatus.RUNNING, SessionStatus.RUNNING_DEGRADED} | ENDED

NOT_TOLD: Final = frozenset({"ShardOpened", "CommandRefused", "CommandUnneeded", "SessionLimitsSet"})
"""Types on the session's events topic that are no part of a session's life."""


@dataclass(slots=True)
class Happening:
    """An event of a session, with what was known about the session when it was read. Shared by all who listen."""

    record: Record
    kind: str
    session_id: str
    card: Card | None = None
    _event: SessionEvents | None = None
    _bodies: dict[str, list[tuple[bytes, Told]]] = field(default_factory=dict)

    @property
    def owner(self) -> str:
        return self.record.key.decode()

    @property
    def event(self) -> SessionEvents:
        if self._event is None:
            self._event = cast(SessionEvents, read_event(SESSION, self.record).event)
        return self._event

    def bodies(self, card: Card) -> list[tuple[bytes, Told]]:
        """Its messages in the form of the stream, without their ids; made once for everybody."""
        made = self._bodies.get(card.name)
        if made is None:
            made = self._bodies[card.name] = [(_body(told), told) for told in tell(self.event, card)]
        return made


def _body(told: Told) -> bytes:
    return b"event: %s\ndata: %s\n" % (told.name.encode(), orjson.dumps(told.data))


class Listener:
    """A queue of what happens to one owner's sessions, or to everybody's (`owner` None)."""

    def __init__(self, owner: str | None) -> None:
        self.owner = owner
        self.overflowed = False
        self._queue: deque[Happening] = deque()
        self._something = asyncio.Event()

    def put(self, happening: Happening) -> None:
        if self.overflowed:
            return
        if len(self._queue) >= QUEUE_MAX:
            self.overflowed = True
            self._queue.clear()
        else:
            self._queue.append(happening)
        self._something.set()

    async def next(self, timeout: float) -> Happening | None:
        """The next one; None after `timeout` seconds, or when it has overflowed."""
        if not self._queue and not self.overflowed:
            self._something.clear()
            try:
                async with asyncio.timeout(timeout):
                    await self._something.wait()
            except TimeoutError:
                return None
        return self._queue.popleft() if self._queue else None

    def wake(self) -> None:
        self._something.set()

    def start_over(self) -> None:
        """Forget what is queued, and the overflow: everything up to now is read from the log."""
        self._queue.clear()
        self.overflowed = False


class Live:
    """Cards of living sessions, by id and by name, and the listeners."""

    def __init__(self) -> None:
        self._cards: OrderedDict[str, Card] = OrderedDict()
        self._names: dict[tuple[str, str], str] = {}
        self._starting: dict[str, list[asyncio.Future[str]]] = {}
        self._listeners: dict[str | None, list[Listener]] = {}

    # -- what is known -----------------------------------------------------------------------------------------------

    def card(self, session_id: str) -> Card | None:
        """Of a session that was requested since this process began to read, and lives."""
        return self._cards.get(session_id)

    def named(self, owner: str, name: str) -> Card | None:
        session_id = self._names.get((owner, name))
        return None if session_id is None else self._cards.get(session_id)

    # -- who listens -------------------------------------------------------------------------------------------------

    @property
    def listening(self) -> int:
        return sum(len(listeners) for listeners in self._listeners.values())

    def listen(self, owner: str | None) -> Listener:
        listener = Listener(owner)
        self._listeners.setdefault(owner, []).append(listener)
        return listener

    def leave(self, listener: Listener) -> None:
        listeners = self._listeners.get(listener.owner, [])
        if listener in listeners:
            listeners.remove(listener)
        if not listeners:
            self._listeners.pop(listener.owner, None)

    def wake_all(self) -> None:
        """The process is about to stop: let everybody who waits look around, or give up."""
        for listener in chain.from_iterable(self._listeners.values()):
            listener.wake()
        for started in chain.from_iterable(self._starting.values()):
            started.cancel()

    def when_started(self, session_id: str) -> asyncio.Future[str]:
        """Its status, as soon as it runs or has ended. Give it back with `no_longer`."""
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._starting.setdefault(session_id, []).append(started)
        return started

    def no_longer(self, session_id: str, started: asyncio.Future[str]) -> None:
        waiting = self._starting.get(session_id, [])
        if started in waiting:
            waiting.remove(started)
        if not waiting:
            self._starting.pop(session_id, None)

    # -- for the tail ------------------------------------------------------------------------------------------------

    def take(self, record: Record, headers: Mapping[str, bytes]) -> None:
        """A record of the session's events topic."""
        kind = headers["ce_type"].decode()
        if kind in NOT_TOLD:
            return
        session_id = headers["ce_subject"].decode()
        card = self._follow(kind, session_id, record)
        if session_id in self._starting and kind in {"SessionAdvanced", "SessionEnded"}:
            self._tell_starting(session_id, orjson.loads(record.value)["status"])
        everybody = self._listeners.get(None, ())
        owners = self._listeners.get(record.key.decode(), ())
        if everybody or owners:
            happening = Happening(record, kind, session_id, card)
            for listener in chain(everybody, owners):
                listener.put(happening)

    def _tell_starting(self, session_id: str, status: str) -> None:
        if status in STARTED_OR_ENDED:
            for started in self._starting.pop(session_id):
                if not started.done():
                    started.set_result(status)

    def _follow(self, kind: str, session_id: str, record: Record) -> Card | None:
        """The session's card as of this event."""
        card = self._cards.get(session_id)
        if kind == "SessionRequested":
            event = read_event(SESSION, record).event
            assert isinstance(event, SessionRequested)
            card = Card.of(event)
            self._remember(card)
        elif kind == "SessionRenamed" and card is not None:
            event = read_event(SESSION, record).event
            assert isinstance(event, SessionRenamed)
            self._names.pop((card.owner, card.name), None)
            card = card.renamed(event.name)
            self._remember(card)
        elif kind == "SessionEnded":
            self._forget(session_id)
        return card

    def _remember(self, card: Card) -> None:
        self._cards[card.session_id] = card
        self._names[(card.owner, card.name)] = card.session_id
        if len(self._cards) > _LIVING_MAX:
            self._forget(next(iter(self._cards)))

    def _forget(self, session_id: str) -> None:
        card = self._cards.pop(session_id, None)
        if card is not None and self._names.get((card.owner, card.name)) == session_id:
            del self._names[(card.owner, card.name)]
