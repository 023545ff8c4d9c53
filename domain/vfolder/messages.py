"""What can be said to and by the folders of one owner.

An invitation, a clone, a transfer and a mount concern two writers. Each is a small process: a word to one of them, the
event that follows, and the word to the other that is a consequence of that event. Whoever is asked by another context
answers by an event in any case, never by a refusal, so that no process stands still.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, NewType

from pydantic import Field, TypeAdapter

from domain.directory.messages.common import HostPermissions
from domain.messages import AccessKey, Command, Event, Instant, SessionId, UserId, Value
from domain.vfolder.mounts import FolderId, FolderName, FolderRef, Host, Permission, Scope, UsageMode

InvitationId = NewType("InvitationId", str)

Bytes = Annotated[int, Field(ge=0, le=2**63 - 1)]
Seconds = Annotated[float, Field(ge=0, le=10 * 366 * 86400)]
Words = Annotated[str, Field(max_length=2000)]


class ScopeLimits(Value):
    """What policies allow an owner. `hosts`: host → what he may do there (`create-vfolder`, `mount-in-session`, …).

    `max_folders`, `max_bytes` (on each host, over all his folders there): 0 is no limit.
    """

    max_folders: int = Field(0, ge=0)
    max_bytes: Bytes = 0
    hosts: HostPermissions = Field({})


class FolderSpec(Value):
    """`permission`: what the members of a project have in its folders, if nothing else was said.

    `quota_bytes`: of this folder alone; None: only its owner's counts. `unmanaged_path`: where it lies, instead of in a
    volume; nothing of it is ever made or deleted. `creator`: his email, as it was.
    """

    host: Host
    usage_mode: UsageMode = UsageMode.GENERAL
    permission: Permission = Permission.RW
    cloneable: bool = False
    quota_bytes: Bytes | None = None
    unmanaged_path: Annotated[str, Field(pattern=r"^/", max_length=4096)] | None = None
    creator: str = Field("", max_length=320)


class Work(StrEnum):
    """What a storage service does to a folder."""

    CREATE = "create"
    CLONE = "clone"
    PURGE = "purge"


# -- commands: from people ---------------------------------------------------------------------------------------------


class ScopeCommand(Command):
    """`scope`: whose folders, or whose invitations."""

    by_users: ClassVar[bool] = False
    """Whether people may send it; everything else comes from other owners, contexts and storage services."""

    scope: Scope

    @property
    def key(self) -> str:
        return self.scope

    @property
    def subject(self) -> str:
        return self.scope


class FolderCommand(ScopeCommand):
    folder_id: FolderId

    @property
    def subject(self) -> str:
        return self.folder_id


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


class InviteToFolder(FolderCommand):
    """Of users' folders. Who is invited or a member already stays what he is."""

    type: Literal["InviteToFolder"] = "InviteToFolder"
    by_users = True
    invitation_id: InvitationId
    inviter: UserId
    invitee: UserId
    permission: Permission


class InvitationCommand(ScopeCommand):
    invitation_id: InvitationId

    @property
    def subject(self) -> str:
        return self.invitation_id


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


# -- commands: from the directory --------------------------------------------------------------------------------------


class SetScopeLimits(ScopeCommand):
    """When the owner, or a policy of his, changes. None: he may make no (more) folders."""

    type: Literal["SetScopeLimits"] = "SetScopeLimits"
    limits: ScopeLimits | None


class CloseScope(ScopeCommand):
    """The owner was purged: so are his folders, each as soon as nothing has it mounted; and he leaves others'."""

    type: Literal["CloseScope"] = "CloseScope"


# -- commands: between two owners; what is said to the invitee has his scope ------------------------------------------


class ReceiveInvitation(InvitationCommand):
    """To the invitee."""

    type: Literal["ReceiveInvitation"] = "ReceiveInvitation"
    folder: FolderRef
    name: FolderName
    inviter: UserId
    permission: Permission


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


class ForgetFolder(FolderCommand):
    """To a member: he has it no more."""

    type: Literal["ForgetFolder"] = "ForgetFolder"


class FollowFolder(FolderCommand):
    """To a member: its owner calls it so now, or is another. He keeps the name he has where the new one is taken."""

    type: Literal["FollowFolder"] = "FollowFolder"
    folder: FolderRef
    name: FolderName


class HoldForClone(FolderCommand):
    """To the owner of the source: keep it as long as it is copied, if it is there and may be cloned."""

    type: Literal["HoldForClone"] = "HoldForClone"
    clone: FolderRef


class BeginClone(FolderCommand):
    """To the owner of the clone: the source is held."""

    type: Literal["BeginClone"] = "BeginClone"


class RefuseClone(FolderCommand):
    """To the owner of the clone: the source is not there, or not to be cloned."""

    type: Literal["RefuseClone"] = "RefuseClone"
    message: Words


class ReleaseClone(FolderCommand):
    """To the owner of the source: the copy is finished, or given up."""

    type: Literal["ReleaseClone"] = "ReleaseClone"
    clone_id: FolderId


class Member(Value):
    user_id: UserId
    permission: Permission


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


class ConfirmTransfer(FolderCommand):
    """To who had it: the other one has it."""

    type: Literal["ConfirmTransfer"] = "ConfirmTransfer"


class AbortTransfer(FolderCommand):
    """To who has it: the other one cannot take it."""

    type: Literal["AbortTransfer"] = "AbortTransfer"
    message: Words


# -- commands: from sessions, from the clock, from storage services ----------------------------------------------------


class MountFolder(FolderCommand):
    """A session asks for it, for `user_id`. `by_project`: he was a member of the project whose folder it is."""

    type: Literal["MountFolder"] = "MountFolder"
    session_id: SessionId
    owner: AccessKey
    user_id: UserId
    permission: Permission
    by_project: bool = False


class UnmountFolder(FolderCommand):
    """The session has ended."""

    type: Literal["UnmountFolder"] = "UnmountFolder"
    session_id: SessionId


class PassTrashDeadline(FolderCommand):
    """It lay in the trash long enough."""

    type: Literal["PassTrashDeadline"] = "PassTrashDeadline"
    deadline: Instant


class ReportFolderReady(FolderCommand):
    """The folder was made, or is the copy that it was to be."""

    type: Literal["ReportFolderReady"] = "ReportFolderReady"
    used_bytes: Bytes = 0
    files: int = Field(0, ge=0)


class ReportFolderPurged(FolderCommand):
    """Nothing is left of it."""

    type: Literal["ReportFolderPurged"] = "ReportFolderPurged"


class ReportFolderFailed(FolderCommand):
    """The work on it cannot be done, and trying again without anybody's help is of no use."""

    type: Literal["ReportFolderFailed"] = "ReportFolderFailed"
    work: Work
    message: Words


class ReportFolderUsage(FolderCommand):
    """What was measured."""

    type: Literal["ReportFolderUsage"] = "ReportFolderUsage"
    used_bytes: Bytes
    files: int = Field(ge=0)


FolderCommands = Annotated[
    CreateFolder
    | CloneFolder
    | RenameFolder
    | SetFolderOptions
    | TrashFolder
    | RestoreFolder
    | PurgeFolder
    | InviteToFolder
    | ChangeInvitation
    | CancelInvitation
    | AcceptInvitation
    | RejectInvitation
    | SetMember
    | RemoveMember
    | LeaveFolder
    | TransferFolder
    | SetQuota
    | SetScopeLimits
    | CloseScope
    | ReceiveInvitation
    | AmendInvitation
    | WithdrawInvitation
    | AdmitMember
    | CloseInvitation
    | ConfirmMembership
    | LoseMember
    | ForgetFolder
    | FollowFolder
    | HoldForClone
    | BeginClone
    | RefuseClone
    | ReleaseClone
    | TakeFolder
    | ConfirmTransfer
    | AbortTransfer
    | MountFolder
    | UnmountFolder
    | PassTrashDeadline
    | ReportFolderReady
    | ReportFolderPurged
    | ReportFolderFailed
    | ReportFolderUsage,
    Field(discriminator="type"),
]


# -- events ------------------------------------------------------------------------------------------------------------


class ScopeEvent(Event):
    scope: Scope

    @property
    def subject(self) -> str:
        return self.scope


class FolderEvent(ScopeEvent):
    folder_id: FolderId

    @property
    def subject(self) -> str:
        return self.folder_id


class InvitationEvent(ScopeEvent):
    invitation_id: InvitationId

    @property
    def subject(self) -> str:
        return self.invitation_id


class ScopeLimitsSet(ScopeEvent):
    type: Literal["ScopeLimitsSet"] = "ScopeLimitsSet"
    limits: ScopeLimits | None


class QuotaSet(ScopeEvent):
    type: Literal["QuotaSet"] = "QuotaSet"
    host: Host
    max_bytes: Bytes | None


class ScopeClosed(ScopeEvent):
    """Folders that are mounted are purged when they no longer are."""

    type: Literal["ScopeClosed"] = "ScopeClosed"


class FolderCreated(FolderEvent):
    """Its storage service is to make it. Of a clone (`source`): to wait until FolderCloneBegun."""

    type: Literal["FolderCreated"] = "FolderCreated"
    name: FolderName
    spec: FolderSpec
    source: FolderRef | None = None


class FolderCloneBegun(FolderEvent):
    """The source is held: its storage service is to copy it."""

    type: Literal["FolderCloneBegun"] = "FolderCloneBegun"


class FolderReady(FolderEvent):
    """It is there and can be used."""

    type: Literal["FolderReady"] = "FolderReady"
    used_bytes: Bytes = 0
    files: int = 0


class FolderFailed(FolderEvent):
    """It could not be made or copied (it is in error), or not be purged."""

    type: Literal["FolderFailed"] = "FolderFailed"
    work: Work
    message: Words


class FolderRenamed(FolderEvent):
    type: Literal["FolderRenamed"] = "FolderRenamed"
    name: FolderName


class FolderOptionsSet(FolderEvent):
    """As they are now."""

    type: Literal["FolderOptionsSet"] = "FolderOptionsSet"
    permission: Permission
    cloneable: bool


class FolderTrashed(FolderEvent):
    type: Literal["FolderTrashed"] = "FolderTrashed"
    purge_at: Instant


class FolderRestored(FolderEvent):
    type: Literal["FolderRestored"] = "FolderRestored"
    name: FolderName


class FolderPurging(FolderEvent):
    """Its storage service is to delete it."""

    type: Literal["FolderPurging"] = "FolderPurging"


class FolderPurged(FolderEvent):
    type: Literal["FolderPurged"] = "FolderPurged"


class FolderUsageMeasured(FolderEvent):
    type: Literal["FolderUsageMeasured"] = "FolderUsageMeasured"
    used_bytes: Bytes
    files: int


class FolderMounted(FolderEvent):
    """A session has it until FolderUnmounted, from before it has its places."""

    type: Literal["FolderMounted"] = "FolderMounted"
    session_id: SessionId
    owner: AccessKey
    permission: Permission


class FolderMountRefused(FolderEvent):
    """The session cannot have it, and ends."""

    type: Literal["FolderMountRefused"] = "FolderMountRefused"
    session_id: SessionId
    owner: AccessKey
    message: Words


class FolderUnmounted(FolderEvent):
    type: Literal["FolderUnmounted"] = "FolderUnmounted"
    session_id: SessionId


class FolderHeld(FolderEvent):
    """It is being copied into `clone`."""

    type: Literal["FolderHeld"] = "FolderHeld"
    clone: FolderRef


class FolderHoldRefused(FolderEvent):
    type: Literal["FolderHoldRefused"] = "FolderHoldRefused"
    clone: FolderRef
    message: Words


class FolderReleased(FolderEvent):
    type: Literal["FolderReleased"] = "FolderReleased"
    clone_id: FolderId


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


class FolderFollowed(FolderEvent):
    """In a member's scope: whose folder it is now, and what he calls it."""

    type: Literal["FolderFollowed"] = "FolderFollowed"
    folder: FolderRef
    name: FolderName


class FolderLeft(FolderEvent):
    """The user of this scope has it no more. `left`: he went himself; `host` and owner as they were."""

    type: Literal["FolderLeft"] = "FolderLeft"
    folder: FolderRef
    left: bool


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


class TakingRefused(FolderEvent):
    type: Literal["TakingRefused"] = "TakingRefused"
    giver: Scope
    message: Words


FolderEvents = Annotated[
    ScopeLimitsSet
    | QuotaSet
    | ScopeClosed
    | FolderCreated
    | FolderCloneBegun
    | FolderReady
    | FolderFailed
    | FolderRenamed
    | FolderOptionsSet
    | FolderTrashed
    | FolderRestored
    | FolderPurging
    | FolderPurged
    | FolderUsageMeasured
    | FolderMounted
    | FolderMountRefused
    | FolderUnmounted
    | FolderHeld
    | FolderHoldRefused
    | FolderReleased
    | FolderInvited
    | InvitationChanged
    | InvitationClosed
    | MemberAdmitted
    | AdmissionRefused
    | MemberSet
    | MemberRemoved
    | InvitationReceived
    | InvitationAmended
    | InvitationAccepted
    | InvitationRejected
    | InvitationWithdrawn
    | FolderJoined
    | FolderFollowed
    | FolderLeft
    | TransferBegun
    | TransferAborted
    | FolderGiven
    | FolderTaken
    | TakingRefused,
    Field(discriminator="type"),
]

COMMANDS: TypeAdapter[FolderCommands] = TypeAdapter(FolderCommands)
EVENTS: TypeAdapter[FolderEvents] = TypeAdapter(FolderEvents)
