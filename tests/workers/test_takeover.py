"""Workers as processes: a dead one's partitions are taken over, and a stopped one that wakes up does no harm."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import pytest
from pydantic import SecretStr

from domain.contexts import CONTEXTS
from domain.messages import AccessKey
from domain.session.messages import Limits, SetSessionLimits
from infra.kafka import KafkaLog
from infra.log import Partition, Record, read_until
from infra.postgres import Pool
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import all_topics, events
from tests.chaos.checker import judge, read_world

ROOT = Path(__file__).parent.parent.parent
PARTITIONS = 2

pytestmark = pytest.mark.cluster


class Workers:
    """Worker processes on a topic prefix and database of their own, and commands for them."""

    def __init__(self, settings: Settings, database: str, pool: Pool, log: KafkaLog, folder: Path) -> None:
        self.settings = settings
        self.log = log
        self.given: list[str] = []
        self._database = database
        self._pool = pool
        self._folder = folder
        self._sender = Sender(settings, log, "test")
        self._running: list[asyncio.subprocess.Process] = []

    async def start(self) -> asyncio.subprocess.Process:
        environment = dict(os.environ) | {
            "REFOLD_KAFKA": self.settings.kafka,
            "REFOLD_DATABASE": self._database,
            "REFOLD_TOPIC_PREFIX": self.settings.topic_prefix,
            "REFOLD_DEPLOYMENT": self.settings.deployment,
            "REFOLD_PARTITIONS": str(PARTITIONS),
        }
        with (self._folder / f"worker-{len(self._running)}.log").open("wb") as out:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "workers", "--part", "shards"),
                cwd=ROOT,
                env=environment,
                stdout=out,
                stderr=out,
            )
        self._running.append(process)
        return process

    async def stop(self) -> None:
        for process in self._running:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()

    async def give(self, count: int = 40) -> None:
        """As many commands as reach every partition, each with news."""
        commands = []
        for number in range(count):
            limits = Limits(max_concurrent_sessions=len(self.given) + number, max_kernels_per_session=1)
            command = SetSessionLimits(at=datetime.now(UTC), owner=AccessKey(f"AKIA{number % 20}"), limits=limits)
            commands.append(("session", command, str(uuid4())))
        self.given += [command_id for _, _, command_id in commands]
        await self._sender.send_all(commands, "test")

    async def settled(self) -> None:
        """Wait until every command has its outcome."""
        async with asyncio.timeout(30):
            while set(self.given) - {record.header("ce_causationid") for record in await self.events()}:
                await asyncio.sleep(0.1)

    async def deciding(self) -> asyncio.subprocess.Process:
        """The process that has the first partition of the session context, once both have their shares."""
        async with asyncio.timeout(60), self._pool.connection() as db:  # two programs start, on a busy machine
            while True:
                held = await (await db.execute("SELECT worker_id, context, partition FROM shard_leases")).fetchall()
                everybody = len({worker for worker, _, _ in held}) == len(self._running)
                if everybody and len(held) == len(CONTEXTS) * PARTITIONS + 1:  # and the errands
                    [owner] = [w for w, context, partition in held if (context, partition) == ("session", 0)]
                    return next(p for p in self._running if owner.endswith(f"-{p.pid}"))
                await asyncio.sleep(0.1)

    async def leases_of(self, process: asyncio.subprocess.Process) -> int:
        async with self._pool.connection() as db:
            like = (f"%-{process.pid}",)
            row = await (await db.execute("SELECT count(*) FROM shard_leases WHERE worker_id LIKE %s", like)).fetchone()
        return int(row[0]) if row else 0

    async def events(self) -> list[Record]:
        places = [Partition(self.settings.topic_prefix + events("session"), n) for n in range(PARTITIONS)]
        ends = await self.log.ends(places)
        return [r async for batch in read_until(self.log, dict.fromkeys(places, 0), ends) for r in batch]

    async def openings(self) -> int:
        return sum(record.header("ce_type") == "ShardOpened" for record in await self.events())

    async def judged(self) -> str:
        world = await read_world(self.log, self.settings.topic_prefix, PARTITIONS, self.given, [])
        return str(judge(world))


@pytest.fixture
async def workers(kafka: str, own_database: str, pool: Pool, tmp_path: Path) -> AsyncIterator[Workers]:
    name = f"t{uuid4().hex[:8]}"
    settings = Settings(kafka=kafka, topic_prefix=f"{name}.", deployment=name, partitions=PARTITIONS)
    settings = settings.model_copy(update={"database": SecretStr(own_database)})
    async with KafkaLog(settings) as log:
        await log.create_topics(all_topics(settings))
        running = Workers(settings, own_database, pool, log, tmp_path)
        try:
            yield running
        finally:
            await running.stop()


async def test_a_killed_workers_partitions_are_taken_over(workers: Workers) -> None:
    await workers.start()
    await workers.start()
    first = await workers.deciding()
    await workers.give()
    await workers.settled()
    first.kill()
    await workers.give()
    await workers.settled()  # how soon is measured by infra/bench
    assert not await workers.judged()


async def test_a_stopped_worker_that_wakes_up_writes_nothing_and_fences_nobody(workers: Workers) -> None:
    await workers.start()
    await workers.start()
    first = await workers.deciding()
    await workers.give()
    await workers.settled()
    first.send_signal(signal.SIGSTOP)
    await workers.give()
    await workers.settled()  # by the other one, once the lease ran out
    first.send_signal(signal.SIGCONT)
    for _ in range(5):
        await workers.give()
        await workers.settled()
        await asyncio.sleep(0.3)
    before = await workers.openings()
    await asyncio.sleep(3)  # time for a fight, if there were one
    assert await workers.openings() - before <= len(range(PARTITIONS))  # at most the rebalance to two workers again
    assert not await workers.judged()


async def test_a_worker_that_stops_in_good_order_hands_over_at_once(workers: Workers) -> None:
    await workers.start()
    await workers.start()
    first = await workers.deciding()
    await workers.give()
    await workers.settled()
    first.terminate()
    assert await first.wait() == 0
    assert not await workers.leases_of(first)
    await workers.give()
    await workers.settled()
    assert not await workers.judged()
