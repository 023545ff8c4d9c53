"""Sharing, as the owner of the folders sees it: whom he invites, who comes, what they may do, and who goes."""

from typing import Final

from domain.messages import Refused, Unneeded, UserId
from domain.vfolder.deciding.common import Events, closed, own, ready
from domain.vfolder.messages.between import AdmitMember, CloseInvitation, LoseMember
from domain.vfolder.messages.common import InvitationId
from domain.vfolder.messages.requests import CancelInvitation, ChangeInvitation, InviteToFolder, RemoveMember, SetMember
from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderInvited,
    InvitationChanged,
    MemberAdmitted,
    MemberRemoved,
    MemberSet,
)
from domain.vfolder.mounts import FolderId, Scope, user_scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders, Invitation

MEMBERS_MAX: Final = 1000
"""Of one folder, the invited included: a folder that changes hands names all of them in one record."""


def invite(command: InviteToFolder, state: Folders) -> Events:
    if not command.scope.startswith("user:"):
        raise Refused("project_folder", "a project's folder is its members' already")
    folder = ready(state, command.folder_id)
    if command.scope == user_scope(command.invitee):
        raise Refused("owner_invited", "the owner has it already", "invitee")
    if command.invitee in folder.members:
        raise Unneeded("member_already", f"{command.invitee} has the folder already")
    invited = {each.invitee: each for each in state.invitations_to(folder.folder_id)}
    if command.invitee in invited:
        existing = invited[command.invitee].invitation_id
        raise Unneeded("invited_already", f"{command.invitee} is invited already", existing)
    if command.invitation_id in state.invitations:
        raise Refused("invitation_id_taken", f"{command.invitation_id} is an invitation already", "invitation_id")
    _room_for_another(folder, len(invited))
    return [
        FolderInvited(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            invitation_id=command.invitation_id,
            inviter=command.inviter,
            invitee=command.invitee,
            permission=command.permission,
        )
    ]


def change_invitation(command: ChangeInvitation, state: Folders) -> Events:
    invitation = _standing(command.invitation_id, state)
    if invitation.permission is command.permission:
        return []
    return [
        InvitationChanged(
            at=command.at,
            scope=command.scope,
            invitation_id=invitation.invitation_id,
            folder_id=invitation.folder_id,
            permission=command.permission,
        )
    ]


def cancel_invitation(command: CancelInvitation, state: Folders) -> Events:
    return [closed(_standing(command.invitation_id, state), command.scope, "cancelled", command.at)]


def close_invitation(command: CloseInvitation, state: Folders) -> Events:
    invitation = state.invitations.get(command.invitation_id)
    if invitation is None:
        raise Unneeded("invitation_closed", "the invitation stands no more")
    return [closed(invitation, command.scope, "rejected", command.at)]


def admit(command: AdmitMember, state: Folders) -> Events:
    invitation = state.invitations.get(command.invitation_id)
    if invitation is None or invitation.invitee != command.invitee:
        return [
            AdmissionRefused(
                at=command.at,
                scope=command.scope,
                folder_id=command.folder_id,
                invitation_id=command.invitation_id,
                invitee=command.invitee,
            )
        ]
    return [
        MemberAdmitted(
            at=command.at,
            scope=command.scope,
            folder_id=invitation.folder_id,
            invitation_id=invitation.invitation_id,
            user_id=invitation.invitee,
            permission=invitation.permission,
        )
    ]


def set_member(command: SetMember, state: Folders) -> Events:
    folder = ready(state, command.folder_id)
    if command.scope.startswith("user:") and command.user_id not in folder.members:
        raise Refused("unknown_member", f"{command.user_id} does not have the folder", "user_id")
    if folder.members.get(command.user_id) is command.permission:
        return []
    if command.user_id not in folder.members:
        _room_for_another(folder, 0)
    return [
        MemberSet(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            user_id=command.user_id,
            permission=command.permission,
        )
    ]


def remove_member(command: RemoveMember, state: Folders) -> Events:
    folder = own(state, command.folder_id)
    if command.user_id not in folder.members:
        raise Unneeded("not_a_member", f"{command.user_id} does not have the folder")
    if folder.phase is Phase.TRANSFERRING:  # its members were told to the one who may get it
        raise Refused("folder_not_ready", f"folder {folder.name} is {folder.status.value}")
    return [_removed(command.scope, folder.folder_id, command.user_id, command)]


def lose_member(command: LoseMember, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or command.user_id not in folder.members or command.moves < folder.moves:
        raise Unneeded("not_a_member", f"{command.user_id} does not have the folder (any more)")
    return [_removed(command.scope, folder.folder_id, command.user_id, command)]


def _removed(scope: Scope, folder_id: FolderId, user_id: UserId, command: RemoveMember | LoseMember) -> MemberRemoved:
    left = isinstance(command, LoseMember)
    return MemberRemoved(at=command.at, scope=scope, folder_id=folder_id, user_id=user_id, left=left)


def _standing(invitation_id: InvitationId, state: Folders) -> Invitation:
    invitation = state.invitations.get(invitation_id)
    if invitation is None:
        raise Refused("unknown_invitation", f"no invitation {invitation_id} stands", "invitation_id")
    return invitation


def _room_for_another(folder: Folder, invited: int) -> None:
    if len(folder.members) + invited >= MEMBERS_MAX:
        raise Refused("too_many_members", f"a folder has {MEMBERS_MAX} members and invited at most")
