"""The live fold on a real Postgres: the checkpoint decides, whatever is delivered."""

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest
from psycopg import AsyncConnection
from pydantic import SecretStr

from domain.directory.messages.groups import CreateResourceGroup, ResourceGroupSpec
from infra.decoding import Unreadable
from infra.log import NewRecord, Partition, Position, Record
from infra.memory_log import MemoryLog
from infra.postgres import Pool, Unavailable, connection, open_pool
from infra.settings import Settings
from projections import agents, command_outcomes, session_history, session_list, store
from projections import waiting as waiting_module
from projections.catalogue import PROJECTIONS, of_context
from projections.directory import groups, keypairs, policies, tenants, users
from projections.directory.policies import PolicyKind
from projections.live import Projector
from projections.rebuild import set_up, table_hash, verify
from projections.store import Checkpoint, StaleProjector, read_checkpoints
from projections.waiting import NotYet, waiting
from tests.projections import people, story
from tests.projections.story import START, Scribe, WrittenWorld, life, lives, write

pytestmark = pytest.mark.cluster

SETTINGS = Settings(topic_prefix="t.", partitions=2)


async def log_of(scribe: Scribe) -> MemoryLog:
    log = MemoryLog(scribe.topics())
    await write(log, scribe.written)
    return log


async def all_records(log: MemoryLog, context: str) -> list[Record]:
    places = {Partition(f"t.{context}.events", number): 0 for number in range(SETTINGS.partitions)}
    async with log.reader(places) as reader:
        return list(await reader.batch(100_000, 0.1))


@pytest.fixture
async def tables(pool: Pool) -> Pool:
    await set_up(SETTINGS, MemoryLog(Scribe(SETTINGS).topics()), pool)
    return pool


async def hashes(pool: Pool) -> dict[str, str]:
    async with connection(pool) as db:
        return {
            table.name: await table_hash(db, table)
            for projection in PROJECTIONS.values()
            for table in projection.tables
        }


def projector(context: str, log: MemoryLog, pool: Pool, **options: Any) -> Projector:
    return Projector(context, of_context(context), log, pool, **options)


async def fold_all(
    log: MemoryLog, pool: Pool, batch: int = 500, contexts: Sequence[str] = ("session",), **options: Any
) -> None:
    for context in contexts:
        one = projector(context, log, pool, **options)
        records = await all_records(log, context)
        for n in range(0, len(records), batch):
            await one.fold(records[n : n + batch])


@pytest.fixture
def busy_world() -> Scribe:
    """A cluster in which everything happens that may happen."""
    scribe = Scribe(SETTINGS)
    world = WrittenWorld(scribe)
    for choice in range(600):
        world.step(choice * 7919)
    people.everything(scribe)
    return scribe


async def test_whatever_the_batches_and_however_little_is_remembered_the_rows_are_the_same(
    tables: Pool, busy_world: Scribe
) -> None:
    log = await log_of(busy_world)
    await fold_all(log, tables, batch=3, contexts=("session", "scheduling", "directory"), kept_rows=1)
    for projection in PROJECTIONS.values():
        assert (await verify(SETTINGS, log, tables, projection)).identical


async def test_events_shown_again_change_nothing(tables: Pool, busy_world: Scribe) -> None:
    log = await log_of(busy_world)
    await fold_all(log, tables, contexts=("session", "scheduling", "directory"))
    before = await hashes(tables)
    await fold_all(log, tables, batch=7, contexts=("session", "scheduling", "directory"))
    assert await hashes(tables) == before


async def test_a_projector_that_was_overtaken_is_stopped_and_harms_nothing(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 4)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    slow, quick = projector("session", log, tables), projector("session", log, tables)
    await slow.fold(records[:20])
    await quick.fold(records)
    after = await hashes(tables)
    with pytest.raises(StaleProjector):
        await slow.fold(records[20:])
    assert await hashes(tables) == after
    await slow.fold(records[20:])  # it has read the checkpoint again
    assert await hashes(tables) == after


async def test_what_kafka_skips_is_read_from_the_log(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 6)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    one = projector("session", log, tables)
    await one.fold(records[:30], assignment=1)
    for number in range(SETTINGS.partitions):  # an assignment that begins with each partition's last record
        last = [record for record in records if record.partition.number == number][-1]
        await one.fold([last], assignment=2 + number)
    assert (await verify(SETTINGS, log, tables, PROJECTIONS["sessions"])).identical
    checkpoints = await checkpoints_of(tables, "sessions")
    assert {p: c.next_offset for p, c in checkpoints.items()} == {r.partition: r.offset + 1 for r in records}


async def test_with_nothing_delivered_at_all_it_catches_up_with_the_log(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 6)
    log = await log_of(scribe)
    await projector("session", log, tables).catch_up({record.partition for record in await all_records(log, "session")})
    verdict = await verify(SETTINGS, log, tables, PROJECTIONS["sessions"])
    assert verdict.identical
    assert verdict.events == len(await all_records(log, "session"))


async def test_a_lost_database_is_made_again_by_folding_from_the_beginning(pool: Pool, busy_world: Scribe) -> None:
    log = await log_of(busy_world)
    assert set(await set_up(SETTINGS, log, pool)) == set(PROJECTIONS)
    before = await hashes(pool)
    async with connection(pool) as db:
        await db.execute("DROP SCHEMA public CASCADE")
        await db.execute("CREATE SCHEMA public")
    await set_up(SETTINGS, log, pool)
    assert await hashes(pool) == before
    assert await set_up(SETTINGS, log, pool) == []


async def test_an_event_of_an_unknown_type_is_passed_over_and_remembered_until_it_can_be_read(
    tables: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 2, owners=1)
    log = await log_of(scribe)
    place = scribe.partition("session", "AK000000000000000000")
    await log.append([NewRecord(place, b"AK0", (("ce_type", b"SessionTeleported"), ("ce_id", b"x")), b"{}")])
    await fold_all(log, tables)
    assert (await checkpoints_of(tables, "sessions"))[place].skipped == {"SessionTeleported"}
    assert await set_up(SETTINGS, log, tables) == []
    monkeypatch.setattr("projections.schema.known_types", lambda _: frozenset({"SessionTeleported"}))
    assert "sessions" in await set_up(SETTINGS, log, tables)  # a newer version rebuilds it


async def test_an_event_that_cannot_be_read_stops_the_projection(tables: Pool) -> None:
    log = MemoryLog(Scribe(SETTINGS).topics())
    place = Partition("t.session.events", 0)
    await log.append([NewRecord(place, b"AK0", (("ce_type", b"SessionEnded"), ("ce_id", b"x")), b"{}")])
    with pytest.raises(Unreadable):
        await fold_all(log, tables)
    assert all(each.next_offset == 0 for each in (await checkpoints_of(tables, "sessions")).values())


async def test_what_people_write_cannot_stop_a_projection(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 1, owners=1)
    owner = "AK000000000000000000"
    request = next(iter(life(1, owner, START)))  # type: ignore[arg-type]
    seat = request.kernels[0].model_copy(update={"index": 10**30})  # type: ignore[attr-defined]
    spec = request.spec.model_copy(  # type: ignore[attr-defined]
        update={"environ": {"a\0b": "c2VjcmV0"}, "startup_command": "\\u0000 \0"}
    )
    scribe.settle("session", [request.model_copy(update={"spec": spec, "kernels": (seat,)})])
    group = ResourceGroupSpec(scheduler_opts={"count": 10**30})
    scribe.settle("directory", [CreateResourceGroup(at=START, name="boundless", spec=group)])
    log = await log_of(scribe)
    await fold_all(log, tables, contexts=("session", "directory"))
    for projection in PROJECTIONS.values():
        assert (await verify(SETTINGS, log, tables, projection)).identical
    async with connection(tables) as db:
        row = await session_list.by_name(db, owner, "train-1")
        boundless = await groups.resource_group(db, "boundless")
    assert row is not None
    assert boundless is not None
    assert (row.environ, row.startup_command) == (["a�b"], "\\u0000 �")
    assert boundless.scheduler_opts == {"count": 1e30}  # answers know no whole numbers beyond 64 bits


async def test_the_questions(tables: Pool) -> None:
    scribe = Scribe(SETTINGS)
    story.agents(scribe, 3)
    story.directory(scribe)
    lives(scribe, 25, owners=2)
    log = await log_of(scribe)
    await fold_all(log, tables, contexts=("session", "scheduling", "directory"))
    owner = "AK000000000000000000"
    async with connection(tables) as db:
        first = await session_list.page(db, owner=owner, limit=5)
        assert [row.name for row in first.sessions] == ["train-24", "train-22", "train-20", "train-18", "train-16"]
        assert (first.total, first.more) == (13, True)
        last = first.sessions[-1]
        then = await session_list.page(db, owner=owner, limit=50, after=(last.requested_at, last.session_id))
        assert then.sessions[0].name == "train-14"
        assert not then.more
        living = await session_list.page(db, owner=owner, statuses=["RUNNING"])
        assert [row.name for row in living.sessions] == ["train-20", "train-10", "train-0"]
        assert (await session_list.page(db)).total == 25

        one = living.sessions[0]
        assert one.status == "RUNNING"
        assert one.partition == scribe.partition("session", owner).number
        assert await session_list.by_id(db, one.session_id) == one
        assert await session_list.by_id(db, one.session_id, "another") is None
        assert await session_list.find(db, owner, "train-20") == one
        assert await session_list.find(db, owner, one.session_id[:9]) == one
        assert await session_list.find(db, owner, "train-") is None  # three live whose names begin so
        assert list(await session_list.beginning(db, owner, "train-")) == list(living.sessions)
        assert await session_list.beginning(db, owner, "train%") == []
        assert await session_list.find(db, owner, "train%") is None
        ended = await session_list.find(db, owner, "train-2")
        assert ended is not None
        assert (ended.status, ended.exit_code) == ("TERMINATED", 137)
        [kernel] = await session_list.kernels(db, one)
        assert (kernel.status, kernel.hostname, kernel.devices) == ("RUNNING", "main1", {"cuda.device": ["gpu-4"]})
        assert kernel in await session_list.kernels_of_agent(db, "agent-20")

        history = await session_history.of_session(db, owner, one.session_id)
        assert history[0].log_offset == one.first_offset
        assert history[-1].log_offset == one.last_offset
        command_id = await command_of(log, one.first_offset, one.partition)
        [outcome] = await command_outcomes.of_command(db, command_id)
        assert (outcome.outcome, outcome.subject, outcome.boundary_key) == ("events", one.session_id, owner)

        page, total = await agents.page(db, limit=2)
        assert ([row.agent_id for row in page], total) == (["agent-0", "agent-1"], 3)
        rest, _ = await agents.page(db, after=(page[-1].agent_id, page[-1].cell))
        assert [row.agent_id for row in rest] == ["agent-2"]
        found = await agents.by_id(db, "agent-1")
        assert found is not None
        assert found.free == {"cpu": 64000, "mem": 1 << 38}

        ada = await users.user_by_email(db, "ADA@example.org")
        assert ada is not None
        assert ada.active is False
        [key] = (await keypairs.keypairs(db, user_id=ada.user_id)).items
        assert (key.access_key, key.active) == ("AKIAADA", False)
        [policy] = (await policies.policies(db, PolicyKind.KEYPAIR)).items
        assert policy.spec["max_concurrent_sessions"] == 5
        assert [row.name for row in (await tenants.domains(db)).items] == ["default"]
        assert [row.name for row in (await tenants.projects(db, domain="default")).items] == ["vision"]
        assert [row.cell for row in (await groups.resource_groups(db)).items] == ["default"]


async def test_a_reader_waits_until_his_position_is_folded_and_not_longer(tables: Pool, own_database: str) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 4, owners=1)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    events = records[0].partition
    commands = Partition("t.session.commands", events.number)
    config = SETTINGS.model_copy(update={"database": SecretStr(own_database)})
    async with waiting(config) as waiter:
        one = projector("session", log, tables)
        await one.fold(records[:10])
        reached = Position({events: records[9].offset + 1})
        await waiter.wait_for(reached, ["sessions", "command_outcomes"], 5)
        beyond = Position({events: records[10].offset + 1})
        with pytest.raises(NotYet):
            await waiter.wait_for(beyond, ["sessions"], 0.05)
        await waiter.wait_for(beyond, ["agents"], 0.05)  # which does not read sessions
        last_command = int(records[-1].header("ce_commandoffset") or 0)
        with pytest.raises(NotYet):
            await waiter.wait_for(Position({commands: last_command + 1}), ["sessions"], 0.05)
        async with asyncio.TaskGroup() as group:
            group.create_task(waiter.wait_for(beyond, ["sessions"], 5))
            group.create_task(waiter.wait_for(Position({commands: last_command + 1}), ["sessions"], 5))
            await one.fold(records[10:])


async def test_what_a_commit_tells_is_enough_to_know_how_far_it_is(
    tables: Pool, own_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No reader asks the database for the checkpoints; where they are too many to be told, they are read."""
    scribe = Scribe(SETTINGS)
    lives(scribe, 2, owners=1)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    monkeypatch.setattr(waiting_module, "_LOOK_SECONDS", 3600)
    config = SETTINGS.model_copy(update={"database": SecretStr(own_database)})
    first, second, third = records[:5], records[5:10], records[10:]
    async with waiting(config) as waiter:
        one = projector("session", log, tables)
        for part, payload_max, reading in (
            (first, 1, read_checkpoints),
            (second, 7_999, _nobody_reads),
            (third, 1, read_checkpoints),
        ):
            monkeypatch.setattr(store, "_PAYLOAD_BYTES_MAX", payload_max)
            monkeypatch.setattr(waiting_module, "read_checkpoints", reading)
            await one.fold(part)
            await waiter.wait_for(Position({part[-1].partition: part[-1].offset + 1}), ["sessions"], 5)


async def _nobody_reads(*_: Any) -> None:
    raise AssertionError("the checkpoints were read")


async def test_connections_that_the_server_has_closed_are_replaced_unseen(tables: Pool, own_database: str) -> None:
    async with open_pool(SETTINGS.model_copy(update={"database": SecretStr(own_database)})) as pool:
        async with connection(pool) as db:
            [old] = await (await db.execute("SELECT pg_backend_pid()")).fetchone() or (0,)
        async with connection(tables) as db:
            await db.execute("SELECT pg_terminate_backend(%s, 5000)", (old,))
        async with connection(pool) as db:
            [new] = await (await db.execute("SELECT pg_backend_pid()")).fetchone() or (0,)
    assert new not in (0, old)


async def test_a_database_that_is_not_there_is_unavailable() -> None:
    nobody = Settings(database=SecretStr("postgresql://refold@127.0.0.1:1/refold?connect_timeout=1"))
    with pytest.raises(Unavailable):
        async with open_pool(nobody):
            pass


async def checkpoints_of(pool: Pool, projection: str) -> dict[Partition, Checkpoint]:
    async with connection(pool) as db:
        there = await read_checkpoints(db, [projection])
    return {partition: checkpoint for (_, partition), checkpoint in there.items()}


async def command_of(log: MemoryLog, offset: int, number: int) -> str:
    [record] = [
        each for each in await all_records(log, "session") if each.offset == offset and each.partition.number == number
    ]
    return record.header("ce_causationid") or ""


async def test_connections_that_break_at_any_moment_only_delay_it(tables: Pool, own_database: str) -> None:
    scribe = Scribe(SETTINGS)
    lives(scribe, 40)
    log = await log_of(scribe)
    records = await all_records(log, "session")
    folded = asyncio.Event()

    async def break_connections() -> int:
        broken = 0
        async with await AsyncConnection.connect(own_database, autocommit=True) as db:
            while not folded.is_set():
                cursor = await db.execute(
                    "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
                    " WHERE datname = current_database() AND pid <> pg_backend_pid() AND state <> 'idle'"
                )
                broken += (await cursor.fetchone() or (0,))[0]
                await asyncio.sleep(0.05)
        return broken

    async with asyncio.TaskGroup() as group:
        breaking = group.create_task(break_connections())
        one = projector("session", log, tables)
        for n in range(0, len(records), 5):
            while True:
                try:
                    await one.fold(records[n : n + 5])
                    break
                except (Unavailable, StaleProjector):  # stale: the commit that broke had happened
                    continue
        folded.set()
    assert breaking.result()
    for name in ("sessions", "command_outcomes"):
        assert (await verify(SETTINGS, log, tables, PROJECTIONS[name])).identical
