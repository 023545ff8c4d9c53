"""A projection folded from the first event on, into tables of its own beside the live ones."""

import gc
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from psycopg import sql

from infra.log import Log, Partition, Record, read_until
from infra.postgres import Connection
from projections.live import load_for
from projections.reading import after, by_partition, read
from projections.store import Checkpoint, copy, save
from projections.table import AnyTable, Key, Projection, Rows

_APPENDED_MAX = 20_000  # rows that nothing will change, written together
KEPT_MAX = 200_000  # rows that may change still, of each table: about 200 MB of sessions

Progress = Callable[[int, int], None]
"""Told of the offsets done, and of how many there are in all."""


def silent(_done: int, _total: int) -> None:
    """Tells nobody."""


class Shadow:
    """`checkpoints` says how far it is, `events` how many that were.

    Rows stay in memory as long as they may change and there is room; so nearly all are written once, with COPY, before
    there is any index. Only when there is no more room are keys made, and rows read back.
    """

    def __init__(
        self, projection: Projection, partitions: Sequence[Partition], suffix: str, kept_max: int = KEPT_MAX
    ) -> None:
        self.suffix = suffix
        self._kept_max = kept_max
        self.checkpoints = dict.fromkeys(partitions, Checkpoint())
        self.events = 0
        self._projection = projection
        self._contexts = {partition: partition.topic.rsplit(".", 2)[-2] for partition in partitions}
        self._rows = Rows(projection.tables, complete=True)
        self._stored: dict[AnyTable, set[Key]] = {table: set() for table in projection.tables}
        self._keyed = False

    async def read(self, db: Connection, log: Log, ends: Mapping[Partition, int], progress: Progress = silent) -> None:
        """Fold on, up to there."""
        starts = {partition: checkpoint.next_offset for partition, checkpoint in self.checkpoints.items()}
        total = sum(max(0, ends[partition] - start) for partition, start in starts.items())
        progress(0, total)
        with _no_collection():
            async for batch in read_until(log, starts, ends):
                await self._fold(db, batch)
                progress(sum(self.checkpoints[each].next_offset - starts[each] for each in starts), total)
        progress(total, total)

    async def flush(self, db: Connection) -> None:
        """Write everything that is not written yet."""
        for table in self._projection.tables:
            await self._write(db, table)

    async def make_keys(self, db: Connection) -> None:
        if not self._keyed:
            for table in self._projection.tables:
                await db.execute(table.create_key(table.name + self.suffix))
            self._keyed = True

    async def make_indexes(self, db: Connection) -> None:
        await self.make_keys(db)
        for table in self._projection.tables:
            for statement in table.create_indexes(table.name + self.suffix):
                await db.execute(statement)
            await db.execute(sql.SQL("ANALYZE {}").format(sql.Identifier(table.name + self.suffix)))

    def behind(self, ends: Mapping[Partition, int]) -> int:
        """How many offsets there are up to there."""
        return sum(max(0, end - self.checkpoints[partition].next_offset) for partition, end in ends.items())

    async def _fold(self, db: Connection, batch: Sequence[Record]) -> None:
        tales = [(record, read(self._contexts[record.partition], record)) for record in batch]
        new = [told for _, told in tales if not isinstance(told, str)]
        if not self._rows.complete:
            for table, key in await load_for(db, self._projection, self._rows, new, self.suffix):
                self._stored[table].add(key)
        for told in new:
            self._projection.fold(self._rows, told)
        for partition, of_partition in by_partition(tales).items():
            self.checkpoints[partition] = after(self.checkpoints[partition], of_partition)
        self.events += len(batch)
        await self._make_room(db)

    async def _make_room(self, db: Connection) -> None:
        for table, changed in self._rows.changed.items():
            if table.append_only and len(changed) > _APPENDED_MAX:
                await self._write(db, table)
        if any(len(known) > self._kept_max for known in self._rows.known.values()):
            await self.make_keys(db)
            await self.flush(db)
            if self._rows.trim(self._kept_max // 2):
                self._rows.complete = False
                for table, stored in self._stored.items():
                    stored.intersection_update(self._rows.known[table])

    async def _write(self, db: Connection, table: AnyTable) -> None:
        """New rows by COPY, changed ones by upsert."""
        changed, stored = self._rows.changed[table], self._stored[table]
        again = {key: row for key, row in changed.items() if key in stored}
        new = [row for key, row in changed.items() if row is not None and key not in stored]
        if again:
            await self.make_keys(db)
            await save(db, table, again, table.name + self.suffix)
        if new:
            await copy(db, table, new, table.name + self.suffix)
        if not table.append_only:
            stored.update(key for key, row in changed.items() if row is not None)
            stored.difference_update(key for key, row in changed.items() if row is None)
        changed.clear()


@contextmanager
def _no_collection() -> Iterator[None]:
    """Rows have no cycles, and looking for some among so many takes half of the time."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
