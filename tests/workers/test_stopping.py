"""A worker can always be stopped, also when nothing it talks to is there any more."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from pydantic import SecretStr

from infra.embedded.folder import ports
from infra.embedded.kafka import EmbeddedKafka
from infra.kafka import KafkaLog
from infra.postgres import Pool
from infra.settings import Settings
from infra.topics import all_topics

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.cluster
async def test_a_worker_stops_though_kafka_is_gone(own_database: str, pool: Pool, tmp_path: Path) -> None:
    chosen = ports(tmp_path, "kafka", "controller")
    kafka = EmbeddedKafka(tmp_path, chosen["kafka"], chosen["controller"], jars_dir=ROOT / ".refold" / "jars")
    await kafka.start()
    try:
        await kafka.ready()
        settings = Settings(kafka=kafka.bootstrap, database=SecretStr(own_database), partitions=1)
        async with KafkaLog(settings) as log:
            await log.create_topics(all_topics(settings))
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "workers"), cwd=ROOT, env=dict(os.environ) | settings.environment()
        )
        async with asyncio.timeout(60):
            while not await _handlers_have_folded(pool):
                await asyncio.sleep(0.1)
    finally:
        await kafka.kill()
    worker.terminate()
    async with asyncio.timeout(30):
        await worker.wait()


async def _handlers_have_folded(pool: Pool) -> bool:
    async with pool.connection() as db:
        row = await (await db.execute("SELECT count(*) FROM checkpoints WHERE next_offset > 0")).fetchone()
    return row is not None and row[0] >= 4
