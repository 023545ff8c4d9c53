"""What the projections know, in the words the routes ask in. The database is a matter of this module alone.

`Known` is what routes need; `Projections` answers it from Postgres, and tests answer it from memory.
"""

from collections.abc import Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Final, Protocol

from psycopg import sql
from psycopg.rows import class_row

from api.known_folders import FolderProjections, KnownFolders
from infra import live_stats
from infra.live_stats import Measured
from infra.log import Partition, Position
from infra.postgres import Connection, Pool, connection
from infra.settings import Settings
from infra.topics import events
from projections import agents, capacity, command_outcomes, session_history, session_list
from projections.agents import AgentRow
from projections.capacity import Capacity
from projections.command_outcomes import OutcomeRow
from projections.directory.folding import DIRECTORY
from projections.folders import folding as folders
from projections.session_history import HistoryRow
from projections.session_list import SESSION_LIST, KernelRow, SessionRow
from projections.sessions import SESSIONS
from projections.table import Json
from projections.waiting import NotYet, Waiting

HISTORY_PAGE: Final = 1000

_READ: Final = tuple(
    each.name for each in (SESSIONS, agents.PROJECTION, command_outcomes.PROJECTION, DIRECTORY, folders.PROJECTION)
)
"""What is read here, and must have reached a position before it is."""

_PLACES: Final = "SELECT topic, partition, next_offset FROM checkpoints WHERE projection = %s"
_NAMED_SINCE: Final = sql.SQL(
    "SELECT {} FROM session_list WHERE owner = %s AND name = %s AND (ended_at IS NULL OR last_offset >= %s)"
    " ORDER BY requested_at DESC LIMIT 100"
).format(SESSION_LIST.names)
_COUNTS: Final = """
SELECT 'sessions', status, count(*) FROM session_list WHERE ended_at IS NULL GROUP BY status
UNION ALL SELECT 'agents', status, count(*) FROM agents GROUP BY status"""


class Known(Protocol):
    """Every method raises `infra.postgres.Unavailable` while the database does not answer."""

    @property
    def folders(self) -> KnownFolders:
        """All about folders."""

    async def find(self, owner: str, reference: str) -> SessionRow | None:
        """By id, by name (a living session's first), or by the beginning of one living session's id or name."""

    async def by_id(self, session_id: str) -> SessionRow | None:
        """Whoever owns it."""

    async def by_name(self, owner: str, name: str) -> SessionRow | None:
        """The living session of that name, else the last that had it."""

    async def named_since(self, owner: str, name: str, offset: int) -> Sequence[SessionRow]:
        """Every session of that name with an event at or after the offset, and a living one."""

    async def beginning(self, owner: str, prefix: str) -> Sequence[SessionRow]:
        """Living sessions whose name or id begins so, the youngest first, `session_list.BEGINNING_MAX` at most."""

    async def kernels(self, session: SessionRow) -> Sequence[KernelRow]:
        """In order, main first."""

    async def detail(self, owner: str, reference: str) -> tuple[SessionRow, Sequence[KernelRow]] | None:
        """What `find` finds, and its kernels."""

    async def measured(self, kernels: Sequence[KernelRow]) -> Sequence[Measured]:
        """What was measured last of these, as far as anything was."""

    async def history(self, session: SessionRow, start: int) -> Sequence[HistoryRow]:
        """From that offset of its partition on, a page of `HISTORY_PAGE`."""

    async def agent(self, agent_id: str) -> AgentRow | None:
        """Where it was heard last."""

    async def outcomes(self, command_id: str) -> Sequence[OutcomeRow]:
        """Each time the command stood in the log, the first one first."""

    async def places(self) -> Mapping[Partition, int]:
        """By partition of session.events, the offset up to which sessions are folded."""

    async def wait_for(self, position: Position, timeout: float) -> bool:
        """Whether everything was folded up to there within so many seconds."""

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        """To the database, for the many lists of the admin API, which say what they ask by themselves."""

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        """Small numbers for a status line: living sessions and agents, each by status."""

    async def slot_names(self, group: str | None = None) -> frozenset[str]:
        """Of which slots any agent has some; of one resource group, or of all."""

    async def slot_formats(self, group: str | None = None) -> Mapping[str, Json]:
        """How amounts of a slot are shown, as far as agents say so: fields of a `SlotFormat`."""

    async def capacity(
        self, *, owner: str, domain: str, project_id: str | None, owners: Sequence[str], groups: Sequence[str]
    ) -> Capacity:
        """What a keypair, its project and its domain hold, and what agents of these resource groups have left."""


class Projections:
    """Answers from Postgres."""

    def __init__(self, settings: Settings, pool: Pool, waiting: Waiting) -> None:
        self._pool = pool
        self._waiting = waiting
        self._topic = settings.topic_prefix + events("session")
        self._folders = FolderProjections(pool)

    @property
    def folders(self) -> KnownFolders:
        return self._folders

    async def find(self, owner: str, reference: str) -> SessionRow | None:
        async with connection(self._pool) as db:
            return await session_list.find(db, owner, reference)

    async def by_id(self, session_id: str) -> SessionRow | None:
        async with connection(self._pool) as db:
            return await session_list.by_id(db, session_id)

    async def by_name(self, owner: str, name: str) -> SessionRow | None:
        async with connection(self._pool) as db:
            return await session_list.by_name(db, owner, name)

    async def named_since(self, owner: str, name: str, offset: int) -> Sequence[SessionRow]:
        async with connection(self._pool) as db, db.cursor(row_factory=class_row(SessionRow)) as cursor:
            await cursor.execute(_NAMED_SINCE, (owner, name, offset))
            return await cursor.fetchall()

    async def beginning(self, owner: str, prefix: str) -> Sequence[SessionRow]:
        async with connection(self._pool) as db:
            return await session_list.beginning(db, owner, prefix)

    async def kernels(self, session: SessionRow) -> Sequence[KernelRow]:
        async with connection(self._pool) as db:
            return await session_list.kernels(db, session)

    async def detail(self, owner: str, reference: str) -> tuple[SessionRow, Sequence[KernelRow]] | None:
        async with connection(self._pool) as db:
            session = await session_list.find(db, owner, reference)
            return None if session is None else (session, await session_list.kernels(db, session))

    async def measured(self, kernels: Sequence[KernelRow]) -> Sequence[Measured]:
        async with connection(self._pool) as db:
            placed = [(each.kernel_id, each.agent_id) for each in kernels if each.agent_id is not None]
            return list((await live_stats.of_kernels(db, placed)).values())

    async def history(self, session: SessionRow, start: int) -> Sequence[HistoryRow]:
        async with connection(self._pool) as db:
            return await session_history.of_session(db, session.owner, session.session_id, start, HISTORY_PAGE)

    async def agent(self, agent_id: str) -> AgentRow | None:
        async with connection(self._pool) as db:
            return await agents.by_id(db, agent_id)

    async def outcomes(self, command_id: str) -> Sequence[OutcomeRow]:
        async with connection(self._pool) as db:
            return await command_outcomes.of_command(db, command_id)

    async def places(self) -> Mapping[Partition, int]:
        async with connection(self._pool) as db:
            cursor = await db.execute(_PLACES, (SESSIONS.name,))
            rows = await cursor.fetchall()
        return {Partition(topic, number): offset for topic, number, offset in rows if topic == self._topic}

    async def wait_for(self, position: Position, timeout: float) -> bool:
        try:
            await self._waiting.wait_for(position, _READ, timeout)
        except NotYet:
            return False
        return True

    def connection(self) -> AbstractAsyncContextManager[Connection]:
        return connection(self._pool)

    async def counts(self) -> Mapping[str, Mapping[str, int]]:
        async with connection(self._pool) as db:
            cursor = await db.execute(_COUNTS)
            rows: list[tuple[Any, ...]] = await cursor.fetchall()
        told: dict[str, dict[str, int]] = {"sessions": {}, "agents": {}}
        for what, status, count in rows:
            told[what][status] = count
        return told

    async def slot_names(self, group: str | None = None) -> frozenset[str]:
        async with connection(self._pool) as db:
            return await capacity.slot_names(db, group)

    async def slot_formats(self, group: str | None = None) -> Mapping[str, Json]:
        async with connection(self._pool) as db:
            return await capacity.slot_formats(db, group)

    async def capacity(
        self, *, owner: str, domain: str, project_id: str | None, owners: Sequence[str], groups: Sequence[str]
    ) -> Capacity:
        async with connection(self._pool) as db:
            return await capacity.capacity(
                db, owner=owner, domain=domain, project_id=project_id, owners=owners, groups=groups
            )
