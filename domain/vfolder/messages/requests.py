"""What people ask of their folders, and of those they were invited to."""

from typing import Literal

from pydantic import Field

from domain.messages import AccessKey, UserId
from domain.vfolder.messages.common import (
    Bytes,
    FolderCommand,
    FolderSpec,
    InvitationCommand,
    InvitationId,
    PurgeTask,
    ScopeCommand,
    Seconds,
)
from domain.vfolder.mounts import FolderName, FolderRef, Host, Permission, Scope


class CreateFolder(FolderCommand):
    """It can be used once its storage service has made it (FolderReady)."""

    type: Literal["CreateFolder"] = "CreateFolder"
    by_users = True
    name: FolderName
    spec: FolderSpec


class CloneFolder(FolderCommand):
    """Make a folder of a copy of another. That its sender may read the source is vouched for by the api."""

    type: Literal["CloneFolder"] = "CloneFolder"
    by_users = True
    name: FolderName
    spec: FolderSpec
    source: FolderRef
    asker: AccessKey | None = Field(None, description="Whose the background task is that tells how far it is.")


class RenameFolder(FolderCommand):
    type: Literal["RenameFolder"] = "RenameFolder"
    by_users = True
    name: FolderName


class SetFolderOptions(FolderCommand):
    """None: stays as it is."""

    type: Literal["SetFolderOptions"] = "SetFolderOptions"
    by_users = True
    permission: Permission | None = None
    cloneable: bool | None = None


class TrashFolder(FolderCommand):
    """Move it to the trash, where it gives up its name. Refused while it is mounted.

    It is purged `retention_seconds` later.
    """

    type: Literal["TrashFolder"] = "TrashFolder"
    by_users = True
    retention_seconds: Seconds


class RestoreFolder(FolderCommand):
    """Take it out of the trash. Refused where its name is taken by now; `name`: restore it under another."""

    type: Literal["RestoreFolder"] = "RestoreFolder"
    by_users = True
    name: FolderName | None = None


class PurgeFolder(FolderCommand):
    """Delete what is in the trash, or could not be made, for good; or try that again."""

    type: Literal["PurgeFolder"] = "PurgeFolder"
    by_users = True
    task: PurgeTask | None = Field(None, description="To be begun, if this is what begins the purge.")


class InviteToFolder(FolderCommand):
    """Of users' folders. Who is invited or a member already stays what he is."""

    type: Literal["InviteToFolder"] = "InviteToFolder"
    by_users = True
    invitation_id: InvitationId
    inviter: UserId
    invitee: UserId
    permission: Permission


class ChangeInvitation(InvitationCommand):
    """From the inviter, while it is undecided."""

    type: Literal["ChangeInvitation"] = "ChangeInvitation"
    by_users = True
    permission: Permission


class CancelInvitation(InvitationCommand):
    """From the inviter, while it is undecided."""

    type: Literal["CancelInvitation"] = "CancelInvitation"
    by_users = True


class AcceptInvitation(InvitationCommand):
    """`scope`: the invitee's. Refused where he has a folder of that name. The folder's owner has the last word."""

    type: Literal["AcceptInvitation"] = "AcceptInvitation"
    by_users = True


class RejectInvitation(InvitationCommand):
    """`scope`: the invitee's."""

    type: Literal["RejectInvitation"] = "RejectInvitation"
    by_users = True


class SetMember(FolderCommand):
    """What one user may do there from now on. In a user's folder he is a member; in a project's, in the project."""

    type: Literal["SetMember"] = "SetMember"
    by_users = True
    user_id: UserId
    permission: Permission


class RemoveMember(FolderCommand):
    """He has it no more; of a project's folder: he has again what all its members have."""

    type: Literal["RemoveMember"] = "RemoveMember"
    by_users = True
    user_id: UserId


class LeaveFolder(FolderCommand):
    """`scope`: of the user who was invited and will have it no more."""

    type: Literal["LeaveFolder"] = "LeaveFolder"
    by_users = True


class TransferFolder(FolderCommand):
    """Give it to another owner: its members stay, invitations to it end. Refused while it is mounted or cloned."""

    type: Literal["TransferFolder"] = "TransferFolder"
    by_users = True
    to: Scope


class SetQuota(ScopeCommand):
    """How many bytes the owner's folders on a host may have together. None: what his policy says."""

    type: Literal["SetQuota"] = "SetQuota"
    by_users = True
    host: Host
    max_bytes: Bytes | None
