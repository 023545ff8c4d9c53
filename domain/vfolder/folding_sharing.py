"""What the events of sharing change: on the owner's side, and on the side of those he shares with."""

from dataclasses import replace
from typing import Any

from immutables import Map

from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderFollowed,
    FolderInvited,
    FolderJoined,
    FolderLeft,
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
)
from domain.vfolder.mounts import FolderId
from domain.vfolder.state import Folder, Folders, Invitation, Joined, Received


def sharing(
    state: Folders,
    event: FolderInvited
    | InvitationChanged
    | InvitationClosed
    | MemberAdmitted
    | AdmissionRefused
    | MemberSet
    | MemberRemoved,
) -> Folders:
    """With whom the owner shares his folders."""
    match event:
        case FolderInvited():
            invitation = Invitation(
                event.invitation_id, event.folder_id, event.inviter, event.invitee, event.permission
            )
            return replace(state, invitations=state.invitations.set(event.invitation_id, invitation))
        case InvitationChanged():
            changed = replace(state.invitations[event.invitation_id], permission=event.permission)
            return replace(state, invitations=state.invitations.set(event.invitation_id, changed))
        case InvitationClosed():
            return replace(state, invitations=without(state.invitations, event.invitation_id))
        case AdmissionRefused():
            return state
        case MemberAdmitted():
            state = replace(state, invitations=without(state.invitations, event.invitation_id))
    folder = state.folders[event.folder_id]
    if isinstance(event, MemberRemoved):
        return put(state, replace(folder, members=without(folder.members, event.user_id)))
    return put(state, replace(folder, members=folder.members.set(event.user_id, event.permission)))


def shared_by_others(
    state: Folders,
    event: InvitationReceived
    | InvitationAmended
    | InvitationAccepted
    | InvitationRejected
    | InvitationWithdrawn
    | FolderJoined
    | FolderFollowed
    | FolderLeft,
) -> Folders:
    """What others share with the user, or offer to."""
    match event:
        case InvitationReceived():
            received = Received(
                event.invitation_id, event.folder, event.name, event.inviter, event.permission, event.moves
            )
            return replace(state, received=state.received.set(event.invitation_id, received))
        case InvitationAmended():
            received = replace(state.received[event.invitation_id], permission=event.permission)
            return replace(state, received=state.received.set(event.invitation_id, received))
        case InvitationAccepted():
            received = replace(state.received[event.invitation_id], name=event.name, accepted=True)
            return replace(
                state,
                received=state.received.set(event.invitation_id, received),
                names=state.names.set(event.name, event.folder.folder_id),
            )
        case InvitationRejected() | InvitationWithdrawn():  # also of one that never came to be here
            found = state.received.get(event.invitation_id)
            names = without(state.names, found.name) if found is not None and found.accepted else state.names
            return replace(state, received=without(state.received, event.invitation_id), names=names)
        case FolderJoined():
            state = replace(state, received=without(state.received, event.invitation_id))
            return _joined(state, Joined(event.folder, event.name, event.moves))
        case FolderFollowed():
            return _joined(state, Joined(event.folder, event.name, event.moves))
        case FolderLeft():
            return left(state, event.folder_id)


def _joined(state: Folders, joined: Joined) -> Folders:
    folder_id = joined.folder.folder_id
    state = left(state, folder_id)
    return replace(state, joined=state.joined.set(folder_id, joined), names=state.names.set(joined.name, folder_id))


def left(state: Folders, folder_id: FolderId) -> Folders:
    joined = state.joined.get(folder_id)
    if joined is None:
        return state
    return replace(state, joined=state.joined.delete(folder_id), names=without(state.names, joined.name))


def put(state: Folders, folder: Folder) -> Folders:
    return replace(state, folders=state.folders.set(folder.folder_id, folder))


def without(entries: Map[Any, Any], key: object) -> Map[Any, Any]:
    return entries.delete(key) if key in entries else entries
