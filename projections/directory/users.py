"""Which users are there, and when did they sign in?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import sql
from psycopg.rows import class_row

from domain.directory.messages.users import (
    ProjectJoined,
    ProjectLeft,
    Role,
    SignedIn,
    SignedOut,
    SignInFailed,
    UserCreated,
    UserEvents,
    UserModified,
    UserPasswordSet,
    UserPurged,
    UserSpec,
    UserStatus,
    UserTotpSet,
)
from infra.postgres import Connection
from projections.directory.tenants import DOMAINS, PROJECTS
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query, by_key
from projections.table import Index, Keys, Rows, Table, bounded


@dataclass(slots=True)
class UserRow:
    """`project_numbers`: of the projects he is in."""

    user_id: str
    email: str
    username: str
    full_name: str
    description: str
    role: str
    domain_number: int
    status: str
    need_password_change: bool
    resource_policy: str
    main_access_key: str | None
    allowed_client_ip: list[str]
    totp_activated: bool
    project_numbers: list[int]
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class SignInRow:
    """`what`: "signed-in", "failed" or "signed-out". `client`: the address he came from. `failures` in a row."""

    user_id: str
    log_offset: int
    at: datetime
    what: str
    client: str | None
    failures: int
    locked_until: datetime | None


USERS = Table(
    "directory_users",
    UserRow,
    key=("user_id",),
    indexes=(
        Index("by_email", "lower(email)"),
        Index("by_username", "username"),
        Index("by_domain", "domain_number"),
        Index("by_project", "project_numbers", using="gin"),
    ),
)

SIGN_INS = Table("directory_sign_ins", SignInRow, key=("user_id", "log_offset"), append_only=True)


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: UserEvents) -> Keys:
    yield USERS, (event.user_id,)
    match event:
        case UserCreated() | UserModified():
            yield DOMAINS, (event.spec.domain,)
        case ProjectJoined() | ProjectLeft():
            yield PROJECTS, (event.project_id,)


def fold(rows: Rows, event: UserEvents, offset: int) -> None:
    match event:
        case UserCreated():
            user = UserRow(
                user_id=event.user_id,
                email=event.email,
                totp_activated=False,
                project_numbers=[],
                created_at=event.at,
                modified_at=event.at,
                **_columns(rows, event.spec),
            )
            rows.put(USERS, user)
        case UserModified():
            user = rows.change(USERS, (event.user_id,))
            rows.put(USERS, replace(user, modified_at=event.at, **_columns(rows, event.spec)))
        case UserPasswordSet():
            user = rows.change(USERS, (event.user_id,))
            user.need_password_change = event.need_change
            user.modified_at = event.at
        case UserTotpSet():
            user = rows.change(USERS, (event.user_id,))
            user.totp_activated = event.secret is not None
            user.modified_at = event.at
        case UserPurged():
            rows.remove(USERS, (event.user_id,))
        case ProjectJoined() | ProjectLeft():
            _membership(rows, event)
        case SignedIn():
            _sign_in(rows, event, offset, what="signed-in", client=event.client)
        case SignInFailed():
            _sign_in(rows, event, offset, "failed", event.client, bounded(event.failures), event.locked_until)
        case SignedOut():
            _sign_in(rows, event, offset, what="signed-out")


def _columns(rows: Rows, spec: UserSpec) -> dict[str, Any]:
    columns = spec.model_dump(mode="json", exclude={"domain"})
    return columns | {"domain_number": rows.get(DOMAINS, (spec.domain,)).number}


def _membership(rows: Rows, event: ProjectJoined | ProjectLeft) -> None:
    project = rows.get(PROJECTS, (event.project_id,))
    user = rows.change(USERS, (event.user_id,))
    others = [number for number in user.project_numbers if number != project.number]
    user.project_numbers = [*others, project.number] if isinstance(event, ProjectJoined) else others


def _sign_in(
    rows: Rows,
    event: SignedIn | SignInFailed | SignedOut,
    offset: int,
    what: str,
    client: str | None = None,
    failures: int = 0,
    locked_until: datetime | None = None,
) -> None:
    rows.put(SIGN_INS, SignInRow(event.user_id, offset, event.at, what, client, failures, locked_until))


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedUser:
    user_id: str
    email: str
    username: str
    full_name: str
    description: str
    role: str
    domain: str
    status: str
    need_password_change: bool
    resource_policy: str
    main_access_key: str | None
    allowed_client_ip: list[str]
    totp_activated: bool
    created_at: datetime
    modified_at: datetime

    @property
    def active(self) -> bool:
        return self.status == UserStatus.ACTIVE.value


_USERS = Listing(
    ListedUser,
    sql.SQL("""
    SELECT u.*, d.name AS domain
    FROM directory_users u JOIN directory_domains d ON d.number = u.domain_number"""),
    fields={
        "id": Field("user_id"),
        "uuid": Field("user_id"),
        "email": Field("email"),
        "username": Field("username"),
        "full_name": Field("full_name"),
        "description": Field("description"),
        "role": Field("role", choices=tuple(role.value for role in Role)),
        "domain_name": Field("domain"),
        "status": Field("status", choices=tuple(status.value for status in UserStatus)),
        "is_active": Field("(status = 'active')", Kind.BOOLEAN),
        "need_password_change": Field("need_password_change", Kind.BOOLEAN),
        "resource_policy": Field("resource_policy"),
        "main_access_key": Field("main_access_key", nullable=True),
        "allowed_client_ip": Field("allowed_client_ip", Kind.TEXTS),
        "totp_activated": Field("totp_activated", Kind.BOOLEAN),
        "created_at": Field("created_at", Kind.TIME),
        "modified_at": Field("modified_at", Kind.TIME),
    },
    key=("lower(email)", "user_id"),
)

_SIGN_INS = sql.SQL(
    "SELECT {} FROM directory_sign_ins WHERE user_id = %s ORDER BY log_offset DESC OFFSET %s LIMIT %s"
).format(SIGN_INS.names)


async def users(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    domain: str | None = None,
    user_id: str | None = None,
    project_id: str | None = None,
    statuses: Sequence[str] | None = None,
    active: bool | None = None,
) -> Page[ListedUser]:
    """By email. `project_id`: those who are in it."""
    in_project = "project_numbers @> ARRAY[(SELECT p.number FROM directory_projects p WHERE p.project_id = {})]"
    return await _USERS.page(
        db,
        query,
        ("domain = {}", domain),
        ("user_id = {}", user_id),
        (in_project, project_id),
        ("status = ANY({})", statuses if statuses is None else list(statuses)),
        ("(status = 'active') = {}", active),
    )


async def user(db: Connection, user_id: str) -> ListedUser | None:
    return await _USERS.one(db, ("user_id = {}", user_id))


async def user_by_email(db: Connection, email: str) -> ListedUser | None:
    """Whatever the case in which the email is written."""
    return await _USERS.one(db, ("lower(email) = lower({})", email))


async def users_by_ids(db: Connection, user_ids: Sequence[str]) -> Mapping[str, ListedUser]:
    """By id; those that there are."""
    return by_key(await _USERS.all(db, ("user_id = ANY({})", list(user_ids))), "user_id")


async def sign_ins(db: Connection, user_id: str, limit: int = 100, offset: int = 0) -> list[SignInRow]:
    """The last ones first. They stay when the user is purged."""
    async with db.cursor(row_factory=class_row(SignInRow)) as cursor:
        await cursor.execute(_SIGN_INS, (user_id, offset, limit))
        return await cursor.fetchall()
