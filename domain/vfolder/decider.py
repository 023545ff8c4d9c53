"""What may happen to folders: the table of contents. Each part is a module of `domain.vfolder.deciding`."""

from domain.vfolder.deciding import cloning, inviting, joining, owning, reports, transferring
from domain.vfolder.deciding.common import Events
from domain.vfolder.folding import evolve
from domain.vfolder.messages import FolderCommands
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
from domain.vfolder.messages.common import FolderEvent
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
from domain.vfolder.mounts import FolderId
from domain.vfolder.phases import TRANSITIONS, Phase
from domain.vfolder.state import Folders


def decide(command: FolderCommands, state: Folders) -> Events:
    events = _decide(command, state)
    _only_legal_steps(events, state)
    return events


def _decide(command: FolderCommands, state: Folders) -> Events:
    match command:
        case CreateFolder() | CloneFolder():
            return owning.create(command, state)
        case RenameFolder():
            return owning.rename(command, state)
        case SetFolderOptions():
            return owning.set_options(command, state)
        case TrashFolder():
            return owning.trash(command, state)
        case RestoreFolder():
            return owning.restore(command, state)
        case PurgeFolder():
            return owning.purge(command, state)
        case PassTrashDeadline():
            return owning.pass_trash_deadline(command, state)
        case SetQuota():
            return owning.set_quota(command, state)
        case SetScopeLimits():
            return owning.set_limits(command, state)
        case CloseScope():
            return owning.close(command, state)
        case InviteToFolder():
            return inviting.invite(command, state)
        case ChangeInvitation():
            return inviting.change_invitation(command, state)
        case CancelInvitation():
            return inviting.cancel_invitation(command, state)
        case CloseInvitation():
            return inviting.close_invitation(command, state)
        case AdmitMember():
            return inviting.admit(command, state)
        case SetMember():
            return inviting.set_member(command, state)
        case RemoveMember():
            return inviting.remove_member(command, state)
        case LoseMember():
            return inviting.lose_member(command, state)
        case ReceiveInvitation():
            return joining.receive(command, state)
        case AmendInvitation():
            return joining.amend(command, state)
        case AcceptInvitation():
            return joining.accept(command, state)
        case RejectInvitation():
            return joining.reject(command, state)
        case WithdrawInvitation():
            return joining.withdraw(command, state)
        case ConfirmMembership():
            return joining.confirm(command, state)
        case FollowFolder():
            return joining.follow(command, state)
        case ForgetFolder():
            return joining.forget(command, state)
        case LeaveFolder():
            return joining.leave(command, state)
        case HoldForClone():
            return cloning.hold(command, state)
        case BeginClone():
            return cloning.begin(command, state)
        case RefuseClone():
            return cloning.refuse(command, state)
        case ReleaseClone():
            return cloning.release(command, state)
        case TransferFolder():
            return transferring.transfer(command, state)
        case TakeFolder():
            return transferring.take(command, state)
        case ConfirmTransfer():
            return transferring.confirm_transfer(command, state)
        case AbortTransfer():
            return transferring.abort_transfer(command, state)
        case MountFolder():
            return reports.mount(command, state)
        case UnmountFolder():
            return reports.unmount(command, state)
        case ReportFolderReady():
            return reports.made(command, state)
        case ReportFolderPurged():
            return reports.purged(command, state)
        case ReportFolderFailed():
            return reports.failed(command, state)
        case ReportFolderUsage():
            return reports.measured(command, state)


def _only_legal_steps(events: Events, state: Folders) -> None:
    """What is not in `TRANSITIONS` is not written."""
    for event in events:
        before, state = state, evolve(state, event)
        if isinstance(event, FolderEvent) and (step := _step(before, state, event.folder_id)) is not None:
            assert step[1] in TRANSITIONS[step[0]], f"{type(event).__name__}: {step[0]} → {step[1]} is no legal step"


def _step(before: Folders, after: Folders, folder_id: FolderId) -> tuple[Phase, Phase] | None:
    """From where to where the folder went, if it was there and has moved."""
    was, now = before.folders.get(folder_id), after.folders.get(folder_id)
    if was is None:
        return None
    phase = Phase.GONE if now is None else now.phase
    return None if phase is was.phase else (was.phase, phase)
