"""Sessions and their folders: whom a session asks, what a refusal ends, and when a folder is free again."""

from domain.context import Send
from domain.messages import SessionId, UserId
from domain.session.messages import KernelEnded, RefuseMount, SessionAdvanced, SessionEnded
from domain.session.status import Reason, SessionStatus
from domain.vfolder.messages.reports import MountFolder, UnmountFolder
from domain.vfolder.mounts import FolderId, FolderRef, Mount, Permission
from tests.domain.sessions import A1, INTERACTIVE, NOW, OWNER, S1, admitted, force, place, request, terminate

ADA = UserId("ada")


def mount(folder: str, scope: str = "user:ada", permission: str = "ro", subpath: str = "") -> Mount:
    return Mount(
        folder=FolderRef(scope=scope, folder_id=FolderId(folder), host="local:one"),
        user_id=ADA,
        by_project=scope.startswith("project:"),
        name=folder,
        subpath=subpath,
        path=f"/home/work/{folder}{subpath}",
        permission=Permission(permission),
    )


SPEC = INTERACTIVE.model_copy(
    update={"mounts": (mount("f1"), mount("f1", permission="rw", subpath="x"), mount("f2", "project:team"))}
)
REFUSE = RefuseMount(at=NOW, owner=OWNER, session_id=S1, message="it is in the trash")
asked = admitted.and_when(request(SPEC))


def wanted(folder: str, scope: str, permission: Permission) -> Send:
    return Send(
        "vfolder",
        MountFolder(
            at=NOW,
            scope=scope,
            folder_id=FolderId(folder),
            session_id=S1,
            owner=OWNER,
            user_id=ADA,
            permission=permission,
            by_project=scope.startswith("project:"),
        ),
    )


RELEASED = [
    Send("vfolder", UnmountFolder(at=NOW, scope=scope, folder_id=FolderId(folder), session_id=S1))
    for folder, scope in (("f1", "user:ada"), ("f2", "project:team"))
]


def test_a_session_asks_for_each_folder_once_and_for_the_most_it_wants_there() -> None:
    assert admitted.when(request(SPEC)).told("vfolder") == [
        wanted("f1", "user:ada", Permission.RW),
        wanted("f2", "project:team", Permission.RO),
    ]


def test_a_session_lets_go_of_its_folders_when_it_has_ended_and_not_before() -> None:
    ends = asked.when(terminate)
    ends.only(SessionEnded)
    assert ends.told("vfolder") == RELEASED
    placed = asked.and_when(place(A1))
    assert placed.when(terminate).told("vfolder") == []
    forced = placed.when(force)
    forced.only(SessionEnded)
    assert [send.to for send in forced.sends].count("vfolder") == len(RELEASED)


def test_a_session_whose_folder_is_refused_ends_and_says_why() -> None:
    refused = asked.when(REFUSE)
    assert refused.only(KernelEnded).message == "it is in the trash"
    over = refused.only(SessionEnded)
    assert (over.status, over.reason) == (SessionStatus.ERROR, Reason.MOUNT_REFUSED)
    going = asked.and_when(place(A1)).when(REFUSE).only(SessionAdvanced)
    assert (going.status, going.reason) == (SessionStatus.TERMINATING, Reason.MOUNT_REFUSED)
    asked.and_when(REFUSE).when(REFUSE).then_nothing()
    asked.and_when(place(A1), REFUSE).when(REFUSE).then_nothing()
    admitted.when(REFUSE.model_copy(update={"session_id": SessionId("never")})).then_nothing()
