"""The Faust app on real Kafka and Postgres: only committed records, nothing missed, nothing twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import pytest
from aiokafka import AIOKafkaProducer
from faust.transport.drivers.aiokafka import Transport

from domain.contexts import CONTEXTS
from infra.kafka import KafkaLog
from infra.log import Partition
from infra.postgres import Pool, connection
from infra.settings import Settings
from infra.topics import Topic, all_topics
from projections.catalogue import PROJECTIONS
from projections.rebuild import set_up, verify
from projections.store import read_checkpoints
from tests.projections.folders import FolderStory, everything
from tests.projections.story import Scribe, WrittenWorld, agents, directory, lives, write
from workers.projecting import ProjectingApp, projecting_app, run_app

pytestmark = pytest.mark.cluster


@pytest.fixture
def config(kafka: str) -> Settings:
    name = uuid4().hex[:8]
    return Settings(kafka=kafka, deployment=f"test-{name}", topic_prefix=f"test{name}.", partitions=2)


@asynccontextmanager
async def running(app: ProjectingApp) -> AsyncIterator[ProjectingApp]:
    """The app at work; a crash of it is raised in the block."""
    stop = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        group.create_task(run_app(app, stop))
        try:
            yield app
        finally:
            stop.set()


def has_joined(app: ProjectingApp) -> Callable[[], Awaitable[bool]]:
    """Whether it has been given its share of the partitions, be it none."""
    joined = asyncio.Event()

    async def note(*_: Any, **__: Any) -> None:
        joined.set()

    app.on_partitions_assigned.connect(note, weak=False)

    async def asked() -> bool:
        return joined.is_set()

    return asked


async def until(condition: Callable[[], Awaitable[bool]], seconds: float = 60) -> None:
    async with asyncio.timeout(seconds):
        while not await condition():
            await asyncio.sleep(0.05)


async def folded_up_to(pool: Pool, ends: dict[Partition, int]) -> bool:
    async with connection(pool) as db:
        checkpoints = await read_checkpoints(db, PROJECTIONS)
    return all(
        checkpoint.next_offset >= ends[partition] - 1  # the last one is a control record
        for (_, partition), checkpoint in checkpoints.items()
    ) and {partition for _, partition in checkpoints} >= {each for each, end in ends.items() if end}


async def everything_is_folded(config: Settings, log: KafkaLog, pool: Pool) -> None:
    partitions = [
        Partition(f"{config.topic_prefix}{context}.events", number)
        for context in CONTEXTS
        for number in range(config.partitions)
    ]
    ends = dict(await log.ends(partitions))
    await until(lambda: folded_up_to(pool, ends))


async def test_the_app_folds_what_is_there_and_what_comes_and_equals_a_fresh_fold(config: Settings, pool: Pool) -> None:
    async with KafkaLog(config) as log:
        await log.create_topics(all_topics(config))
        scribe = Scribe(config)
        world = WrittenWorld(scribe)
        for choice in range(300):
            world.step(choice * 7919)
        directory(scribe)
        everything(FolderStory(scribe))
        half = len(scribe.written) // 2
        await set_up(config, log, pool)
        await write(log, scribe.written[:half])
        async with running(projecting_app(config, log, pool)):
            await everything_is_folded(config, log, pool)
            await write(log, scribe.written[half:])
            await everything_is_folded(config, log, pool)
        for projection in PROJECTIONS.values():
            verdict = await verify(config, log, pool, projection)
            assert verdict.identical
            assert verdict.events


async def test_workers_that_came_before_the_broker_knew_its_topics_fold_them_soon(config: Settings, pool: Pool) -> None:
    """A broker that has just been restarted may for a moment know none. They are not left without partitions."""
    async with KafkaLog(config) as log, running(projecting_app(config, log, pool)) as app:
        await until(has_joined(app))
        assert not app.consumer.assignment()
        await log.create_topics(all_topics(config))
        scribe = Scribe(config)
        lives(scribe, 2)
        await set_up(config, log, pool)
        await write(log, scribe.written)
        await everything_is_folded(config, log, pool)


async def test_partitions_that_move_between_workers_lose_and_repeat_nothing(config: Settings, pool: Pool) -> None:
    async with KafkaLog(config) as log:
        await log.create_topics(all_topics(config))
        scribe = Scribe(config)
        lives(scribe, 60)
        quarter = len(scribe.written) // 4
        parts = [scribe.written[n : n + quarter] for n in range(0, len(scribe.written), quarter)]
        await set_up(config, log, pool)
        await write(log, parts[0])
        async with running(projecting_app(config, log, pool)):
            await everything_is_folded(config, log, pool)
            async with running(projecting_app(config, log, pool)):
                for part in parts[1:3]:  # while partitions go from the first to the second
                    await write(log, part)
                await everything_is_folded(config, log, pool)
            for part in parts[3:]:  # and back
                await write(log, part)
            await everything_is_folded(config, log, pool)
        for name in ("sessions", "command_outcomes"):
            verdict = await verify(config, log, pool, PROJECTIONS[name])
            assert verdict.identical
            assert verdict.events == sum(map(len, scribe.written))


async def test_events_folded_before_a_database_was_lost_are_folded_again_although_kafka_has_them_committed(
    config: Settings, pool: Pool
) -> None:
    async with KafkaLog(config) as log:
        await log.create_topics(all_topics(config))
        scribe = Scribe(config)
        agents(scribe, 3)
        directory(scribe)
        lives(scribe, 5)
        await write(log, scribe.written)
        await set_up(config, log, pool)
        async with running(projecting_app(config, log, pool)):
            await everything_is_folded(config, log, pool)
        async with connection(pool) as db:
            await db.execute("DROP SCHEMA public CASCADE")
            await db.execute("CREATE SCHEMA public")
        assert set(await set_up(config, log, pool)) == set(PROJECTIONS)
        async with connection(pool) as db:  # as if it had been restored without its last transactions
            await db.execute("DELETE FROM checkpoints")
            for projection in PROJECTIONS.values():
                for table in projection.tables:
                    await db.execute(f"TRUNCATE {table.name}".encode())
        async with running(projecting_app(config, log, pool)):
            await everything_is_folded(config, log, pool)  # though no new event comes
        for projection in PROJECTIONS.values():
            assert (await verify(config, log, pool, projection)).identical


async def delivered(app: ProjectingApp, topic: str, last: bytes) -> list[bytes]:
    seen: list[bytes] = []
    done = asyncio.Event()

    async def keep(stream: object) -> None:
        async for value in stream:  # type: ignore[attr-defined]
            seen.append(value)
            if value == last:
                done.set()

    app.agent(app.topic(topic, value_type=bytes), name="keep")(keep)
    async with running(app), asyncio.timeout(60):
        await done.wait()
    return seen


async def with_an_aborted_record(config: Settings) -> str:
    topic = f"{config.topic_prefix}aborted"
    async with KafkaLog(config) as log:
        await log.create_topics([Topic("aborted", "a test", 1)])
    producer = AIOKafkaProducer(bootstrap_servers=config.kafka, transactional_id=f"{config.deployment}.aborting")
    await producer.start()
    try:
        await producer.begin_transaction()
        await producer.send_and_wait(topic, b"never happened", partition=0)
        await producer.abort_transaction()
        async with producer.transaction():
            await producer.send_and_wait(topic, b"happened", partition=0)
    finally:
        await producer.stop()
    return topic


async def test_what_an_aborted_transaction_left_behind_is_not_delivered(config: Settings) -> None:
    topic = await with_an_aborted_record(config)
    app = ProjectingApp(**bare(config))
    assert await delivered(app, topic, b"happened") == [b"happened"]


async def test_with_fausts_own_transport_it_would_be(config: Settings) -> None:
    """Why there is a transport of our own."""
    topic = await with_an_aborted_record(config)
    app = ProjectingApp(**bare(config))
    app.transport = Transport(app.conf.broker_consumer, app)
    assert await delivered(app, topic, b"happened") == [b"never happened", b"happened"]


def bare(config: Settings) -> dict[str, Any]:
    return {
        "id": f"{config.deployment}.bare",
        "broker": f"kafka://{config.kafka}",
        "value_serializer": "raw",
        "topic_allow_declare": False,
        "topic_disable_leader": True,
        "consumer_auto_offset_reset": "earliest",
    }
