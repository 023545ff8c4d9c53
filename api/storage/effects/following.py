"""The events of folders, all of them and as they come."""

import asyncio
from typing import Final

import structlog

from api.storage.effects.wanted import Wanted
from domain.outcomes import OUTCOME_TYPES
from domain.vfolder.messages import EVENTS
from infra.decoding import Unreadable, read_message
from infra.log import Log, LogError, Partition, Record
from infra.settings import Settings
from infra.topics import events

_log = structlog.get_logger(__name__)

VFOLDER: Final = "vfolder"
_BATCH: Final = 1000
_RETRY_SECONDS: Final = 0.5


class Following:
    """`run` it for as long as the process lives. `whole` is set once all is known that was said before it began."""

    def __init__(self, settings: Settings, log: Log, wanted: Wanted) -> None:
        topic = settings.topic_prefix + events(VFOLDER)
        self._places = {Partition(topic, number): 0 for number in range(settings.partitions)}
        self._log = log
        self._wanted = wanted
        self._more = asyncio.Event()
        self.whole = asyncio.Event()
        self.healthy = False

    @property
    def more(self) -> asyncio.Event:
        """Set once more is known than now. Taken before one looks, nothing happens unnoticed in between."""
        return self._more

    async def run(self) -> None:
        """Never returns. A log that is not there is asked again and again; what was read is kept."""
        while True:
            try:
                await self.follow()
            except LogError as error:
                self.healthy = False
                _log.warning("the log cannot be read; trying again", error=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

    async def follow(self) -> None:
        """Never returns, but raises `LogError`."""
        ends = await self._log.ends(list(self._places))
        async with self._log.reader(self._places) as reader:
            self.healthy = True
            while True:
                for record in await reader.batch(at_most=_BATCH, within=0.5):
                    self._take(record)
                for partition in self._places:
                    self._places[partition] = max(self._places[partition], reader.position(partition))
                if all(self._places[partition] >= end for partition, end in ends.items()):
                    self.whole.set()
                self._more.set()
                self._more = asyncio.Event()

    def _take(self, record: Record) -> None:
        self._places[record.partition] = record.offset + 1
        headers = dict(record.headers)
        try:
            kind = headers["ce_type"].decode()
            if kind not in OUTCOME_TYPES:
                self._wanted.take(read_message(EVENTS, kind, headers, record.value), headers["ce_id"].decode())
        except (Unreadable, KeyError, ValueError):
            _log.exception("unreadable event", place=f"{record.partition}@{record.offset}")
