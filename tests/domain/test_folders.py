"""What an owner may do with his folders, and what sessions and storage services say of them."""

from typing import Any, get_args

import pytest
from pydantic import TypeAdapter, ValidationError

from domain.context import Alarm, Send
from domain.messages import Command
from domain.session.messages import RefuseMount
from domain.vfolder.messages import FolderCommands
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderFailed,
    FolderMounted,
    FolderMountRefused,
    FolderOptionsSet,
    FolderPurged,
    FolderPurging,
    FolderReady,
    FolderRenamed,
    FolderRestored,
    FolderTrashed,
    FolderUnmounted,
    FolderUsageMeasured,
    QuotaSet,
    ScopeClosed,
)
from domain.vfolder.messages.reports import CloseScope, MountFolder, PassTrashDeadline, ReportFolderPurged
from domain.vfolder.messages.requests import (
    PurgeFolder,
    RenameFolder,
    RestoreFolder,
    SetFolderOptions,
    SetMember,
    SetQuota,
)
from domain.vfolder.mounts import FolderId, FolderName, Scope
from domain.vfolder.names import is_automatic
from domain.vfolder.phases import TRANSITIONS, FolderStatus, Phase, status
from tests.domain import folders as f
from tests.domain.folders import (
    ADAS,
    BOB,
    EVE,
    F1,
    F2,
    F3,
    HOST,
    LIMITS,
    NOW,
    OTHER_HOST,
    RO,
    RW,
    S1,
    SPEC,
    TEAMS,
    WD,
    about,
    ada,
    after,
    create,
    failed,
    limit,
    made,
    measured,
    mount,
    nobody,
    teams,
    trash,
    trashed,
    unmount,
    with_data,
)
from tests.domain.spec import Given

PURGE = PurgeFolder(**about())
RESTORE = RestoreFolder(**about())
PURGED = ReportFolderPurged(**about())

# -- making them -------------------------------------------------------------------------------------------------------


def test_a_folder_can_be_used_once_its_storage_service_has_made_it() -> None:
    ada.when(create()).then(FolderCreated(**about(), name="data", spec=SPEC))
    created = ada.and_when(create())
    assert created.state.folders[F1].status is FolderStatus.PERFORMING
    created.when(made(used_bytes=7)).then(FolderReady(**about(), used_bytes=7, files=1))
    with_data.when(made()).then_nothing()
    nobody.when(made()).then_nothing()


def test_two_folders_of_an_owner_have_not_the_same_name_on_whatever_hosts() -> None:
    everywhere = LIMITS.model_copy(update={"hosts": {HOST: ("create-vfolder",), OTHER_HOST: ("create-vfolder",)}})
    both = with_data.and_when(limit(limits=everywhere))
    both.when(create(folder_id=F2, host=OTHER_HOST)).then_refused("folder_name_taken")
    with_data.when(create("other", folder_id=F1)).then_refused("folder_id_taken")


@pytest.mark.parametrize("name", ["_", ".", "..", "invitations", F1, F1.replace("-", "").upper()])
def test_a_name_that_means_something_else_is_no_name_of_a_folder(name: str) -> None:
    ada.when(create(name)).then_refused("reserved_folder_name")
    with_data.when(RenameFolder(**about(), name=name)).then_refused("reserved_folder_name")


@pytest.mark.parametrize("name", ["", "a/b", "a b", "-rf", "ä", "a" * 65, "a\n", "a\0"])
def test_a_name_is_letters_digits_and_a_few_signs(name: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(FolderName).validate_python(name)


def test_a_name_that_begins_with_a_dot_is_mounted_without_being_asked_for() -> None:
    ada.when(create(".config")).then_types(FolderCreated)
    assert is_automatic(".config")
    assert not is_automatic("config")


@pytest.mark.parametrize("folder_id", ["../../etc", F1.upper().replace("1", "A"), F1.replace("-", ""), ""])
def test_an_id_that_is_no_uuid_never_becomes_a_path(folder_id: str) -> None:
    ada.when(create(folder_id=FolderId(folder_id))).then_refused("bad_id")


def test_an_owner_has_as_many_folders_as_his_policy_allows_and_the_trash_counts() -> None:
    full = trashed.and_when(create("two", F2))
    full.when(create("three", F3)).then_refused("too_many_folders")
    full.and_when(PURGE).when(create("three", F3)).then_types(FolderCreated)
    unlimited = LIMITS.model_copy(update={"max_folders": 0})
    full.and_when(limit(limits=unlimited)).when(create("three", F3)).then_types(FolderCreated)


def test_folders_are_made_where_the_policy_allows_it_only() -> None:
    ada.when(create(host=OTHER_HOST)).then_refused("host_not_allowed")
    ada.when(create(host="local:elsewhere")).then_refused("host_not_allowed")
    nobody.when(create()).then_refused("folders_not_allowed")
    ada.and_when(limit(limits=None)).when(create()).then_refused("folders_not_allowed")


def test_what_is_unmanaged_is_there_at_once_and_nothing_of_it_is_deleted() -> None:
    unmanaged = create(unmanaged_path="/data")
    ada.when(unmanaged).then_types(FolderCreated, FolderReady)
    ada.and_when(unmanaged, trash()).when(PURGE).then_types(FolderPurging, FolderPurged)


def test_a_folder_that_could_not_be_made_is_in_error_and_can_be_purged() -> None:
    broken = ada.and_when(create(), failed(Work.CREATE))
    assert broken.state.folders[F1].status is FolderStatus.ERROR
    assert broken.state.folders[F1].message == "no disk"
    broken.when(trash()).then_refused("folder_not_ready")
    broken.when(made()).then_nothing()
    broken.when(PURGE).then_types(FolderPurging)
    with_data.when(failed(Work.CREATE)).then_nothing()


def test_what_is_said_twice_changes_nothing() -> None:
    ada.when(limit()).then_nothing()
    trashed.when(trash()).then_nothing()
    trashed.and_when(PURGE).when(PURGE).then_nothing()
    with_data.when(RESTORE).then_nothing()


# -- names and options -------------------------------------------------------------------------------------------------


def test_a_folder_is_renamed_to_a_free_name() -> None:
    rename = RenameFolder(**about(), name="more")
    with_data.when(rename).then(FolderRenamed(**about(), name="more"))
    with_data.and_when(rename).when(create("data", F2)).then_types(FolderCreated)
    with_data.and_when(create("more", F2)).when(rename).then_refused("folder_name_taken")
    with_data.when(RenameFolder(**about(), name="data")).then_nothing()
    trashed.when(rename).then_refused("folder_not_ready")
    ada.when(rename).then_refused("unknown_folder")


def test_options_that_are_not_named_stay() -> None:
    with_data.when(SetFolderOptions(**about(), cloneable=True)).then(
        FolderOptionsSet(**about(), permission=RW, cloneable=True)
    )
    with_data.when(SetFolderOptions(**about(), permission=RO)).then(
        FolderOptionsSet(**about(), permission=RO, cloneable=False)
    )
    with_data.when(SetFolderOptions(**about(), permission=RW)).then_nothing()


# -- the trash ---------------------------------------------------------------------------------------------------------


def test_what_is_in_the_trash_gives_up_its_name_and_may_come_back_under_another() -> None:
    assert trashed.state.folders[F1].status is FolderStatus.DELETE_PENDING
    taken = trashed.and_when(create("data", F2))
    taken.when(RESTORE).then_refused("folder_name_taken")
    taken.when(RestoreFolder(**about(), name="old")).then(FolderRestored(**about(), name="old"))
    trashed.when(RESTORE).then(FolderRestored(**about(), name="data"))
    trashed.and_when(PURGE).when(RESTORE).then_refused("folder_not_trashed")


def test_the_trash_is_purged_when_its_time_is_over_and_not_if_it_was_taken_out() -> None:
    event = with_data.when(trash(seconds=60)).only(FolderTrashed)
    assert event.purge_at == after(60)
    passed = PassTrashDeadline(at=after(60), scope=ADAS, folder_id=F1, deadline=after(60))
    assert with_data.context.alarm(event, with_data.state) == Alarm(F1, after(60), passed)
    trashed.when(passed).then(FolderPurging(at=after(60), scope=ADAS, folder_id=F1))
    restored = trashed.when(RESTORE).only(FolderRestored)
    assert with_data.context.alarm(restored, trashed.state) == Alarm(F1, None)
    trashed.and_when(RESTORE).when(passed).then_nothing()
    trashed.and_when(RESTORE, trash(seconds=90)).when(passed).then_nothing()


def test_only_what_is_in_the_trash_is_purged() -> None:
    with_data.when(PURGE).then_refused("folder_not_trashed")
    ada.and_when(create()).when(PURGE).then_refused("folder_not_trashed")
    ada.when(PURGE).then_refused("unknown_folder")


def test_a_purge_that_failed_is_tried_again() -> None:
    purging = trashed.and_when(PURGE)
    assert purging.state.folders[F1].status is FolderStatus.DELETE_ONGOING
    error = purging.and_when(failed(Work.PURGE))
    assert error.state.folders[F1].status is FolderStatus.DELETE_ERROR
    error.when(PURGE).then(FolderPurging(**about()))
    purging.when(PURGED).then(FolderPurged(**about()))
    error.when(PURGED).then(FolderPurged(**about()))
    assert not purging.and_when(PURGED).state.folders
    trashed.when(PURGED).then_nothing()


def test_every_status_of_a_folder_has_the_word_that_clients_know() -> None:
    assert {status(phase, mounted=False) for phase in Phase} | {status(Phase.READY, mounted=True)} == set(FolderStatus)
    assert status(Phase.TRASHED, mounted=True) is FolderStatus.DELETE_PENDING
    assert set(TRANSITIONS) == set(Phase)


# -- usage and quota ---------------------------------------------------------------------------------------------------


def test_what_an_owner_uses_is_the_sum_of_his_folders_there() -> None:
    both = with_data.and_when(create("two", F2), made(F2, used_bytes=30))
    assert (both.state.used_bytes(HOST), both.state.used_bytes(OTHER_HOST)) == (37, 0)
    both.when(measured(40)).then(FolderUsageMeasured(**about(), used_bytes=40, files=1))
    assert both.and_when(measured(40)).state.used_bytes(HOST) == 70
    both.when(measured(7)).then_nothing()
    ada.and_when(create()).when(measured(7)).then_nothing()


def test_a_quota_of_his_own_counts_more_than_the_policys() -> None:
    assert ada.state.max_bytes(HOST) == 100
    set_quota = SetQuota(at=NOW, scope=ADAS, host=HOST, max_bytes=5)
    ada.when(set_quota).then(QuotaSet(at=NOW, scope=ADAS, host=HOST, max_bytes=5))
    own = ada.and_when(set_quota)
    assert (own.state.max_bytes(HOST), own.state.max_bytes(OTHER_HOST)) == (5, 100)
    own.when(set_quota).then_nothing()
    unset = set_quota.model_copy(update={"max_bytes": None})
    assert own.and_when(unset).state.max_bytes(HOST) == 100
    ada.when(unset).then_nothing()
    no_limit = LIMITS.model_copy(update={"max_bytes": 0})
    assert ada.and_when(limit(limits=no_limit)).state.max_bytes(HOST) is None


# -- sessions ----------------------------------------------------------------------------------------------------------


def test_what_a_session_has_mounted_is_neither_trashed_nor_given_away() -> None:
    with_data.when(mount(WD)).then(FolderMounted(**about(), session_id=S1, owner="AKIA", permission=WD))
    busy = with_data.and_when(mount())
    assert busy.state.folders[F1].status is FolderStatus.MOUNTED
    for command in (trash(), f.transfer):
        busy.when(command).then_refused("folder_mounted")
    busy.when(mount()).then_nothing()
    busy.when(unmount).then(FolderUnmounted(**about(), session_id=S1))
    busy.and_when(unmount).when(trash()).then_types(FolderTrashed)
    with_data.when(unmount).then_nothing()


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (f.shared, mount(WD, EVE)),
        (f.shared, mount(RO, BOB)),
        (f.shared, mount(RO, BOB, by_project=True)),
        (teams, mount(RW, EVE, TEAMS, by_project=True)),
        (teams, mount(RO, EVE, TEAMS)),
        (trashed, mount()),
        (ada.and_when(create()), mount()),
        (ada, mount()),
    ],
    ids=["more", "stranger", "not-a-project", "more-than-members", "not-in-it", "trash", "unmade", "gone"],
)
def test_a_session_that_may_not_have_a_folder_is_told_so_and_ends(given: Given, command: MountFolder) -> None:
    refused = given.when(command).only(FolderMountRefused)
    told = RefuseMount(at=NOW, owner=command.owner, session_id=S1, message=refused.message)
    assert given.when(command).sends == [Send("session", told)]


@pytest.mark.parametrize(
    ("given", "command"),
    [
        (f.shared, mount(RW, EVE)),
        (teams, mount(RO, EVE, TEAMS, by_project=True)),
        (teams.and_when(SetMember(**about(F1, TEAMS), user_id=EVE, permission=WD)), mount(WD, EVE, TEAMS)),
    ],
    ids=["member", "project", "project-member-of-his-own"],
)
def test_a_session_has_what_its_user_was_granted(given: Given, command: MountFolder) -> None:
    given.when(command).then_types(FolderMounted)


# -- the end of an owner -----------------------------------------------------------------------------------------------


def test_with_an_owner_go_his_folders_each_as_soon_as_nothing_needs_it() -> None:
    close = CloseScope(at=NOW, scope=ADAS)
    with_data.when(close).then_types(ScopeClosed, FolderPurging)
    trashed.when(close).then_types(ScopeClosed, FolderPurging)
    closed = with_data.and_when(mount(), close)
    closed.when(unmount).then_types(FolderUnmounted, FolderPurging)
    other = mount().model_copy(update={"session_id": "s2"})
    with_data.and_when(mount(), other, close).when(unmount).then_types(FolderUnmounted)
    ada.and_when(create(), close).when(made()).then_types(FolderReady, FolderPurging)
    ada.and_when(create(), close).when(failed(Work.CREATE)).then_types(FolderFailed, FolderPurging)
    closed.when(close).then_nothing()
    closed.when(limit()).then_nothing()
    closed.when(create("two", F2)).then_refused("folders_not_allowed")


@pytest.mark.parametrize("scope", ["user:", "ada", "team:x", "user:a/b", "user:../x", "user:a\n", "user:" + "a" * 65])
def test_an_owner_is_a_user_or_a_project(scope: str) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Scope).validate_python(scope)


def test_people_may_send_what_people_do() -> None:
    kinds: Any = get_args(get_args(FolderCommands)[0])
    by_users = {kind.__name__ for kind in kinds if kind.by_users}
    assert by_users == {
        *("CreateFolder", "CloneFolder", "RenameFolder", "SetFolderOptions", "TrashFolder", "RestoreFolder"),
        *("PurgeFolder", "InviteToFolder", "ChangeInvitation", "CancelInvitation", "AcceptInvitation"),
        *("RejectInvitation", "SetMember", "RemoveMember", "LeaveFolder", "TransferFolder", "SetQuota"),
    }
    assert all(issubclass(kind, Command) for kind in kinds)
