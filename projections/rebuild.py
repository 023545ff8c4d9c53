"""Builds a projection anew from the log beside the live tables, then swaps; or compares the two.

Reads are served throughout, and a live worker goes on folding: it waits only while the last little is folded and the
tables are renamed, and then finds its checkpoint where it left it or further on. Reading order is the order of the steps:
shadows, the log up to now, keys and indexes, what came meanwhile, swap.
"""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import structlog
from psycopg import OperationalError, sql

from infra.decoding import Told
from infra.log import Log, NoSuchPlace, Partition, Record, read_until
from infra.postgres import Connection, Pool, connection, migrate
from infra.settings import Settings
from projections.catalogue import PROJECTIONS
from projections.live import CHANNEL, load_for
from projections.reading import after, events_topic, read
from projections.schema import create_shadows, create_tables, drop_shadows, note_definition, swap
from projections.store import (
    Checkpoint,
    Checkpoints,
    advance_checkpoints,
    begin_checkpoints,
    copy,
    read_checkpoints,
    save,
)
from projections.table import AnyTable, Key, Projection, Rows

_log = structlog.get_logger(__name__)

_ONE_AT_A_TIME = 0x7265666F6C65  # advisory lock: a rebuild, verification or set-up in this database
_APPENDED_MAX = 20_000  # rows that nothing will change, written together
_KEPT_MAX = 200_000  # rows that may change still, of each table: about 200 MB of sessions
_LITTLE = 5_000  # offsets that may be folded while the live worker waits: well under a second
_LOCK_SECONDS = 3
_SWAPS_MAX = 20

Progress = Callable[[int, int], None]
"""Told of the offsets done, and of how many there are in all."""


def _silent(_done: int, _total: int) -> None:
    """Tells nobody."""


@dataclass(frozen=True, slots=True)
class Rebuilt:
    events: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """The hashes of each table as it is live, and as a fresh fold of the log up to the same checkpoint gives it."""

    live: Mapping[str, str]
    fresh: Mapping[str, str]
    events: int
    command_offsets_agree: bool

    @property
    def identical(self) -> bool:
        return self.live == self.fresh and self.command_offsets_agree


async def set_up(settings: Settings, log: Log, pool: Pool) -> list[str]:
    """Migrations, tables, and whatever must be built anew; the names of what was. Any process may do it at its start.

    Without topics there is nothing to fold yet.
    """
    async with connection(pool) as db:
        await migrate(db)
    async with _alone(pool) as db:
        outdated = await create_tables(db)
        for name in outdated:
            projection = PROJECTIONS[name]
            try:
                partitions = await _partitions(settings, log, projection)
                ends = await log.ends(partitions)
            except NoSuchPlace:
                continue
            if any(ends.values()):
                _log.info("rebuilding", projection=name)
                await _rebuild(db, log, projection, partitions, _silent)
            else:
                await note_definition(db, projection)
        return outdated


async def rebuild(
    settings: Settings, log: Log, pool: Pool, projection: Projection, progress: Progress = _silent
) -> Rebuilt:
    """Raises `Unreadable`, `LogError`, `Unavailable`: the live tables are as they were then."""
    partitions = await _partitions(settings, log, projection)
    async with _alone(pool) as db:
        return await _rebuild(db, log, projection, partitions, progress)


async def verify(
    settings: Settings, log: Log, pool: Pool, projection: Projection, progress: Progress = _silent
) -> Verdict:
    """Fold the log afresh up to where the live tables are, and compare. Nobody waits for it."""
    partitions = await _partitions(settings, log, projection)
    async with _alone(pool) as db:
        async with db.transaction():
            await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await db.execute("SET LOCAL statement_timeout = 0")
            there = await read_checkpoints(db, [projection.name])
            live = {table.name: await table_hash(db, table) for table in projection.tables}
        reached = {partition: there.get((projection.name, partition), Checkpoint()) for partition in partitions}
        shadow = _Shadow(projection, partitions, "__verified")
        await create_shadows(db, projection, shadow.suffix)
        try:
            ends = {partition: checkpoint.next_offset for partition, checkpoint in reached.items()}
            await shadow.read(db, log, ends, progress)
            await shadow.flush(db)
            fresh = {
                table.name: await table_hash(db, table, table.name + shadow.suffix) for table in projection.tables
            }
        finally:
            await drop_shadows(db, projection, shadow.suffix)
    agree = all(
        shadow.checkpoints[partition].command_offset == checkpoint.command_offset
        for partition, checkpoint in reached.items()
    )
    return Verdict(live, fresh, shadow.events, agree)


async def table_hash(db: Connection, table: AnyTable, name: str | None = None) -> str:
    """The MD5 of the table's rows in the order of their keys: the same for the same contents, on any server."""
    order = [
        sql.SQL("{} COLLATE {}").format(sql.Identifier(column), sql.Identifier("C"))
        if kind == "text"
        else sql.Identifier(column)
        for column, kind in zip(table.key, table.key_types, strict=True)
    ]
    statement = sql.SQL(
        "SELECT md5(coalesce(string_agg(md5(ROW({names})::text), '' ORDER BY {order}), '')) FROM {table}"
    ).format(
        names=table.names, order=sql.SQL(", ").join(order), table=sql.Identifier(name or table.name)
    )
    async with db.transaction():
        await db.execute("SET LOCAL timezone = 'UTC'")
        await db.execute("SET LOCAL statement_timeout = 0")
        cursor = await db.execute(statement)
        return str((await cursor.fetchone() or ("",))[0])


class _Shadow:
    """A projection folded from the first event on, into tables of its own.

    Rows stay in memory as long as they may change and there is room; so nearly all are written once, with COPY, before
    there is any index. Only when there is no more room are keys made, and rows read back.
    """

    def __init__(self, projection: Projection, partitions: Sequence[Partition], suffix: str) -> None:
        self.suffix = suffix
        self.checkpoints = dict.fromkeys(partitions, Checkpoint())
        self.events = 0
        self._projection = projection
        self._contexts = {partition: partition.topic.rsplit(".", 2)[-2] for partition in partitions}
        self._rows = Rows(projection.tables, complete=True)
        self._stored: dict[AnyTable, set[Key]] = {table: set() for table in projection.tables}
        self._keyed = False

    async def read(
        self, db: Connection, log: Log, ends: Mapping[Partition, int], progress: Progress = _silent
    ) -> None:
        """Fold on, up to there."""
        starts = {partition: checkpoint.next_offset for partition, checkpoint in self.checkpoints.items()}
        total = sum(max(0, ends[partition] - start) for partition, start in starts.items())
        progress(0, total)
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

    async def _fold(self, db: Connection, batch: Sequence[Record]) -> None:
        tales: list[Told] = []
        for record in batch:
            told = read(self._contexts[record.partition], record)
            self.checkpoints[record.partition] = after(self.checkpoints[record.partition], record, told)
            if not isinstance(told, str):
                tales.append(told)
        if not self._rows.complete:
            await load_for(db, self._projection, self._rows, tales, self.suffix, self._note_stored)
        for told in tales:
            self._projection.fold(self._rows, told)
        self.events += len(batch)
        await self._make_room(db)

    async def _make_room(self, db: Connection) -> None:
        for table, changed in self._rows.changed.items():
            if table.append_only and len(changed) > _APPENDED_MAX:
                await self._write(db, table)
        if any(len(known) > _KEPT_MAX for known in self._rows.known.values()):
            await self.make_keys(db)
            await self.flush(db)
            if self._rows.trim(_KEPT_MAX // 2):
                self._rows.complete = False
                for table, stored in self._stored.items():
                    stored &= self._rows.known[table].keys()

    def _note_stored(self, table: AnyTable, key: Key) -> None:
        self._stored[table].add(key)

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


async def _rebuild(
    db: Connection, log: Log, projection: Projection, partitions: Sequence[Partition], progress: Progress
) -> Rebuilt:
    began = monotonic()
    shadow = _Shadow(projection, partitions, "__new")
    await create_shadows(db, projection, shadow.suffix)
    try:
        await shadow.read(db, log, await log.ends(partitions), progress)
        await shadow.flush(db)
        await shadow.make_indexes(db)
        while _behind(shadow, ends := await log.ends(partitions)) > _LITTLE:
            await shadow.read(db, log, ends)
            await shadow.flush(db)
        await _finish(db, log, projection, shadow)
    except BaseException:
        await drop_shadows(db, projection, shadow.suffix)
        raise
    return Rebuilt(shadow.events, monotonic() - began)


async def _finish(db: Connection, log: Log, projection: Projection, shadow: _Shadow) -> None:
    """Stop the live fold where it is, get at least as far, and take its place.

    Readers of the tables are not made to wait for long: a lock that is not to be had soon is asked for again later.
    """
    for attempt in range(1, _SWAPS_MAX + 1):
        try:
            async with db.transaction():
                await db.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                await begin_checkpoints(db, [(projection.name, partition) for partition in shadow.checkpoints])
                live = await read_checkpoints(db, [projection.name], lock=True)
                ends = {
                    partition: max(live[projection.name, partition].next_offset, checkpoint.next_offset)
                    for partition, checkpoint in shadow.checkpoints.items()
                }
                await shadow.read(db, log, ends)
                await shadow.flush(db)
                reached: Checkpoints = {
                    (projection.name, partition): checkpoint
                    for partition, checkpoint in shadow.checkpoints.items()
                }
                await advance_checkpoints(db, live, reached)
                await swap(db, projection, shadow.suffix)
                await db.execute("SELECT pg_notify(%s, '')", (CHANNEL,))
            return
        except OperationalError as error:  # the lock time-out among them
            if attempt == _SWAPS_MAX or db.broken:
                raise
            _log.info("the swap waits for readers", projection=projection.name, reason=str(error).strip())


def _behind(shadow: _Shadow, ends: Mapping[Partition, int]) -> int:
    return sum(max(0, end - shadow.checkpoints[partition].next_offset) for partition, end in ends.items())


async def _partitions(settings: Settings, log: Log, projection: Projection) -> list[Partition]:
    return [
        partition
        for context in projection.contexts
        for partition in await log.partitions(events_topic(settings, context))
    ]


@asynccontextmanager
async def _alone(pool: Pool) -> AsyncIterator[Connection]:
    """A connection without a time limit, once no other such block is at work in this database."""
    async with connection(pool) as db:
        await db.execute("SET statement_timeout = 0")
        try:
            await db.execute("SELECT pg_advisory_lock(%s)", (_ONE_AT_A_TIME,))
            yield db
        finally:
            if not db.closed:
                await db.execute("SELECT pg_advisory_unlock(%s)", (_ONE_AT_A_TIME,))
                await db.execute("SET statement_timeout = '30s'")
