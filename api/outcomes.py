"""What became of the commands this process sent: assembled from the events as the tail reads them.

An outcome is a row of records that say which command they belong to (`ce_commandoffset`) and how many they are
(`ce_outcome`). A command sent twice has two: the second one says where the first is.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass, field

from domain.context import AnyContext
from domain.contexts import CONTEXTS
from domain.messages import Event
from domain.outcomes import ID_REUSED, REPEATED, CommandRefused, CommandUnneeded
from infra.decoding import read_event
from infra.log import Partition, Position, Record

_KEPT_MAX = 10_000  # outcomes kept for those who ask later; each holds its records, about 2 KB


@dataclass(frozen=True, slots=True)
class Outcome:
    """All records of one outcome, in order; never empty."""

    context: str
    command_id: str
    command_offset: int
    actor: str
    records: tuple[Record, ...]

    @property
    def kind(self) -> str:
        """The type of its first event, without reading it."""
        return self.records[0].header("ce_type") or ""

    @property
    def position(self) -> Position:
        """Just after its last record: whoever has read up to here knows of it."""
        return Position({self.records[-1].partition: self.records[-1].offset + 1})

    def events(self) -> list[Event]:
        context: AnyContext = CONTEXTS[self.context]
        return [read_event(context, record).event for record in self.records]

    @property
    def refusal(self) -> CommandRefused | None:
        if self.kind != "CommandRefused":
            return None
        [event] = self.events()
        return event if isinstance(event, CommandRefused) else None

    @property
    def unneeded(self) -> CommandUnneeded | None:
        if self.kind != "CommandUnneeded":
            return None
        [event] = self.events()
        return event if isinstance(event, CommandUnneeded) else None

    @property
    def is_first(self) -> bool:
        """Whether it is what became of the command, and not an answer to somebody who repeated it."""
        if (unneeded := self.unneeded) is not None:
            return unneeded.code != REPEATED
        if (refusal := self.refusal) is not None:
            return refusal.code != ID_REUSED
        return True


@dataclass(slots=True)
class Expected:
    """A command on its way. Made before it is sent, so that its outcome cannot come too early."""

    command_id: str
    actor: str
    known: dict[int, Outcome] = field(default_factory=dict)
    _parts: dict[int, list[Record]] = field(default_factory=dict)
    _waiting: dict[int, list[asyncio.Future[Outcome]]] = field(default_factory=dict)

    async def outcome(self, command_offset: int, timeout: float) -> Outcome | None:
        """Of the command at that offset; None if it does not come within `timeout` seconds."""
        if (known := self.known.get(command_offset)) is not None:
            return known
        waiting: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(command_offset, []).append(waiting)
        try:
            async with asyncio.timeout(timeout):
                return await waiting
        except TimeoutError:
            return None
        finally:
            if waiting in (others := self._waiting.get(command_offset, [])):
                others.remove(waiting)

    @property
    def first(self) -> Outcome | None:
        """What became of it, if that was seen."""
        return next((outcome for _, outcome in sorted(self.known.items()) if outcome.is_first), None)

    def take(self, context: str, record: Record, headers: Mapping[str, bytes]) -> None:
        offset = int(headers["ce_commandoffset"])
        index, _, count = headers["ce_outcome"].partition(b"/")
        parts = self._parts.setdefault(offset, [])
        if int(index) != len(parts):
            return  # the tail began in the middle of it, or reads it again
        parts.append(record)
        if len(parts) == int(count):
            del self._parts[offset]
            outcome = Outcome(context, self.command_id, offset, headers["ce_actor"].decode(), tuple(parts))
            self.known[offset] = outcome
            for waiting in self._waiting.pop(offset, ()):
                if not waiting.done():
                    waiting.set_result(outcome)


class Outcomes:
    """Those of the commands this process sent; the most recent ones are kept for who asks again."""

    def __init__(self) -> None:
        self._expected: OrderedDict[str, Expected] = OrderedDict()

    def expect(self, command_id: str, actor: str) -> Expected:
        """Call it before sending. The same id again is the same object."""
        expected = self._expected.get(command_id)
        if expected is None:
            expected = self._expected[command_id] = Expected(command_id, actor)
            if len(self._expected) > _KEPT_MAX:
                self._expected.popitem(last=False)
        return expected

    def get(self, command_id: str) -> Expected | None:
        return self._expected.get(command_id)

    def take(self, context: str, record: Record, headers: Mapping[str, bytes]) -> None:
        """For the tail: every record that belongs to an outcome."""
        expected = self._expected.get(headers["ce_causationid"].decode())
        if expected is not None:
            expected.take(context, record, headers)


def events_partition(commands_partition: Partition) -> Partition:
    """Where the outcomes of a commands partition are written."""
    return Partition(commands_partition.topic.removesuffix(".commands") + ".events", commands_partition.number)
