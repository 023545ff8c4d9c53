"""One shard: the single writer of one partition of a context. It does not matter which context.

Reading order is the order of the promises: fence, prove, rebuild, then work.
"""

import heapq
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from uuid import NAMESPACE_URL, uuid5

import structlog

from domain.context import Alarm, AnyContext
from domain.outcomes import ShardOpened
from infra.decoding import read_event
from infra.envelope import Cause, headers_of, record_of
from infra.log import Log, NewRecord, Partition, Reader, Writer
from infra.settings import Settings
from infra.topics import commands, events
from workers import metrics
from workers.settle import Memory, absorb, settle

_log = structlog.get_logger(__name__)

_REBUILD_BATCH = 5000

_IDLE_SECONDS = 0.2
"""Longest wait for commands before the clock is looked at: how late an alarm may ring."""


def _now() -> datetime:
    return datetime.now(UTC)


class Shard:
    """Partition `number` of a context. `run` ends by an error or by being cancelled; then the object is done with."""

    def __init__(
        self,
        settings: Settings,
        log: Log,
        context: AnyContext,
        number: int,
        opened_by: str,
        now: Callable[[], datetime] = _now,
    ) -> None:
        self.name = f"{context.name}-{number}"
        self._settings = settings
        self._log = log
        self._context = context
        self._opened_by = opened_by
        self._now = now
        self._commands = Partition(settings.topic_prefix + commands(context.name), number)
        self._events = Partition(settings.topic_prefix + events(context.name), number)
        self._memory = Memory(context, settings.handled_window)
        self._alarms = _Alarms()

    async def run(self) -> None:
        """Own the partition until something unexpected happens; then let go of everything and be rebuilt."""
        async with self._log.writer(self.name) as writer:  # fences whoever wrote here before
            [opened] = await writer.commit([self._opening()])
            await self._rebuild(until=opened)
            _log.info("shard opened", shard=self.name, cursor=self._memory.cursor, keys=len(self._memory.states))
            async with self._log.reader({self._commands: self._memory.cursor}) as reader:
                while True:
                    await self._work(reader, writer)

    async def _work(self, reader: Reader, writer: Writer) -> None:
        await self._ring(writer)
        wait = self._alarms.seconds_left(self._now(), at_most=_IDLE_SECONDS)
        batch = await reader.batch(at_most=self._settings.batch_max, within=wait)
        if not batch:
            return
        with metrics.SETTLE_SECONDS.labels(self._context.name).time():
            settlement = settle(self._settings, self._memory, self._events, batch)
            await writer.commit(settlement.records)
        absorb(self._memory, settlement)  # only now: the memory is never ahead of the log
        self._alarms.set_all(settlement.alarms)
        metrics.count_outcomes(self._context.name, settlement.outcomes)

    async def _rebuild(self, until: int) -> None:
        """Read the events from the first to our own `ShardOpened`: state, cursor and handled ids are then known."""
        async with self._log.reader({self._events: 0}) as reader:
            while reader.position(self._events) <= until:
                for record in await reader.batch(at_most=_REBUILD_BATCH, within=1.0):
                    if record.offset > until:
                        return
                    alarm = self._memory.replay(read_event(self._context, record))
                    self._alarms.set_all([alarm] if alarm else [])

    async def _ring(self, writer: Writer) -> None:
        """Send ourselves the commands of the alarms that are due."""
        due = self._alarms.due(self._now())
        if due:
            await writer.commit([self._alarm_record(alarm) for alarm in due])

    def _opening(self) -> NewRecord:
        opened = ShardOpened(at=self._now(), shard=self.name, opened_by=self._opened_by)
        opening_id = str(uuid5(NAMESPACE_URL, f"{self.name}/{self._opened_by}/{opened.at.isoformat()}"))
        cause = Cause(f"worker:{self._opened_by}", opening_id, opening_id)
        headers = headers_of(opened, opening_id, self._source, cause)
        return NewRecord(self._events, self.name.encode(), headers, opened.model_dump_json().encode())

    def _alarm_record(self, alarm: Alarm) -> NewRecord:
        assert alarm.due is not None
        assert alarm.command is not None
        # The id says which alarm it is: rung again by a successor it is the same command, and has its outcome already.
        alarm_id = str(uuid5(NAMESPACE_URL, f"{self.name}/{alarm.subject}/{alarm.command.model_dump_json()}"))
        return record_of(
            alarm.command,
            alarm_id,
            self._source,
            Cause("clock", alarm_id, alarm_id),
            self._commands,
            alarm.command.key,
        )

    @property
    def _source(self) -> str:
        return f"refold/{self._context.name}/{self._events.number}"


class _Alarms:
    """One alarm a subject, the earliest first. Replaced ones stay in the heap until their time and are passed over."""

    def __init__(self) -> None:
        self._by_subject: dict[str, Alarm] = {}
        self._heap: list[tuple[datetime, str]] = []

    def set_all(self, alarms: Iterable[Alarm]) -> None:
        for alarm in alarms:
            if alarm.due is None:
                self._by_subject.pop(alarm.subject, None)
            else:
                self._by_subject[alarm.subject] = alarm
                heapq.heappush(self._heap, (alarm.due, alarm.subject))
        if len(self._heap) > 2 * len(self._by_subject) + 1000:  # mostly replaced ones
            self._heap = [(a.due, a.subject) for a in self._by_subject.values() if a.due is not None]
            heapq.heapify(self._heap)

    def due(self, now: datetime) -> list[Alarm]:
        """Take out those whose time has come."""
        ringing = []
        while self._heap and self._heap[0][0] <= now:
            when, subject = heapq.heappop(self._heap)
            alarm = self._by_subject.get(subject)
            if alarm is not None and alarm.due == when:
                ringing.append(self._by_subject.pop(subject))
        return ringing

    def seconds_left(self, now: datetime, at_most: float) -> float:
        """How long until the next may be due, within bounds."""
        if not self._heap:
            return at_most
        return min(at_most, max(0.0, (self._heap[0][0] - now).total_seconds()))
