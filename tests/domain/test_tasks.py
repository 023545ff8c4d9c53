"""Background tasks: what they count, how they end, and what agents are told."""

from typing import Any

import pytest

from domain.context import PLACEMENTS, Alarm, Send
from domain.directory.images import OWNER_LABEL
from domain.directory.messages.images import ImageRegistered
from domain.directory.messages.tasks import (
    TASK_KEPT_SECONDS,
    TASK_SILENCE_SECONDS,
    CopyFolder,
    DeleteFolder,
    PartState,
    PreloadImages,
    ScanRegistries,
    TaskEnd,
    TaskEnded,
    TaskProgressed,
    TaskStarted,
    UnloadImages,
)
from domain.directory.tasks import Task
from domain.messages import AccessKey, Command, UserId
from domain.placements import CommitKernel, PullImages, RemoveImages, StopImageTask
from domain.vfolder.mounts import FolderId, FolderRef
from tests.domain.images import (
    A1,
    A2,
    COMMIT,
    COMMITTED,
    HUB,
    NOW,
    PRELOAD,
    PYTHON,
    SCAN,
    T1,
    TORCH,
    after,
    cancel,
    create_registry,
    ends,
    forget_agent,
    local,
    progress,
    silence,
    start,
)
from tests.domain.people import nobody
from tests.domain.spec import Given

AKIA = AccessKey("AKIA")
FOLDER = FolderRef(scope="user:u-ada", folder_id=FolderId("f1"), host="local:one")

known = nobody.and_when(create_registry())
scanning = known.and_when(start())
preloading = nobody.and_when(start(PRELOAD))
committing = nobody.and_when(start(COMMIT))


def task(given: Given) -> Task:
    found: Task = given.state.tasks[T1]
    return found


def ended(end: TaskEnd, message: str = "", at: float = 2) -> TaskEnded:
    return TaskEnded(at=after(at), task_id=T1, end=end, message=message)


# -- the beginning -----------------------------------------------------------------------------------------------------


def test_a_task_is_started_once() -> None:
    deadline = after(TASK_SILENCE_SECONDS)
    known.when(start()).then(TaskStarted(at=NOW, task_id=T1, work=SCAN, deadline=deadline))
    scanning.when(start()).then_nothing()
    scanning.when(start(PRELOAD)).then_refused("task_exists")
    known.when(start(task_id="a/b")).then_refused("bad_id")


def test_only_registries_that_are_there_are_scanned() -> None:
    nobody.when(start()).then_refused("unknown_registry")
    assert nobody.when(start(ScanRegistries(registries=("local",)))).events


def test_nothing_is_done_twice_in_a_task() -> None:
    twice = PreloadImages(references=(PYTHON, TORCH, PYTHON), agents=(A1, A2, A1))
    assert nobody.when(start(twice)).only(TaskStarted).work == PRELOAD
    assert known.when(start(ScanRegistries(registries=(HUB, HUB)))).only(TaskStarted).work == SCAN


def test_each_agent_is_ordered_to_pull_or_to_remove() -> None:
    pull = {"at": NOW, "task_id": T1, "references": (PYTHON, TORCH)}
    assert nobody.when(start(PRELOAD)).sends == [
        Send(PLACEMENTS, PullImages(agent_id=agent_id, **pull)) for agent_id in (A1, A2)
    ]
    unload = UnloadImages(references=(PYTHON,), agents=(A2,))
    remove = RemoveImages(at=NOW, agent_id=A2, task_id=T1, references=(PYTHON,))
    assert nobody.when(start(unload)).sends == [Send(PLACEMENTS, remove)]
    assert known.when(start()).sends == []  # a worker's


# -- how far it is -----------------------------------------------------------------------------------------------------


def test_a_scan_counts_what_its_worker_has_found() -> None:
    deadline = after(1 + TASK_SILENCE_SECONDS)
    told = TaskProgressed(at=after(1), task_id=T1, done=3, total=9, message="pulling", deadline=deadline)
    scanning.when(progress(3, 9)).then(told)
    scanning.and_when(progress(3, 9)).when(progress(3, 9)).then_nothing()


def test_what_was_counted_is_not_taken_back() -> None:
    again = scanning.and_when(progress(3, 9), progress(0, 0, at=5))
    assert (task(again).done, task(again).total) == (3, 9)
    assert task(again.and_when(progress(11, 9, at=6))).total == 11
    pulled = preloading.and_when(progress(2, 2, A1), progress(0, 2, A1, at=5))
    assert (task(pulled).done, task(pulled).parts[A1].done) == (2, 2)


def test_the_parts_of_all_agents_are_added_up() -> None:
    assert (task(preloading).done, task(preloading).total) == (0, 4)
    told = preloading.and_when(progress(1, 2, A1)).when(progress(2, 2, A2, at=3)).only(TaskProgressed)
    assert (told.done, told.total, told.agent_id, told.part, told.part_done) == (3, 4, A2, PartState.GOING_ON, 2)
    assert task(preloading.and_when(progress(50, 50, A1))).done == 2


def test_who_has_no_part_of_a_task_reports_none() -> None:
    for report in (progress(1), ends()):
        preloading.when(report).then_refused("unknown_part")
        scanning.when(report.model_copy(update={"agent_id": A1})).then_refused("unknown_part")
        preloading.when(report.model_copy(update={"agent_id": "a3"})).then_refused("unknown_part")


# -- an image of a session ---------------------------------------------------------------------------------------------


def test_the_agent_of_a_session_is_ordered_to_make_an_image_of_it() -> None:
    commit = CommitKernel(
        at=NOW,
        agent_id=A1,
        task_id=T1,
        references=(COMMITTED,),
        owner=COMMIT.owner,
        session_id=COMMIT.session_id,
        kernel_id=COMMIT.kernel_id,
        labels=COMMIT.labels,
    )
    started = nobody.when(start(COMMIT))
    assert started.sends == [Send(PLACEMENTS, commit)]
    assert (started.after.tasks[T1].total, started.after.tasks[T1].owner) == (1, COMMIT.owner)


def test_of_a_session_one_image_at_a_time_is_made() -> None:
    other = COMMIT.model_copy(update={"reference": f"{COMMITTED}2"})
    committing.when(start(COMMIT)).then_nothing()
    committing.when(start(other, "t2")).then_refused("commit_going_on")
    committing.and_when(ends(agent_id=A1)).when(start(other, "t2")).then_types(TaskStarted)
    elsewhere = other.model_copy(update={"session_id": "s2"})
    committing.when(start(elsewhere, "t2")).then_types(TaskStarted)


def test_an_image_that_was_made_is_registered_with_whose_it_is() -> None:
    claims = local(COMMITTED).model_copy(update={"labels": {"a": "b", OWNER_LABEL: "user:stranger"}})
    done = committing.when(ends(agent_id=A1, image=claims))
    done.then_types(ImageRegistered, TaskProgressed, TaskEnded)
    image = done.after.images[COMMITTED, "x86_64"]
    assert (image.owner, image.registry, image.facts.labels["a"]) == ("u1", "local", "b")


def test_what_was_made_of_a_session_is_there_for_its_user_alone_whatever_registries_he_may_use() -> None:
    directory = committing.when(ends(agent_id=A1, image=local(COMMITTED))).after
    for registries in ((), ("local",)):
        assert directory.resolve_image(COMMITTED, "x86_64", registries, UserId("u1")) is not None
        assert directory.resolve_image(COMMITTED, "x86_64", registries, UserId("u2")) is None


def test_only_the_image_that_was_ordered_is_registered() -> None:
    committing.when(ends(agent_id=A1, image=local(PYTHON))).then_types(TaskProgressed, TaskEnded)
    committing.when(ends(TaskEnd.FAILED, A1, "no room")).then_types(TaskProgressed, TaskEnded)
    preloading.when(ends(agent_id=A1, image=local(PYTHON))).then_types(TaskProgressed)
    committing.and_when(cancel()).when(ends(agent_id=A1, image=local(COMMITTED))).then_nothing()


# -- the end -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [TaskEnd.DONE, TaskEnd.FAILED])
def test_a_scan_ends_as_its_worker_says(end: TaskEnd) -> None:
    scanning.when(ends(end, message="so it is")).then(ended(end, "so it is"))


def test_a_task_of_agents_is_done_when_the_last_of_them_is() -> None:
    one = preloading.when(ends(agent_id=A1))
    one.then_types(TaskProgressed)
    assert one.only(TaskProgressed).part is PartState.DONE
    preloading.and_when(ends(agent_id=A1)).when(ends(agent_id=A1)).then_nothing()
    preloading.and_when(ends(agent_id=A1)).when(progress(1, 2, A1)).then_nothing()
    last = preloading.and_when(ends(agent_id=A1)).when(ends(agent_id=A2))
    last.then_types(TaskProgressed, TaskEnded)
    assert last.only(TaskEnded) == ended(TaskEnd.DONE)
    assert (last.after.tasks[T1].done, last.sends) == (4, [])


def test_a_task_has_failed_if_any_agent_has_and_says_which() -> None:
    failed = preloading.and_when(progress(1, 2, A1), ends(TaskEnd.FAILED, A1, "no such image"))
    last = failed.when(ends(agent_id=A2))
    assert last.only(TaskEnded) == ended(TaskEnd.FAILED, "1 of 2 agents failed: a1: no such image")
    assert last.after.tasks[T1].done == 3


def test_a_cancelled_task_is_over_and_who_is_still_at_work_is_told() -> None:
    cancelled = preloading.and_when(ends(agent_id=A1)).when(cancel())
    cancelled.then(ended(TaskEnd.CANCELLED, "cancelled", at=0))
    assert cancelled.sends == [Send(PLACEMENTS, StopImageTask(at=NOW, agent_id=A2, task_id=T1))]
    preloading.and_when(cancel()).when(cancel()).then_nothing()
    nobody.when(cancel()).then_refused("unknown_task")


@pytest.mark.parametrize(
    "work",
    [CopyFolder(owner=AKIA, source=FOLDER, target=FOLDER), DeleteFolder(owner=AKIA, folder=FOLDER)],
    ids=["copied", "deleted"],
)
def test_what_is_done_to_a_folder_is_its_askers_and_cannot_be_left_half(work: Any) -> None:
    begun = nobody.when(start(work))
    begun.then_types(TaskStarted)
    assert begun.sends == []
    under_way = nobody.and_when(start(work))
    assert under_way.state.tasks[T1].owner == AKIA
    assert under_way.when(progress(3, 7)).only(TaskProgressed).total == 7
    under_way.when(cancel()).then_refused("task_goes_on")
    under_way.and_when(ends()).when(cancel()).then_nothing()


def test_what_is_reported_after_the_end_is_nothing() -> None:
    over = preloading.and_when(cancel())
    for late in (progress(1, 2, A1), ends(agent_id=A1), silence()):
        over.when(late).then_nothing()
        nobody.when(late).then_nothing()


def test_a_task_of_which_nothing_is_heard_has_failed() -> None:
    scanning.when(silence()).then(ended(TaskEnd.FAILED, "nothing was heard for 600 s", TASK_SILENCE_SECONDS))
    silent = preloading.and_when(ends(agent_id=A1)).when(silence(since=2))
    assert silent.only(TaskEnded).message == "nothing was heard from a2 for 600 s"
    assert silent.sends == [
        Send(PLACEMENTS, StopImageTask(at=after(2 + TASK_SILENCE_SECONDS), agent_id=A2, task_id=T1))
    ]


def test_whatever_is_heard_of_a_task_sets_it_another_deadline() -> None:
    heard = scanning.and_when(progress(1, at=60))
    heard.when(silence()).then_nothing()
    heard.when(silence(since=60)).then_types(TaskEnded)
    late = scanning.and_when(progress(1, at=60), progress(2, at=5))
    assert task(late).deadline == after(60 + TASK_SILENCE_SECONDS)


def test_the_deadline_rings_until_the_task_has_ended() -> None:
    asked: list[tuple[Given, Command, Alarm]] = [
        (known, start(), Alarm(T1, after(TASK_SILENCE_SECONDS), silence())),
        (scanning, progress(1, at=60), Alarm(T1, after(60 + TASK_SILENCE_SECONDS), silence(since=60))),
        (scanning, ends(), Alarm(T1, None)),
    ]
    for given, command, alarm in asked:
        assert [given.context.alarm(event, given.state) for event in given.when(command).events] == [alarm]


def test_what_a_removed_agent_had_to_do_has_failed() -> None:
    gone = preloading.when(forget_agent(A1))
    assert gone.only(TaskProgressed).part is PartState.FAILED
    last = preloading.and_when(ends(agent_id=A2)).when(forget_agent(A1))
    last.then_types(TaskProgressed, TaskEnded)
    assert last.only(TaskEnded).message == "1 of 2 agents failed: a1: the agent is gone"
    preloading.and_when(ends(agent_id=A1)).when(forget_agent(A1)).then_nothing()


def test_the_end_of_a_task_is_remembered_for_a_day() -> None:
    over = scanning.and_when(ends())
    within = over.and_when(start(task_id="t2", at=TASK_KEPT_SECONDS))
    assert set(within.state.tasks) == {"t1", "t2"}
    later = within.and_when(start(task_id="t3", at=TASK_KEPT_SECONDS + 3))
    assert set(later.state.tasks) == {"t2", "t3"}
