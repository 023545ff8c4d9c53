"""What each event changes in the state of an owner's folders. Accepts every event that was ever written."""

from dataclasses import replace

from immutables import Map

from domain.vfolder.folding_sharing import left, put, shared_by_others, sharing, without
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.life import (
    FolderCloneBegun,
    FolderCreated,
    FolderFailed,
    FolderHeld,
    FolderHoldRefused,
    FolderMounted,
    FolderMountRefused,
    FolderOptionsSet,
    FolderPurged,
    FolderPurging,
    FolderReady,
    FolderReleased,
    FolderRenamed,
    FolderRestored,
    FolderTrashed,
    FolderUnmounted,
    FolderUsageMeasured,
    QuotaSet,
    ScopeClosed,
    ScopeLimitsSet,
)
from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderFollowed,
    FolderGiven,
    FolderInvited,
    FolderJoined,
    FolderLeft,
    FolderTaken,
    InvitationAccepted,
    InvitationAmended,
    InvitationChanged,
    InvitationClosed,
    InvitationReceived,
    InvitationRejected,
    InvitationWithdrawn,
    MemberAdmitted,
    MemberRemoved,
    MemberSet,
    TakingRefused,
    TransferAborted,
    TransferBegun,
)
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders


def evolve(state: Folders, event: FolderEvents) -> Folders:
    match event:
        case ScopeLimitsSet():
            return replace(state, limits=event.limits)
        case ScopeClosed():
            return replace(state, closed=True, limits=None)
        case QuotaSet(host=host, max_bytes=max_bytes):
            quotas = without(state.quotas, host) if max_bytes is None else state.quotas.set(host, max_bytes)
            return replace(state, quotas=quotas)
        case (
            FolderInvited()
            | InvitationChanged()
            | InvitationClosed()
            | MemberAdmitted()
            | AdmissionRefused()
            | MemberSet()
            | MemberRemoved()
        ):
            return sharing(state, event)
        case (
            InvitationReceived()
            | InvitationAmended()
            | InvitationAccepted()
            | InvitationRejected()
            | InvitationWithdrawn()
            | FolderJoined()
            | FolderFollowed()
            | FolderLeft()
        ):
            return shared_by_others(state, event)
        case FolderHoldRefused() | FolderMountRefused() | TakingRefused():
            return state
        case FolderCreated():
            phase = Phase.CREATING if event.source is None else Phase.WAITING
            folder = Folder(
                event.folder_id, event.name, event.spec, phase, event.at, source=event.source, asker=event.asker
            )
            return _named(state, folder)
        case FolderTaken():
            return _taken(state, event)
        case FolderRenamed():
            folder = state.folders[event.folder_id]
            return _named(_unnamed(state, folder), replace(folder, name=event.name))
        case FolderRestored():
            folder = replace(state.folders[event.folder_id], phase=Phase.READY, name=event.name, purge_at=None)
            return _named(state, folder)
        case FolderTrashed():
            folder = state.folders[event.folder_id]
            return put(_unnamed(state, folder), replace(folder, phase=Phase.TRASHED, purge_at=event.purge_at))
        case FolderPurging():
            folder = state.folders[event.folder_id]
            purging = replace(folder, phase=Phase.PURGING, purge_at=None, message="", purge_task=event.task)
            return put(_unnamed(state, folder), purging)
        case FolderPurged() | FolderGiven():
            state = _unnamed(state, state.folders[event.folder_id])
            return replace(state, folders=state.folders.delete(event.folder_id))
        case _:
            return put(state, _changed(state.folders[event.folder_id], event))


def _changed(
    folder: Folder,
    event: FolderCloneBegun
    | FolderReady
    | FolderFailed
    | FolderOptionsSet
    | FolderUsageMeasured
    | FolderMounted
    | FolderUnmounted
    | FolderHeld
    | FolderReleased
    | TransferBegun
    | TransferAborted,
) -> Folder:
    """What happens within one folder."""
    match event:
        case FolderCloneBegun():
            return replace(folder, phase=Phase.COPYING)
        case FolderReady():
            return replace(folder, phase=Phase.READY, used_bytes=event.used_bytes, files=event.files)
        case FolderFailed():
            after = Phase.PURGE_FAILED if event.work is Work.PURGE else Phase.BROKEN
            return replace(folder, phase=after, message=event.message)
        case FolderOptionsSet():
            options = {"permission": event.permission, "cloneable": event.cloneable}
            return replace(folder, spec=folder.spec.model_copy(update=options))
        case FolderUsageMeasured():
            return replace(folder, used_bytes=event.used_bytes, files=event.files)
        case FolderMounted():
            return replace(folder, mounts=folder.mounts.set(event.session_id, event.owner))
        case FolderUnmounted():
            return replace(folder, mounts=without(folder.mounts, event.session_id))
        case FolderHeld():
            return replace(folder, held_for=folder.held_for.set(event.clone.folder_id, event.clone))
        case FolderReleased():
            return replace(folder, held_for=without(folder.held_for, event.clone_id))
        case TransferBegun():
            return replace(folder, phase=Phase.TRANSFERRING, to=event.to)
        case TransferAborted():
            return replace(folder, phase=Phase.READY, to=None)


def _taken(state: Folders, event: FolderTaken) -> Folders:
    """Whoever had joined it has it now as his own."""
    folder = Folder(
        event.folder_id,
        event.name,
        event.spec,
        Phase.READY,
        event.created_at,
        moves=event.moves,
        members=Map({member.user_id: member.permission for member in event.members}),
        used_bytes=event.used_bytes,
        files=event.files,
    )
    return _named(left(state, event.folder_id), folder)


def _named(state: Folders, folder: Folder) -> Folders:
    return replace(put(state, folder), names=state.names.set(folder.name, folder.folder_id))


def _unnamed(state: Folders, folder: Folder) -> Folders:
    """What is in the trash has given up its name already, and another folder may have it."""
    if state.names.get(folder.name) != folder.folder_id:
        return state
    return replace(state, names=state.names.delete(folder.name))
