"""A log that can be held up, to see what a slow or broken one does to an api."""

import asyncio
from collections.abc import Sequence
from typing import Any

from infra.log import Log, LogUnavailable, NewRecord, Partition


class Held:
    """A log whose appends and reads can be held up, or whose appends fail."""

    def __init__(self, log: Log, *, fails: bool = False) -> None:
        self._log = log
        self._fails = fails
        self.appending = asyncio.Event()
        self.appending.set()
        self.reading = asyncio.Event()
        self.reading.set()

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        if self._fails:
            raise LogUnavailable("no brokers")
        await self.appending.wait()
        return await self._log.append(records)

    def reader(self, starts: Any) -> Any:
        held = self

        class Reading:
            async def __aenter__(self) -> Any:
                self.context = held._log.reader(starts)
                self.reader = await self.context.__aenter__()
                return self

            async def __aexit__(self, *error: Any) -> None:
                await self.context.__aexit__(*error)

            async def batch(self, at_most: int, within: float) -> Any:
                records = await self.reader.batch(at_most, within)
                await held.reading.wait()
                return records

            def position(self, partition: Partition) -> int:
                return self.reader.position(partition)

        return Reading()

    def writer(self, transactional_id: str) -> Any:
        return self._log.writer(transactional_id)

    async def ends(self, partitions: Sequence[Partition]) -> Any:
        return await self._log.ends(partitions)

    async def starts(self, partitions: Sequence[Partition]) -> Any:
        return await self._log.starts(partitions)
