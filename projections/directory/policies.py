"""Which policies are there, of keypairs, users and projects?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from psycopg import sql

from domain.directory.messages.policies import (
    KeypairPolicyDeleted,
    KeypairPolicyPut,
    PolicyEvents,
    ProjectPolicyDeleted,
    ProjectPolicyPut,
    UserPolicyDeleted,
    UserPolicyPut,
)
from infra.postgres import Connection
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query, by_key
from projections.table import Json, Keys, Rows, Table


@dataclass(slots=True)
class PolicyRow:
    """`spec`: the fields of a `KeypairPolicySpec`, `UserPolicySpec` or `ProjectPolicySpec`."""

    name: str
    spec: Json
    created_at: datetime
    modified_at: datetime


KEYPAIR_POLICIES = Table("directory_keypair_policies", PolicyRow, key=("name",))
USER_POLICIES = Table("directory_user_policies", PolicyRow, key=("name",))
PROJECT_POLICIES = Table("directory_project_policies", PolicyRow, key=("name",))


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: PolicyEvents) -> Keys:
    yield _table(event), (event.name,)


def fold(rows: Rows, event: PolicyEvents) -> None:
    table = _table(event)
    match event:
        case KeypairPolicyPut() | UserPolicyPut() | ProjectPolicyPut():
            known = rows.find(table, (event.name,))
            created_at = known.created_at if known else event.at
            rows.put(table, PolicyRow(event.name, event.spec.model_dump(mode="json"), created_at, event.at))
        case KeypairPolicyDeleted() | UserPolicyDeleted() | ProjectPolicyDeleted():
            rows.remove(table, (event.name,))


def _table(event: PolicyEvents) -> Table[PolicyRow]:
    match event:
        case KeypairPolicyPut() | KeypairPolicyDeleted():
            return KEYPAIR_POLICIES
        case UserPolicyPut() | UserPolicyDeleted():
            return USER_POLICIES
        case ProjectPolicyPut() | ProjectPolicyDeleted():
            return PROJECT_POLICIES


# -- the questions -----------------------------------------------------------------------------------------------------


class PolicyKind(Enum):
    """Whose policies."""

    KEYPAIR = "keypair"
    USER = "user"
    PROJECT = "project"


def _listing(table: Table[PolicyRow]) -> Listing[PolicyRow]:
    return Listing(
        PolicyRow,
        sql.SQL("SELECT * FROM {}").format(sql.Identifier(table.name)),
        fields={
            "name": Field("name"),
            "created_at": Field("created_at", Kind.TIME),
            "modified_at": Field("modified_at", Kind.TIME),
        },
        key=("name",),
    )


_LISTINGS: Mapping[PolicyKind, Listing[PolicyRow]] = {
    PolicyKind.KEYPAIR: _listing(KEYPAIR_POLICIES),
    PolicyKind.USER: _listing(USER_POLICIES),
    PolicyKind.PROJECT: _listing(PROJECT_POLICIES),
}


async def policies(db: Connection, kind: PolicyKind, query: Query = EVERYTHING) -> Page[PolicyRow]:
    """By name."""
    return await _LISTINGS[kind].page(db, query)


async def policy(db: Connection, kind: PolicyKind, name: str) -> PolicyRow | None:
    return await _LISTINGS[kind].one(db, ("name = {}", name))


async def policies_by_names(db: Connection, kind: PolicyKind, names: Sequence[str]) -> Mapping[str, PolicyRow]:
    """By name; those that there are."""
    return by_key(await _LISTINGS[kind].all(db, ("name = ANY({})", list(names))), "name")
