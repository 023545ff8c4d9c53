"""The log in memory, for tests in simulated time: the same contract as Kafka's, holes between transactions included."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from infra.log import Fenced, NewRecord, NoSuchPlace, Partition, Reader, Record, Writer


class MemoryLog:
    """`topics`: name with the prefix → number of partitions."""

    def __init__(self, topics: Mapping[str, int]) -> None:
        self._logs = {Partition(topic, n): _PartitionLog() for topic, count in topics.items() for n in range(count)}
        self._epochs: dict[str, int] = {}
        self._grown = asyncio.Condition()

    @asynccontextmanager
    async def writer(self, transactional_id: str) -> AsyncIterator[Writer]:
        epoch = self._epochs.get(transactional_id, 0) + 1
        self._epochs[transactional_id] = epoch
        yield _MemoryWriter(self, transactional_id, epoch)

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        places = {partition: self._log(partition).end if offset < 0 else offset for partition, offset in starts.items()}
        yield _MemoryReader(self, places)

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        offsets = [self._log(record.partition).add(record) for record in records]
        await self._tell()
        return offsets

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return {partition: self._log(partition).end for partition in partitions}

    async def starts(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        return dict.fromkeys(partitions, 0)

    async def _commit(self, transactional_id: str, epoch: int, records: Sequence[NewRecord]) -> Sequence[int]:
        if self._epochs[transactional_id] != epoch:
            raise Fenced("a newer writer has taken over")
        offsets = [self._log(record.partition).add(record) for record in records]
        for partition in {record.partition for record in records}:
            self._log(partition).end += 1  # where Kafka puts its commit marker
        await self._tell()
        return offsets

    async def _tell(self) -> None:
        async with self._grown:
            self._grown.notify_all()

    def _log(self, partition: Partition) -> "_PartitionLog":
        if partition not in self._logs:
            raise NoSuchPlace(f"there is no {partition}")
        return self._logs[partition]


class _PartitionLog:
    def __init__(self) -> None:
        self.records: list[Record] = []
        self.end = 0

    def add(self, record: NewRecord) -> int:
        offset = self.end
        self.records.append(Record(record.partition, offset, record.key, record.headers, record.value))
        self.end += 1
        return offset


class _MemoryWriter:
    def __init__(self, log: MemoryLog, transactional_id: str, epoch: int) -> None:
        self._log = log
        self._id = transactional_id
        self._epoch = epoch

    async def commit(self, records: Sequence[NewRecord]) -> Sequence[int]:
        return await self._log._commit(self._id, self._epoch, records)


class _MemoryReader:
    def __init__(self, log: MemoryLog, places: dict[Partition, int]) -> None:
        self._log = log
        self._places = places
        self._indexes = dict.fromkeys(places, 0)

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        batch = self._take(at_most)
        try:
            async with asyncio.timeout(within), self._log._grown:
                while not batch:
                    await self._log._grown.wait()
                    batch = self._take(at_most)
        except TimeoutError:
            return []
        return batch

    def position(self, partition: Partition) -> int:
        return self._places[partition]

    def _take(self, at_most: int) -> list[Record]:
        taken: list[Record] = []
        for partition, place in self._places.items():
            log = self._log._log(partition)
            if place > log.end:
                raise NoSuchPlace(f"{partition} ends at {log.end}, before {place}")
            index = self._indexes[partition]
            while index < len(log.records) and len(taken) < at_most:
                record = log.records[index]
                if record.offset >= self._places[partition]:
                    taken.append(record)
                index += 1
            self._indexes[partition] = index
            if index == len(log.records):
                self._places[partition] = max(self._places[partition], log.end)
            else:
                self._places[partition] = max(
                    self._places[partition], log.records[index - 1].offset + 1 if index else 0
                )
        return taken
