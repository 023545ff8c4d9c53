"""What two owners say to each other in their processes: each is a consequence of an event of the one that speaks."""

from typing import Literal

from domain.messages import Instant, UserId
from domain.vfolder.messages.common import Bytes, FolderCommand, FolderSpec, InvitationCommand, Member, Moves, Words
from domain.vfolder.mounts import FolderId, FolderName, FolderRef, Permission, Scope


class ReceiveInvitation(InvitationCommand):
    """To the invitee."""

    type: Literal["ReceiveInvitation"] = "ReceiveInvitation"
    folder: FolderRef
    name: FolderName
    inviter: UserId
    permission: Permission
    moves: Moves = 0


class AmendInvitation(InvitationCommand):
    """To the invitee: the permission is another."""

    type: Literal["AmendInvitation"] = "AmendInvitation"
    permission: Permission


class WithdrawInvitation(InvitationCommand):
    """To the invitee: folder or invitation is no more there. Also the answer to an acceptance that came too late."""

    type: Literal["WithdrawInvitation"] = "WithdrawInvitation"


class AdmitMember(InvitationCommand):
    """To the folder's owner: it was accepted."""

    type: Literal["AdmitMember"] = "AdmitMember"
    folder_id: FolderId
    invitee: UserId


class CloseInvitation(InvitationCommand):
    """To the folder's owner: it was rejected."""

    type: Literal["CloseInvitation"] = "CloseInvitation"
    folder_id: FolderId


class ConfirmMembership(InvitationCommand):
    """To the invitee: he is a member."""

    type: Literal["ConfirmMembership"] = "ConfirmMembership"


class LoseMember(FolderCommand):
    """To the folder's owner: the user left."""

    type: Literal["LoseMember"] = "LoseMember"
    user_id: UserId
    moves: Moves = 0


class ForgetFolder(FolderCommand):
    """To a member: he has it no more, says its owner."""

    type: Literal["ForgetFolder"] = "ForgetFolder"
    owner: Scope


class FollowFolder(FolderCommand):
    """To a member: its owner calls it so now, or is another. He keeps the name he has where the new one is taken."""

    type: Literal["FollowFolder"] = "FollowFolder"
    folder: FolderRef
    name: FolderName
    moves: Moves = 0


class HoldForClone(FolderCommand):
    """To the owner of the source: keep it as long as it is copied, if it is there and may be cloned."""

    type: Literal["HoldForClone"] = "HoldForClone"
    clone: FolderRef


class BeginClone(FolderCommand):
    """To the owner of the clone: the source is held. `used_bytes`: what there is to copy."""

    type: Literal["BeginClone"] = "BeginClone"
    used_bytes: Bytes = 0


class RefuseClone(FolderCommand):
    """To the owner of the clone: the source is not there, or not to be cloned."""

    type: Literal["RefuseClone"] = "RefuseClone"
    message: Words


class ReleaseClone(FolderCommand):
    """To the owner of the source: the copy is finished, or given up."""

    type: Literal["ReleaseClone"] = "ReleaseClone"
    clone_id: FolderId


class TakeFolder(FolderCommand):
    """To the new owner of a folder that is transferred."""

    type: Literal["TakeFolder"] = "TakeFolder"
    giver: Scope
    name: FolderName
    spec: FolderSpec
    members: tuple[Member, ...] = ()
    used_bytes: Bytes = 0
    files: int = 0
    created_at: Instant
    moves: Moves = 0


class ConfirmTransfer(FolderCommand):
    """To who had it: the other one has it."""

    type: Literal["ConfirmTransfer"] = "ConfirmTransfer"


class AbortTransfer(FolderCommand):
    """To who has it: the other one cannot take it."""

    type: Literal["AbortTransfer"] = "AbortTransfer"
    message: Words
