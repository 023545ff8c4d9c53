"""Clones, purges and folders that change hands, told from each side."""

from typing import Any

import pytest

from domain.context import Send
from domain.directory.messages.tasks import CopyFolder, DeleteFolder, ReportTaskEnd, StartTask, TaskEnd, TaskId
from domain.vfolder.messages.between import (
    AbortTransfer,
    BeginClone,
    ConfirmMembership,
    ConfirmTransfer,
    FollowFolder,
    LoseMember,
    RefuseClone,
    ReleaseClone,
    TakeFolder,
)
from domain.vfolder.messages.common import Member, PurgeTask, Work
from domain.vfolder.messages.life import (
    FolderCloneBegun,
    FolderCreated,
    FolderFailed,
    FolderHeld,
    FolderHoldRefused,
    FolderMountRefused,
    FolderPurged,
    FolderPurging,
    FolderReleased,
    FolderTrashed,
)
from domain.vfolder.messages.reports import CloseScope, MountFolder, PassTrashDeadline, ReportFolderPurged
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    LeaveFolder,
    PurgeFolder,
    RemoveMember,
    RenameFolder,
    SetMember,
    SetQuota,
)
from domain.vfolder.messages.sharing import (
    FolderGiven,
    FolderJoined,
    FolderLeft,
    FolderTaken,
    InvitationWithdrawn,
    MemberRemoved,
    TakingRefused,
    TransferAborted,
    TransferBegun,
)
from domain.vfolder.mounts import FolderRef
from domain.vfolder.phases import FolderStatus
from tests.domain.folders import (
    ADA,
    ADAS,
    BOB,
    BOBS,
    EVE,
    EVES,
    F1,
    F2,
    HOST,
    KEY,
    LIMITS,
    NOW,
    RO,
    RW,
    S1,
    SPEC,
    TEAMS,
    about,
    ada,
    after,
    clone,
    cloneable,
    create,
    eve,
    failed,
    hold,
    invitation,
    invited,
    joined,
    limit,
    made,
    measured,
    nobody,
    purge,
    receive,
    ref,
    shared,
    take,
    teams,
    transfer,
    trash,
    trashed,
    with_data,
)
from tests.domain.spec import Given

BEGIN = BeginClone(**about(F2, EVES), used_bytes=7)
REFUSE = RefuseClone(**about(F2, EVES), message="it may not be cloned")
RELEASE = ReleaseClone(**about(), clone_id=F2)
waiting = eve.and_when(clone())
copying = waiting.and_when(BEGIN)
held = cloneable.and_when(hold)
TASK = TaskId(F2)
ABORT = AbortTransfer(**about(), message="no room")
CONFIRM = ConfirmTransfer(**about())
T1, T2 = TaskId("t1"), TaskId("t2")
PURGED = ReportFolderPurged(**about())

# -- clones ------------------------------------------------------------------------------------------------------------


def test_a_clone_is_begun_once_its_source_is_held_and_whoever_asked_sees_how_far_it_is() -> None:
    asked = eve.when(clone())
    asked.then(FolderCreated(**about(F2, EVES), name="copy", spec=SPEC, source=ref(), asker=KEY))
    work = CopyFolder(owner=KEY, source=ref(), target=ref(F2, EVES))
    assert asked.sends == [
        Send("directory", StartTask(at=NOW, task_id=TASK, work=work)),
        Send("vfolder", hold),
    ]
    assert waiting.state.folders[F2].status is FolderStatus.CLONING
    waiting.when(made(F2, EVES)).then_nothing()
    waiting.when(BEGIN).then(FolderCloneBegun(**about(F2, EVES)))
    copying.when(BEGIN).then_nothing()


def test_what_is_being_copied_stays_where_it_is() -> None:
    holds = cloneable.when(hold)
    holds.then(FolderHeld(**about(), clone=ref(F2, EVES), used_bytes=7))
    assert holds.sends == [Send("vfolder", BEGIN)]
    for command in (trash(), transfer):
        held.when(command).then_refused("folder_being_cloned")
    held.when(hold).then_nothing()
    held.when(RELEASE).then(FolderReleased(**about(), clone_id=F2))
    held.and_when(RELEASE).when(trash()).then_types(FolderTrashed)
    held.and_when(RELEASE).when(RELEASE).then_nothing()


@pytest.mark.parametrize(
    "source",
    [
        with_data,
        nobody,
        ada.and_when(create(cloneable=True)),
        cloneable.and_when(trash()),
        ada.and_when(create(cloneable=True, unmanaged_path="/data")),
    ],
    ids=["not-cloneable", "not-there", "unmade", "in-the-trash", "unmanaged"],
)
def test_a_source_that_cannot_be_cloned_says_so_and_the_clone_is_in_error(source: Given) -> None:
    refused = source.when(hold)
    refused.then_types(FolderHoldRefused)
    message = refused.only(FolderHoldRefused).message
    assert message
    assert refused.sends == [Send("vfolder", RefuseClone(**about(F2, EVES), message=message))]
    broken = waiting.when(REFUSE)
    broken.then(FolderFailed(**about(F2, EVES), work=Work.CLONE, message="it may not be cloned"))
    waiting.and_when(REFUSE).when(PurgeFolder(**about(F2, EVES))).then_types(FolderPurging)
    waiting.and_when(REFUSE).when(REFUSE).then_nothing()


@pytest.mark.parametrize(
    ("report", "end", "message"),
    [(made(F2, EVES, 7), TaskEnd.DONE, ""), (failed(Work.CLONE, F2, EVES), TaskEnd.FAILED, "no disk")],
    ids=["done", "failed"],
)
def test_the_source_is_released_and_the_task_ends_whatever_becomes_of_the_copy(
    report: Any, end: Any, message: str
) -> None:
    assert copying.when(report).sends == [
        Send("directory", ReportTaskEnd(at=NOW, task_id=TASK, end=end, message=message)),
        Send("vfolder", RELEASE),
    ]


def test_a_clone_that_nobody_asked_for_has_no_task() -> None:
    quiet = clone().model_copy(update={"asker": None})
    assert eve.when(quiet).told("directory") == []
    assert eve.and_when(quiet, BEGIN).when(made(F2, EVES)).told("directory") == []


def test_a_clone_for_which_its_owner_has_no_room_is_given_up() -> None:
    small = waiting.and_when(SetQuota(at=NOW, scope=EVES, host=HOST, max_bytes=6))
    outcome = small.when(BEGIN)
    outcome.then_types(FolderFailed)
    assert Send("vfolder", RELEASE) in outcome.sends
    assert outcome.told("directory")
    waiting.and_when(SetQuota(at=NOW, scope=EVES, host=HOST, max_bytes=7)).when(BEGIN).then_types(FolderCloneBegun)


def test_a_clone_counts_and_has_a_name_as_any_folder() -> None:
    waiting.when(create("copy", F1, EVES)).then_refused("folder_name_taken")
    eve.when(clone().model_copy(update={"spec": SPEC.model_copy(update={"unmanaged_path": "/x"})})).then_refused(
        "bad_path"
    )
    eve.and_when(limit(EVES, LIMITS.model_copy(update={"max_folders": 1})), create("one", F1, EVES)).when(
        clone()
    ).then_refused("too_many_folders")


# -- purges ------------------------------------------------------------------------------------------------------------


def test_whoever_asks_for_a_purge_sees_how_far_it_is_and_each_attempt_is_a_task_of_its_own() -> None:
    asked = trashed.when(purge(T1))
    asked.then(FolderPurging(**about(), task=PurgeTask(asker=KEY, task_id=T1)))
    assert asked.sends == [_begins(T1)]
    purging = trashed.and_when(purge(T1))
    purging.when(purge(T2)).then_nothing()
    gives_up = purging.when(failed(Work.PURGE))
    assert gives_up.sends == [_ends(T1, TaskEnd.FAILED, "no disk")]
    error = purging.and_when(failed(Work.PURGE))
    assert error.when(PURGED).sends == [], "it has failed for him who asked"
    assert error.when(purge(T2)).sends == [_begins(T2)]
    assert error.and_when(purge(T2)).when(PURGED).sends == [_ends(T2)]


def test_a_purge_that_nobody_asked_for_has_no_task_also_where_somebody_tried_before() -> None:
    passed = PassTrashDeadline(at=NOW, scope=ADAS, folder_id=F1, deadline=after(60))
    for quiet in (purge(None), passed, CloseScope(at=NOW, scope=ADAS)):
        assert trashed.when(quiet).sends == []
        assert trashed.and_when(quiet).when(PURGED).sends == []
    again = trashed.and_when(purge(T1), failed(Work.PURGE), purge(None))
    assert again.when(PURGED).sends == []


def test_the_task_of_a_purge_for_which_there_is_nothing_to_do_ends_at_once() -> None:
    unmanaged = ada.and_when(create(unmanaged_path="/data"), trash()).when(purge(T1))
    unmanaged.then_types(FolderPurging, FolderPurged)
    assert unmanaged.sends == [_begins(T1), _ends(T1)]


def test_the_task_of_a_failed_clone_and_of_its_purge_are_two() -> None:
    broken = waiting.and_when(REFUSE)
    assert broken.when(purge(T1, F2, EVES)).sends == [_begins(T1, ref(F2, EVES))]
    assert broken.and_when(purge(T1, F2, EVES)).when(ReportFolderPurged(**about(F2, EVES))).sends == [_ends(T1)]


def _begins(task_id: TaskId, folder: FolderRef | None = None) -> Send:
    work = DeleteFolder(owner=KEY, folder=folder or ref())
    return Send("directory", StartTask(at=NOW, task_id=task_id, work=work))


def _ends(task_id: TaskId, end: Any = TaskEnd.DONE, message: str = "") -> Send:
    return Send("directory", ReportTaskEnd(at=NOW, task_id=task_id, end=end, message=message))


# -- changing hands ----------------------------------------------------------------------------------------------------


def test_a_folder_is_offered_as_it_is_with_all_who_are_in_it() -> None:
    begins = shared.when(transfer)
    begins.then(TransferBegun(**about(), to=EVES))
    told = begins.told("vfolder")[0].message
    assert told == TakeFolder(
        **about(F1, EVES),
        giver=ADAS,
        name="data",
        spec=SPEC,
        members=(Member(user_id=EVE, permission=RW),),
        used_bytes=7,
        files=1,
        created_at=NOW,
        moves=1,
    )
    assert shared.and_when(transfer).state.folders[F1].status is FolderStatus.PERFORMING


def test_what_is_on_its_way_stays_as_it_is() -> None:
    going = shared.and_when(transfer)
    for command in (
        trash(),
        RenameFolder(**about(), name="more"),
        SetMember(**about(), user_id=EVE, permission=RO),
        RemoveMember(**about(), user_id=EVE),
        transfer,
    ):
        going.when(command).then_refused("folder_not_ready")
    going.when(measured(50)).then_nothing()
    going.when(LoseMember(**about(), user_id=EVE)).then_types(MemberRemoved)


def test_the_new_owner_has_it_with_its_members_who_hear_of_him() -> None:
    taken = eve.when(take)
    event = taken.only(FolderTaken)
    assert [member.user_id for member in event.members] == [BOB]
    assert [sent.message for sent in taken.sends] == [
        CONFIRM,
        FollowFolder(**about(F1, BOBS), folder=ref(F1, EVES), name="data", moves=1),
    ]
    assert eve.and_when(take).state.used_bytes(HOST) == 7
    eve.and_when(take).when(take).then_nothing()
    given = with_data.and_when(transfer)
    given.when(CONFIRM).then(FolderGiven(**about(), to=EVES))
    assert given.and_when(CONFIRM).state == ada.state
    with_data.when(CONFIRM).then_nothing()


@pytest.mark.parametrize(
    "taker",
    [
        nobody,
        eve.and_when(create("data", F2, EVES)),
        eve.and_when(limit(EVES, LIMITS.model_copy(update={"max_folders": 1})), create("one", F2, EVES)),
        eve.and_when(SetQuota(at=NOW, scope=EVES, host=HOST, max_bytes=6)),
        eve.and_when(limit(EVES, LIMITS.model_copy(update={"hosts": {}}))),
        eve.and_when(CloseScope(at=NOW, scope=EVES)),
    ],
    ids=["nobody", "name-taken", "too-many", "no-room", "host-not-allowed", "purged"],
)
def test_who_cannot_have_it_says_so_and_it_stays_where_it_was(taker: Given) -> None:
    refused = taker.when(take)
    event = refused.only(TakingRefused)
    assert event.message
    assert refused.sends == [Send("vfolder", AbortTransfer(**about(), message=event.message))]
    given = with_data.and_when(transfer)
    given.when(ABORT).then(TransferAborted(**about(), message="no room"))
    assert given.and_when(ABORT).state == with_data.state
    given.and_when(ABORT).when(ABORT).then_nothing()


def test_whoever_had_it_from_another_has_it_as_his_own_then() -> None:
    joined.when(take).then_types(FolderTaken)
    own = joined.and_when(take).state
    assert (dict(own.joined), dict(own.names)) == ({}, {"data": F1})
    accepted = invited.and_when(invitation(AcceptInvitation, EVES))
    accepted.when(take).then_types(InvitationWithdrawn, FolderTaken)
    accepted.and_when(take).when(invitation(ConfirmMembership, EVES)).then_nothing()


def test_a_folder_goes_to_an_owner_of_the_same_kind() -> None:
    with_data.when(transfer.model_copy(update={"to": TEAMS})).then_refused("wrong_owner")
    teams.when(transfer.model_copy(update={"scope": TEAMS})).then_refused("wrong_owner")
    with_data.when(transfer.model_copy(update={"to": ADAS})).then_nothing()


def test_a_member_follows_the_owner_to_whom_it_went_last() -> None:
    to_bob = FollowFolder(**about(F1, EVES), folder=ref(F1, BOBS), name="data", moves=1)
    followed = joined.and_when(to_bob)
    assert followed.state.joined[F1].folder.scope == BOBS
    followed.when(FollowFolder(**about(F1, EVES), folder=ref(), name="data")).then_nothing()
    leaves = followed.when(LeaveFolder(**about(F1, EVES)))
    assert [sent.message for sent in leaves.sends] == [
        LoseMember(**about(F1, BOBS), user_id=EVE, moves=1),
    ]


def test_who_left_before_the_new_owner_knew_says_so_to_him_again() -> None:
    to_bob = FollowFolder(**about(F1, EVES), folder=ref(F1, BOBS), name="data", moves=1)
    says = eve.when(to_bob)
    says.then(FolderLeft(**about(F1, EVES), folder=ref(F1, BOBS), left=True, moves=1))
    assert [sent.message for sent in says.sends] == [LoseMember(**about(F1, BOBS), user_id=EVE, moves=1)]


def test_who_is_named_by_the_new_owner_is_a_member_before_the_old_one_has_answered() -> None:
    accepted = invited.and_when(invitation(AcceptInvitation, EVES))
    to_bob = FollowFolder(**about(F1, EVES), folder=ref(F1, BOBS), name="data", moves=1)
    accepted.when(to_bob).then_types(FolderJoined)
    accepted.and_when(to_bob).when(invitation(ConfirmMembership, EVES)).then_nothing()
    later = eve.and_when(receive(moves=2), invitation(AcceptInvitation, EVES))
    later.when(to_bob).then_nothing()


def test_an_old_word_of_one_who_left_does_not_end_what_he_has_since() -> None:
    back = eve.and_when(take, limit(EVES))
    old = LoseMember(**about(F1, EVES), user_id=BOB, moves=0)
    back.when(old).then_nothing()
    back.when(old.model_copy(update={"moves": 1})).then_types(MemberRemoved)
    back.when(FollowFolder(**about(F1, EVES), folder=ref(), name="data", moves=5)).then_nothing()


def test_a_folder_that_was_given_away_is_mounted_with_its_new_owner_only() -> None:
    given = with_data.and_when(transfer, CONFIRM)
    mount = MountFolder(**about(), session_id=S1, owner=KEY, user_id=ADA, permission=RO)
    given.when(mount).then_types(FolderMountRefused)
