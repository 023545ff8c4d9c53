"""Events of invitations, memberships and transfers: in the scope of the folder's owner, and of the other one."""

from typing import Literal

from domain.messages import Instant, UserId
from domain.vfolder.messages.common import (
    Bytes,
    FolderEvent,
    FolderSpec,
    InvitationEvent,
    InvitationId,
    Member,
    Moves,
    Words,
)
from domain.vfolder.mounts import FolderId, FolderName, FolderRef, Permission, Scope


class FolderInvited(FolderEvent):
    """An invitation stands."""

    type: Literal["FolderInvited"] = "FolderInvited"
    invitation_id: InvitationId
    inviter: UserId
    invitee: UserId
    permission: Permission


class InvitationChanged(InvitationEvent):
    type: Literal["InvitationChanged"] = "InvitationChanged"
    folder_id: FolderId
    permission: Permission


class InvitationClosed(InvitationEvent):
    """In the owner's scope: it stands no more. `why`: who ended it."""

    type: Literal["InvitationClosed"] = "InvitationClosed"
    folder_id: FolderId
    invitee: UserId
    why: Literal["cancelled", "rejected", "folder-gone"]


class MemberAdmitted(FolderEvent):
    """By the invitation, which thereby is used up."""

    type: Literal["MemberAdmitted"] = "MemberAdmitted"
    invitation_id: InvitationId
    user_id: UserId
    permission: Permission


class AdmissionRefused(FolderEvent):
    """The invitation did not stand any more when it was accepted."""

    type: Literal["AdmissionRefused"] = "AdmissionRefused"
    invitation_id: InvitationId
    invitee: UserId


class MemberSet(FolderEvent):
    type: Literal["MemberSet"] = "MemberSet"
    user_id: UserId
    permission: Permission


class MemberRemoved(FolderEvent):
    """`left`: he went himself."""

    type: Literal["MemberRemoved"] = "MemberRemoved"
    user_id: UserId
    left: bool = False


class InvitationReceived(InvitationEvent):
    """In the invitee's scope, as what follows up to InvitationWithdrawn."""

    type: Literal["InvitationReceived"] = "InvitationReceived"
    folder: FolderRef
    name: FolderName
    inviter: UserId
    permission: Permission
    moves: Moves = 0


class InvitationAmended(InvitationEvent):
    type: Literal["InvitationAmended"] = "InvitationAmended"
    permission: Permission


class InvitationAccepted(InvitationEvent):
    """The folder's owner has the last word; until then its name is taken here."""

    type: Literal["InvitationAccepted"] = "InvitationAccepted"
    folder: FolderRef
    name: FolderName


class InvitationRejected(InvitationEvent):
    type: Literal["InvitationRejected"] = "InvitationRejected"
    folder: FolderRef


class InvitationWithdrawn(InvitationEvent):
    type: Literal["InvitationWithdrawn"] = "InvitationWithdrawn"
    folder_id: FolderId


class FolderJoined(FolderEvent):
    """The user of this scope has another's folder, which he calls `name`."""

    type: Literal["FolderJoined"] = "FolderJoined"
    invitation_id: InvitationId
    folder: FolderRef
    name: FolderName
    moves: Moves = 0


class FolderFollowed(FolderEvent):
    """In a member's scope: whose folder it is now, and what he calls it."""

    type: Literal["FolderFollowed"] = "FolderFollowed"
    folder: FolderRef
    name: FolderName
    moves: Moves = 0


class FolderLeft(FolderEvent):
    """The user of this scope has it no more. `left`: he went himself; `host` and owner as they were."""

    type: Literal["FolderLeft"] = "FolderLeft"
    folder: FolderRef
    left: bool
    moves: Moves = 0


class TransferBegun(FolderEvent):
    type: Literal["TransferBegun"] = "TransferBegun"
    to: Scope


class TransferAborted(FolderEvent):
    type: Literal["TransferAborted"] = "TransferAborted"
    message: Words


class FolderGiven(FolderEvent):
    """It is another owner's now; here nothing is left of it."""

    type: Literal["FolderGiven"] = "FolderGiven"
    to: Scope


class FolderTaken(FolderEvent):
    """It is this owner's now. `members`: others than himself."""

    type: Literal["FolderTaken"] = "FolderTaken"
    giver: Scope
    name: FolderName
    spec: FolderSpec
    members: tuple[Member, ...] = ()
    used_bytes: Bytes
    files: int
    created_at: Instant
    moves: Moves = 1


class TakingRefused(FolderEvent):
    type: Literal["TakingRefused"] = "TakingRefused"
    giver: Scope
    message: Words
