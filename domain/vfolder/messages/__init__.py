"""What can be said to and by the folders of one owner.

An invitation, a clone, a transfer and a mount concern two writers. Each is a small process: a word to one of them, the
event that follows, and the word to the other that is a consequence of that event. Whoever is asked by another context
answers by an event in any case, never by a refusal, so that no process stands still.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter

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
from domain.vfolder.messages.reports import (
    CloseScope,
    MountFolder,
    PassTrashDeadline,
    ReportFolderFailed,
    ReportFolderPurged,
    ReportFolderReady,
    ReportFolderUsage,
    SetScopeLimits,
    UnmountFolder,
)
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    CloneFolder,
    CreateFolder,
    InviteToFolder,
    LeaveFolder,
    PurgeFolder,
    RejectInvitation,
    RemoveMember,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetMember,
    SetQuota,
    TransferFolder,
    TrashFolder,
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
