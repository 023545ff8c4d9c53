"""The agent as its control plane sees it: orders become kernels, and whatever happens to them is reported."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from agents.journal import Journal
from agents.runtime import ImageHere
from domain.directory.messages.images import AgentImagesReported
from domain.directory.messages.tasks import CancelTask, PreloadImages, StartTask, TaskEnd, TaskEnded, TaskId
from domain.messages import SessionId
from domain.scheduling.messages import AgentProfile
from domain.session.messages import RestartSession, TerminateSession
from domain.session.status import DEADLINES, SessionStatus
from infra.log import LogUnavailable
from tests.whole import AGENT, OWNER, PROFILE, Whole, an_id, now


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Whole]:
    whole = Whole(tmp_path)
    async with whole.shards():
        await whole.admit()
        yield whole


def starts(whole: Whole) -> int:
    return len((whole.folder / "runtime" / "starts.jsonl").read_text().splitlines())


async def test_a_batch_session_runs_to_its_success(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("hello", session_type="batch", startup_command="echo hello")
        ended = await whole.until(session, "SessionEnded")
    assert ended.event.model_dump(include={"status", "result", "exit_code", "reason"}) == {
        "status": "TERMINATED",
        "result": "SUCCESS",
        "exit_code": 0,
        "reason": "task-done",
    }


async def test_a_session_goes_through_every_status_on_its_way(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("hello", image="fake/exit:0-0.05")
        await whole.until(session, "SessionEnded")
    advanced = [
        each.event.model_dump()["status"]
        for each in await whole.told(subject=session)
        if type(each.event).__name__ == "SessionAdvanced"
    ]
    assert advanced == ["PREPARING", "PULLING", "PREPARED", "CREATING", "RUNNING"]


async def test_a_failing_batch_session_says_its_exit_code(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("bad", session_type="batch", startup_command="exit 3")
        ended = await whole.until(session, "SessionEnded")
    assert ended.event.model_dump(include={"result", "exit_code"}) == {"result": "FAILURE", "exit_code": 3}


async def test_a_stop_ends_it(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("long")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        ended = await whole.until(session, "SessionEnded")
    assert ended.event.model_dump()["reason"] == "user-requested"


async def test_every_kernel_of_a_cluster_session_runs_and_ends(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("cluster", kernels=3)
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
    assert starts(whole) == 3


async def test_a_start_that_fails_is_tried_again_and_given_up_in_the_end(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("broken", image="fake/fail-start")
        ended = await whole.until(session, "SessionEnded")
    assert ended.event.model_dump(include={"status", "reason"}) == {"status": "ERROR", "reason": "attempts-exhausted"}


async def test_an_image_that_cannot_be_had_is_said_so(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("broken", image="fake/pull-fail")
        kernel = await whole.until(session, "KernelEnded")
        await whole.until(session, "SessionEnded")
    assert kernel.event.model_dump()["reason"] == "image-unavailable"


async def test_a_restart_is_the_next_incarnation_and_the_same_session(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("again")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.give("session", RestartSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING, times=2)
        started = await whole.until(session, "KernelStarted", times=2)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
    assert started.event.model_dump()["incarnation"] == 2


async def test_kernels_run_on_while_the_agent_is_dead_and_are_adopted(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("long")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    async with whole.agent() as runtime:
        assert [kernel.kernel_id for kernel in await runtime.list()] == [session]
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
    assert starts(whole) == 1


async def test_an_end_nobody_watched_is_reported_with_its_true_time(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("short", image="fake/exit:7-0.2")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    await asyncio.sleep(0.4)
    back = now()
    async with whole.agent():
        ended = await whole.until(session, "KernelEnded")
    assert ended.event.model_dump()["exit_code"] == 7
    assert ended.event.at < back


async def test_orders_given_while_the_agent_was_dead_are_carried_out(whole: Whole) -> None:
    async with whole.agent():
        first = await whole.request("first")
        await whole.until(first, "SessionAdvanced", SessionStatus.RUNNING)
    await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=first))
    second = await whole.request("second", session_type="batch", startup_command="echo hello")
    await whole.until(second, "SessionScheduled")
    async with whole.agent():
        await whole.until(first, "SessionEnded")
        await whole.until(second, "SessionEnded")


async def test_an_agent_that_lost_its_journal_adopts_what_runs_and_reports_the_rest(whole: Whole) -> None:
    async with whole.agent():
        alive = await whole.request("alive")
        gone = await whole.request("gone", image="fake/exit:0-0.2")
        await whole.until(alive, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.until(gone, "SessionAdvanced", SessionStatus.RUNNING)
    for file in whole.folder.glob("journal.sqlite*"):
        file.unlink()
    await asyncio.sleep(0.3)
    async with whole.agent():
        await whole.until(gone, "SessionEnded")
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=alive))
        await whole.until(alive, "SessionEnded")
    assert starts(whole) == 2


async def test_what_nobody_wants_is_stopped(whole: Whole) -> None:
    async with whole.agent():
        session = await whole.request("stray")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    journal = Journal(whole.folder / "journal.sqlite")
    with journal.changes():
        [kept] = journal.kernels()
        journal.forget(kept.order.kernel_id, kept.order.incarnation)
    journal.close()
    async with whole.agent() as runtime, asyncio.timeout(5):
        while await runtime.list():
            await asyncio.sleep(0.01)


async def test_reports_wait_for_a_log_that_does_not_answer(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    append = whole.log.append
    async with whole.agent():
        session = await whole.request("patient", image="fake/exit:0-0.3")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)

        async def away(_: object) -> list[int]:
            raise LogUnavailable("away")

        monkeypatch.setattr(whole.log, "append", away)
        await asyncio.sleep(0.5)  # the kernel ends meanwhile
        monkeypatch.setattr(whole.log, "append", append)
        back = now()
        ended = await whole.until(session, "KernelEnded")
    assert ended.event.at < back


async def test_an_order_that_comes_too_late_is_not_carried_out(whole: Whole, monkeypatch: pytest.MonkeyPatch) -> None:
    async with whole.agent():
        first = await whole.request("first", session_type="batch", startup_command="true")
        await whole.until(first, "SessionEnded")
    monkeypatch.setitem(DEADLINES, SessionStatus.SCHEDULED, 0.2)
    late = await whole.request("late")
    await whole.until(late, "SessionScheduled")
    await asyncio.sleep(0.3)
    monkeypatch.undo()
    async with whole.agent():
        await whole.until(late, "SessionAdvanced", SessionStatus.RUNNING)
    lines = [json.loads(line) for line in (whole.folder / "runtime" / "starts.jsonl").read_text().splitlines()]
    assert [line["incarnation"] for line in lines if line["kernel_id"] == late] == [2]


async def until_task_ended(whole: Whole, task_id: TaskId) -> TaskEnded:
    async with asyncio.timeout(10):
        while True:
            told = [each.event for each in await whole.told("directory", task_id)]
            if found := [event for event in told if isinstance(event, TaskEnded)]:
                return found[0]
            await asyncio.sleep(0.005)


async def test_a_preload_is_done_when_the_agent_has_the_images_and_it_says_so(whole: Whole) -> None:
    task_id, image = TaskId(an_id("preload")), "cr.example.org/stable/python:3.11"
    work = PreloadImages(references=(image,), agents=(AGENT,))
    async with whole.agent():
        await whole.give("directory", StartTask(at=now(), task_id=task_id, work=work))
        assert (await until_task_ended(whole, task_id)).end is TaskEnd.DONE
        async with asyncio.timeout(10):
            while image not in {
                come.reference
                for each in await whole.told("directory", AGENT)
                if isinstance(each.event, AgentImagesReported)
                for come in each.event.come
            }:
                await asyncio.sleep(0.005)


async def test_a_slow_pull_of_an_order_holds_up_no_kernel_and_ends_when_it_is_cancelled(whole: Whole) -> None:
    task_id = TaskId(an_id("preload"))
    work = PreloadImages(references=("docker.io/library/slow:1",), agents=(AGENT,))
    async with whole.agent(images=[ImageHere("docker.io/fake/image:latest", "amd64")], pull_seconds=60):
        await whole.give("directory", StartTask(at=now(), task_id=task_id, work=work))
        session = await whole.request("hello", session_type="batch", startup_command="echo hello")
        await whole.until(session, "SessionEnded")
        await whole.give("directory", CancelTask(at=now(), task_id=task_id))
        assert (await until_task_ended(whole, task_id)).end is TaskEnd.CANCELLED
        async with asyncio.timeout(5):
            while [task for task in asyncio.all_tasks() if task.get_name() == f"images {task_id}"]:
                await asyncio.sleep(0.01)


async def test_a_device_that_fails_gets_nothing_new_until_it_recovers_and_what_runs_on_it_runs_on(whole: Whole) -> None:
    def with_gpus(*gpus: str, **faults: str) -> AgentProfile:
        slots = {"cpu": 8000, "mem": 2**34, "cuda.device": 1000 * len(gpus)}
        told = {"slots": slots, "devices": {"cuda.device": dict.fromkeys(gpus, 1000)}, "faults": faults}
        return PROFILE.model_copy(update=told)

    async def gpus_of(session: SessionId) -> list[str]:
        event = (await whole.until(session, "SessionScheduled")).event.model_dump()
        return list(event["assignments"][0]["devices"]["cuda.device"])

    slots = {"cpu": 1000, "cuda.device": 1000}
    async with whole.agent(with_gpus("gpu-1", "gpu-2")):
        one = await whole.request("one", slots=slots)
        assert await gpus_of(one) == ["gpu-1"]
        await whole.until(one, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.daemon.offer(with_gpus("gpu-2", **{"gpu-1": "Xid 79"}))
        two = await whole.request("two", slots=slots)
        assert await gpus_of(two) == ["gpu-2"]
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=one))
        ended = await whole.until(one, "SessionEnded")
        assert ended.event.model_dump()["reason"] == "user-requested", "it ran on until then"
        three = await whole.request("three", slots=slots)
        await asyncio.sleep(0.2)
        assert not [each for each in await whole.told(subject=three) if type(each.event).__name__ == "SessionScheduled"]
        await whole.daemon.offer(with_gpus("gpu-1", "gpu-2"))
        assert await gpus_of(three) == ["gpu-1"]
    assert starts(whole) == 3
