"""What agents say all the time, through a real Kafka and Faust: who is silent, what is used, and what is idle."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from domain.contexts import CONTEXTS
from domain.messages import AccessKey, AgentId, Cell, Command, KernelId
from domain.scheduling.messages import MarkAgentFound, MarkAgentLost
from domain.session.messages import EndIdleSession, Limits, ReportKernelStarted, SetSessionLimits
from domain.telemetry import AgentTelemetry, Heartbeat, KernelSample, KernelSamples
from infra import live_stats
from infra.decoding import read_message
from infra.envelope import Cause, record_of
from infra.kafka import KafkaLog
from infra.log import Partition, read_until
from infra.postgres import Pool, connection
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import TELEMETRY, all_topics, commands, partition_of
from projections.rebuild import set_up
from tests.projections.story import START, Scribe, agents, directory, life, write
from workers.hearing import add_hearing
from workers.idling import add_idle_checks
from workers.projecting import projecting_app, run_app

pytestmark = pytest.mark.cluster

AGENT = AgentId("agent-0")


@pytest.fixture
def config(kafka: str, own_database: str) -> Settings:
    name = uuid4().hex[:8]
    return Settings.model_validate(
        {
            "kafka": kafka,
            "database": SecretStr(own_database),
            "deployment": f"test-{name}",
            "topic_prefix": f"test{name}.",
            "partitions": 1,
            "agent_lost_after": 1.5,
            "idle_check_seconds": 0.2,
        }
    )


@asynccontextmanager
async def hearing(config: Settings, log: KafkaLog, pool: Pool) -> AsyncIterator[None]:
    stop = asyncio.Event()
    app = projecting_app(config, log, pool)

    async def window() -> timedelta:
        return timedelta(hours=1)

    mine = add_hearing(app, config, Sender(config, log, "test"), pool, window)
    add_idle_checks(app, config, Sender(config, log, "test"), pool, mine)
    async with asyncio.TaskGroup() as group:
        group.create_task(run_app(app, stop))
        try:
            yield
        finally:
            stop.set()


async def say(log: KafkaLog, config: Settings, message: AgentTelemetry) -> None:
    message_id = str(uuid4())
    place = partition_of(config, TELEMETRY, AGENT)
    cause = Cause("test", message_id, message_id)
    await log.append([record_of(message, message_id, "test", cause, place, AGENT)])


async def told(log: KafkaLog, config: Settings, context: str) -> list[Command]:
    place = Partition(config.topic_prefix + commands(context), 0)
    records = [each async for b in read_until(log, await log.starts([place]), await log.ends([place])) for each in b]
    return [
        read_message(CONTEXTS[context].commands, str(each.header("ce_type")), dict(each.headers), each.value)
        for each in records
    ]


async def test_what_agents_say_becomes_words_to_the_scheduler_measurements_and_ends_of_idle_sessions(
    config: Settings, pool: Pool
) -> None:
    at = datetime.now(UTC)
    scribe = Scribe(config)
    directory(scribe)
    agents(scribe, 1)
    started = _running_session(scribe)
    kernel = KernelSample(
        kernel_id=started.kernel_id,
        incarnation=1,
        session_id=started.session_id,
        owner=started.owner,
        last_used_at=at - timedelta(hours=2),
        cpu_usec=5,
    )
    samples = KernelSamples(at=at, agent_id=AGENT, incarnation=1, interval_seconds=1, kernels=(kernel,))
    impossible = kernel.model_copy(update={"kernel_id": KernelId("nul\0")})
    beat = Heartbeat(at=at, agent_id=AGENT, cell=Cell("default"), incarnation=1, interval_seconds=1, kernels=1)
    async with KafkaLog(config) as log:
        await log.create_topics(all_topics(config))
        await set_up(config, log, pool)
        await write(log, scribe.written)
        async with hearing(config, log, pool), asyncio.timeout(60):
            await say(log, config, beat)
            await say(log, config, samples.model_copy(update={"kernels": (impossible,)}))
            await asyncio.sleep(0.5)  # what no column takes costs itself, and what came with it
            await say(log, config, samples)
            while not (ended := await told(log, config, "session")):
                await asyncio.sleep(0.1)
            while len(scheduled := await told(log, config, "scheduling")) < 2:
                await asyncio.sleep(0.1)
            async with connection(pool) as db:
                [measured] = (await live_stats.of_kernels(db, [(started.kernel_id, AGENT)])).values()
    assert measured.sample == kernel
    assert isinstance(ended[0], EndIdleSession)
    assert (ended[0].session_id, ended[0].incarnation) == (started.session_id, 1)
    assert [type(each) for each in scheduled] == [MarkAgentFound, MarkAgentLost], "it was heard, and fell silent"


def _running_session(scribe: Scribe) -> ReportKernelStarted:
    """Of a keypair whose policy says half an hour."""
    owner = AccessKey("AKIAADA")
    limits = Limits(max_concurrent_sessions=9, max_kernels_per_session=1)
    scribe.settle("session", [SetSessionLimits(at=START, owner=owner, limits=limits)])
    for command in life(0, owner, START):
        scribe.settle("session", [command])
        if isinstance(command, ReportKernelStarted):
            return command
    raise AssertionError("it never ran")
