"""Postgres: the pool every process has one of, and the numbered migrations of what is not a projection.

DatabaseError
└── Unavailable    no connection, or no answer in time; the same may work in a moment
"""

import re
import select
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import psycopg
from psycopg import AsyncConnection
from psycopg.types.json import set_json_loads
from psycopg_pool import AsyncConnectionPool, PoolTimeout

from infra.settings import Settings

Connection = AsyncConnection[tuple[Any, ...]]
Pool = AsyncConnectionPool[Connection]

_MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0x7265666F6C64  # "refold": one process at a time changes tables

_CONNECT_SECONDS = 5
_STATEMENT_SECONDS = 30  # the longest any statement of ours should take; rebuilds lift it for themselves


class DatabaseError(Exception):
    """Something is wrong with the database, not with what was asked of it."""


class Unavailable(DatabaseError):
    """It cannot be reached or does not answer in time. Whether a pending commit happened is not known."""


@asynccontextmanager
async def open_pool(settings: Settings, size_max: int = 10, *, wait: bool = True) -> AsyncIterator[Pool]:
    """Connections in autocommit. Those that a restarted server has closed are replaced unseen before each use.

    Raises `Unavailable` where no connection can be had at all; unless it does not `wait` for the first one.
    """
    pool: Pool = AsyncConnectionPool(
        conninfo=settings.database.get_secret_value(),
        connection_class=AsyncConnection[tuple[Any, ...]],
        kwargs={
            "autocommit": True,
            "connect_timeout": _CONNECT_SECONDS,
            "application_name": settings.deployment,
        },
        configure=configure,
        check=_check,
        min_size=1,
        max_size=size_max,
        timeout=_CONNECT_SECONDS,
        reconnect_timeout=_CONNECT_SECONDS,  # then the next user tries anew: an outage leaves no long back-off behind
        open=False,
    )
    try:
        with translated():
            await pool.open(wait=wait, timeout=_CONNECT_SECONDS)
        yield pool
    finally:
        await pool.close(timeout=_CONNECT_SECONDS)


@asynccontextmanager
async def connection(pool: Pool) -> AsyncIterator[Connection]:
    """A connection for the block. Raises `Unavailable`, also for what goes wrong inside it."""
    with translated():
        async with pool.connection() as connected:
            yield connected


class translated:  # noqa: N801 (used as a statement)
    """Turns psycopg's errors of operation (no connection, time-outs, deadlocks, shutdown) into `Unavailable`."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, psycopg.OperationalError | PoolTimeout):
            raise Unavailable(f"{type(error).__name__}: {str(error).strip()}") from error


async def migrate(conn: Connection) -> list[str]:
    """Apply the migrations that are missing, in order, all or none; their names. Safe when several processes do it."""
    with translated():
        async with conn.transaction():
            await lock_schema(conn)
            await conn.execute(
                "CREATE TABLE IF NOT EXISTS migrations"
                " (number int PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
            cursor = await conn.execute("SELECT number FROM migrations")
            applied = {number for (number,) in await cursor.fetchall()}
            done = []
            for number, path in _numbered(_MIGRATIONS):
                if number not in applied:
                    await conn.execute(path.read_bytes())
                    await conn.execute("INSERT INTO migrations VALUES (%s, %s)", (number, path.name))
                    done.append(path.name)
            return done


async def lock_schema(conn: Connection) -> None:
    """Until the end of the transaction, nobody else who asks for this changes tables."""
    await conn.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))


def _numbered(folder: Path) -> list[tuple[int, Path]]:
    found = [(int(match[1]), path) for path in folder.iterdir() if (match := re.match(r"(\d{3})_.*\.sql$", path.name))]
    return sorted(found)


async def configure(conn: Connection) -> None:
    """How every connection of the pool is set."""
    set_json_loads(orjson.loads, conn)  # what is read can be written: a number beyond 64 bits becomes a float
    await conn.execute("SET timezone = 'UTC'")
    await conn.execute(f"SET statement_timeout = '{_STATEMENT_SECONDS}s'")


async def _check(conn: Connection) -> None:
    """Raises psycopg's `OperationalError` for a connection that is closed; costs no round trip.

    An idle connection has nothing to read: if there is something, it is most likely its end.
    """
    incoming = select.poll()
    incoming.register(conn.fileno(), select.POLLIN)
    if incoming.poll(0):
        await AsyncConnectionPool.check_connection(conn)
