"""Sharing, as those see it who are invited: what they are offered, what they take, and what becomes of it."""

from domain.messages import Refused, Unneeded
from domain.vfolder.deciding.common import Events
from domain.vfolder.messages.between import (
    AmendInvitation,
    ConfirmMembership,
    FollowFolder,
    ForgetFolder,
    ReceiveInvitation,
    WithdrawInvitation,
)
from domain.vfolder.messages.common import InvitationId
from domain.vfolder.messages.requests import AcceptInvitation, LeaveFolder, RejectInvitation
from domain.vfolder.messages.sharing import (
    FolderFollowed,
    FolderJoined,
    FolderLeft,
    InvitationAccepted,
    InvitationAmended,
    InvitationReceived,
    InvitationRejected,
    InvitationWithdrawn,
)
from domain.vfolder.state import Folders, Received


def receive(command: ReceiveInvitation, state: Folders) -> Events:
    if command.invitation_id in state.received:
        raise Unneeded("invitation_received", "the invitation is here already")
    if state.closed:
        return [
            InvitationRejected(
                at=command.at, scope=command.scope, invitation_id=command.invitation_id, folder=command.folder
            )
        ]
    return [
        InvitationReceived(
            at=command.at,
            scope=command.scope,
            invitation_id=command.invitation_id,
            folder=command.folder,
            name=command.name,
            inviter=command.inviter,
            permission=command.permission,
            moves=command.moves,
        )
    ]


def amend(command: AmendInvitation, state: Folders) -> Events:
    received = state.received.get(command.invitation_id)
    if received is None or received.permission is command.permission:
        raise Unneeded("nothing_to_amend", "the invitation is so already, or decided")
    return [
        InvitationAmended(
            at=command.at,
            scope=command.scope,
            invitation_id=command.invitation_id,
            permission=command.permission,
        )
    ]


def accept(command: AcceptInvitation, state: Folders) -> Events:
    received = _received(command.invitation_id, state)
    if received.accepted:
        return []
    folder_id = received.folder.folder_id
    if folder_id in state.folders or folder_id in state.joined or state.accepted(folder_id) is not None:
        raise Refused("folder_joined_already", "this user has the folder, or is about to have it")
    if received.name in state.names:
        raise Refused("folder_name_taken", f"there is a folder named {received.name} already", "name")
    return [
        InvitationAccepted(
            at=command.at,
            scope=command.scope,
            invitation_id=command.invitation_id,
            folder=received.folder,
            name=received.name,
        )
    ]


def reject(command: RejectInvitation, state: Folders) -> Events:
    received = _received(command.invitation_id, state)
    if received.accepted:
        raise Refused("invitation_accepted", "the invitation was accepted already")
    return [
        InvitationRejected(
            at=command.at, scope=command.scope, invitation_id=command.invitation_id, folder=received.folder
        )
    ]


def withdraw(command: WithdrawInvitation, state: Folders) -> Events:
    """Of one that was accepted, too: its owner ended it before he heard of that, and will say so again."""
    received = state.received.get(command.invitation_id)
    if received is None:
        raise Unneeded("invitation_decided", "the invitation is not here (any more)")
    return [
        InvitationWithdrawn(
            at=command.at,
            scope=command.scope,
            invitation_id=command.invitation_id,
            folder_id=received.folder.folder_id,
        )
    ]


def confirm(command: ConfirmMembership, state: Folders) -> Events:
    """A user who is no more leaves at once."""
    received = state.received.get(command.invitation_id)
    if received is None:
        raise Unneeded("invitation_decided", "the invitation is not here (any more)")
    joined = FolderJoined(
        at=command.at,
        scope=command.scope,
        folder_id=received.folder.folder_id,
        invitation_id=command.invitation_id,
        folder=received.folder,
        name=received.name,
        moves=received.moves,
    )
    if not state.closed:
        return [joined]
    return [joined, _left(command, joined)]


def follow(command: FollowFolder, state: Folders) -> Events:
    """Whoever is named as a member by a new owner, but has left in the meantime, says so again to him."""
    if command.folder_id in state.folders:
        raise Unneeded("own_folder", "the folder is this user's own by now")
    if (accepted := state.accepted(command.folder_id)) is not None:
        if accepted.moves >= command.moves:
            raise Unneeded("overtaken", "the folder has changed hands since")
        joined = FolderJoined(
            at=command.at,
            scope=command.scope,
            folder_id=command.folder_id,
            invitation_id=accepted.invitation_id,
            folder=command.folder,
            name=accepted.name,
            moves=command.moves,
        )
        return [joined, _left(command, joined)] if state.closed else [joined]
    known = state.joined.get(command.folder_id)
    if known is None:
        return [_left(command, command)]
    name = command.name if state.names.get(command.name, command.folder_id) == command.folder_id else known.name
    if known.moves > command.moves or (known.folder, known.name, known.moves) == (command.folder, name, command.moves):
        raise Unneeded("overtaken", "the folder is known so already, or has changed hands since")
    return [
        FolderFollowed(
            at=command.at,
            scope=command.scope,
            folder_id=command.folder_id,
            folder=command.folder,
            name=name,
            moves=command.moves,
        )
    ]


def forget(command: ForgetFolder, state: Folders) -> Events:
    joined = state.joined.get(command.folder_id)
    if joined is None or joined.folder.scope != command.owner:
        raise Unneeded("not_a_member", "this user does not have that owner's folder (any more)")
    return [
        FolderLeft(
            at=command.at,
            scope=command.scope,
            folder_id=command.folder_id,
            folder=joined.folder,
            left=False,
            moves=joined.moves,
        )
    ]


def leave(command: LeaveFolder, state: Folders) -> Events:
    if command.folder_id in state.folders:
        raise Refused("owner_cannot_leave", "a folder cannot be left by its owner", "folder_id")
    joined = state.joined.get(command.folder_id)
    if joined is None:
        raise Refused("unknown_folder", f"no folder {command.folder_id} that others share", "folder_id")
    return [
        FolderLeft(
            at=command.at,
            scope=command.scope,
            folder_id=command.folder_id,
            folder=joined.folder,
            left=True,
            moves=joined.moves,
        )
    ]


def _left(command: FollowFolder | ConfirmMembership, known: FollowFolder | FolderJoined) -> FolderLeft:
    return FolderLeft(
        at=command.at,
        scope=command.scope,
        folder_id=known.folder_id,
        folder=known.folder,
        left=True,
        moves=known.moves,
    )


def _received(invitation_id: InvitationId, state: Folders) -> Received:
    received = state.received.get(invitation_id)
    if received is None:
        raise Refused("unknown_invitation", f"no invitation {invitation_id}", "invitation_id")
    return received
