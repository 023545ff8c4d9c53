"""How long lists take on this machine: `python -m tests.projections.measure_lists`, with a real Postgres.

REFOLD_DATABASE names a database to be emptied. Users are in five domains and ten projects, each with a keypair.
"""

import asyncio
from collections.abc import Awaitable, Callable
from statistics import median
from time import perf_counter
from typing import Annotated, Any

import typer
import uvloop

from infra.memory_log import MemoryLog
from infra.postgres import Connection, connection, migrate, open_pool
from infra.settings import Settings, settings
from projections.compute_sessions import compute_sessions
from projections.directory.keypairs import keypairs
from projections.directory.users import users
from projections.listing import Query
from projections.rebuild import set_up
from tests.projections.people import thousands
from tests.projections.story import Scribe, lives, write

_TIMES = 30

List = Callable[[Connection], Awaitable[Any]]
_LISTS: dict[str, List] = {
    "20 of all users": lambda db: users(db, Query(limit=20)),
    "1000 of all users": lambda db: users(db, Query(limit=1000)),
    "the last 1000 users by age": lambda db: users(db, Query(order="-created_at", limit=1000, offset=9000)),
    "1000 users by a filter": lambda db: users(db, Query('username ilike "%SER%" & role == "user"', "full_name", 1000)),
    "all users": users,
    "1000 of all keypairs": lambda db: keypairs(db, Query(limit=1000)),
    "20 of all sessions": lambda db: compute_sessions(db, Query(limit=20)),
    "1000 of all sessions": lambda db: compute_sessions(db, Query(limit=1000)),
    "20 of a domain's sessions": lambda db: compute_sessions(db, Query(limit=20), domain="default"),
}


def main(count: Annotated[int, typer.Option(help="Users, and sessions.")] = 10_000) -> None:
    """Print milliseconds for each list: the median, and the longest."""
    uvloop.run(_measure(settings().model_copy(update={"topic_prefix": "measure."}), count))


async def _measure(config: Settings, count: int) -> None:
    scribe = Scribe(config)
    thousands(scribe, count)
    lives(scribe, count, owners=50)
    log = MemoryLog(scribe.topics())
    await write(log, scribe.written)
    async with open_pool(config) as pool:
        async with connection(pool) as db:
            await db.execute("DROP SCHEMA public CASCADE")
            await db.execute("CREATE SCHEMA public")
            await migrate(db)
        await set_up(config, log, pool)
        async with connection(pool) as db:
            for what, ask in _LISTS.items():
                took = [await _seconds(db, ask) for _ in range(_TIMES)]
                print(f"{what}: {median(took) * 1000:.0f} ms, at most {max(took) * 1000:.0f} ms", flush=True)


async def _seconds(db: Connection, ask: List) -> float:
    await asyncio.sleep(0)
    began = perf_counter()
    await ask(db)
    return perf_counter() - began


if __name__ == "__main__":
    typer.run(main)
