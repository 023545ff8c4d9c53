"""What the projections know of folders, in the words the routes ask in: a part of `api.known`.

Whether somebody may do what he asks for is the routes' to say; `granted` and `relation` of a `SeenFolder` tell them.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

from domain.directory.messages.tenants import ProjectType
from domain.directory.state import Directory, User
from infra.postgres import Pool, connection
from projections.folders import seen
from projections.folders.rows import FolderRow, MemberRow, MountRow, ReceivedRow, ScopeRow
from projections.folders.seen import SeenFolder, SentInvitation, Usage, Viewer


def viewer_of(user: User, directory: Directory) -> Viewer:
    """A user with the projects he is in, and those that offer models to everybody."""
    stores = (each for each in directory.projects.values() if each.project_type is ProjectType.MODEL_STORE)
    return Viewer(user.user_id, tuple(user.projects), tuple(each.project_id for each in stores if each.spec.active))


class KnownFolders(Protocol):
    """Every method raises `infra.postgres.Unavailable` while the database does not answer."""

    async def of(self, viewer: Viewer) -> Sequence[SeenFolder]:
        """All he has, the nearest (`projections.folders.seen.NEAREST`) first, by name; the trash comes last."""

    async def named(self, viewer: Viewer, name: str) -> Sequence[SeenFolder]:
        """What he calls so, the nearest one first; what was called so and is in the trash comes last."""

    async def seen(self, viewer: Viewer, folder_id: str) -> SeenFolder | None:
        """The folder of that id (in its canonical form), if he has it."""

    async def automatic(self, user_id: str) -> Sequence[FolderRow]:
        """Those of his own that are mounted in all his sessions, as far as they are ready, by name."""

    async def by_id(self, folder_id: str) -> FolderRow | None:
        """Whoever has it, and also when it is purged."""

    async def everywhere(self, scopes: Sequence[str] | None = None) -> Sequence[FolderRow]:
        """The folders of these owners, or of all, by owner and name, without those that are purged."""

    async def members(self, folder_ids: Sequence[str]) -> Sequence[MemberRow]:
        """Of all these folders; of projects' folders, those of whom something else was said than of the rest."""

    async def mounts_of_folder(self, folder_id: str) -> Sequence[MountRow]:
        """The sessions that have it."""

    async def mounts_of_session(self, session_id: str) -> Sequence[MountRow]:
        """The folders that it has; none once it has ended."""

    async def received(self, user_id: str) -> Sequence[ReceivedRow]:
        """What he is invited to, the oldest first."""

    async def sent(self, user_id: str) -> Sequence[SentInvitation]:
        """The invitations of his that stand, the oldest first."""

    async def invitation(self, invitation_id: str) -> SentInvitation | None:
        """The one of that id, if it stands."""

    async def owner(self, scope: str) -> ScopeRow:
        """What policies allow him; nothing, for one of whom nothing was said."""

    async def usage(self, scope: str) -> Mapping[str, Usage]:
        """By host. What is in the trash counts until it is purged."""


class FolderProjections:
    """Answers from Postgres."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def of(self, viewer: Viewer) -> Sequence[SeenFolder]:
        async with connection(self._pool) as db:
            return await seen.folders_of(db, viewer)

    async def named(self, viewer: Viewer, name: str) -> Sequence[SeenFolder]:
        async with connection(self._pool) as db:
            return await seen.named(db, viewer, name)

    async def seen(self, viewer: Viewer, folder_id: str) -> SeenFolder | None:
        async with connection(self._pool) as db:
            return await seen.seen(db, viewer, folder_id)

    async def automatic(self, user_id: str) -> Sequence[FolderRow]:
        async with connection(self._pool) as db:
            return await seen.automatic(db, user_id)

    async def by_id(self, folder_id: str) -> FolderRow | None:
        async with connection(self._pool) as db:
            return await seen.by_id(db, folder_id)

    async def everywhere(self, scopes: Sequence[str] | None = None) -> Sequence[FolderRow]:
        async with connection(self._pool) as db:
            return await seen.everywhere(db, scopes)

    async def members(self, folder_ids: Sequence[str]) -> Sequence[MemberRow]:
        async with connection(self._pool) as db:
            return await seen.members(db, folder_ids)

    async def mounts_of_folder(self, folder_id: str) -> Sequence[MountRow]:
        async with connection(self._pool) as db:
            return await seen.mounts_of_folder(db, folder_id)

    async def mounts_of_session(self, session_id: str) -> Sequence[MountRow]:
        async with connection(self._pool) as db:
            return await seen.mounts_of_session(db, session_id)

    async def received(self, user_id: str) -> Sequence[ReceivedRow]:
        async with connection(self._pool) as db:
            return await seen.received(db, user_id)

    async def sent(self, user_id: str) -> Sequence[SentInvitation]:
        async with connection(self._pool) as db:
            return await seen.sent(db, user_id)

    async def invitation(self, invitation_id: str) -> SentInvitation | None:
        async with connection(self._pool) as db:
            return await seen.invitation(db, invitation_id)

    async def owner(self, scope: str) -> ScopeRow:
        async with connection(self._pool) as db:
            return await seen.owner(db, scope)

    async def usage(self, scope: str) -> Mapping[str, Usage]:
        async with connection(self._pool) as db:
            return await seen.usage(db, scope)
