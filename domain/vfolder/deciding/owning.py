"""What an owner does with his folders: make, call, trash, restore and purge them; and what he may have."""

from domain.messages import Refused, Unneeded, later
from domain.vfolder.deciding.common import (
    RESTING,
    Events,
    free_name,
    idle,
    may_have_another,
    own,
    purging,
    ready,
    uninvited,
)
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderOptionsSet,
    FolderReady,
    FolderRenamed,
    FolderRestored,
    FolderTrashed,
    QuotaSet,
    ScopeClosed,
    ScopeLimitsSet,
)
from domain.vfolder.messages.reports import CloseScope, PassTrashDeadline, SetScopeLimits
from domain.vfolder.messages.requests import (
    CloneFolder,
    CreateFolder,
    PurgeFolder,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetQuota,
    TrashFolder,
)
from domain.vfolder.messages.sharing import FolderLeft, InvitationRejected
from domain.vfolder.names import proper_folder_id
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folders


def create(command: CreateFolder | CloneFolder, state: Folders) -> Events:
    proper_folder_id(command.folder_id)
    source = command.source if isinstance(command, CloneFolder) else None
    if command.folder_id in state.folders or command.folder_id in state.joined:
        raise Refused("folder_id_taken", f"{command.folder_id} is a folder already", "folder_id")
    if source is not None and command.spec.unmanaged_path is not None:
        raise Refused("bad_path", "a clone lies in a volume", "unmanaged_path")
    may_have_another(state, command.spec.host)
    free_name(state, command.name, command.folder_id)
    created = FolderCreated(
        at=command.at,
        scope=command.scope,
        folder_id=command.folder_id,
        name=command.name,
        spec=command.spec,
        source=source,
        asker=command.asker if isinstance(command, CloneFolder) else None,
    )
    if command.spec.unmanaged_path is None:
        return [created]
    return [created, FolderReady(at=command.at, scope=command.scope, folder_id=command.folder_id)]


def rename(command: RenameFolder, state: Folders) -> Events:
    folder = ready(state, command.folder_id)
    if folder.name == command.name:
        return []
    free_name(state, command.name, command.folder_id)
    return [FolderRenamed(at=command.at, scope=command.scope, folder_id=folder.folder_id, name=command.name)]


def set_options(command: SetFolderOptions, state: Folders) -> Events:
    folder = ready(state, command.folder_id)
    permission = folder.spec.permission if command.permission is None else command.permission
    cloneable = folder.spec.cloneable if command.cloneable is None else command.cloneable
    if (permission, cloneable) == (folder.spec.permission, folder.spec.cloneable):
        return []
    return [
        FolderOptionsSet(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            permission=permission,
            cloneable=cloneable,
        )
    ]


def trash(command: TrashFolder, state: Folders) -> Events:
    if own(state, command.folder_id).phase is Phase.TRASHED:
        return []
    folder = idle(state, command.folder_id)
    trashed = FolderTrashed(
        at=command.at,
        scope=command.scope,
        folder_id=folder.folder_id,
        purge_at=later(command.at, command.retention_seconds),
    )
    return [*uninvited(state, command.scope, folder, command.at), trashed]


def restore(command: RestoreFolder, state: Folders) -> Events:
    folder = own(state, command.folder_id)
    if folder.phase is Phase.READY and command.name in (None, folder.name):
        return []
    if folder.phase is not Phase.TRASHED:
        raise Refused("folder_not_trashed", f"folder {folder.name} is {folder.status.value}, not in the trash")
    name = command.name or folder.name
    free_name(state, name, folder.folder_id)
    return [FolderRestored(at=command.at, scope=command.scope, folder_id=folder.folder_id, name=name)]


def purge(command: PurgeFolder, state: Folders) -> Events:
    folder = own(state, command.folder_id)
    if folder.phase is Phase.PURGING:
        return []
    if folder.phase not in (Phase.TRASHED, Phase.BROKEN, Phase.PURGE_FAILED):
        raise Refused("folder_not_trashed", f"folder {folder.name} is {folder.status.value}, not in the trash")
    return purging(state, command.scope, folder, command.at, command.task)


def pass_trash_deadline(command: PassTrashDeadline, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or folder.purge_at != command.deadline:
        raise Unneeded("deadline_moved", "the folder is no longer where this deadline was set")
    return purging(state, command.scope, folder, command.at)


def set_quota(command: SetQuota, state: Folders) -> Events:
    if state.quotas.get(command.host) == command.max_bytes:
        return []
    return [QuotaSet(at=command.at, scope=command.scope, host=command.host, max_bytes=command.max_bytes)]


def set_limits(command: SetScopeLimits, state: Folders) -> Events:
    if state.closed or command.limits == state.limits:
        return []
    return [ScopeLimitsSet(at=command.at, scope=command.scope, limits=command.limits)]


def close(command: CloseScope, state: Folders) -> Events:
    if state.closed:
        return []
    at, scope = command.at, command.scope
    events: list[FolderEvents] = [ScopeClosed(at=at, scope=scope)]
    for folder in sorted(state.folders.values(), key=lambda each: each.folder_id):
        if folder.phase in RESTING and not folder.in_use:
            events += purging(state, scope, folder, at)
    for folder_id, joined in sorted(state.joined.items(), key=lambda each: each[0]):
        events.append(
            FolderLeft(at=at, scope=scope, folder_id=folder_id, folder=joined.folder, left=True, moves=joined.moves)
        )
    for invitation_id, received in sorted(state.received.items(), key=lambda each: each[0]):
        if not received.accepted:
            events.append(InvitationRejected(at=at, scope=scope, invitation_id=invitation_id, folder=received.folder))
    return events
