"""Who is there, in what projects, with which keys, limits and resource groups?   admin queries; no secrets here

Who may come in is not asked here: the api folds the directory's events itself.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, LiteralString, TypeVar, assert_never

from psycopg import sql
from psycopg.rows import class_row

from domain.directory.messages import (
    DirectoryEvents,
    DomainCreated,
    KeypairCreated,
    KeypairEvent,
    KeypairModified,
    KeypairPolicyPut,
    ProjectCreated,
    ProjectJoined,
    ResourceGroupCreated,
    UserCreated,
    UserEvent,
    UserModified,
    UserPasswordSet,
)
from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from infra.decoding import Told
from infra.postgres import Connection
from projections.table import Index, Json, Keys, Projection, Rows, Table

R = TypeVar("R")


@dataclass(slots=True)
class DomainRow:
    name: str
    active: bool
    created_at: datetime


@dataclass(slots=True)
class ProjectRow:
    project_id: str
    name: str
    domain: str
    active: bool
    created_at: datetime


@dataclass(slots=True)
class UserRow:
    user_id: str
    email: str
    username: str
    full_name: str
    role: str
    domain: str
    active: bool
    projects: list[str]
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class KeypairRow:
    access_key: str
    user_id: str
    policy: str
    is_admin: bool
    rate_limit: int
    active: bool
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class PolicyRow:
    name: str
    limits: Json
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class ResourceGroupRow:
    name: str
    cell: str
    is_public: bool
    active: bool
    created_at: datetime


DOMAINS = Table("directory_domains", DomainRow, key=("name",))
PROJECTS = Table("directory_projects", ProjectRow, key=("project_id",), indexes=(Index("by_name", "domain, name"),))
USERS = Table(
    "directory_users",
    UserRow,
    key=("user_id",),
    indexes=(Index("by_email", "lower(email)"), Index("by_username", "username")),
)
KEYPAIRS = Table("directory_keypairs", KeypairRow, key=("access_key",), indexes=(Index("by_user", "user_id"),))
POLICIES = Table("directory_policies", PolicyRow, key=("name",))
RESOURCE_GROUPS = Table("directory_resource_groups", ResourceGroupRow, key=("name",))


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(told: Told, _rows: Rows) -> Keys:
    match told.event:
        case UserEvent(user_id=user_id):
            yield USERS, (user_id,)
        case KeypairEvent(access_key=access_key):
            yield KEYPAIRS, (access_key,)
        case KeypairPolicyPut(name=name):
            yield POLICIES, (name,)
        case DomainCreated(name=name):
            yield DOMAINS, (name,)
        case ProjectCreated(project_id=project_id):
            yield PROJECTS, (project_id,)
        case ResourceGroupCreated(name=name):
            yield RESOURCE_GROUPS, (name,)


def fold(rows: Rows, told: Told) -> None:
    event: DirectoryEvents | ShardOpened | CommandRefused | CommandUnneeded = told.event  # type: ignore[assignment]
    match event:
        case ShardOpened() | CommandRefused() | CommandUnneeded():
            pass
        case DomainCreated():
            rows.put(DOMAINS, DomainRow(event.name, active=True, created_at=event.at))
        case ProjectCreated():
            rows.put(
                PROJECTS,
                ProjectRow(event.project_id, event.name, event.domain, active=True, created_at=event.at),
            )
        case UserCreated():
            rows.put(USERS, _user(event))
        case UserModified():
            user = _modified(rows, event)
            user.active = event.active
        case UserPasswordSet():
            _modified(rows, event)
        case ProjectJoined():
            user = _modified(rows, event)
            user.projects = [*user.projects, event.project_id]
        case KeypairCreated():
            rows.put(KEYPAIRS, _keypair(event))
        case KeypairModified():
            keypair = rows.change(KEYPAIRS, (event.access_key,))
            keypair.active = event.active
            keypair.policy = event.policy
            keypair.modified_at = event.at
        case KeypairPolicyPut():
            known = rows.find(POLICIES, (event.name,))
            limits = event.limits.model_dump(mode="json")
            rows.put(POLICIES, PolicyRow(event.name, limits, known.created_at if known else event.at, event.at))
        case ResourceGroupCreated():
            group = ResourceGroupRow(event.name, event.cell, event.is_public, active=True, created_at=event.at)
            rows.put(RESOURCE_GROUPS, group)
        case _:
            assert_never(event)


PROJECTION = Projection(
    "directory",
    contexts=("directory",),
    tables=(DOMAINS, PROJECTS, USERS, KEYPAIRS, POLICIES, RESOURCE_GROUPS),
    keys=keys,
    fold=fold,
)


def _user(event: UserCreated) -> UserRow:
    return UserRow(
        user_id=event.user_id,
        email=event.email,
        username=event.username,
        full_name=event.full_name,
        role=event.role.value,
        domain=event.domain,
        active=True,
        projects=[],
        created_at=event.at,
        modified_at=event.at,
    )


def _keypair(event: KeypairCreated) -> KeypairRow:
    return KeypairRow(
        access_key=event.access_key,
        user_id=event.user_id,
        policy=event.policy,
        is_admin=event.is_admin,
        rate_limit=event.rate_limit,
        active=True,
        created_at=event.at,
        modified_at=event.at,
    )


def _modified(rows: Rows, event: UserEvent) -> UserRow:
    user = rows.change(USERS, (event.user_id,))
    user.modified_at = event.at
    return user


# -- the questions -----------------------------------------------------------------------------------------------------


async def domains(db: Connection) -> list[DomainRow]:
    """By name."""
    return await _select(db, DOMAINS, "ORDER BY name")


async def projects(db: Connection, domain: str | None = None) -> list[ProjectRow]:
    """By name; of one domain, or all."""
    return await _select(db, PROJECTS, "WHERE %s::text IS NULL OR domain = %s ORDER BY domain, name", (domain, domain))


async def projects_by_id(db: Connection, project_ids: Sequence[str]) -> list[ProjectRow]:
    return await _select(db, PROJECTS, "WHERE project_id = ANY(%s) ORDER BY domain, name", (list(project_ids),))


async def users(db: Connection, domain: str | None = None, skip: int = 0, limit: int = 1000) -> list[UserRow]:
    """By email; of one domain, or all."""
    return await _select(
        db,
        USERS,
        "WHERE %s::text IS NULL OR domain = %s ORDER BY lower(email) OFFSET %s LIMIT %s",
        (domain, domain, skip, limit),
    )


async def user(db: Connection, user_id: str) -> UserRow | None:
    found = await _select(db, USERS, "WHERE user_id = %s", (user_id,))
    return found[0] if found else None


async def user_by_email(db: Connection, email: str) -> UserRow | None:
    """Whatever the case in which the email is written."""
    found = await _select(db, USERS, "WHERE lower(email) = lower(%s)", (email,))
    return found[0] if found else None


async def keypairs(db: Connection, user_id: str | None = None, skip: int = 0, limit: int = 1000) -> list[KeypairRow]:
    """By access key; of one user, or all."""
    return await _select(
        db,
        KEYPAIRS,
        "WHERE %s::text IS NULL OR user_id = %s ORDER BY access_key OFFSET %s LIMIT %s",
        (user_id, user_id, skip, limit),
    )


async def policies(db: Connection) -> list[PolicyRow]:
    """By name."""
    return await _select(db, POLICIES, "ORDER BY name")


async def resource_groups(db: Connection) -> list[ResourceGroupRow]:
    """By name."""
    return await _select(db, RESOURCE_GROUPS, "ORDER BY name")


async def _select(db: Connection, table: Table[R], rest: LiteralString, values: Sequence[Any] = ()) -> list[R]:
    statement = sql.SQL("SELECT {} FROM {} ").format(table.names, sql.Identifier(table.name))
    async with db.cursor(row_factory=class_row(table.row)) as cursor:
        await cursor.execute(statement + sql.SQL(rest), values)
        return await cursor.fetchall()
