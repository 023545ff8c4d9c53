"""Everything that Faust hosts in this process: the projections' handlers, and the watch over the agents' heartbeats."""

import asyncio
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import structlog
from faust.types import TP

from domain.messages import AgentId, Cell
from domain.scheduling.messages import MarkAgentFound, MarkAgentLost
from domain.telemetry import HEARTBEAT
from infra.kafka import KafkaLog
from infra.log import LogUnavailable
from infra.postgres import Pool, Unavailable, connection, open_pool
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import TELEMETRY, partition_of
from projections.rebuild import set_up
from workers.projecting import ProjectingApp, projecting_app, run_app
from workers.watching import Known, Watch

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""How often the silent are looked for: how late one may be called lost."""


async def run_handlers(settings: Settings, stop: asyncio.Event) -> None:
    """Make the tables, then run every handler until `stop` is set; raises whatever ended the app before that."""
    async with KafkaLog(settings) as log, open_pool(settings) as pool:
        await set_up(settings, log, pool)
        app = projecting_app(settings, log, pool)
        _add_watch(app, settings, Sender(settings, log, "refold/watch"), pool)
        await run_app(app, stop)


def _add_watch(app: ProjectingApp, settings: Settings, sender: Sender, pool: Pool) -> None:
    watch = Watch(timedelta(seconds=settings.agent_lost_after))
    topic = settings.topic_prefix + TELEMETRY
    mine: set[int] = set()

    async def tell(commands: Sequence[MarkAgentFound | MarkAgentLost]) -> None:
        if commands:
            await sender.send_all([("scheduling", command, str(uuid4())) for command in commands], "watch")

    async def hear(stream: Any) -> None:  # a faust.Stream, whose types do not know of noack_take's events
        async for batch in stream.noack_take(500, within=0.1):
            now = datetime.now(UTC)
            for event in batch:
                try:
                    await tell(watch.heard(HEARTBEAT.validate_json(event.message.value), now))
                except LogUnavailable as error:
                    _log.warning("an agent's return was not told", reason=str(error))  # its next heartbeat tells
                    watch.forget()
                except ValueError as error:
                    _log.warning("unreadable heartbeat", offset=event.message.offset, reason=str(error))
                event.ack()

    async def look() -> None:
        try:
            here = [known for known in await _known(pool) if _partition(settings, known.agent_id) in mine]
            await tell(watch.silent(here, datetime.now(UTC)))
        except (LogUnavailable, Unavailable) as error:
            _log.warning("the silent were not looked for", reason=str(error))
            watch.forget()

    async def reassign(_app: Any, /, *assigned: Any, **_: Any) -> None:
        places: Iterable[TP] = assigned[0]
        mine.clear()
        mine.update(place.partition for place in places if place.topic == topic)
        watch.forget()

    app.agent(app.topic(topic, value_type=bytes), name="hear_heartbeats")(hear)
    app.timer(_LOOK_SECONDS)(look)
    app.on_partitions_assigned.connect(reassign)


def _partition(settings: Settings, agent_id: str) -> int:
    return partition_of(settings, TELEMETRY, agent_id).number


async def _known(pool: Pool) -> list[Known]:
    async with connection(pool) as db:
        rows = await (
            await db.execute("SELECT agent_id, cell, incarnation, status FROM agents WHERE status IN ('ALIVE', 'LOST')")
        ).fetchall()
    return [
        Known(AgentId(agent), Cell(cell), incarnation, status == "LOST") for agent, cell, incarnation, status in rows
    ]
