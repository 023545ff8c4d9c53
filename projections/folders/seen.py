"""Which folders does somebody have, and what may he do in each? And who else: members, invitations, sessions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from psycopg import sql
from psycopg.rows import class_row

from domain.vfolder.mounts import user_scope
from infra.postgres import Connection
from projections.folders.rows import (
    FOLDERS,
    INVITATIONS,
    MEMBERS,
    MOUNTS,
    RECEIVED,
    SCOPES,
    FolderRow,
    InvitationRow,
    MemberRow,
    MountRow,
    ReceivedRow,
    ScopeRow,
)

R = TypeVar("R")

NEAREST: Final = ("owner", "member", "project", "store")
"""How somebody may come to have a folder. Where several have one name, the first of these is meant."""


@dataclass(frozen=True, slots=True)
class Viewer:
    """Who asks: `project_ids` he is in; `store_ids`: projects whose folders are models for everybody."""

    user_id: str
    project_ids: tuple[str, ...] = ()
    store_ids: tuple[str, ...] = ()

    @property
    def values(self) -> dict[str, Any]:
        """The parameters of `SEEN`."""
        return {"viewer": self.user_id, "projects": list(self.project_ids), "stores": list(self.store_ids)}


@dataclass(slots=True)
class SeenFolder(FolderRow):
    """A folder as one user has it: `name` is what he calls it, `granted` what he may do there, at most.

    `relation`: one of `NEAREST`. Whose folder it is may do everything (`wd`); from a store everybody may read.
    """

    granted: str
    relation: str

    @property
    def is_owner(self) -> bool:
        return self.relation == "owner"


@dataclass(slots=True)
class SentInvitation(InvitationRow):
    """With the name of the folder, as its owner calls it."""

    folder_name: str


@dataclass(frozen=True, slots=True)
class Usage:
    """What an owner has on one host."""

    host: str
    used_bytes: int
    files: int
    folders: int


_THERE: Final = sql.SQL(
    # While it is given to another, both have it for a moment: from then on it is the other's.
    "(f.given_to IS NULL OR NOT EXISTS ("
    "SELECT FROM folders t WHERE t.scope = f.given_to AND t.folder_id = f.folder_id))"
)
_LIVES: Final = sql.SQL("f.status <> 'delete-complete'")


def _columns(name: str) -> sql.Composed:
    """Those of a folder, which is called so."""
    return sql.SQL(", ").join(
        sql.SQL(name + " AS name") if each.name == "name" else sql.SQL("f.") + sql.Identifier(each.name)
        for each in FOLDERS.columns
    )


_FOLDER: Final = sql.SQL("SELECT {} FROM folders f WHERE {} AND ").format(_columns("f.name"), _THERE)

SEEN: Final = sql.SQL("""
SELECT {own}, 'wd' AS granted, 'owner' AS relation
FROM folders f WHERE f.scope = 'user:' || %(viewer)s::text AND {there}
UNION ALL
SELECT {joined}, m.permission, 'member'
FROM folder_members m JOIN folders f ON (f.scope, f.folder_id) = (m.scope, m.folder_id)
LEFT JOIN joined_folders j ON (j.scope, j.folder_id) = ('user:' || m.user_id, m.folder_id)
WHERE m.user_id = %(viewer)s::text AND f.project_id IS NULL AND {there}
UNION ALL
SELECT {own}, coalesce(m.permission, f.permission), 'project'
FROM folders f LEFT JOIN folder_members m
ON (m.scope, m.folder_id, m.user_id) = (f.scope, f.folder_id, %(viewer)s::text)
WHERE f.project_id = ANY(%(projects)s::text[]) AND {there}
UNION ALL
SELECT {own}, 'ro', 'store'
FROM folders f
WHERE f.project_id = ANY(%(stores)s::text[]) AND f.project_id <> ALL(%(projects)s::text[]) AND {there}
""").format(
    own=_columns("f.name"),
    joined=_columns("coalesce(j.name, f.name)"),
    there=sql.SQL("{} AND {}").format(_LIVES, _THERE),
)
"""Rows of `SeenFolder` for a viewer (`Viewer.values`). What is purged is not among them."""

EVERYONES: Final = sql.SQL(
    "SELECT {}, f.permission AS granted, 'none' AS relation FROM folders f WHERE {} AND {}"
).format(_columns("f.name"), _LIVES, _THERE)
"""Rows of `SeenFolder` as nobody in particular sees them: `granted` is what members of its project have."""

_AUTOMATIC: Final = sql.SQL("f.scope = %s AND f.name LIKE '.%%' AND f.phase = 'ready' ORDER BY f.name")

_SEEN: Final = sql.SQL("""
SELECT * FROM ({}) AS seen WHERE (%(name)s::text IS NULL OR name = %(name)s)
AND (%(folder_id)s::text IS NULL OR folder_id = %(folder_id)s)
ORDER BY status LIKE 'delete-%%', array_position(%(nearest)s::text[], relation), name, created_at DESC, folder_id
""").format(SEEN)

_SENT: Final = sql.SQL(
    "SELECT {}, f.name AS folder_name FROM folder_invitations i"
    " JOIN folders f ON (f.scope, f.folder_id) = (i.scope, i.folder_id) WHERE {} ORDER BY i.created_at, invitation_id"
)
_SENT_COLUMNS: Final = sql.SQL(", ").join(sql.SQL("i.") + sql.Identifier(each.name) for each in INVITATIONS.columns)
_MEMBERS: Final = sql.SQL(
    "SELECT {} FROM folder_members WHERE folder_id = ANY(%s) ORDER BY folder_id, since, user_id"
).format(MEMBERS.names)
_MOUNTS: Final = sql.SQL("SELECT {} FROM folder_mounts WHERE {} = %s ORDER BY since, session_id, folder_id")
_RECEIVED: Final = sql.SQL(
    "SELECT {} FROM received_invitations WHERE scope = %s ORDER BY received_at, invitation_id"
).format(RECEIVED.names)
_SCOPE: Final = sql.SQL("SELECT {} FROM folder_scopes WHERE scope = %s").format(SCOPES.names)
_USAGE: Final = """
SELECT host, sum(used_bytes)::bigint AS used_bytes, sum(files)::bigint AS files, count(*) AS folders
FROM folders WHERE scope = %s AND status <> 'delete-complete' AND unmanaged_path IS NULL GROUP BY host ORDER BY host"""


async def folders_of(db: Connection, viewer: Viewer) -> list[SeenFolder]:
    """The nearest ones first, by name; what is in the trash comes last."""
    return await _seen(db, viewer)


async def named(db: Connection, viewer: Viewer, name: str) -> list[SeenFolder]:
    """What he calls so, the nearest one first; what was called so and is in the trash comes last."""
    return await _seen(db, viewer, name=name)


async def seen(db: Connection, viewer: Viewer, folder_id: str) -> SeenFolder | None:
    """The folder of that id, if he has it."""
    found = await _seen(db, viewer, folder_id=folder_id)
    return found[0] if found else None


async def _seen(
    db: Connection, viewer: Viewer, name: str | None = None, folder_id: str | None = None
) -> list[SeenFolder]:
    values = {**viewer.values, "name": name, "folder_id": folder_id, "nearest": list(NEAREST)}
    return await _rows(db, SeenFolder, _SEEN, values)


async def by_id(db: Connection, folder_id: str) -> FolderRow | None:
    """Whoever has it, and also when it is purged."""
    found = await _rows(db, FolderRow, _FOLDER + sql.SQL("f.folder_id = %s"), (folder_id,))
    return found[0] if found else None


async def automatic(db: Connection, user_id: str) -> list[FolderRow]:
    """Those of his own that are mounted in all his sessions (`domain.vfolder.names.is_automatic`)."""
    return await _rows(db, FolderRow, _FOLDER + _AUTOMATIC, (user_scope(user_id),))


async def everywhere(db: Connection, scopes: Sequence[str] | None = None) -> list[FolderRow]:
    """The folders of these owners, or of all, by owner and name, without those that are purged."""
    statement = sql.SQL("{}{} AND (%(scopes)s::text[] IS NULL OR f.scope = ANY(%(scopes)s)) ORDER BY f.scope, f.name")
    values = {"scopes": None if scopes is None else list(scopes)}
    return await _rows(db, FolderRow, statement.format(_FOLDER, _LIVES), values)


async def members(db: Connection, folder_ids: Sequence[str]) -> list[MemberRow]:
    """Of all these folders; of projects' folders, those users of whom something else was said than of the rest."""
    return await _rows(db, MemberRow, _MEMBERS, (list(folder_ids),))


async def mounts_of_folder(db: Connection, folder_id: str) -> list[MountRow]:
    """The sessions that have it."""
    return await _rows(db, MountRow, _MOUNTS.format(MOUNTS.names, sql.Identifier("folder_id")), (folder_id,))


async def mounts_of_session(db: Connection, session_id: str) -> list[MountRow]:
    """The folders that it has; none once it has ended."""
    return await _rows(db, MountRow, _MOUNTS.format(MOUNTS.names, sql.Identifier("session_id")), (session_id,))


async def received(db: Connection, user_id: str) -> list[ReceivedRow]:
    """What he is invited to, the oldest first."""
    return await _rows(db, ReceivedRow, _RECEIVED, (f"user:{user_id}",))


async def sent(db: Connection, user_id: str) -> list[SentInvitation]:
    """The invitations of his that stand, the oldest first."""
    statement = _SENT.format(_SENT_COLUMNS, sql.SQL("i.inviter = %s"))
    return await _rows(db, SentInvitation, statement, (user_id,))


async def invitation(db: Connection, invitation_id: str) -> SentInvitation | None:
    """The one of that id, if it stands."""
    statement = _SENT.format(_SENT_COLUMNS, sql.SQL("i.invitation_id = %s"))
    found = await _rows(db, SentInvitation, statement, (invitation_id,))
    return found[0] if found else None


async def owner(db: Connection, scope: str) -> ScopeRow:
    """What policies allow him; nothing, for one of whom nothing was said."""
    found = await _rows(db, ScopeRow, _SCOPE, (scope,))
    return found[0] if found else ScopeRow(scope, None, {}, closed=False)


async def usage(db: Connection, scope: str) -> Mapping[str, Usage]:
    """By host. What is in the trash counts until it is purged."""
    return {each.host: each for each in await _rows(db, Usage, sql.SQL(_USAGE), (scope,))}


async def _rows(db: Connection, row: type[R], statement: sql.SQL | sql.Composed, values: Any) -> list[R]:
    async with db.cursor(row_factory=class_row(row)) as cursor:
        await cursor.execute(statement, values)
        return await cursor.fetchall()
