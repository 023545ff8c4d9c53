"""Which sessions does an owner have, how are they, and where do their kernels run?   GET /sessions, /session/{name}

The tables, and what can be asked of them; `projections.sessions` fills them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row, scalar_row

from infra.postgres import Connection
from projections.table import Index, Json, Table


@dataclass(slots=True)
class SessionRow:
    """A session, living or ended. `slots` are per kernel, in units of `domain.slots`; `kernels` in order, main first.
    `environ` names the variables it was given; their values are in the log only, sealed. `shm_bytes` 0: as the runtime
    has it. `mounts`: where its folders go → which they are.

    `domain` and `project`: what they were called when it was requested.

    `partition` and `first_offset` say where its events begin in session.events; `last_offset` is its last one so far.
    """

    owner: str
    session_id: str
    name: str
    session_type: str
    image: str
    architecture: str
    status: str
    reason: str
    result: str
    exit_code: int | None
    project: str
    project_id: str | None
    domain: str
    resource_group: str
    cell: str
    cluster_mode: str
    cluster_size: int
    tag: str | None
    slots: Json
    environ: list[str]
    startup_command: str | None
    runtime_class: str | None
    shm_bytes: int
    preopen_ports: list[int]
    mounts: Json
    attempt: int
    kernels: list[str]
    requested_at: datetime
    scheduled_at: datetime | None
    started_at: datetime | None
    ended_at: datetime | None
    status_changed_at: datetime
    deadline: datetime | None
    partition: int
    first_offset: int
    last_offset: int


@dataclass(slots=True)
class KernelRow:
    """A kernel of a session as it is now. `devices`: slot → ids. `confirmed`: its agent has said that it is gone."""

    owner: str
    session_id: str
    kernel_id: str
    role: str
    index: int
    hostname: str
    status: str
    reason: str
    incarnation: int
    agent_id: str | None
    devices: Json
    runtime_id: str | None
    exit_code: int | None
    message: str
    confirmed: bool
    status_changed_at: datetime
    started_at: datetime | None
    ended_at: datetime | None


SESSION_LIST = Table(
    "session_list",
    SessionRow,
    key=("owner", "session_id"),
    indexes=(
        Index("by_id", "session_id text_pattern_ops"),
        Index("by_name", "owner, name text_pattern_ops, requested_at"),
        Index("by_age", "owner, requested_at DESC, session_id DESC"),
        Index("by_age_of_all", "requested_at DESC, session_id DESC"),
        Index("living", "owner, requested_at DESC, session_id DESC", where="ended_at IS NULL"),
    ),
)

KERNEL_LIST = Table(
    "kernel_list",
    KernelRow,
    key=("owner", "session_id", "kernel_id"),
    indexes=(Index("by_agent", "agent_id", where="ended_at IS NULL"), Index("by_id", "kernel_id")),
)


BEGINNING_MAX = 10


@dataclass(frozen=True, slots=True)
class Page:
    """`total` counts all that fit the filter; `more` says whether some follow the last of `sessions`."""

    sessions: Sequence[SessionRow]
    total: int
    more: bool


_SESSIONS = sql.SQL("SELECT {} FROM session_list ").format(SESSION_LIST.names)

_BY_ID = _SESSIONS + sql.SQL("WHERE session_id = %s AND (%s::text IS NULL OR owner = %s)")

_BY_NAME = _SESSIONS + sql.SQL("""
WHERE owner = %s AND name = %s AND ended_at IS NULL""")

_LAST_BY_NAME = _SESSIONS + sql.SQL("""
WHERE owner = %s AND name = %s ORDER BY requested_at DESC, session_id DESC LIMIT 1""")

_BY_PREFIX = _SESSIONS + sql.SQL("""
WHERE owner = %(owner)s AND ended_at IS NULL AND (name LIKE %(prefix)s OR session_id LIKE %(prefix)s)
ORDER BY requested_at DESC, session_id DESC LIMIT %(limit)s""")

_FILTER = """
WHERE (%(owner)s::text IS NULL OR owner = %(owner)s)
  AND (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s))
  AND (%(resource_group)s::text IS NULL OR resource_group = %(resource_group)s)"""

_PAGE = (
    _SESSIONS
    + sql.SQL(_FILTER)
    + sql.SQL("""
  AND (%(at)s::timestamptz IS NULL OR (requested_at, session_id) < (%(at)s, %(id)s))
ORDER BY requested_at DESC, session_id DESC OFFSET %(skip)s LIMIT %(limit)s""")
)

_COUNT = sql.SQL("SELECT count(*) FROM session_list") + sql.SQL(_FILTER)

_KERNELS = sql.SQL("SELECT {} FROM kernel_list WHERE owner = %s AND session_id = %s").format(KERNEL_LIST.names)

_KERNELS_OF_AGENT = sql.SQL(
    "SELECT {} FROM kernel_list WHERE agent_id = %s AND ended_at IS NULL ORDER BY owner, session_id, kernel_id"
).format(KERNEL_LIST.names)


async def by_id(db: Connection, session_id: str, owner: str | None = None) -> SessionRow | None:
    """The session of that id; without `owner` anybody's. None also where several owners have given the same id."""
    async with db.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(_BY_ID, (session_id, owner, owner))
        found = await cursor.fetchmany(2)
    return found[0] if len(found) == 1 else None


async def by_name(db: Connection, owner: str, name: str) -> SessionRow | None:
    """The owner's living session of that name, else the last that had it."""
    async with db.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(_BY_NAME, (owner, name))
        living = await cursor.fetchone()
        if living is not None:
            return living
        await cursor.execute(_LAST_BY_NAME, (owner, name))
        return await cursor.fetchone()


async def by_prefix(db: Connection, owner: str, prefix: str) -> SessionRow | None:
    """The owner's one living session whose name or id begins so; None if there is none or more than one."""
    found = await beginning(db, owner, prefix, limit=2)
    return found[0] if len(found) == 1 else None


async def beginning(db: Connection, owner: str, prefix: str, limit: int = BEGINNING_MAX) -> list[SessionRow]:
    """The owner's living sessions whose name or id begins so, the youngest first."""
    pattern = prefix.replace("\\", r"\\").replace("%", r"\%").replace("_", r"\_") + "%"
    async with db.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(_BY_PREFIX, {"owner": owner, "prefix": pattern, "limit": limit})
        return await cursor.fetchall()


async def find(db: Connection, owner: str, name_or_id: str) -> SessionRow | None:
    """What a user means: an id, else a name (a living session's first), else the beginning of one living session's."""
    return (
        await by_id(db, name_or_id, owner)
        or await by_name(db, owner, name_or_id)
        or await by_prefix(db, owner, name_or_id)
    )


async def page(
    db: Connection,
    *,
    owner: str | None = None,
    statuses: Sequence[str] | None = None,
    resource_group: str | None = None,
    after: tuple[datetime, str] | None = None,
    skip: int = 0,
    limit: int = 20,
) -> Page:
    """Sessions, youngest first, those after (requested_at, session_id) of the last one seen; `skip` more left out."""
    at, session_id = after or (None, None)
    values = {
        "owner": owner,
        "statuses": None if statuses is None else list(statuses),
        "resource_group": resource_group,
        "at": at,
        "id": session_id,
        "skip": skip,
        "limit": limit + 1,
    }
    async with db.cursor(row_factory=class_row(SessionRow)) as cursor:
        await cursor.execute(_PAGE, values)
        found = await cursor.fetchall()
    async with db.cursor(row_factory=scalar_row) as counting:
        await counting.execute(_COUNT, values)
        total = await counting.fetchone()
    return Page(found[:limit], int(total or 0), len(found) > limit)


async def kernels(db: Connection, session: SessionRow) -> list[KernelRow]:
    """Its kernels in order, main first."""
    async with db.cursor(row_factory=class_row(KernelRow)) as cursor:
        await cursor.execute(_KERNELS, (session.owner, session.session_id))
        rows = {row.kernel_id: row for row in await cursor.fetchall()}
    return [rows[kernel_id] for kernel_id in session.kernels if kernel_id in rows]


async def kernels_of_agent(db: Connection, agent_id: str) -> list[KernelRow]:
    """Those that have not ended there."""
    async with db.cursor(row_factory=class_row(KernelRow)) as cursor:
        await cursor.execute(_KERNELS_OF_AGENT, (agent_id,))
        return await cursor.fetchall()
