"""The end of the log, as this process follows it: one reader of every events topic.

From it come the directory (whole, so that no request waits for a database to be let in), the outcomes of the commands
sent from here, and everything live. When the reader fails it starts again where it was.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Final, cast

import structlog

from api.folders.dotted import DotFolders
from api.folders.live import FolderWatch
from api.hosts.placed import Placed
from api.outcomes import Outcomes
from api.sessions.live import Live
from domain.contexts import CONTEXTS
from domain.directory.consequences import DIRECTORY
from domain.directory.messages import DirectoryEvents
from domain.directory.state import Directory
from domain.outcomes import OUTCOME_TYPES
from infra.decoding import Unreadable, read_event
from infra.log import Log, LogError, Partition, Position, Record
from infra.settings import Settings
from infra.topics import commands, events

_log = structlog.get_logger("api.tail")

_BATCH: Final = 500  # at some 10 µs each, no request waits longer than 5 ms for a batch
_LOOK_BACK: Final = 200  # offsets before the end where it begins: the last record of each partition is among them
_BACK_OFF_SECONDS: Final = 0.5


class Tail:
    """`run` it for as long as the process lives; `started` is set once the directory is whole."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self.directory = Directory()
        self.outcomes = Outcomes()
        self.live = Live()
        self.placed = Placed()
        self.folders = FolderWatch()
        self.dot_folders = DotFolders()
        self.started = asyncio.Event()
        self.healthy = False
        self._settings = settings
        self._log = log
        self._contexts = {settings.topic_prefix + events(name): name for name in CONTEXTS}
        self._directory_topic = settings.topic_prefix + events(DIRECTORY.name)
        self._directory_commands = settings.topic_prefix + commands(DIRECTORY.name)
        self._session_topic = settings.topic_prefix + events("session")
        self._folder_topic = settings.topic_prefix + events("vfolder")
        self._places: dict[Partition, int] = {}
        self._last: dict[Partition, int] = {}
        self._settled: dict[Partition, int] = {}
        self._learned = asyncio.Event()

    # -- what others ask ---------------------------------------------------------------------------------------------

    @property
    def places(self) -> Mapping[Partition, int]:
        """By partition, the offset up to which everything has been taken in."""
        return self._places

    def session_partitions(self) -> list[Partition]:
        return [partition for partition in self._places if partition.topic == self._session_topic]

    def seen(self, partition: Partition) -> Position:
        """The point just after the last record seen there: everything that stands in the log for this process."""
        offset = self._last.get(partition)
        return Position({} if offset is None else {partition: offset})

    async def directory_at(self, position: Position, timeout: float) -> Directory | None:
        """The directory once it is as new as the position; None if it is not in time.

        As in `projections.waiting`, a position in the commands is reached with their outcomes.
        """
        wanted = {
            partition: offset
            for partition, offset in position.offsets.items()
            if partition.topic in {self._directory_topic, self._directory_commands}
        }
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                while any(offset > self._reached(partition) for partition, offset in wanted.items()):
                    await self._learned.wait()
                return self.directory
        return None

    @property
    def more_read(self) -> asyncio.Event:
        """Set once more has been read than now. Taken before one looks, nothing happens unnoticed in between."""
        return self._learned

    def _reached(self, partition: Partition) -> int:
        known = self._places if partition.topic == self._directory_topic else self._settled
        return known.get(partition, 0)

    async def lag(self) -> int:
        """Committed records not yet taken in. Asks the brokers; raises `LogError`."""
        ends = await self._log.ends(list(self._places))
        return sum(max(0, end - self._places[partition]) for partition, end in ends.items())

    # -- following the log -------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Never returns. A log that is not there is asked again and again; what was read is kept."""
        while True:
            try:
                await self._follow()
            except LogError as error:
                self.healthy = False
                _log.warning("the log cannot be read; trying again", error=str(error))
                await asyncio.sleep(_BACK_OFF_SECONDS)

    async def _follow(self) -> None:
        if not self._places:
            self._places = await self._starts()
        whole = await self._log.ends([p for p in self._places if p.topic == self._directory_topic])
        async with self._log.reader(self._places) as reader:
            self.healthy = True
            while True:
                for record in await reader.batch(at_most=_BATCH, within=0.5):
                    self._take(record)
                for partition in self._places:
                    self._places[partition] = max(self._places[partition], reader.position(partition))
                self._learned.set()
                self._learned = asyncio.Event()
                if not self.started.is_set() and all(self._places[p] >= end for p, end in whole.items()):
                    self.started.set()

    async def _starts(self) -> dict[Partition, int]:
        numbers = range(self._settings.partitions)
        partitions = [Partition(topic, number) for topic in self._contexts for number in numbers]
        ends = await self._log.ends(partitions)
        return {
            partition: 0 if partition.topic == self._directory_topic else max(0, end - _LOOK_BACK)
            for partition, end in ends.items()
        }

    def _take(self, record: Record) -> None:
        self._places[record.partition] = self._last[record.partition] = record.offset + 1
        try:
            self._tell(record)
        except (Unreadable, KeyError, ValueError):
            _log.exception("unreadable event", place=f"{record.partition}@{record.offset}")

    def _tell(self, record: Record) -> None:
        headers = dict(record.headers)
        context = self._contexts[record.partition.topic]
        if context == DIRECTORY.name:
            self._learn(record, headers)
        elif record.partition.topic == self._session_topic:
            self.live.take(record, headers)
            self.placed.take(record, headers)
        elif record.partition.topic == self._folder_topic:
            self.folders.take(record, headers)
            self.dot_folders.take(record, headers)
        if "ce_commandoffset" in headers:
            self.outcomes.take(context, record, headers)

    def _learn(self, record: Record, headers: Mapping[str, bytes]) -> None:
        if headers["ce_type"].decode() not in OUTCOME_TYPES:
            told = read_event(DIRECTORY, record)
            self.directory = DIRECTORY.evolve(self.directory, cast(DirectoryEvents, told.event))
        index, _, count = headers.get("ce_outcome", b"").partition(b"/")
        if count and int(index) + 1 == int(count):
            place = Partition(self._directory_commands, record.partition.number)
            self._settled[place] = int(headers["ce_commandoffset"]) + 1

    async def wait_started(self, timeout: float) -> bool:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self.started.wait()
        return self.started.is_set()
