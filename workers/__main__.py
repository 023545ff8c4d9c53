"""`python -m workers`: shards that turn commands into events, and the handlers that keep what is derived up to date."""

import asyncio
import os
import signal
import socket
from enum import StrEnum
from typing import Annotated, Any

import structlog
import typer
import uvloop

from domain.contexts import CONTEXTS
from infra.kafka import KafkaLog
from infra.log import LogError, Partition
from infra.postgres import Pool, open_pool
from infra.settings import Settings, settings
from infra.telemetry import configure_logging, serve_health
from infra.topics import events
from workers.errands import ERRANDS, Errands, registry_passwords
from workers.handlers import run_handlers
from workers.ownership import Ownership, Runs, ShardId
from workers.shard import Shard

_log = structlog.get_logger("workers")

_STOP_SECONDS = 8.0
"""Longest time a stop in good order may take: what starts us gives us ten."""


class Part(StrEnum):
    """What this process does."""

    ALL = "all"
    SHARDS = "shards"
    HANDLERS = "handlers"


app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    part: Annotated[
        Part, typer.Option(help="Shards decide and run errands, handlers keep projections and watch agents.")
    ] = Part.ALL,
) -> None:
    """Run a Refold worker until it is told to stop; any number of them share the work. Settings: REFOLD_*."""
    configure_logging(settings(), f"workers-{part.value}")
    uvloop.run(_run(settings(), part))


async def _run(config: Settings, part: Part) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with KafkaLog(config) as log, open_pool(config) as pool:
        worker_id = f"{socket.gethostname()}-{os.getpid()}"
        ownership = Ownership(
            pool,
            worker_id,
            config.lease_seconds,
            [(ERRANDS, 0), *((name, number) for name in CONTEXTS for number in range(config.partitions))],
            lambda shard: _leased(config, log, pool, shard, worker_id),
        )

        async def ready() -> str | None:
            return await _missing(config, log)

        async with serve_health("127.0.0.1", config.worker_health_port, ready) as port:
            _log.info("worker started", worker=worker_id, part=part.value, health_port=port)
            tasks = []
            if part is not Part.HANDLERS:
                tasks.append(asyncio.create_task(ownership.run()))
            if part is not Part.SHARDS:
                tasks.append(asyncio.create_task(run_handlers(config, stop)))
            stopped = asyncio.create_task(stop.wait())
            await asyncio.wait([stopped, *tasks], return_when=asyncio.FIRST_COMPLETED)
            await _end(stopped, *tasks)
    for task in tasks:
        if not task.cancelled() and (error := task.exception()) is not None:
            raise error
    _log.info("worker stopped", worker=worker_id)


async def _end(*tasks: "asyncio.Task[Any]") -> None:
    """Cancel them and wait; not for ever: Faust waits for a Kafka that may never answer again."""
    for task in tasks:
        task.cancel()
    _, pending = await asyncio.wait(tasks, timeout=_STOP_SECONDS)
    if pending:
        _log.warning("stopped at once: Kafka does not answer, and nothing is lost by not waiting for it")
        os._exit(1)  # not sys.exit, which would wait for Faust's thread


def _leased(config: Settings, log: KafkaLog, pool: Pool, shard: ShardId, worker_id: str) -> Runs:
    context, number = shard
    if context == ERRANDS:
        return Errands(config, log, worker_id, registry_passwords(config, pool))
    return Shard(config, log, CONTEXTS[context], number, worker_id)


async def _missing(config: Settings, log: KafkaLog) -> str | None:
    """Ready means that the log answers for the topics we write."""
    try:
        async with asyncio.timeout(2):
            await log.ends([Partition(config.topic_prefix + events(name), 0) for name in CONTEXTS])
    except (LogError, TimeoutError) as error:
        return f"the log does not answer: {error}"
    return None


if __name__ == "__main__":
    app()
