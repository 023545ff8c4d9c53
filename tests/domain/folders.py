"""Folders of a few owners, and what is said to them: the vocabulary of their examples."""

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey, SessionId, UserId
from domain.vfolder.consequences import VFOLDER
from domain.vfolder.messages import FolderCommands
from domain.vfolder.messages.between import AdmitMember, ConfirmMembership, HoldForClone, ReceiveInvitation, TakeFolder
from domain.vfolder.messages.common import FolderSpec, InvitationId, Member, PurgeTask, ScopeLimits, Work
from domain.vfolder.messages.reports import (
    CloseScope,
    MountFolder,
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
from domain.vfolder.mounts import FolderId, FolderRef, Permission, project_scope, user_scope
from tests.domain.spec import Given, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
ADA, EVE, BOB = UserId("ada"), UserId("eve"), UserId("bob")
ADAS, EVES, BOBS, TEAMS = user_scope(ADA), user_scope(EVE), user_scope(BOB), project_scope("team")
F1, F2, F3, F4 = (FolderId(f"00000000-0000-0000-0000-00000000000{n}") for n in (1, 2, 3, 4))
I1, I2, I3, I4 = (InvitationId(f"i{n}") for n in (1, 2, 3, 4))
S1, KEY = SessionId("s1"), AccessKey("AKIA")
HOST, OTHER_HOST = "local:one", "local:two"
RO, RW, WD = Permission.RO, Permission.RW, Permission.WD
LIMITS = ScopeLimits(max_folders=2, max_bytes=100, hosts={HOST: ("create-vfolder",), OTHER_HOST: ("upload-file",)})
SPEC = FolderSpec(host=HOST, creator="ada@example.com")
CLONEABLE = SPEC.model_copy(update={"cloneable": True})


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def ref(folder_id: FolderId = F1, scope: str = ADAS, host: str = HOST) -> FolderRef:
    return FolderRef(scope=scope, folder_id=folder_id, host=host)


def about(folder_id: FolderId = F1, scope: str = ADAS) -> Any:
    return {"at": NOW, "scope": scope, "folder_id": folder_id}


def limit(scope: str = ADAS, limits: ScopeLimits | None = LIMITS) -> SetScopeLimits:
    return SetScopeLimits(at=NOW, scope=scope, limits=limits)


def create(name: str = "data", folder_id: FolderId = F1, scope: str = ADAS, **spec: Any) -> CreateFolder:
    return CreateFolder(**about(folder_id, scope), name=name, spec=SPEC.model_copy(update=spec))


def clone(name: str = "copy", folder_id: FolderId = F2, scope: str = EVES) -> CloneFolder:
    return CloneFolder(**about(folder_id, scope), name=name, spec=SPEC, source=ref(), asker=KEY)


def purge(task_id: TaskId | None, folder_id: FolderId = F1, scope: str = ADAS) -> PurgeFolder:
    """With a task of that id, if any."""
    task = None if task_id is None else PurgeTask(asker=KEY, task_id=task_id)
    return PurgeFolder(**about(folder_id, scope), task=task)


def made(folder_id: FolderId = F1, scope: str = ADAS, used_bytes: int = 0) -> ReportFolderReady:
    return ReportFolderReady(**about(folder_id, scope), used_bytes=used_bytes, files=1 if used_bytes else 0)


def measured(used_bytes: int, folder_id: FolderId = F1) -> ReportFolderUsage:
    return ReportFolderUsage(**about(folder_id), used_bytes=used_bytes, files=1)


def failed(work: Work, folder_id: FolderId = F1, scope: str = ADAS) -> ReportFolderFailed:
    return ReportFolderFailed(**about(folder_id, scope), work=work, message="no disk")


def trash(folder_id: FolderId = F1, seconds: float = 60) -> TrashFolder:
    return TrashFolder(**about(folder_id), retention_seconds=seconds)


def invite(invitee: UserId = EVE, invitation_id: InvitationId = I1, permission: Permission = RO) -> InviteToFolder:
    return InviteToFolder(**about(), invitation_id=invitation_id, inviter=ADA, invitee=invitee, permission=permission)


def admit(invitee: UserId = EVE, invitation_id: InvitationId = I1) -> AdmitMember:
    return AdmitMember(**about(), invitation_id=invitation_id, invitee=invitee)


def invitation(kind: type[Any], scope: str = ADAS, **more: Any) -> Any:
    """A command about the invitation `I1`."""
    return kind(at=NOW, scope=scope, invitation_id=I1, **more)


def receive(permission: Permission = RO, name: str = "data", moves: int = 0) -> ReceiveInvitation:
    return ReceiveInvitation(
        at=NOW,
        scope=EVES,
        invitation_id=I1,
        folder=ref(),
        name=name,
        inviter=ADA,
        permission=permission,
        moves=moves,
    )


def mount(
    permission: Permission = RO, user_id: UserId = ADA, scope: str = ADAS, by_project: bool = False
) -> MountFolder:
    return MountFolder(
        **about(F1, scope),
        session_id=S1,
        owner=KEY,
        user_id=user_id,
        permission=permission,
        by_project=by_project,
    )


unmount = UnmountFolder(**about(), session_id=S1)
hold = HoldForClone(**about(), clone=ref(F2, EVES))
transfer = TransferFolder(**about(), to=EVES)
take = TakeFolder(
    **about(F1, EVES),
    giver=ADAS,
    name="data",
    spec=SPEC,
    members=(Member(user_id=BOB, permission=RO), Member(user_id=EVE, permission=RW)),
    used_bytes=7,
    files=1,
    created_at=NOW,
    moves=1,
)

nobody: Given = given(VFOLDER)
ada: Given = nobody.and_when(limit())
"""May have two folders on one host."""

with_data = ada.and_when(create(), made(used_bytes=7))
"""Ada's folder `data`, of 7 bytes."""

cloneable = ada.and_when(create(cloneable=True), made(used_bytes=7))
shared = with_data.and_when(invite(permission=RW), admit())
"""Eve is in it, and may write."""

trashed = with_data.and_when(trash())
teams = nobody.and_when(limit(TEAMS), create(scope=TEAMS, permission=RO), made(scope=TEAMS))
"""A project's folder, which its members may read."""

eve: Given = nobody.and_when(limit(EVES))
invited = eve.and_when(receive())
joined = invited.and_when(
    invitation(AcceptInvitation, EVES),
    invitation(ConfirmMembership, EVES),
)
"""Eve's side of Ada's folder."""

life: tuple[FolderCommands, ...] = (
    create(),
    made(used_bytes=7),
    RenameFolder(**about(), name="sets"),
    SetFolderOptions(**about(), cloneable=True),
    invite(),
    invitation(ChangeInvitation, permission=RW),
    invitation(AcceptInvitation, EVES),
    RenameFolder(**about(), name="data"),
    SetMember(**about(), user_id=EVE, permission=RO),
    invite(BOB, I2),
    CancelInvitation(at=NOW, scope=ADAS, invitation_id=I2),
    admit(BOB, I2),
    invite(BOB, I3),
    RejectInvitation(at=NOW, scope=BOBS, invitation_id=I3),
    measured(30),
    mount(RO),
    mount(WD, BOB).model_copy(update={"session_id": SessionId("s2")}),
    clone(scope=BOBS),
    made(F2, BOBS, used_bytes=30),
    clone("late", F3, BOBS).model_copy(update={"source": ref(FolderId("gone"))}),
    unmount,
    SetQuota(at=NOW, scope=EVES, host=HOST, max_bytes=40),
    create("full", F4, EVES),
    made(F4, EVES, used_bytes=20),
    transfer,
    SetQuota(at=NOW, scope=EVES, host=HOST, max_bytes=None),
    invite(BOB, I4),
    AcceptInvitation(at=NOW, scope=BOBS, invitation_id=I4),
    RemoveMember(**about(), user_id=BOB),
    transfer,
    TrashFolder(**about(F4, EVES), retention_seconds=60),
    RestoreFolder(**about(F4, EVES), name="less"),
    TrashFolder(**about(F4, EVES), retention_seconds=60),
    purge(TaskId("t1"), F4, EVES),
    ReportFolderPurged(**about(F4, EVES)),
    CloseScope(at=NOW, scope=BOBS),
)
"""A story in which everything happens that can."""
