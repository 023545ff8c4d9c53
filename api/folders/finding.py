"""Which folder is meant, and what whoever asks may do with it.

A folder is meant by its id, with dashes or without, or by its name as its user calls it. Admins find the folders of
those whose admins they are, by id; to others they are not there.
"""

from dataclasses import dataclass
from typing import Annotated, Final, Literal
from uuid import UUID

from fastapi import Depends

from api.access.auth import Caller
from api.access.authority import is_superadmin, sight
from api.folders.storage import Storage
from api.http.deps import All, Known, Services
from api.http.deps import Caller as SignedBy
from api.http.problems import Problem, invalid, refused
from api.known_folders import viewer_of
from domain.directory.folder_limits import folder_limits
from domain.directory.messages.common import HostPermissions
from domain.directory.messages.users import Role
from domain.directory.state import Directory, User
from domain.messages import ProjectId, UserId
from domain.vfolder.mounts import FolderId, FolderRef, Host, Permission, Scope, user_scope
from domain.vfolder.phases import Phase
from projections.folders.rows import FolderRow
from projections.folders.seen import SeenFolder, Viewer

HostPermission = Literal[
    "create-vfolder",
    "modify-vfolder",
    "delete-vfolder",
    "mount-in-session",
    "upload-file",
    "download-file",
    "invite-others",
    "set-user-specific-permission",
]

_REFERENCE_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Found:
    """A folder, as the caller has it. `permission`: what he may do to its files; None: he only manages it.

    `is_owner`: whether it is his to rename, to share and to delete; a project's folder is so for admins.
    """

    row: FolderRow
    permission: Permission | None
    is_owner: bool

    @property
    def id(self) -> FolderId:
        return FolderId(self.row.folder_id)

    @property
    def ref(self) -> FolderRef:
        return FolderRef(scope=self.row.scope, folder_id=self.id, host=self.row.host)

    @property
    def of_project(self) -> bool:
        return self.row.project_id is not None


class Folders:
    """What one caller asks about folders."""

    def __init__(self, caller: Caller, all_: Services) -> None:
        self._caller = caller
        self._all = all_
        self.directory = all_.tail.directory

    @property
    def caller(self) -> Caller:
        return self._caller

    @property
    def user(self) -> User:
        """Whose folders he asks about: his own, unless an admin acts for somebody."""
        return (self.directory.identity(self._caller.owner) or self._caller.identity).user

    @property
    def scope(self) -> Scope:
        return user_scope(self.user.user_id)

    @property
    def viewer(self) -> Viewer:
        return viewer_of(self.user, self.directory)

    @property
    def storage(self) -> Storage:
        return Storage(self._all.settings, self._all.http)

    # -- which one ---------------------------------------------------------------------------------------------------

    async def found(self, reference: str, *, in_trash: bool = False) -> Found:
        """`in_trash`: those there come first. Raises `Problem` (404)."""
        if len(reference) > _REFERENCE_MAX:
            raise invalid("name", "length", f"a folder's name or id has at most {_REFERENCE_MAX} characters")
        if (folder_id := id_in(reference)) is not None:
            seen = await self._all.known.folders.seen(self.viewer, folder_id)
            if seen is not None:
                return self.of(seen)
            if (row := await self._all.known.folders.by_id(folder_id)) is not None and self._manages(row):
                return Found(row, self._permission_of_admin(row), is_owner=True)
            raise not_found(reference)
        named = await self._all.known.folders.named(self.viewer, reference)
        wanted = [each for each in named if each.deleted is in_trash] or named
        if not wanted:
            raise not_found(reference)
        return self.of(wanted[0])

    def of(self, seen: SeenFolder) -> Found:
        """One that the user has."""
        is_admin = seen.project_id is not None and self._manages(seen)
        granted = Permission.WD if is_admin else Permission(seen.granted)
        return Found(seen, granted, is_owner=seen.is_owner or is_admin)

    async def mine(self) -> list[Found]:
        """Those the user has."""
        return [self.of(seen) for seen in await self._all.known.folders.of(self.viewer)]

    async def everywhere(self) -> list[Found]:
        """Also those of others that he sees as an admin."""
        own = await self.mine()
        known = {found.id for found in own}
        others = await self._all.known.folders.everywhere(self._scopes_seen()) if self._caller.is_admin else ()
        return own + [
            Found(row, Permission(row.permission), is_owner=False)
            for row in others
            if row.folder_id not in known and self._manages(row)
        ]

    def _scopes_seen(self) -> list[Scope] | None:
        """None: every owner's."""
        if is_superadmin(self._caller.identity):
            return None
        domain = self._caller.identity.user.spec.domain
        users = (each.user_id for each in self.directory.users.values() if each.spec.domain == domain)
        projects = (each.project_id for each in self.directory.projects.values() if each.domain == domain)
        return [*(f"user:{each}" for each in users), *(f"project:{each}" for each in projects)]

    def _manages(self, row: FolderRow) -> bool:
        """Whether he is admin over its owner: for a superadmin's folders that takes a superadmin."""
        who = self._caller.identity
        if is_superadmin(who):
            return True
        if who.user.spec.role is not Role.ADMIN:
            return False
        owner = self.directory.users.get(UserId(row.user_id)) if row.user_id is not None else None
        if owner is not None and owner.spec.role is Role.SUPERADMIN:
            return False
        domain = domain_of(row, self.directory)
        return domain is not None and sight(who).tenant(domain)

    def _permission_of_admin(self, row: FolderRow) -> Permission | None:
        """What lies in users' folders is their own, and superadmins'."""
        return Permission.WD if is_superadmin(self._caller.identity) or row.project_id is not None else None

    # -- what he may do with it --------------------------------------------------------------------------------------

    async def readable(self, reference: str, action: HostPermission | None = None) -> Found:
        """One whose files he may look at now. Raises `Problem`."""
        found = await self.found(reference)
        if found.permission is None:
            raise forbidden("what lies in this folder is its owner's alone")
        if found.row.unmanaged_path is not None:
            raise Problem(
                409, "folder-unmanaged", "The folder is no folder of a volume", "its files are reached in sessions only"
            )
        if found.row.phase != Phase.READY:
            raise Problem(
                409,
                "folder-not-ready",
                "The folder cannot be used now",
                f"the folder {found.row.name} is {found.row.status}",
                retryable=found.row.status in {"performing", "cloning"},
            )
        if action is not None:
            self.allowed(found.row.host, action, found.row.scope)
        return found

    async def writable(self, reference: str, action: HostPermission) -> Found:
        """One whose files he may change now. Raises `Problem`."""
        found = await self.readable(reference, action)
        if self._caller.identity.user.spec.role is Role.MONITOR:
            raise forbidden("a monitor changes nothing")
        if found.permission is None or not found.permission.writes:
            raise forbidden(f"you may only read in the folder {found.row.name}", "permission")
        return found

    async def owned(self, reference: str, action: HostPermission, *, in_trash: bool = False) -> Found:
        """One that is his to manage. That he may give the command is checked besides. Raises `Problem`."""
        found = await self.found(reference, in_trash=in_trash)
        if not found.is_owner:
            raise forbidden(f"the folder {found.row.name} is not yours")
        self.allowed(found.row.host, action, found.row.scope)
        return found

    def allowed(self, host: Host, action: HostPermission, scope: Scope | None = None) -> None:
        """Whether his policies allow him that on the host, or those of the project whose folder it is.

        Raises `Problem` (403).
        """
        if is_superadmin(self._caller.identity):
            return
        if action in self.hosts().get(host, ()):
            return
        if scope is not None and scope.startswith("project:") and action in self.hosts(scope).get(host, ()):
            return
        raise Problem(
            403,
            "host-permission-missing",
            "Not allowed on this storage host",
            f"no policy of yours allows {action} on {host}",
            field="host",
            rule=action,
            data={"host": host},
        )

    def hosts(self, scope: Scope | None = None) -> HostPermissions:
        """What an owner's policies allow, by host; the user's own where none is named."""
        kind, _, subject = (scope or self.scope).partition(":")
        users, projects = ([UserId(subject)], []) if kind == "user" else ([], [ProjectId(subject)])
        limits = folder_limits(self.directory, users, projects)
        return next(iter(limits.values())).hosts if limits else {}


async def _folders(caller: SignedBy, all_: All, known: Known) -> Folders:
    del known  # asked for so that a position is waited for
    return Folders(caller, all_)


Mine = Annotated[Folders, Depends(_folders)]
"""What a route about folders asks for."""


def id_in(reference: str) -> FolderId | None:
    """In its canonical form; None: it is a name."""
    if len(reference) not in {32, 36}:
        return None
    try:
        return FolderId(str(UUID(reference)))
    except ValueError:
        return None


def domain_of(row: FolderRow, directory: Directory) -> str | None:
    """Where its owner belongs; None once he is purged."""
    if row.user_id is not None:
        user = directory.users.get(UserId(row.user_id))
        return None if user is None else user.spec.domain
    project = directory.projects.get(ProjectId(row.project_id or ""))
    return None if project is None else project.domain


def not_found(reference: str) -> Problem:
    return refused("unknown_folder", f"you have no folder {reference[:80]!r}", "name")


def forbidden(detail: str, field: str | None = None) -> Problem:
    return Problem(403, "generic-forbidden", "Forbidden operation", detail, field=field)
