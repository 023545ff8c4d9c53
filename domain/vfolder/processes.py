"""The next word of a process between two owners: an invitation, a clone, a folder that changes hands."""

from collections.abc import Sequence

from domain.messages import UserId
from domain.vfolder.folding import evolve
from domain.vfolder.messages import FolderCommands, FolderEvents
from domain.vfolder.messages.between import (
    AbortTransfer,
    AdmitMember,
    AmendInvitation,
    BeginClone,
    CloseInvitation,
    ConfirmMembership,
    ConfirmTransfer,
    FollowFolder,
    ForgetFolder,
    HoldForClone,
    LoseMember,
    ReceiveInvitation,
    RefuseClone,
    ReleaseClone,
    TakeFolder,
    WithdrawInvitation,
)
from domain.vfolder.messages.common import Member
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderFailed,
    FolderHeld,
    FolderHoldRefused,
    FolderReady,
    FolderRenamed,
)
from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderInvited,
    FolderLeft,
    FolderTaken,
    InvitationAccepted,
    InvitationChanged,
    InvitationClosed,
    InvitationRejected,
    MemberAdmitted,
    MemberRemoved,
    TakingRefused,
    TransferBegun,
)
from domain.vfolder.mounts import FolderRef, Scope, user_scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders


def to_owners(event: FolderEvents, before: Folders) -> Sequence[FolderCommands]:
    """What owners, and those they share with, are told in consequence of the event."""
    match event:
        case (
            FolderInvited()
            | InvitationChanged()
            | InvitationClosed()
            | MemberAdmitted()
            | AdmissionRefused()
            | MemberRemoved()
        ):
            return _to_those_who_are_invited(event, before)
        case InvitationAccepted() | InvitationRejected() | FolderLeft():
            return _to_who_invited(event)
        case FolderRenamed():
            folder = before.folders[event.folder_id]
            return _followed(folder, event.scope, event.name, event)
        case FolderCreated() | FolderReady() | FolderFailed() | FolderHeld() | FolderHoldRefused():
            return _of_clones(event, before)
        case TransferBegun() | FolderTaken() | TakingRefused():
            return _of_transfers(event, before)
        case _:
            return []


def _to_those_who_are_invited(
    event: FolderInvited | InvitationChanged | InvitationClosed | MemberAdmitted | AdmissionRefused | MemberRemoved,
    before: Folders,
) -> Sequence[FolderCommands]:
    match event:
        case FolderInvited():
            folder = before.folders[event.folder_id]
            return [
                ReceiveInvitation(
                    at=event.at,
                    scope=user_scope(event.invitee),
                    invitation_id=event.invitation_id,
                    folder=folder.ref(event.scope),
                    name=folder.name,
                    inviter=event.inviter,
                    permission=event.permission,
                    moves=folder.moves,
                )
            ]
        case InvitationChanged():
            invitee = user_scope(before.invitations[event.invitation_id].invitee)
            return [
                AmendInvitation(
                    at=event.at, scope=invitee, invitation_id=event.invitation_id, permission=event.permission
                )
            ]
        case InvitationClosed(why="rejected"):  # he knows
            return []
        case InvitationClosed() | AdmissionRefused():
            invitee = user_scope(event.invitee)
            return [WithdrawInvitation(at=event.at, scope=invitee, invitation_id=event.invitation_id)]
        case MemberAdmitted():
            member = user_scope(event.user_id)
            return [ConfirmMembership(at=event.at, scope=member, invitation_id=event.invitation_id)]
        case MemberRemoved():
            if event.left or not _is_users(event.scope):  # he knows, or has it by his project
                return []
            member = user_scope(event.user_id)
            return [ForgetFolder(at=event.at, scope=member, folder_id=event.folder_id, owner=event.scope)]


def _to_who_invited(
    event: InvitationAccepted | InvitationRejected | FolderLeft,
) -> Sequence[FolderCommands]:
    user_id, owner, folder_id = UserId(event.scope.partition(":")[2]), event.folder.scope, event.folder.folder_id
    match event:
        case InvitationAccepted():
            return [
                AdmitMember(
                    at=event.at,
                    scope=owner,
                    folder_id=folder_id,
                    invitation_id=event.invitation_id,
                    invitee=user_id,
                )
            ]
        case InvitationRejected():
            return [CloseInvitation(at=event.at, scope=owner, folder_id=folder_id, invitation_id=event.invitation_id)]
        case FolderLeft():
            if not event.left:
                return []
            return [LoseMember(at=event.at, scope=owner, folder_id=folder_id, user_id=user_id, moves=event.moves)]


def _of_clones(
    event: FolderCreated | FolderReady | FolderFailed | FolderHeld | FolderHoldRefused, before: Folders
) -> Sequence[FolderCommands]:
    match event:
        case FolderCreated(source=None):
            return []
        case FolderCreated():
            clone = FolderRef(scope=event.scope, folder_id=event.folder_id, host=event.spec.host)
            assert event.source is not None
            return [_hold(event.source, clone, event)]
        case FolderHeld():
            return [
                BeginClone(
                    at=event.at,
                    scope=event.clone.scope,
                    folder_id=event.clone.folder_id,
                    used_bytes=event.used_bytes,
                )
            ]
        case FolderHoldRefused():
            return [
                RefuseClone(
                    at=event.at,
                    scope=event.clone.scope,
                    folder_id=event.clone.folder_id,
                    message=event.message,
                )
            ]
        case FolderReady() | FolderFailed():
            folder = before.folders.get(event.folder_id)
            if folder is None or folder.source is None or folder.phase not in (Phase.WAITING, Phase.COPYING):
                return []
            source = folder.source
            return [ReleaseClone(at=event.at, scope=source.scope, folder_id=source.folder_id, clone_id=event.folder_id)]


def _hold(source: FolderRef, clone: FolderRef, event: FolderCreated) -> HoldForClone:
    return HoldForClone(at=event.at, scope=source.scope, folder_id=source.folder_id, clone=clone)


def _of_transfers(event: TransferBegun | FolderTaken | TakingRefused, before: Folders) -> Sequence[FolderCommands]:
    match event:
        case TransferBegun():
            folder = before.folders[event.folder_id]
            return [
                TakeFolder(
                    at=event.at,
                    scope=event.to,
                    folder_id=folder.folder_id,
                    giver=event.scope,
                    name=folder.name,
                    spec=folder.spec,
                    members=tuple(
                        Member(user_id=user_id, permission=folder.members[user_id])
                        for user_id in sorted(folder.members)
                    ),
                    used_bytes=folder.used_bytes,
                    files=folder.files,
                    created_at=folder.created_at,
                    moves=folder.moves + 1,
                )
            ]
        case FolderTaken():
            confirm = ConfirmTransfer(at=event.at, scope=event.giver, folder_id=event.folder_id)
            folder = evolve(before, event).folders[event.folder_id]
            return [confirm, *_followed(folder, event.scope, event.name, event)]
        case TakingRefused():
            abort = AbortTransfer(at=event.at, scope=event.giver, folder_id=event.folder_id, message=event.message)
            return [abort]


def _followed(folder: Folder, scope: Scope, name: str, event: FolderRenamed | FolderTaken) -> Sequence[FollowFolder]:
    """Word to those who joined it; who has it by his project sees it as it is."""
    if not _is_users(scope):
        return []
    return [
        FollowFolder(
            at=event.at,
            scope=user_scope(user_id),
            folder_id=folder.folder_id,
            folder=folder.ref(scope),
            name=name,
            moves=folder.moves,
        )
        for user_id in sorted(folder.members)
    ]


def _is_users(scope: Scope) -> bool:
    return scope.startswith("user:")
