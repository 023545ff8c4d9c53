"""How fast projections fold on this machine: `python -m tests.projections.measure`, with real Kafka and Postgres.

Writes synthetic but complete lives of sessions into topics of its own, in transactions of about 500 records as a busy
shard would, then folds them live through Faust, rebuilds, and verifies. REFOLD_DATABASE names a database to be emptied.
"""

import asyncio
import gc
from collections import defaultdict
from collections.abc import Iterable
from time import monotonic, process_time
from typing import Annotated
from uuid import uuid4

import typer
import uvloop

from domain.contexts import CONTEXTS
from infra.kafka import KafkaLog
from infra.log import NewRecord, Partition
from infra.postgres import connection, migrate, open_pool
from infra.settings import Settings, settings
from infra.topics import all_topics
from projections.catalogue import PROJECTIONS
from projections.live import Projector
from projections.rebuild import rebuild, verify
from projections.schema import create_tables
from projections.store import read_checkpoints
from tests.projections.story import Scribe, lives
from workers.projecting import projecting_app, run_app

_TRANSACTION = 500


def main(sessions: Annotated[int, typer.Option(help="Lives to write; each is about 17 records.")] = 10_000) -> None:
    """Print events per second of the live fold and of rebuilds."""
    name = uuid4().hex[:8]
    config = settings().model_copy(update={"topic_prefix": f"measure{name}.", "deployment": f"measure-{name}"})
    uvloop.run(_measure(config, sessions))


async def _measure(config: Settings, sessions: int) -> None:
    async with KafkaLog(config) as log, open_pool(config) as pool:
        async with connection(pool) as db:
            await db.execute("DROP SCHEMA public CASCADE")
            await db.execute("CREATE SCHEMA public")
        await log.create_topics(all_topics(config))
        scribe = Scribe(config)
        lives(scribe, sessions, owners=50)
        written = await _write(log, scribe)
        print(f"{written} events of {sessions} sessions written", flush=True)
        scribe.written.clear()
        gc.collect()
        gc.freeze()  # what was needed to write them is no part of a worker
        async with connection(pool) as db:
            await migrate(db)
            await create_tables(db)
        partitions = [
            Partition(f"{config.topic_prefix}{context}.events", number)
            for context in CONTEXTS
            for number in range(config.partitions)
        ]
        ends = await log.ends(partitions)
        stop = asyncio.Event()

        async def folded() -> int:
            async with connection(pool) as db:
                there = await read_checkpoints(db, ["sessions"])
            return sum(there[name, each].next_offset for name, each in there)

        async def nothing(_self: Projector, _partitions: Iterable[Partition]) -> None:
            """What is there already shall come through Faust, too."""

        Projector.catch_up = nothing  # type: ignore[assignment,method-assign]
        running = asyncio.create_task(run_app(projecting_app(config, log, pool), stop))
        while not await folded():
            await asyncio.sleep(0.02)
        began, cpu, first = monotonic(), process_time(), await folded()
        while await folded() < sum(end - 1 for end in ends.values() if end):
            await asyncio.sleep(0.1)
        seconds, cpu = monotonic() - began, process_time() - cpu
        share = (sum(ends.values()) - first) / sum(ends.values())
        print(f"live fold: {written * share / seconds:.0f} events/s, {cpu / written / share * 1e6:.0f} µs of CPU each")
        stop.set()
        await running
        for projection in (PROJECTIONS["sessions"], PROJECTIONS["command_outcomes"]):
            cpu = process_time()
            done = await rebuild(config, log, pool, projection)
            cpu = (process_time() - cpu) / done.events * 1e6
            print(f"rebuild of {projection.name}: {done.events / done.seconds:.0f} events/s, {cpu:.0f} µs of CPU each")
            began = monotonic()
            verdict = await verify(config, log, pool, projection)
            print(f"verify: {verdict.events / (monotonic() - began):.0f} events/s, identical: {verdict.identical}")


async def _write(log: KafkaLog, scribe: Scribe) -> int:
    by_partition: defaultdict[Partition, list[NewRecord]] = defaultdict(list)
    for records in scribe.written:
        for record in records:
            by_partition[record.partition].append(record)
    for partition, records in by_partition.items():
        async with log.writer(f"measure-{partition}") as writer:
            for n in range(0, len(records), _TRANSACTION):
                await writer.commit(records[n : n + _TRANSACTION])
    return sum(map(len, by_partition.values()))


if __name__ == "__main__":
    typer.run(main)
