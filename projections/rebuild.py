"""Builds a projection anew from the log beside the live tables, then swaps; or compares the two.

Reads are served throughout, and a live worker goes on folding: it waits only while the last little is folded and the
tables are renamed, and then finds its checkpoint where it left it or further on. Reading order is the order of the
steps: shadows, the log up to now, keys and indexes, what came meanwhile, swap.
"""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from time import monotonic

import structlog
from psycopg import sql

from infra.log import Log, Partition
from infra.postgres import Connection, Pool, Unavailable, configure, connection, migrate
from infra.settings import Settings
from projections.catalogue import PROJECTIONS
from projections.reading import events_topic
from projections.schema import create_shadows, create_tables, drop_shadows, swap
from projections.shadow import Progress, Shadow, silent
from projections.store import Checkpoint, advance_checkpoints, begin_checkpoints, read_checkpoints
from projections.table import AnyTable, Projection

_log = structlog.get_logger(__name__)

_ONE_AT_A_TIME = 0x7265666F6C65  # advisory lock: a rebuild, verification or set-up in this database
_LITTLE = 5_000  # offsets that may be folded while the live worker waits: well under a second
_LOCK_SECONDS = 3
_SWAPS_MAX = 20


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

    The topics must be there. Raises `Unavailable`, `LogError`, `Unreadable`.
    """
    async with connection(pool) as db:
        await migrate(db)
    async with _alone(pool) as db:
        outdated = await create_tables(db)
        for name, is_new in outdated.items():
            projection = PROJECTIONS[name]
            partitions = _partitions(settings, projection)
            if not is_new or any((await log.ends(partitions)).values()):
                _log.info("rebuilding", projection=name, is_new=is_new)
                await _rebuild(db, pool, log, projection, partitions, silent)
        return list(outdated)


async def rebuild(
    settings: Settings, log: Log, pool: Pool, projection: Projection, progress: Progress = silent
) -> Rebuilt:
    """Raises `Unreadable`, `LogError`, `Unavailable`: the live tables are as they were then."""
    partitions = _partitions(settings, projection)
    async with _alone(pool) as db:
        return await _rebuild(db, pool, log, projection, partitions, progress)


async def verify(
    settings: Settings, log: Log, pool: Pool, projection: Projection, progress: Progress = silent
) -> Verdict:
    """Fold the log afresh up to where the live tables are, and compare. Nobody waits for it."""
    partitions = _partitions(settings, projection)
    async with _alone(pool) as db:
        async with db.transaction():
            await db.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            await db.execute("SET LOCAL statement_timeout = 0")
            there = await read_checkpoints(db, [projection.name])
            live = {table.name: await table_hash(db, table) for table in projection.tables}
        reached = {partition: there.get((projection.name, partition), Checkpoint()) for partition in partitions}
        shadow = Shadow(projection, partitions, "__verified")
        await create_shadows(db, projection, shadow.suffix)
        try:
            ends = {partition: checkpoint.next_offset for partition, checkpoint in reached.items()}
            await shadow.read(db, log, ends, progress)
            await shadow.flush(db)
            fresh = {table.name: await table_hash(db, table, table.name + shadow.suffix) for table in projection.tables}
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
    ).format(names=table.names, order=sql.SQL(", ").join(order), table=sql.Identifier(name or table.name))
    async with db.transaction():
        await db.execute("SET LOCAL timezone = 'UTC'")
        await db.execute("SET LOCAL statement_timeout = 0")
        cursor = await db.execute(statement)
        return str((await cursor.fetchone() or ("",))[0])


async def _rebuild(
    db: Connection,
    pool: Pool,
    log: Log,
    projection: Projection,
    partitions: Sequence[Partition],
    progress: Progress,
) -> Rebuilt:
    began = monotonic()
    shadow = Shadow(projection, partitions, "__new")
    await create_shadows(db, projection, shadow.suffix)
    try:
        await shadow.read(db, log, await log.ends(partitions), progress)
        await shadow.flush(db)
        await shadow.make_indexes(db)
        while shadow.behind(ends := await log.ends(partitions)) > _LITTLE:
            await shadow.read(db, log, ends)
            await shadow.flush(db)
        await _finish(db, pool, log, projection, shadow)
    except BaseException:
        if not db.broken:
            await drop_shadows(db, projection, shadow.suffix)
        raise
    return Rebuilt(shadow.events, monotonic() - began)


async def _finish(db: Connection, pool: Pool, log: Log, projection: Projection, shadow: Shadow) -> None:
    """Stop the live fold where it is, get at least as far, and take its place.

    The locks are held on a connection of their own, so that giving them up loses nothing of the shadow: a table lock
    that is not to be had soon is asked for again later, and no reader is made to wait for long.
    """
    for attempt in range(1, _SWAPS_MAX + 1):
        try:
            async with connection(pool) as locks, locks.transaction():
                await locks.execute(f"SET LOCAL lock_timeout = '{_LOCK_SECONDS}s'")
                await begin_checkpoints(locks, [(projection.name, partition) for partition in shadow.checkpoints])
                live = await read_checkpoints(locks, [projection.name], lock=True)
                ends = {
                    partition: max(live[projection.name, partition].next_offset, checkpoint.next_offset)
                    for partition, checkpoint in shadow.checkpoints.items()
                }
                await shadow.read(db, log, ends)
                await shadow.flush(db)
                reached = {
                    (projection.name, partition): checkpoint for partition, checkpoint in shadow.checkpoints.items()
                }
                await advance_checkpoints(locks, live, reached)
                await swap(locks, projection, shadow.suffix)
            return
        except Unavailable as error:  # the lock time-out among them
            if attempt == _SWAPS_MAX or db.broken:
                raise
            _log.info("the swap waits for readers", projection=projection.name, reason=str(error))


def _partitions(settings: Settings, projection: Projection) -> list[Partition]:
    return [
        Partition(events_topic(settings, context), number)
        for context in projection.contexts
        for number in range(settings.partitions)
    ]


@asynccontextmanager
async def _alone(pool: Pool) -> AsyncIterator[Connection]:
    """A connection without a time limit, once no other such block is at work in this database.

    Its commits do not wait for the disk: nothing written on it counts before the swap, which does.
    """
    async with connection(pool) as db:
        await db.execute("SET statement_timeout = 0")
        await db.execute("SET synchronous_commit = off")
        try:
            await db.execute("SELECT pg_advisory_lock(%s)", (_ONE_AT_A_TIME,))
            yield db
        finally:
            if not db.broken:
                await db.execute("SELECT pg_advisory_unlock(%s)", (_ONE_AT_A_TIME,))
                await db.execute("RESET synchronous_commit")
                await configure(db)
