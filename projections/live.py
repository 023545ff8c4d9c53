"""Folds a context's events as they arrive: rows and checkpoints in one transaction, all its projections together.

The checkpoint in Postgres decides what is folded. What Kafka's consumer group remembers is only a hint where to begin:
what was folded already is passed over, and what is missing between the checkpoint and the first record of an assignment
is read from the log. Within one assignment deliveries follow one another.
"""

import asyncio
from collections import defaultdict
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import structlog

from infra.decoding import Told
from infra.log import Log, Partition, Record, read_until
from infra.postgres import Connection, Pool, connection
from projections.reading import after, by_partition, read
from projections.store import (
    Checkpoints,
    advance_checkpoints,
    begin_checkpoints,
    load,
    read_checkpoints,
    save,
)
from projections.table import AnyTable, Key, Projection, Rows

T = TypeVar("T")

_log = structlog.get_logger(__name__)

_KEPT_ROWS = 20_000  # of each table: the living sessions of a large shard, some tens of MB
_CATCH_UP_BATCH = 2000


class Projector:
    """One context's projections. Used by one task at a time; any error leaves it as if it were new."""

    def __init__(
        self,
        context: str,
        projections: Sequence[Projection],
        log: Log,
        pool: Pool,
        kept_rows: int = _KEPT_ROWS,
    ) -> None:
        self.context = context
        self._projections = projections
        self._log = log
        self._pool = pool
        self._kept_rows = kept_rows
        self._rows = Rows([table for projection in projections for table in projection.tables])
        self._checkpoints: Checkpoints = {}
        self._verified: dict[Partition, int] = {}
        self._busy = asyncio.Lock()
        self._released = False

    async def fold(self, records: Sequence[Record], assignment: int = 0) -> None:
        """Fold these records and, where `assignment` is another than before, first what is missing before them.

        Raises `StaleProjector`, `Unavailable`, `LogError`: nothing of it is folded then, and it may be tried again.
        """
        async with self._busy:
            try:
                await self._prepare({record.partition for record in records})
                for partition, first in _firsts(records).items():
                    if self._verified.get(partition) != assignment:
                        await self._read_up_to({partition: first})
                        self._verified[partition] = assignment
                await self._fold(records)
            except BaseException:
                self._forget()
                raise

    async def catch_up(self, partitions: Iterable[Partition]) -> None:
        """Fold what is in the log now and not yet folded. Raises like `fold`."""
        async with self._busy:
            try:
                wanted = set(partitions)
                await self._prepare(wanted)
                await self._read_up_to(await _to_the_end(self._log.ends(sorted(wanted, key=str))))
            except BaseException:
                self._forget()
                raise

    def release(self) -> None:
        """Partitions have come or gone: from the next call on, rely on nothing that is remembered of them."""
        self._released = True

    def _forget(self) -> None:
        self._released = False
        self._rows.forget()
        self._checkpoints.clear()
        self._verified.clear()

    async def _prepare(self, partitions: set[Partition]) -> None:
        """Know the checkpoints of these partitions."""
        if self._released:
            self._forget()
        places = {(projection.name, partition) for projection in self._projections for partition in partitions}
        if places <= self._checkpoints.keys():
            return
        async with connection(self._pool) as db:
            await begin_checkpoints(db, places)
            there = await read_checkpoints(db, [projection.name for projection in self._projections])
        self._checkpoints |= {place: there[place] for place in places - self._checkpoints.keys()}

    async def _read_up_to(self, ends: Mapping[Partition, int]) -> None:
        """Fold from the log what lies between the checkpoints and `ends`."""
        starts = {partition: self._least(partition) for partition in ends}
        behind = sum(max(0, end - starts[partition]) for partition, end in ends.items())
        if behind > _CATCH_UP_BATCH:
            _log.info("catching up", context=self.context, offsets=behind)
        async for batch in read_until(self._log, starts, ends):
            for n in range(0, len(batch), _CATCH_UP_BATCH):
                await self._fold(batch[n : n + _CATCH_UP_BATCH])

    async def _fold(self, records: Sequence[Record]) -> None:
        least = {partition: self._least(partition) for partition in _firsts(records)}
        told = by_partition(
            (record, read(self.context, record)) for record in records if record.offset >= least[record.partition]
        )
        reached: Checkpoints = {}
        new: list[tuple[Projection, list[Told]]] = []
        for projection in self._projections:
            tales = []
            for partition, of_partition in told.items():
                place = (projection.name, partition)
                checkpoint = self._checkpoints[place]
                unseen = [tale for tale in of_partition if tale[0].offset >= checkpoint.next_offset]
                if unseen:
                    reached[place] = after(checkpoint, unseen)
                    tales += [each for _, each in unseen if not isinstance(each, str)]
            new.append((projection, tales))
        if not reached:
            return
        # A pipeline: what is written travels together, in two round trips for the whole transaction.
        async with connection(self._pool) as db, db.pipeline(), db.transaction():
            # What a crash of the server may take back so, rows and checkpoints alike, is folded again from the log.
            await db.execute("SET LOCAL synchronous_commit = off")
            # First, so that a rebuild that is about to swap the tables, or another worker, is waited for before any
            # row is looked at.
            await advance_checkpoints(db, self._checkpoints, reached)
            for projection, tales in new:
                await load_for(db, projection, self._rows, tales)
                for each in tales:
                    projection.fold(self._rows, each)
            for table, changes in self._rows.changed.items():
                if changes:
                    await save(db, table, changes)
        self._rows.saved()
        self._rows.trim(self._kept_rows)
        self._checkpoints |= reached

    def _least(self, partition: Partition) -> int:
        """The first offset that any projection has yet to fold."""
        return min(self._checkpoints[projection.name, partition].next_offset for projection in self._projections)


async def load_for(
    db: Connection, projection: Projection, rows: Rows, tales: Sequence[Told], suffix: str = ""
) -> list[tuple[AnyTable, Key]]:
    """Bring every row that folding these will touch into memory, each table by one statement; those that exist."""
    found: list[tuple[AnyTable, Key]] = []
    while True:
        wanted: defaultdict[AnyTable, set[Key]] = defaultdict(set)
        for told in tales:
            for table, key in projection.keys(told, rows):
                if key not in rows.known[table]:
                    wanted[table].add(key)
        if not wanted:
            return found
        for table, keys in wanted.items():
            known = rows.known[table]
            known.update(dict.fromkeys(keys))
            for row in await load(db, table, sorted(keys), table.name + suffix):
                key = table.key_of(row)
                known[key] = row
                found.append((table, key))


async def _to_the_end(question: Coroutine[Any, Any, T]) -> T:
    """The answer; a cancellation waits for it: a Kafka client cancelled while it starts leaves a connection open."""
    asking = asyncio.create_task(question)
    try:
        return await asyncio.shield(asking)
    finally:
        await asyncio.wait([asking])


def _firsts(records: Sequence[Record]) -> dict[Partition, int]:
    """The offset of each partition's first record."""
    firsts: dict[Partition, int] = {}
    for record in records:
        firsts.setdefault(record.partition, record.offset)
    return firsts
