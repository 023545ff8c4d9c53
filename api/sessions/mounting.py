"""Whether a session may have the folders that it asks for: when it is asked for, and again when a kernel starts.

A user may mount what he has, with no more rights than he has in it, where a policy of his, or of the project whose
folder it is, lets him (`mount-in-session`). A project's folder goes into sessions of that project. His own folders
whose names begin with a dot come along by themselves (catalogue VF-7), unless something else is to go to their place.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import structlog

from api.access.auth import Caller
from api.access.authority import is_superadmin
from api.folders.finding import id_in
from api.http.deps import Services
from api.http.problems import Problem, invalid, refused
from api.known_folders import viewer_of
from api.sessions.mounts import Wanted, below, overlap, placed, refuse_overlaps
from domain.directory.folder_limits import folder_limits
from domain.directory.messages.personal import DotfileScope
from domain.directory.state import Directory, Identity
from domain.messages import ProjectId
from domain.outfits import MOUNT_REFUSED, Question
from domain.session.messages import MOUNTS_MAX, RequestSession
from domain.vfolder.mounts import HOME, RANK, FolderId, FolderRef, Host, Mount, Permission, least
from domain.vfolder.phases import Phase
from infra.postgres import Unavailable
from projections.folders.rows import FolderRow
from projections.folders.seen import SeenFolder, Viewer

_ACTION: Final = "mount-in-session"
_OFFERED: Final = frozenset({"project", "store"})
"""Relations by which somebody has a folder as one of many: see `projections.folders.seen.NEAREST`."""

_log = structlog.get_logger("api.sessions.mounting")


async def with_mounts(
    command: RequestSession, asked: Sequence[Wanted], caller: Caller, all_: Services
) -> RequestSession:
    """The command with the folders that are asked for, and those that come by themselves.

    Raises `Problem` (400, 403, 404), `Unavailable`.
    """
    owner = all_.tail.directory.identity(command.owner) or caller.identity
    mounting = _Mounting(owner, command.spec.project_id, all_)
    mounts = [await mounting.mount(each) for each in asked]
    refuse_overlaps([(mount.path, each.field) for mount, each in zip(mounts, asked, strict=True)])
    try:
        mounts += [each for each in await mounting.automatic() if not any(overlap(each.path, m.path) for m in mounts)]
    except Unavailable:
        if asked:
            raise
        _log.warning("a session goes without its owner's dot-folders: the database is away", owner=command.owner)
    if len(mounts) > MOUNTS_MAX:
        raise invalid("config.mounts", "count", f"a session has at most {MOUNTS_MAX} folders, with the dot-folders")
    _refuse_dotfiles(mounts, owner, command.spec.project_id, all_.tail.directory)
    return command.model_copy(update={"spec": command.spec.model_copy(update={"mounts": tuple(mounts)})})


async def told_mounts(command: RequestSession, caller: Caller, all_: Services) -> RequestSession:
    """The same for a command that people gave: theirs to say is folder, part, path and permission of each mount."""
    asked = [
        Wanted(
            mount.folder.folder_id,
            below(mount.subpath, f"spec.mounts.{number}.subpath"),
            placed(mount.path, f"spec.mounts.{number}.path"),
            mount.permission,
            f"spec.mounts.{number}",
        )
        for number, mount in enumerate(command.spec.mounts)
    ]
    return await with_mounts(command, asked, caller, all_)


async def still_granted(owner: Identity, question: Question, all_: Services) -> tuple[Mount, ...]:
    """With the permission that is granted now. Raises `Problem` (403) where one may not be had, and `Unavailable`."""
    mounting = _Mounting(owner, question.project_id, all_)
    mounts: list[Mount] = []
    for mount in question.mounts:
        wanted = Wanted(mount.folder.folder_id, mount.subpath, mount.path, None, "mounts")
        try:
            now = await mounting.mount(wanted)
        except Problem as problem:
            raise Problem(
                403, MOUNT_REFUSED, "The folder cannot be mounted", f"{mount.name}: {problem.detail}", field="mounts"
            ) from problem
        mounts.append(
            mount.model_copy(update={"folder": now.folder, "permission": least(mount.permission, now.permission)})
        )
    return tuple(mounts)


@dataclass(frozen=True, slots=True)
class _Mounting:
    """For one user's session in a project."""

    owner: Identity
    project_id: ProjectId | None
    all_: Services

    async def mount(self, wanted: Wanted) -> Mount:
        """Raises `Problem`."""
        folder = await self._found(wanted)
        if folder.phase != Phase.READY:
            raise Problem(
                409,
                "folder-not-ready",
                "The folder cannot be used now",
                f"the folder {folder.name} is {folder.status}",
                field=wanted.field,
                retryable=folder.status in {"performing", "cloning"},
            )
        if folder.relation == "project" and folder.project_id != self.project_id:
            raise invalid(
                wanted.field, "other_project", f"the folder {folder.name} is of another project than the session"
            )
        granted = Permission(folder.granted)
        if wanted.permission is not None and RANK[wanted.permission] > RANK[granted]:
            detail = f"you have the folder {folder.name} as {granted.value}, not as {wanted.permission.value}"
            raise Problem(
                403, "generic-forbidden", "Forbidden operation", detail, field=wanted.field, rule="permission"
            )
        if not self._allowed(folder.host, folder.project_id if folder.relation == "project" else None):
            raise Problem(
                403,
                "host-permission-missing",
                "Not allowed on this storage host",
                f"no policy of yours allows {_ACTION} on {folder.host}",
                field=wanted.field,
                rule=_ACTION,
            )
        permission, by_project = wanted.permission or granted, folder.relation in _OFFERED
        return self._made(folder, wanted.subpath, wanted.path, permission, by_project=by_project)

    async def automatic(self) -> list[Mount]:
        """Those of the user's own folders that come by themselves, as far as they can."""
        dotted = await self.all_.tail.dot_folders.of(self.owner.user.user_id, self.all_.known)
        return [self._made(each, "", None, Permission.WD) for each in dotted if self._allowed(each.host)]

    @property
    def _viewer(self) -> Viewer:
        return viewer_of(self.owner.user, self.all_.tail.directory)

    async def _found(self, wanted: Wanted) -> SeenFolder:
        known, reference = self.all_.known.folders, wanted.reference
        if (folder_id := id_in(reference)) is not None:
            found = await known.seen(self._viewer, folder_id)
        else:
            named = await known.named(self._viewer, reference)
            found = next((each for each in named if not each.deleted), None)
        if found is None or found.deleted:
            raise refused("unknown_folder", f"you have no folder {reference[:80]!r}", wanted.field)
        return found

    def _allowed(self, host: Host, project_id: str | None = None) -> bool:
        """By the user's own policies, or those of that project."""
        if is_superadmin(self.owner):
            return True
        projects = [] if project_id is None else [ProjectId(project_id)]
        limits = folder_limits(self.all_.tail.directory, [self.owner.user.user_id], projects)
        return any(_ACTION in each.hosts.get(host, ()) for each in limits.values())

    def _made(
        self, folder: FolderRow, subpath: str, path: str | None, permission: Permission, *, by_project: bool = False
    ) -> Mount:
        return Mount(
            folder=FolderRef(scope=folder.scope, folder_id=FolderId(folder.folder_id), host=folder.host),
            user_id=self.owner.user.user_id,
            by_project=by_project,
            name=folder.name,
            subpath=subpath,
            path=path or f"{HOME}/{folder.name}",
            permission=permission,
            unmanaged_path=folder.unmanaged_path,
        )


def _refuse_dotfiles(
    mounts: Sequence[Mount], owner: Identity, project_id: ProjectId | None, directory: Directory
) -> None:
    """A dotfile cannot be where a folder is, nor above it. (One in a folder is written into it.)"""
    for file in set(_dotfiles(owner, project_id, directory)):
        for mount in mounts:
            if PurePosixPath(mount.path).is_relative_to(PurePosixPath(HOME, file)):
                detail = f"the folder {mount.name} would go to {mount.path}, where the dotfile {file} is"
                raise invalid("config.mounts", "dotfile", detail)


def _dotfiles(owner: Identity, project_id: ProjectId | None, directory: Directory) -> Iterator[str]:
    yield from directory.dotfiles_of(DotfileScope.KEYPAIR, str(owner.keypair.access_key))
    if project_id is not None:
        yield from directory.dotfiles_of(DotfileScope.PROJECT, str(project_id))
    yield from directory.dotfiles_of(DotfileScope.DOMAIN, owner.user.spec.domain)
