"""What happened to a session, when and why, failed attempts included?   GET /refold/sessions/{id}/history"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from infra.postgres import Connection
from projections.table import Table


@dataclass(slots=True)
class HistoryRow:
    """A status entered `at`: the session's, or a kernel's where `kernel_id` is given. `agents`: where it was placed."""

    owner: str
    session_id: str
    log_offset: int
    partition: int
    event_id: str
    event: str
    at: datetime
    status: str
    reason: str
    attempt: int
    agents: list[str]
    kernel_id: str | None
    incarnation: int | None
    exit_code: int | None
    message: str


SESSION_HISTORY = Table("session_history", HistoryRow, key=("owner", "session_id", "log_offset"), append_only=True)

_OF_SESSION = sql.SQL(
    "SELECT {} FROM session_history WHERE owner = %s AND session_id = %s AND log_offset >= %s"
    " ORDER BY log_offset LIMIT %s"
).format(SESSION_HISTORY.names)


async def of_session(
    db: Connection, owner: str, session_id: str, start: int = 0, limit: int = 1000
) -> list[HistoryRow]:
    """In the order of the log, from that offset on. An id given again after its session ended has both lives here."""
    async with db.cursor(row_factory=class_row(HistoryRow)) as cursor:
        await cursor.execute(_OF_SESSION, (owner, session_id, start, limit))
        return await cursor.fetchall()
