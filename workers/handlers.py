"""Everything that Faust hosts in this process: the projections' handlers, what is heard of agents and of storage
services, and idle checks."""

import asyncio

from infra.kafka import KafkaLog
from infra.postgres import open_pool
from infra.sending import Sender
from infra.settings import Settings
from projections.rebuild import set_up
from workers.auditing import add_auditing
from workers.hearing import add_hearing
from workers.idling import add_idle_checks, window_of
from workers.projecting import projecting_app, run_app


async def run_handlers(settings: Settings, stop: asyncio.Event) -> None:
    """Make the tables, then run every handler until `stop` is set; raises whatever ended the app before that."""
    async with KafkaLog(settings) as log, open_pool(settings) as pool:
        await set_up(settings, log, pool)
        app = projecting_app(settings, log, pool)
        mine = add_hearing(app, settings, Sender(settings, log, "refold/watch"), pool, lambda: window_of(pool))
        add_idle_checks(app, settings, Sender(settings, log, "refold/idle"), pool, mine)
        add_auditing(app, settings, pool)
        await run_app(app, stop)
