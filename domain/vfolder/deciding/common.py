"""What the parts of the decider share: looking things up, names, limits, and the end of a folder."""

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Final, Literal

from domain.messages import Refused, UserId
from domain.vfolder.folding import evolve
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.common import PurgeTask
from domain.vfolder.messages.life import FolderPurged, FolderPurging
from domain.vfolder.messages.sharing import InvitationClosed, MemberRemoved
from domain.vfolder.mounts import FolderId, Host, Permission, Scope
from domain.vfolder.names import proper_name
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders, Invitation

Events = Sequence[FolderEvents]

RESTING: Final = (Phase.READY, Phase.TRASHED, Phase.BROKEN)
"""Where nobody is at work on a folder, so that it can be purged when its owner is."""


def own(state: Folders, folder_id: FolderId) -> Folder:
    """One of the owner's folders that is not on its way out. Raises `Refused`."""
    folder = state.folders.get(folder_id)
    if folder is None:
        raise Refused("unknown_folder", f"no folder {folder_id}", "folder_id")
    return folder


def ready(state: Folders, folder_id: FolderId) -> Folder:
    """One that is there and can be used. Raises `Refused`."""
    folder = own(state, folder_id)
    if folder.phase is not Phase.READY:
        raise Refused("folder_not_ready", f"folder {folder.name} is {folder.status.value}")
    return folder


def idle(state: Folders, folder_id: FolderId) -> Folder:
    """One that is ready, and that nothing holds. Raises `Refused`."""
    folder = ready(state, folder_id)
    if folder.mounts:
        raise Refused("folder_mounted", f"{len(folder.mounts)} sessions have folder {folder.name} mounted")
    if folder.held_for:
        raise Refused("folder_being_cloned", f"folder {folder.name} is being copied")
    return folder


def free_name(state: Folders, name: str, folder_id: FolderId) -> None:
    """Raises `Refused` unless the folder may be called so, for all that this owner has."""
    proper_name(name)
    if state.names.get(name, folder_id) != folder_id:
        raise Refused("folder_name_taken", f"there is a folder named {name} already", "name")


def may_have_another(state: Folders, host: Host) -> None:
    """Raises `Refused` where the owner's limits allow no more folder, or none there."""
    limits = state.limits
    if limits is None:
        raise Refused("folders_not_allowed", "this owner may not have (more) folders")
    if limits.max_folders and state.count >= limits.max_folders:
        raise Refused("too_many_folders", f"the policy allows {limits.max_folders} folders")
    if "create-vfolder" not in limits.hosts.get(host, ()):
        raise Refused("host_not_allowed", f"no folders may be made on {host}", "host")


def then(state: Folders, events: list[FolderEvents], what: Callable[[Folders], Events]) -> Events:
    """`events`, and what follows from the state after them."""
    for event in events:
        state = evolve(state, event)
    return [*events, *what(state)]


def unless_closed(state: Folders, scope: Scope, event: FolderEvents, folder_id: FolderId) -> Events:
    """The event; and where the owner was purged in the meantime, the folder follows him as soon as nothing holds it."""

    def follow(now: Folders) -> Events:
        folder = now.folders.get(folder_id)
        if folder is None or not now.closed or folder.phase not in RESTING or folder.in_use:
            return []
        return purging(now, scope, folder, event.at)

    return then(state, [event], follow)


def purging(
    state: Folders, scope: Scope, folder: Folder, at: datetime, task: PurgeTask | None = None
) -> list[FolderEvents]:
    """Nobody has it any more, and what is left of it is deleted; of an unmanaged one that is nothing."""
    lost = [
        MemberRemoved(at=at, scope=scope, folder_id=folder.folder_id, user_id=user_id)
        for user_id in sorted(folder.members)
    ]
    gone: list[FolderEvents] = [FolderPurging(at=at, scope=scope, folder_id=folder.folder_id, task=task)]
    if folder.spec.unmanaged_path is not None:
        gone.append(FolderPurged(at=at, scope=scope, folder_id=folder.folder_id))
    return [*uninvited(state, scope, folder, at), *lost, *gone]


def uninvited(state: Folders, scope: Scope, folder: Folder, at: datetime) -> list[FolderEvents]:
    """The invitations to it end, as it is no longer there to be had."""
    return [closed(each, scope, "folder-gone", at) for each in state.invitations_to(folder.folder_id)]


def closed(
    invitation: Invitation, scope: Scope, why: Literal["cancelled", "rejected", "folder-gone"], at: datetime
) -> InvitationClosed:
    return InvitationClosed(
        at=at,
        scope=scope,
        invitation_id=invitation.invitation_id,
        folder_id=invitation.folder_id,
        invitee=invitation.invitee,
        why=why,
    )


def granted(folder: Folder, scope: Scope, user_id: UserId, *, by_project: bool) -> Permission | None:
    """What a user may do in it; None: nothing at all."""
    if scope == f"user:{user_id}":
        return Permission.WD
    if user_id in folder.members:
        return folder.members[user_id]
    return folder.spec.permission if by_project and scope.startswith("project:") else None
