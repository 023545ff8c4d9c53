"""What is known of folders, from the rows of the real fold in memory: the same answers that Postgres gives."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields, replace
from typing import TypeVar

from projections.folders.rows import (
    FOLDERS,
    INVITATIONS,
    JOINED,
    MEMBERS,
    MOUNTS,
    RECEIVED,
    SCOPES,
    FolderRow,
    MemberRow,
    MountRow,
    ReceivedRow,
    ScopeRow,
)
from projections.folders.seen import NEAREST, SeenFolder, SentInvitation, Usage, Viewer
from projections.table import Rows, Table

R = TypeVar("R")


class MemoryFolders:
    """`rows`: of the projection, all of them."""

    def __init__(self, rows: Rows) -> None:
        self._rows = rows

    def _all(self, table: Table[R]) -> list[R]:
        return [row for row in self._rows.known[table].values() if row is not None]

    def _there(self) -> Iterable[FolderRow]:
        """Those that are not another's already."""
        known = self._rows.known[FOLDERS]
        for row in self._all(FOLDERS):
            if row.given_to is None or known.get((row.given_to, row.folder_id)) is None:
                yield row

    async def of(self, viewer: Viewer) -> Sequence[SeenFolder]:
        found = [seen for row in self._there() if (seen := self._seen(viewer, row)) is not None]
        found.sort(key=lambda each: each.created_at, reverse=True)
        return sorted(found, key=lambda each: (each.deleted, NEAREST.index(each.relation), each.name))

    def _seen(self, viewer: Viewer, row: FolderRow) -> SeenFolder | None:
        member = self._rows.known[MEMBERS].get((row.scope, row.folder_id, viewer.user_id))
        if row.status == "delete-complete":
            return None
        if row.user_id == viewer.user_id:
            return _seen(row, "wd", "owner")
        if row.project_id is None:
            joined = self._rows.known[JOINED].get((f"user:{viewer.user_id}", row.folder_id))
            name = row.name if joined is None else joined.name
            return None if member is None else _seen(replace(row, name=name), member.permission, "member")
        if row.project_id in viewer.project_ids:
            return _seen(row, member.permission if member else row.permission, "project")
        return _seen(row, "ro", "store") if row.project_id in viewer.store_ids else None

    async def named(self, viewer: Viewer, name: str) -> Sequence[SeenFolder]:
        return [each for each in await self.of(viewer) if each.name == name]

    async def seen(self, viewer: Viewer, folder_id: str) -> SeenFolder | None:
        return next((each for each in await self.of(viewer) if each.folder_id == folder_id), None)

    async def automatic(self, user_id: str) -> Sequence[FolderRow]:
        own = [row for row in self._there() if row.user_id == user_id and row.phase == "ready"]
        return sorted((row for row in own if row.name.startswith(".")), key=lambda row: row.name)

    async def by_id(self, folder_id: str) -> FolderRow | None:
        return next((row for row in self._there() if row.folder_id == folder_id), None)

    async def everywhere(self, scopes: Sequence[str] | None = None) -> Sequence[FolderRow]:
        wanted = [row for row in self._there() if row.status != "delete-complete"]
        return sorted(
            (row for row in wanted if scopes is None or row.scope in scopes), key=lambda row: (row.scope, row.name)
        )

    async def members(self, folder_ids: Sequence[str]) -> Sequence[MemberRow]:
        wanted = (row for row in self._all(MEMBERS) if row.folder_id in folder_ids)
        return sorted(wanted, key=lambda row: (row.folder_id, row.since, row.user_id))

    async def mounts_of_folder(self, folder_id: str) -> Sequence[MountRow]:
        return [row for row in self._all(MOUNTS) if row.folder_id == folder_id]

    async def mounts_of_session(self, session_id: str) -> Sequence[MountRow]:
        return [row for row in self._all(MOUNTS) if row.session_id == session_id]

    async def received(self, user_id: str) -> Sequence[ReceivedRow]:
        return [row for row in self._all(RECEIVED) if row.scope == f"user:{user_id}"]

    async def sent(self, user_id: str) -> Sequence[SentInvitation]:
        return [each for each in self._sent() if each.inviter == user_id]

    async def invitation(self, invitation_id: str) -> SentInvitation | None:
        return next((each for each in self._sent() if each.invitation_id == invitation_id), None)

    def _sent(self) -> Iterable[SentInvitation]:
        for row in self._all(INVITATIONS):
            name = self._rows.known[FOLDERS][row.scope, row.folder_id].name
            values = {each.name: getattr(row, each.name) for each in fields(row)}
            yield SentInvitation(**values, folder_name=name)

    async def owner(self, scope: str) -> ScopeRow:
        return self._rows.known[SCOPES].get((scope,)) or ScopeRow(scope, None, {}, closed=False)

    async def usage(self, scope: str) -> Mapping[str, Usage]:
        counted = [row for row in await self.everywhere([scope]) if row.unmanaged_path is None]
        on = {host: [row for row in counted if row.host == host] for host in sorted({row.host for row in counted})}
        return {
            host: Usage(host, sum(row.used_bytes for row in rows), sum(row.files for row in rows), len(rows))
            for host, rows in on.items()
        }


def _seen(row: FolderRow, granted: str, relation: str) -> SeenFolder:
    values = {each.name: getattr(row, each.name) for each in fields(row)}
    return SeenFolder(**values, granted=granted, relation=relation)
