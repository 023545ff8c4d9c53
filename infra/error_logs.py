"""What people's clients report that went wrong: one small table, whose oldest rows go when there are too many."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg.rows import class_row, scalar_row
from psycopg.types.json import Jsonb

from infra.postgres import Connection

KEPT_DAYS: Final = 90  # as long as the reference keeps them
KEPT_MAX: Final = 500
"""Of one user: a client in a loop must not fill the disk."""

_ADD: Final = """
INSERT INTO error_logs (log_id, user_id, severity, source, message, context_lang, context_env, request_url,
                        request_status, traceback)
VALUES (%(log_id)s, %(user_id)s, %(severity)s, %(source)s, %(message)s, %(context_lang)s, %(context_env)s,
        %(request_url)s, %(request_status)s, %(traceback)s)"""

_TRIM: Final = """
DELETE FROM error_logs
WHERE created_at < now() - make_interval(days => %(days)s) OR log_id IN (
    SELECT log_id FROM error_logs WHERE user_id = %(user_id)s ORDER BY created_at DESC, log_id OFFSET %(kept)s)"""

_SEEN: Final = """
WHERE (%(users)s::text[] IS NULL OR user_id = ANY(%(users)s)) AND (%(cleared)s OR NOT is_cleared)"""

_PAGE: Final = f"SELECT * FROM error_logs {_SEEN} ORDER BY created_at DESC, log_id LIMIT %(limit)s OFFSET %(skip)s"

_COUNT: Final = f"SELECT count(*) FROM error_logs {_SEEN}"

_CLEAR: Final = """
UPDATE error_logs SET is_cleared = true
WHERE log_id = %s AND (%s::text[] IS NULL OR user_id = ANY(%s))"""


@dataclass(frozen=True, slots=True)
class ErrorLog:
    log_id: UUID
    created_at: datetime
    user_id: str
    severity: str
    source: str
    message: str
    context_lang: str
    context_env: Any
    request_url: str | None
    request_status: int | None
    traceback: str | None
    is_read: bool
    is_cleared: bool


async def add(
    db: Connection,
    *,
    user_id: str,
    severity: str,
    source: str,
    message: str,
    context_lang: str,
    context_env: Any,
    request_url: str | None,
    request_status: int | None,
    traceback: str | None,
) -> None:
    """Keep a report, and let go of what is too old or too much."""
    values = {
        "log_id": uuid4(),
        "user_id": user_id,
        "severity": severity,
        "source": source,
        "message": message,
        "context_lang": context_lang,
        "context_env": Jsonb(context_env),
        "request_url": request_url,
        "request_status": request_status,
        "traceback": traceback,
    }
    async with db.transaction():
        await db.execute(_ADD, values)
        await db.execute(_TRIM, {"user_id": user_id, "days": KEPT_DAYS, "kept": KEPT_MAX})


async def page(
    db: Connection, users: Sequence[str] | None, *, cleared: bool, skip: int, limit: int
) -> tuple[list[ErrorLog], int]:
    """The youngest first, and how many there are. `users`: whose, None for everybody's; `cleared`: those too."""
    values = {"users": None if users is None else list(users), "cleared": cleared, "skip": skip, "limit": limit}
    async with db.cursor(row_factory=class_row(ErrorLog)) as cursor:
        await cursor.execute(_PAGE, values)
        found = await cursor.fetchall()
    async with db.cursor(row_factory=scalar_row) as counting:
        await counting.execute(_COUNT, values)
        count = await counting.fetchone()
    return found, int(count or 0)


async def mark_read(db: Connection, logs: Sequence[ErrorLog]) -> None:
    await db.execute("UPDATE error_logs SET is_read = true WHERE log_id = ANY(%s)", ([log.log_id for log in logs],))


async def clear(db: Connection, log_id: UUID, users: Sequence[str] | None) -> bool:
    """Whether there was one, of these users or (None) of anybody."""
    whose = None if users is None else list(users)
    return (await db.execute(_CLEAR, (log_id, whose, whose))).rowcount > 0
