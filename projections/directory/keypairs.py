"""Which keypairs are there, whose are they, and how much is going on with each? Their secrets are not here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql

from domain.directory.messages.keypairs import (
    BootstrapScriptSet,
    KeypairCreated,
    KeypairDeleted,
    KeypairEvents,
    KeypairModified,
    SshKeypairSet,
)
from infra.postgres import Connection
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query, by_key
from projections.table import Index, Json, Keys, Rows, Table


@dataclass(slots=True)
class KeypairRow:
    """`dotfiles`: path → {"mode", "size"}."""

    access_key: str
    number: int
    user_id: str
    active: bool
    is_admin: bool
    resource_policy: str
    rate_limit: int
    ssh_public_key: str | None
    dotfiles: Json
    created_at: datetime
    modified_at: datetime


KEYPAIRS = Table(
    "directory_keypairs",
    KeypairRow,
    key=("access_key",),
    indexes=(Index("by_number", "number", unique=True), Index("by_user", "user_id, access_key")),
)


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: KeypairEvents) -> Keys:
    yield KEYPAIRS, (event.access_key,)


def fold(rows: Rows, event: KeypairEvents, offset: int) -> None:
    match event:
        case KeypairCreated():
            keypair = KeypairRow(
                access_key=event.access_key,
                number=offset,
                user_id=event.user_id,
                ssh_public_key=event.ssh.public_key if event.ssh else None,
                dotfiles={},
                created_at=event.at,
                modified_at=event.at,
                **event.spec.model_dump(mode="json"),
            )
            rows.put(KEYPAIRS, keypair)
        case KeypairModified():
            keypair = rows.change(KEYPAIRS, (event.access_key,))
            rows.put(KEYPAIRS, replace(keypair, modified_at=event.at, **event.spec.model_dump(mode="json")))
        case SshKeypairSet():
            keypair = rows.change(KEYPAIRS, (event.access_key,))
            keypair.ssh_public_key = event.ssh.public_key
            keypair.modified_at = event.at
        case BootstrapScriptSet():
            rows.change(KEYPAIRS, (event.access_key,)).modified_at = event.at
        case KeypairDeleted():
            rows.remove(KEYPAIRS, (event.access_key,))


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedKeypair:
    """`email`, `full_name`, `domain`: of its user. `concurrency_used`: how many of its sessions have not ended.

    `last_used` and `num_queries` (requests, since ever) are not of the log, and up to a minute old (`api.access.uses`).
    """

    access_key: str
    user_id: str
    email: str
    full_name: str
    domain: str
    active: bool
    is_admin: bool
    resource_policy: str
    rate_limit: int
    ssh_public_key: str | None
    concurrency_used: int
    last_used: datetime | None
    num_queries: int
    created_at: datetime
    modified_at: datetime


_KEYPAIRS = Listing(
    ListedKeypair,
    sql.SQL("""
    SELECT k.*, u.email, u.full_name, d.name AS domain, (
        SELECT count(*) FROM session_list s WHERE s.owner = k.access_key AND s.ended_at IS NULL
    ) AS concurrency_used, uses.last_used, coalesce(uses.num_queries, 0) AS num_queries
    FROM directory_keypairs k
    JOIN directory_users u ON u.user_id = k.user_id
    JOIN directory_domains d ON d.number = u.domain_number
    LEFT JOIN keypair_uses uses ON uses.access_key = k.access_key"""),
    fields={
        "id": Field("access_key"),
        "access_key": Field("access_key"),
        "user_id": Field("email"),  # what clients know by this name
        "user": Field("user_id"),
        "email": Field("email"),
        "full_name": Field("full_name"),
        "domain_name": Field("domain"),
        "is_active": Field("active", Kind.BOOLEAN),
        "is_admin": Field("is_admin", Kind.BOOLEAN),
        "resource_policy": Field("resource_policy"),
        "rate_limit": Field("rate_limit", Kind.NUMBER),
        "ssh_public_key": Field("ssh_public_key", nullable=True),
        "concurrency_used": Field("concurrency_used", Kind.NUMBER),
        "last_used": Field("last_used", Kind.TIME, nullable=True),
        "num_queries": Field("num_queries", Kind.NUMBER),
        "created_at": Field("created_at", Kind.TIME),
        "modified_at": Field("modified_at", Kind.TIME),
    },
    key=("access_key",),
)


async def keypairs(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    domain: str | None = None,
    email: str | None = None,
    user_id: str | None = None,
    active: bool | None = None,
) -> Page[ListedKeypair]:
    """By access key; of one domain or user, or all."""
    return await _KEYPAIRS.page(
        db,
        query,
        ("domain = {}", domain),
        ("lower(email) = lower({})", email),
        ("user_id = {}", user_id),
        ("active = {}", active),
    )


async def keypair(db: Connection, access_key: str) -> ListedKeypair | None:
    return await _KEYPAIRS.one(db, ("access_key = {}", access_key))


async def keypairs_by_access_keys(db: Connection, access_keys: Sequence[str]) -> Mapping[str, ListedKeypair]:
    """By access key; those that there are."""
    return by_key(await _KEYPAIRS.all(db, ("access_key = ANY({})", list(access_keys))), "access_key")


async def keypairs_of_users(db: Connection, user_ids: Sequence[str]) -> Mapping[str, Sequence[ListedKeypair]]:
    """By user: his keypairs, by access key."""
    found: dict[str, list[ListedKeypair]] = {user_id: [] for user_id in user_ids}
    for keypair in await _KEYPAIRS.all(db, ("user_id = ANY({})", list(user_ids))):
        found[keypair.user_id].append(keypair)
    return found
