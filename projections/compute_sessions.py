"""Whose sessions are there, and what of them runs where?   GraphQL: compute_session_list, compute_container_list

Joins what sessions say with what the directory says about their owners and projects. A session is told with the names
that its project and domain have now, and once the project is gone with those they had when it was requested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final, LiteralString

from psycopg import sql

from domain.session.status import ClusterMode, KernelStatus, Result, SessionStatus, SessionType
from infra.postgres import Connection
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query
from projections.session_list import KERNEL_LIST, SESSION_LIST, KernelRow, SessionRow
from projections.table import AnyTable, Json


@dataclass(slots=True)
class ListedSession(SessionRow):
    """`user_id`, `email`, `full_name`: its owner, None once his keypair is gone. `agent_ids`: where its kernels are."""

    user_id: str | None
    email: str | None
    full_name: str | None
    agent_ids: list[str]


@dataclass(slots=True)
class ListedKernel(KernelRow):
    """With what its session says for all of its kernels; `domain` and `user_id` as of a `ListedSession`."""

    image: str
    architecture: str
    slots: Json
    shm_bytes: int
    preopen_ports: list[int]
    domain: str
    user_id: str | None
    requested_at: datetime


def _columns(table: AnyTable, alias: str, *without: str) -> sql.Composable:
    return sql.SQL(", ").join(
        sql.Identifier(alias, column.name) for column in table.columns if column.name not in without
    )


_JOINED: Final[LiteralString] = """
    LEFT JOIN directory_keypairs k ON k.access_key = s.owner
    LEFT JOIN directory_users u ON u.user_id = k.user_id
    LEFT JOIN directory_projects p ON p.project_id = s.project_id
    LEFT JOIN directory_domains d ON d.number = p.domain_number"""
_DOMAIN: Final[LiteralString] = "coalesce(d.name, s.domain) AS domain"

_SESSIONS = Listing(
    ListedSession,
    sql.SQL(
        "SELECT {}, "
        + _DOMAIN
        + """, coalesce(p.name, s.project) AS project, u.user_id, u.email, u.full_name, ARRAY(
        SELECT DISTINCT c.agent_id FROM kernel_list c
        WHERE c.owner = s.owner AND c.session_id = s.session_id AND c.agent_id IS NOT NULL ORDER BY c.agent_id
    ) AS agent_ids
    FROM session_list s"""
        + _JOINED
    ).format(_columns(SESSION_LIST, "s", "domain", "project")),
    fields={
        "id": Field("session_id"),
        "session_id": Field("session_id"),
        "name": Field("name"),
        "type": Field("session_type", choices=tuple(each.value for each in SessionType)),
        "tag": Field("tag", nullable=True),
        "image": Field("image"),
        "architecture": Field("architecture"),
        "domain_name": Field("domain"),
        "group_id": Field("project_id", nullable=True),
        "group_name": Field("project"),
        "user_id": Field("user_id", nullable=True),
        "user_email": Field("email", nullable=True),
        "full_name": Field("full_name", nullable=True),
        "access_key": Field("owner"),
        "scaling_group": Field("resource_group"),
        "cluster_mode": Field("cluster_mode", choices=tuple(each.value for each in ClusterMode)),
        "cluster_size": Field("cluster_size", Kind.NUMBER),
        "status": Field("status", choices=tuple(each.value for each in SessionStatus)),
        "status_info": Field("reason"),
        "status_changed": Field("status_changed_at", Kind.TIME),
        "result": Field("result", choices=tuple(each.value for each in Result)),
        "startup_command": Field("startup_command", nullable=True),
        "agent_id": Field("agent_ids", Kind.TEXTS),
        "agent_ids": Field("agent_ids", Kind.TEXTS),
        "created_at": Field("requested_at", Kind.TIME),
        "scheduled_at": Field("scheduled_at", Kind.TIME, nullable=True),
        "started_at": Field("started_at", Kind.TIME, nullable=True),
        "terminated_at": Field("ended_at", Kind.TIME, nullable=True),
    },
    key=("requested_at DESC", "session_id DESC", "owner"),
)

_KERNELS = Listing(
    ListedKernel,
    sql.SQL(
        "SELECT {}, "
        + _DOMAIN
        + """, u.user_id, s.image, s.architecture, s.slots, s.shm_bytes, s.preopen_ports, s.requested_at,
        array_position(s.kernels, c.kernel_id) AS place
    FROM kernel_list c JOIN session_list s ON s.owner = c.owner AND s.session_id = c.session_id"""
        + _JOINED
    ).format(_columns(KERNEL_LIST, "c")),
    fields={
        "id": Field("kernel_id"),
        "session_id": Field("session_id"),
        "access_key": Field("owner"),
        "role": Field("role"),
        "cluster_role": Field("role"),
        "cluster_idx": Field('"index"', Kind.NUMBER),
        "hostname": Field("hostname"),
        "cluster_hostname": Field("hostname"),
        "image": Field("image"),
        "architecture": Field("architecture"),
        "status": Field("status", choices=tuple(each.value for each in KernelStatus)),
        "status_info": Field("reason"),
        "status_changed": Field("status_changed_at", Kind.TIME),
        "agent": Field("agent_id", nullable=True),
        "agent_id": Field("agent_id", nullable=True),
        "container_id": Field("runtime_id", nullable=True),
        "created_at": Field("requested_at", Kind.TIME),
        "terminated_at": Field("ended_at", Kind.TIME, nullable=True),
    },
    key=("requested_at DESC", "session_id DESC", "owner", "place"),
)


async def compute_sessions(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    statuses: Sequence[str] | None = None,
    access_key: str | None = None,
    user_id: str | None = None,
    domain: str | None = None,
    project_id: str | None = None,
) -> Page[ListedSession]:
    """The youngest first. Raises `BadQuery`."""
    return await _SESSIONS.page(
        db,
        query,
        ("status = ANY({})", statuses if statuses is None else list(statuses)),
        ("owner = {}", access_key),
        ("user_id = {}", user_id),
        ("domain = {}", domain),
        ("project_id = {}", project_id),
    )


async def compute_session(db: Connection, session_id: str, access_key: str | None = None) -> ListedSession | None:
    """Without the access key anybody's; None also where several owners have given the same id."""
    return await _SESSIONS.one(db, ("session_id = {}", session_id), ("owner = {}", access_key))


async def sessions_of_keypairs(
    db: Connection, access_keys: Sequence[str], statuses: Sequence[str] | None = None
) -> Mapping[str, Sequence[ListedSession]]:
    """By access key; without statuses those that have not ended."""
    found: dict[str, list[ListedSession]] = {access_key: [] for access_key in access_keys}
    for session in await _SESSIONS.all(
        db,
        ("owner = ANY({})", list(access_keys)),
        ("status = ANY({})", None if statuses is None else list(statuses)),
        ("(ended_at IS NULL) = {}", True if statuses is None else None),
    ):
        found[session.owner].append(session)
    return found


async def compute_containers(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    session: SessionRow | None = None,
    role: str | None = None,
    statuses: Sequence[str] | None = None,
    agent_id: str | None = None,
) -> Page[ListedKernel]:
    """Those of a session main first, sessions as in `compute_sessions`. Raises `BadQuery`."""
    return await _KERNELS.page(
        db,
        query,
        ("owner = {}", session and session.owner),
        ("session_id = {}", session and session.session_id),
        ("role = {}", role),
        ("status = ANY({})", statuses if statuses is None else list(statuses)),
        ("agent_id = {}", agent_id),
    )


async def compute_container(db: Connection, kernel_id: str, access_key: str | None = None) -> ListedKernel | None:
    """As `compute_session`."""
    return await _KERNELS.one(db, ("kernel_id = {}", kernel_id), ("owner = {}", access_key))


async def kernels_of_sessions(
    db: Connection, sessions: Sequence[SessionRow]
) -> Mapping[tuple[str, str], Sequence[ListedKernel]]:
    """By owner and session id, main first."""
    found: dict[tuple[str, str], list[ListedKernel]] = {(each.owner, each.session_id): [] for each in sessions}
    # The same id under another of the owners is read along, and left out.
    for kernel in await _KERNELS.all(
        db,
        ("owner = ANY({})", sorted({each.owner for each in sessions})),
        ("session_id = ANY({})", sorted({each.session_id for each in sessions})),
    ):
        if (kernel.owner, kernel.session_id) in found:
            found[kernel.owner, kernel.session_id].append(kernel)
    return found


async def containers_of_agents(
    db: Connection, agent_ids: Sequence[str], statuses: Sequence[str] | None = None
) -> Mapping[str, Sequence[ListedKernel]]:
    """By agent; without statuses those that have not ended."""
    found: dict[str, list[ListedKernel]] = {agent_id: [] for agent_id in agent_ids}
    for kernel in await _KERNELS.all(
        db,
        ("agent_id = ANY({})", list(agent_ids)),
        ("status = ANY({})", None if statuses is None else list(statuses)),
        ("(ended_at IS NULL) = {}", True if statuses is None else None),
    ):
        if kernel.agent_id is not None:
            found[kernel.agent_id].append(kernel)
    return found
