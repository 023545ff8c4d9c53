"""A rebuild beside live tables: the same rows, reads served throughout, a live fold not disturbed."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from infra.log import Partition, Reader, Record
from infra.memory_log import MemoryLog
from infra.postgres import Pool, connection
from infra.settings import Settings
from projections import session_list
from projections.catalogue import PROJECTIONS
from projections.rebuild import rebuild, set_up, table_hash, verify
from projections.schema import create_shadows, drop_shadows
from projections.shadow import Shadow
from projections.store import StaleProjector
from tests.projections.story import Scribe, lives, write
from tests.projections.test_live import (
    SETTINGS,
    all_records,
    busy_world,
    fold_all,
    hashes,
    log_of,
    projector,
    tables,
)

pytestmark = pytest.mark.cluster

__all__ = ["busy_world", "tables"]

SESSIONS = PROJECTIONS["sessions"]


class SlowLog(MemoryLog):
    """Reads in small batches, and lets others work in between."""

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        async with super().reader(starts) as reader:
            yield _Slow(reader)


class _Slow:
    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        await asyncio.sleep(0)
        return await self._reader.batch(min(at_most, 40), within)

    def position(self, partition: Partition) -> int:
        return self._reader.position(partition)


async def test_a_rebuild_equals_the_live_fold(tables: Pool, busy_world: Scribe) -> None:
    log = await log_of(busy_world)
    await fold_all(log, tables, contexts=("session", "scheduling", "directory"))
    before = await hashes(tables)
    for projection in PROJECTIONS.values():
        await rebuild(SETTINGS, log, tables, projection)
    assert await hashes(tables) == before
    for projection in PROJECTIONS.values():
        assert (await verify(SETTINGS, log, tables, projection)).identical


async def test_a_rebuild_while_a_live_fold_runs_and_readers_read_disturbs_neither(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 60)
    log = SlowLog(scribe.topics())
    half = len(scribe.written) // 2
    await write(log, scribe.written[:half])
    await fold_all(log, tables)
    seen: list[int] = []
    done = asyncio.Event()

    async def read_all_the_time() -> None:
        while not done.is_set():
            async with connection(tables) as db:
                seen.append((await session_list.page(db)).total)

    async def fold_what_comes() -> None:
        one = projector("session", log, tables)
        for transaction in scribe.written[half:]:
            await write(log, [transaction])
            while True:
                try:
                    await one.catch_up({record.partition for record in transaction})
                    break
                except StaleProjector:  # the rebuild was further on for a moment
                    continue

    async with asyncio.TaskGroup() as group:
        reading = group.create_task(read_all_the_time())
        live = group.create_task(fold_what_comes())
        rebuilds = 0
        while not live.done() or not rebuilds:
            await rebuild(SETTINGS, log, tables, SESSIONS)
            rebuilds += 1
        done.set()
        await reading
    assert rebuilds
    assert seen == sorted(seen)  # never fewer than before
    assert seen[0] > 0
    for name in ("sessions", "command_outcomes"):
        assert (await verify(SETTINGS, log, tables, PROJECTIONS[name])).identical


async def test_a_rebuild_ahead_of_the_live_fold_leaves_it_to_go_on_from_there(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 10)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    one = projector("session", log, tables)
    await one.fold(records[:20])
    await rebuild(SETTINGS, log, tables, SESSIONS)
    with pytest.raises(StaleProjector):
        await one.fold(records[20:40])
    await one.fold(records[20:])
    for name in ("sessions", "command_outcomes"):
        assert (await verify(SETTINGS, log, tables, PROJECTIONS[name])).identical


async def test_without_room_for_all_rows_a_rebuild_reads_some_back(tables: Pool, busy_world: Scribe) -> None:
    lives(busy_world, 20)
    log = await log_of(busy_world)
    await fold_all(log, tables, contexts=("session", "scheduling", "directory"))
    live = await hashes(tables)
    for projection in PROJECTIONS.values():
        places = [Partition(f"t.{context}.events", n) for context in projection.contexts for n in range(2)]
        shadow = Shadow(projection, places, "__small", kept_max=4)
        async with connection(tables) as db:
            await create_shadows(db, projection, shadow.suffix)
            slow = SlowLog({})
            slow._logs = log._logs
            await shadow.read(db, slow, await log.ends(places))
            await shadow.flush(db)
            for table in projection.tables:
                assert await hash_of(tables, table.name + shadow.suffix, table.name) == live[table.name]
            await drop_shadows(db, projection, shadow.suffix)


async def test_verification_sees_a_single_changed_cell(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 3)
    log = await log_of(scribe)
    await fold_all(log, tables)
    async with connection(tables) as db:
        await db.execute("UPDATE kernel_list SET exit_code = 0 WHERE exit_code = 137")
    assert not (await verify(SETTINGS, log, tables, SESSIONS)).identical


async def test_a_rebuild_that_fails_leaves_everything_as_it_was(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 3)
    log = await log_of(scribe)
    await fold_all(log, tables)
    before = await hashes(tables)

    class Broken(SlowLog):
        async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
            raise RuntimeError(f"no ends of {partitions}")

    broken = Broken({})
    with pytest.raises(RuntimeError):
        await rebuild(SETTINGS, broken, tables, SESSIONS)
    assert await hashes(tables) == before
    async with connection(tables) as db:
        cursor = await db.execute("SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_\\_new%'")
        assert await cursor.fetchone() == (0,)


async def test_a_changed_definition_is_built_anew_at_set_up(tables: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 3)
    log = await log_of(scribe)
    await fold_all(log, tables)
    before = await hashes(tables)
    monkeypatch.setitem(SESSIONS.__dict__, "version", 2)
    async with connection(tables) as db:
        await db.execute("ALTER TABLE session_list DROP COLUMN tag")  # as an older version may have had it
    assert await set_up(SETTINGS, log, tables) == ["sessions"]
    assert await set_up(SETTINGS, log, tables) == []
    assert await hashes(tables) == before


async def test_several_processes_may_set_up_at_the_same_time(pool: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 3)
    log = await log_of(scribe)
    made = await asyncio.gather(*(set_up(SETTINGS, log, pool) for _ in range(4)))
    assert sorted(map(len, made)) == [0, 0, 0, len(PROJECTIONS)]


async def test_settings_name_every_partition_of_a_projection(tables: Pool) -> None:
    """Fewer partitions in the settings than in the log would leave some out: those of the settings are read."""
    scribe = Scribe(Settings(topic_prefix="t.", partitions=3))
    lives(scribe, 10)
    log = await log_of(scribe)
    whole = Settings(topic_prefix="t.", partitions=3)
    assert (await rebuild(whole, log, tables, SESSIONS)).events == sum(map(len, scribe.written))


async def hash_of(pool: Pool, name: str, as_table: str) -> str:
    [table] = [each for one in PROJECTIONS.values() for each in one.tables if each.name == as_table]
    async with connection(pool) as db:
        return await table_hash(db, table, name)
