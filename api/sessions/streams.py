"""One client's stream of session events: a cursor over the log, which reads what was and then follows what is.

Whatever the client asked for first, it is the same procedure: find where to begin, read up to where the tail is, then
take what the tail hands over, leaving out what was read already. So there is no gap and no repeat in between.
"""

import re
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final, cast

import structlog

from api import metrics
from api.http.deps import Services
from api.http.problems import Problem, invalid
from api.sessions.lifecycle import Card
from api.sessions.live import NOT_TOLD, Happening, Listener
from domain.messages import KernelId, SessionId
from domain.session.messages import SessionRenamed, SessionRequested
from infra.log import BadPosition, LogError, Partition, Position, Record, read_until
from infra.postgres import Unavailable
from infra.topics import events, partition_of
from projections.session_list import SessionRow

HEARTBEAT_SECONDS: Final = 15.0
_JUST_ENDED: Final = timedelta(minutes=10)  # a name's last session is replayed for so long: then it is another's name
_ID: Final = re.compile(r"(?P<position>[A-Za-z0-9_-]+)(?:\.(?P<number>\d{1,6})\.(?P<told>\d{1,2}))?")

_log = structlog.get_logger("api.sessions.streams")


@dataclass(frozen=True, slots=True)
class Wish:
    """What a client wants to be told. `owner` None: everybody's sessions. `group` is a project."""

    owner: str | None
    session_id: str | None = None
    name: str | None = None
    group: str | None = None
    sessions: bool = True
    kernels: bool = True
    bookmarks: bool = False


@dataclass(frozen=True, slots=True)
class Cursor:
    """From where to read, by partition; `told` messages of the first event of partition `number` were seen."""

    offsets: dict[Partition, int]
    number: int = -1
    told: int = 0


class Stream:
    """Made by `open_stream`. Iterate over `chunks` once."""

    def __init__(self, services: Services, wish: Wish, cursor: Cursor, sessions: dict[str, Card]) -> None:
        self._services = services
        self._wish = wish
        self._live = services.tail.live
        self._offsets = dict(cursor.offsets)
        self._begun_at = cursor
        self._cards = sessions
        self._is_choosy = wish.session_id is not None or wish.name is not None

    async def chunks(self) -> AsyncGenerator[bytes, None]:
        """Pieces of the stream, for as long as the client is there and fast enough."""
        listener = self._live.listen(self._wish.owner)
        metrics.STREAMS.inc()
        try:
            yield b": this stream goes on until you leave\n\n"
            for part in (self._replay, self._follow):
                async with aclosing(part(listener)) as chunks:
                    async for chunk in chunks:
                        yield chunk
        except LogError as error:
            _log.warning("a stream ended: the log cannot be read", error=str(error))  # its client comes back
        finally:
            metrics.STREAMS.dec()
            self._live.leave(listener)

    async def _replay(self, listener: Listener) -> AsyncGenerator[bytes, None]:
        """Up to where the tail is. Whoever needed so long for it that the queue overflowed reads on."""
        while True:
            listener.start_over()
            ends = {partition: self._services.tail.places[partition] for partition in self._offsets}
            reading = cast(AsyncGenerator[Sequence[Record], None], read_until(self._services.log, self._offsets, ends))
            async with aclosing(reading) as batches:
                async for batch in batches:
                    for record in batch:
                        if (chunk := await self._take(_happening(record))) is not None:
                            yield chunk
            for partition, end in ends.items():
                self._offsets[partition] = max(end, self._offsets[partition])
            if not listener.overflowed:
                return

    async def _follow(self, listener: Listener) -> AsyncGenerator[bytes, None]:
        heard = time.monotonic()
        while not self._services.stopping:
            happening = await listener.next(HEARTBEAT_SECONDS)
            if listener.overflowed:
                metrics.GAPS.inc()
                yield b'event: gap\ndata: {"reason":"too slow: connect again with the last id to go on"}\n\n'
                return
            if happening is None or time.monotonic() - heard > HEARTBEAT_SECONDS:
                heard = time.monotonic()
                yield self._heartbeat(is_idle=happening is None)
            if happening is not None and (chunk := await self._take(happening)) is not None:
                heard = time.monotonic()
                yield chunk

    def _heartbeat(self, *, is_idle: bool) -> bytes:
        """A comment; or, for who wants them, a bookmark: how far the log was read without anything to tell."""
        if not is_idle or not self._wish.bookmarks:
            return b": \n\n"
        for partition in self._offsets:
            self._offsets[partition] = max(self._offsets[partition], self._services.tail.places[partition])
        return b"event: bookmark\nid: %s\ndata: {}\n\n" % str(Position(self._offsets)).encode()

    async def _take(self, happening: Happening | None) -> bytes | None:
        """What the client is told of this event, with ids from which he can go on; None if that is nothing."""
        if happening is None:
            return None
        partition, offset = happening.record.partition, happening.record.offset
        if offset < self._offsets[partition]:
            return None  # he is ahead of us: another process has told him already
        skipped = self._told_before(partition, offset)
        self._offsets[partition] = offset + 1
        if not self._wants(happening):
            return None
        card = await self._card_of(happening)
        if self._wish.group not in {None, card.project}:
            return None
        bodies = happening.bodies(card)
        pieces = []
        for index, (body, told) in enumerate(bodies):
            if index >= skipped and (self._wish.kernels if told.is_about_kernel else self._wish.sessions):
                is_last = index == len(bodies) - 1
                pieces.append(body + b"id: %s\n\n" % self._id(partition, offset, None if is_last else index + 1))
        return b"".join(pieces) or None

    def _told_before(self, partition: Partition, offset: int) -> int:
        at = self._begun_at
        is_first = partition.number == at.number and offset == at.offsets[partition]
        return at.told if is_first else 0

    def _id(self, partition: Partition, offset: int, told: int | None) -> bytes:
        """The position after the event, or within it: before it, and how much of it was told."""
        if told is None:
            return str(Position(self._offsets)).encode()
        within = str(Position({**self._offsets, partition: offset}))
        return f"{within}.{partition.number}.{told}".encode()

    def _wants(self, happening: Happening) -> bool:
        if self._wish.owner is not None and happening.owner != self._wish.owner:
            return False
        if not self._is_choosy or happening.session_id in self._cards:
            return True
        if happening.session_id == self._wish.session_id:
            return True
        is_naming = happening.kind in {"SessionRequested", "SessionRenamed"}
        if self._wish.name is None or not is_naming:
            return False
        event = happening.event
        return isinstance(event, SessionRequested | SessionRenamed) and event.name == self._wish.name

    async def _card_of(self, happening: Happening) -> Card:
        """As of this event: as the tail saw it, or as it was read here, or as the projection knows it."""
        session_id = happening.session_id
        known = happening.card or self._cards.get(session_id)
        if known is None or happening.kind in {"SessionRequested", "SessionRenamed"}:
            match happening.event:
                case SessionRequested() as requested:
                    known = Card.of(requested)
                case SessionRenamed() as renamed if known is not None:
                    known = known.renamed(renamed.name)
                case _:
                    known = known or await self._looked_up(happening)
        if self._is_choosy or happening.card is None:
            self._cards[session_id] = known
        if happening.kind == "SessionEnded" and not self._is_choosy:
            self._cards.pop(session_id, None)
        return known

    async def _looked_up(self, happening: Happening) -> Card:
        try:
            row = await self._services.known.by_id(happening.session_id)
            if row is not None:
                return await card_of(self._services, row)
        except Unavailable:
            _log.warning("a session's name is not known: the database does not answer", session=happening.session_id)
        return Card(SessionId(happening.session_id), happening.owner, "", "", {})


async def open_stream(services: Services, wish: Wish, last_id: str | None) -> Stream:
    """Find out where to begin. Raises `Problem`: 400 for an id of no form, 410 for one of another log, 503."""
    if last_id is not None:
        cursor = await _resumed(services, wish, last_id)
        cards = await _cards(services, wish, min(cursor.offsets.values()))
    elif wish.session_id is not None or wish.name is not None:
        cursor, cards = await _from_its_beginning(services, wish)
    else:
        places = services.tail.places
        cursor, cards = Cursor({partition: places[partition] for partition in _partitions(services, wish)}), {}
    return Stream(services, wish, cursor, cards)


async def card_of(services: Services, row: SessionRow) -> Card:
    seats = {KernelId(each.kernel_id): (each.role, each.index) for each in await services.known.kernels(row)}
    return Card(SessionId(row.session_id), row.owner, row.name, row.project, seats)


async def _from_its_beginning(services: Services, wish: Wish) -> tuple[Cursor, dict[str, Card]]:
    """Of the session that is meant, which may be in the log before it is in the projection, or not exist yet."""
    folded = await services.known.places()  # asked for first: what is folded up to here, the next query sees
    row = None
    if wish.session_id is not None:
        row = await services.known.by_id(wish.session_id)
    elif wish.owner is not None and wish.name is not None:
        row = await services.known.by_name(wish.owner, wish.name)
    if row is not None and wish.owner not in {None, row.owner}:
        row = None
    if row is not None and wish.session_id is None and row.ended_at is not None:
        row = row if datetime.now(UTC) - row.ended_at < _JUST_ENDED else None
    starts = {}
    for partition in _partitions(services, wish):
        start = min(folded.get(partition, 0), services.tail.places[partition])
        is_its = row is not None and partition.number == row.partition
        starts[partition] = min(start, row.first_offset) if row is not None and is_its else start
    # Its first event is read again, so only its id is needed here.
    cards = {} if row is None else {row.session_id: await card_of(services, row)}
    return Cursor(starts), cards


async def _resumed(services: Services, wish: Wish, last_id: str) -> Cursor:
    match = _ID.fullmatch(last_id)
    try:
        position = Position.parse(match["position"] if match else last_id)
    except BadPosition as error:
        raise invalid("Last-Event-ID", "position", str(error)) from error
    partitions = _partitions(services, wish)
    first, ends = await services.log.starts(partitions), await services.log.ends(partitions)
    offsets = {partition: position.offsets.get(partition, services.tail.places[partition]) for partition in partitions}
    for partition, offset in offsets.items():
        if not first[partition] <= offset <= max(ends[partition], services.tail.places[partition]):
            raise Problem(
                410,
                "position-gone",
                "The position is gone",
                "the log does not reach back to this position, or it is of another log: begin without one",
            )
    if match is None or match["told"] is None:
        return Cursor(offsets)
    return Cursor(offsets, int(match["number"]), int(match["told"]))


async def _cards(services: Services, wish: Wish, offset: int) -> dict[str, Card]:
    """Of the sessions that are meant and began before the cursor."""
    rows: list[SessionRow] = []
    if wish.session_id is not None:
        row = await services.known.by_id(wish.session_id)
        rows = [row] if row is not None and wish.owner in {None, row.owner} else []
    elif wish.owner is not None and wish.name is not None:
        rows = list(await services.known.named_since(wish.owner, wish.name, offset))
    return {row.session_id: await card_of(services, row) for row in rows}


def _partitions(services: Services, wish: Wish) -> list[Partition]:
    if wish.owner is None:
        return services.tail.session_partitions()
    return [partition_of(services.settings, events("session"), wish.owner)]


def _happening(record: Record) -> Happening | None:
    kind, session_id = record.header("ce_type"), record.header("ce_subject")
    if kind is None or session_id is None or kind in NOT_TOLD:
        return None
    return Happening(record, kind, session_id)
