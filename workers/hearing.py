"""What agents say all the time, as it arrives: heartbeats go to the watch over the silent, measurements to Postgres.

At-most-once where something fails: the next word of an agent says more than the one that was lost.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import psycopg
import structlog
from faust.types import TP

from domain.messages import AgentId, Cell
from domain.scheduling.messages import MarkAgentFound, MarkAgentLost
from domain.telemetry import TELEMETRY, Heartbeat, KernelSamples, PullProgress, Telemetry
from infra import live_stats, topics
from infra.log import LogUnavailable
from infra.postgres import Pool, Unavailable, connection
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import partition_of
from workers.projecting import ProjectingApp
from workers.watching import Known, Watch

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""How often the silent are looked for: how late one may be called lost."""
_FORGET_SECONDS = 600.0
_STORE_SECONDS = 20.0
_BATCH = 2000
"""Whoever falls behind finds several words of each agent in a batch, and of those only the last is written down."""

Mine = Callable[[AgentId], bool]
"""Whether this process hears the agent."""


def add_hearing(
    app: ProjectingApp, settings: Settings, sender: Sender, pool: Pool, window: Callable[[], Awaitable[timedelta]]
) -> Mine:
    """`window`: the longest over which means of what is measured are asked for."""
    watch = Watch(timedelta(seconds=settings.agent_lost_after))
    topic = settings.topic_prefix + topics.TELEMETRY
    partitions: set[int] = set()

    def mine(agent_id: AgentId) -> bool:
        return partition_of(settings, topics.TELEMETRY, agent_id).number in partitions

    async def tell(commands: Sequence[MarkAgentFound | MarkAgentLost]) -> None:
        if commands:
            await sender.send_all([("scheduling", command, str(uuid4())) for command in commands], "watch")

    async def hear(stream: Any) -> None:  # a faust.Stream, whose types do not know of noack_take's events
        async for batch in stream.noack_take(_BATCH, within=0.1):
            heard = [message for event in batch if (message := _read(event)) is not None]
            now = datetime.now(UTC)
            try:
                await tell([found for each in heard if isinstance(each, Heartbeat) for found in watch.heard(each, now)])
            except LogUnavailable as error:
                _log.warning("an agent's return was not told", reason=str(error))  # its next heartbeat tells
                watch.forget()
            await _store(pool, heard)
            for event in batch:
                event.ack()

    async def look() -> None:
        try:
            await tell(watch.silent(filter(lambda known: mine(known.agent_id), await _known(pool)), datetime.now(UTC)))
        except (LogUnavailable, Unavailable) as error:
            _log.warning("the silent were not looked for", reason=str(error))
            watch.forget()

    async def forget() -> None:
        try:
            kept = await window()
            async with connection(pool) as db:
                await live_stats.forget(db, datetime.now(UTC), kept)
        except Unavailable as error:
            _log.warning("old measurements were not deleted", reason=str(error))

    async def reassign(_app: Any, /, *assigned: Any, **_: Any) -> None:
        places: Iterable[TP] = assigned[0]
        partitions.clear()
        partitions.update(place.partition for place in places if place.topic == topic)
        watch.forget()

    app.agent(app.topic(topic, value_type=bytes), name="hear_agents")(hear)
    app.timer(_LOOK_SECONDS)(look)
    app.timer(_FORGET_SECONDS)(forget)
    app.on_partitions_assigned.connect(reassign, weak=False)
    return mine


def _read(event: Any) -> Telemetry | None:
    try:
        message: Telemetry = TELEMETRY.validate_json(event.message.value)
    except ValueError as error:
        _log.warning("unreadable telemetry", offset=event.message.offset, reason=str(error))
        return None
    return message


async def _store(pool: Pool, heard: Sequence[Telemetry]) -> None:
    samples = [each for each in heard if isinstance(each, KernelSamples)]
    pulls = [each for each in heard if isinstance(each, PullProgress)]
    if not samples and not pulls:
        return
    try:
        async with asyncio.timeout(_STORE_SECONDS), connection(pool) as db:
            await live_stats.store(db, samples, pulls)
    except (Unavailable, TimeoutError, psycopg.Error) as error:  # also what no column takes: an agent may say anything
        _log.warning("measurements were not kept", reason=str(error))


async def _known(pool: Pool) -> list[Known]:
    async with connection(pool) as db:
        rows = await (
            await db.execute("SELECT agent_id, cell, incarnation, status FROM agents WHERE status IN ('ALIVE', 'LOST')")
        ).fetchall()
    return [
        Known(AgentId(agent), Cell(cell), incarnation, status == "LOST") for agent, cell, incarnation, status in rows
    ]
