"""The log as everything else sees it: records, places in it, and what can be done with it.

Two implementations keep this contract, `infra.kafka` and `infra.memory_log`; one test suite runs against both.

    LogError
    ├── Fenced             somebody newer writes under this transactional id: let go, do not fight back
    ├── LogUnavailable     the brokers cannot be reached, or do not answer in time
    └── NoSuchPlace        a topic, partition or offset that is not there (any more)
"""

import base64
import binascii
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

import orjson

Headers = tuple[tuple[str, bytes], ...]


class LogError(Exception):
    """Something is wrong with the log, not with what was written."""


class Fenced(LogError):
    """A newer writer holds the transactional id."""


class LogUnavailable(LogError):
    """No answer, or not in time. Whether a pending write happened is not known."""


class NoSuchPlace(LogError):
    """The topic, partition or offset asked for does not exist."""


@dataclass(frozen=True, slots=True)
class Partition:
    """A topic, by its name with the prefix, and a partition number."""

    topic: str
    number: int

    def __str__(self) -> str:
        return f"{self.topic}-{self.number}"


@dataclass(frozen=True, slots=True)
class NewRecord:
    """To be written. `partition` is explicit always, so that nobody's default partitioner decides."""

    partition: Partition
    key: bytes
    headers: Headers
    value: bytes


@dataclass(frozen=True, slots=True)
class Record:
    """As it stands in the log."""

    partition: Partition
    offset: int
    key: bytes
    headers: Headers
    value: bytes

    def header(self, name: str) -> str | None:
        """The header's text, or None. Searched in order: records have about a dozen."""
        for header, value in self.headers:
            if header == name:
                return value.decode()
        return None


class BadPosition(ValueError):
    """A text that is no position."""


@dataclass(frozen=True)
class Position:
    """A point in the log: by partition, the next offset to read. Opaque to clients, who get it as `str(position)`."""

    offsets: Mapping[Partition, int]

    def __str__(self) -> str:
        flat = {str(partition): offset for partition, offset in sorted(self.offsets.items(), key=lambda i: str(i[0]))}
        return base64.urlsafe_b64encode(orjson.dumps(flat)).rstrip(b"=").decode()

    @classmethod
    def parse(cls, text: str) -> "Position":
        """Raises `BadPosition`."""
        try:
            flat = orjson.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
            offsets = {}
            for name, offset in flat.items():
                topic, _, number = name.rpartition("-")
                if not topic or not isinstance(offset, int) or offset < 0:
                    raise ValueError(name)
                offsets[Partition(topic, int(number))] = offset
        except (ValueError, AttributeError, binascii.Error) as error:
            raise BadPosition(f"{text[:80]!r} is no position") from error
        return cls(offsets)

    def merged(self, other: "Position") -> "Position":
        """The earliest point at which both have been reached."""
        offsets = dict(self.offsets)
        for partition, offset in other.offsets.items():
            offsets[partition] = max(offset, offsets.get(partition, 0))
        return Position(offsets)


class Writer(Protocol):
    """The one writer of a transactional id. After any error it is of no use any more."""

    async def commit(self, records: Sequence[NewRecord]) -> Sequence[int]:
        """Write all of them or none, in order; their offsets. Raises `Fenced` or `LogUnavailable`."""


class Reader(Protocol):
    """Reads some partitions, in order within each, only what is committed."""

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        """What is there, at most that many records; waits up to `within` seconds for the first, then may be empty."""

    def position(self, partition: Partition) -> int:
        """The next offset this reader looks at. Passes over control records and aborted ones that it has seen."""


class Log(Protocol):
    def writer(self, transactional_id: str) -> AbstractAsyncContextManager[Writer]:
        """Become the writer of that id. Whoever was it before is fenced, and his open transaction aborted."""

    def reader(self, starts: Mapping[Partition, int]) -> AbstractAsyncContextManager[Reader]:
        """Read these partitions, each from its offset; -1 stands for the end at this moment."""

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        """Write outside of any transaction, durably, each at most once; their offsets. Raises `LogUnavailable`."""

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offset after the last committed record of each."""

    async def starts(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        """The offset of the first record still kept of each."""


async def read_until(
    log: Log, starts: Mapping[Partition, int], ends: Mapping[Partition, int]
) -> AsyncIterator[Sequence[Record]]:
    """Everything committed between the two, in batches, then stop."""
    behind = {partition for partition, start in starts.items() if start < ends[partition]}
    if not behind:
        return
    async with log.reader({partition: starts[partition] for partition in behind}) as reader:
        while behind:
            batch = await reader.batch(at_most=5000, within=0.5)
            wanted = [record for record in batch if record.offset < ends[record.partition]]
            if wanted:
                yield wanted
            behind = {partition for partition in behind if reader.position(partition) < ends[partition]}
