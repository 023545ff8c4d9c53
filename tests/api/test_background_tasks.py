"""The stream of a background task: how far it is, and once how it ended."""

import asyncio
from datetime import timedelta
from typing import Any

import pytest
from httpx_sse import aconnect_sse

from api import background_tasks
from domain.directory.messages.images import LOCAL
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, TaskEnd, TaskId
from tests.api.holding import Held
from tests.api.listening import listening
from tests.api.neighbours import client_of, move_in
from tests.api.world import World
from tests.whole import an_id, now

PATH = "/events/background-task"
TASK = TaskId(an_id("task"))
SCAN = {"type": "StartTask", "task_id": TASK, "work": {"work": "scan", "registries": [LOCAL]}}
PUBLIC = {"User-Agent": "Backend.AI Client for Python 23.09.10"}


async def begin(world: World) -> None:
    async with world.client("admin") as admin:
        answer = await admin.post("/refold/commands", json=SCAN)
    assert answer.status_code == 200, answer.text


async def go_on(world: World, done: int, total: int = 9, message: str = "python:3.11") -> None:
    await world.whole.give(
        "directory", ReportTaskProgress(at=now(), task_id=TASK, done=done, total=total, message=message)
    )


async def finish(world: World, end: Any = TaskEnd.DONE, message: str = "all there") -> None:
    await world.whole.give("directory", ReportTaskEnd(at=now(), task_id=TASK, end=end, message=message))


async def known(world: World, done: int) -> None:
    """The api knows that so much of it is done."""
    async with asyncio.timeout(5):
        while world.services.tail.directory.tasks[TASK].done != done:
            await world.services.tail.more_read.wait()


async def test_a_task_is_followed_to_its_end_and_then_the_stream_ends(world: World) -> None:
    await begin(world)
    async with world.client("admin") as admin, listening(admin, path=PATH, taskId=TASK) as heard:
        await heard.until("task_updated")
        for done in (1, 2):
            await go_on(world, done)
            await known(world, done)
            await heard.until(lambda heard, done=done: heard.data[-1].get("current_progress") == done)  # type: ignore[misc]
        await finish(world)
        await asyncio.wait_for(heard.ended.wait(), 5)
    assert heard.names == ["task_updated", "task_updated", "task_updated", "task_done", "server_close"]
    assert heard.data[2] == {
        "task_id": TASK,
        "message": "python:3.11",
        "current_progress": 2,
        "total_progress": 9,
    }
    assert heard.data[3]["message"] == "all there"


@pytest.mark.parametrize(
    ("end", "name"), [(TaskEnd.DONE, "done"), (TaskEnd.FAILED, "failed"), (TaskEnd.CANCELLED, "cancelled")]
)
async def test_of_a_task_that_has_ended_its_end_is_told_and_nothing_else(world: World, end: TaskEnd, name: str) -> None:
    await begin(world)
    async with world.client("admin") as admin:
        if end is TaskEnd.CANCELLED:
            await admin.post("/refold/commands", json={"type": "CancelTask", "task_id": TASK})
        else:
            await finish(world, end, "no such host")
        await world.whole.give("directory", ReportTaskProgress(at=now(), task_id=TASK, done=1, total=2))
        async with asyncio.timeout(5):
            while world.services.tail.directory.tasks[TASK].open:
                await world.services.tail.more_read.wait()
        for _ in range(2):
            async with listening(admin, path=PATH, task_id=TASK) as heard:
                await asyncio.wait_for(heard.ended.wait(), 5)
            assert heard.names == [f"task_{name}", "server_close"]


async def test_the_public_client_hears_the_names_it_knows(world: World) -> None:
    await begin(world)
    async with world.client("admin", **PUBLIC) as admin, listening(admin, path=PATH, task_id=TASK) as heard:
        await heard.until("bgtask_updated")
        await finish(world, TaskEnd.FAILED)
        await asyncio.wait_for(heard.ended.wait(), 5)
    assert heard.names[-2:] == ["bgtask_failed", "server_close"]
    assert heard.data[-1] == {}, "the public client reads the data of every event as JSON"


async def test_a_slow_reader_skips_steps_but_not_the_end(world: World) -> None:
    await begin(world)
    async with (
        world.client("admin") as admin,
        aconnect_sse(admin, "GET", PATH, params={"task_id": TASK}) as source,
    ):
        for done in range(1, 200):
            await go_on(world, done, 200)
        await known(world, 199)
        await finish(world)
        heard = [event.event async for event in source.aiter_sse() if event.data]
    assert len(heard) <= 202
    assert heard[-2:] == ["task_done", "server_close"]


async def test_a_task_that_is_not_there_and_somebody_elses_look_the_same(world: World) -> None:
    await move_in(world)
    await begin(world)
    async with world.client("admin") as admin, client_of(world, "dora") as dora, world.client() as ada:
        for client, task_id in ((admin, an_id("other")), (admin, "nonsense"), (admin, ""), (dora, TASK), (ada, TASK)):
            answer = await client.get(PATH, params={"task_id": task_id})
            assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (404, "task-not-found")


async def test_the_end_of_a_task_is_forgotten_after_a_day(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    await begin(world)
    await finish(world)
    later = now() + timedelta(hours=24, minutes=1)
    async with world.client("admin") as admin, listening(admin, path=PATH, task_id=TASK) as heard:
        await asyncio.wait_for(heard.ended.wait(), 5)
        monkeypatch.setattr(background_tasks, "now", lambda: later)
        assert (await admin.get(PATH, params={"task_id": TASK})).status_code == 404


async def test_a_task_is_found_that_another_process_has_just_begun(world: World) -> None:
    held = Held(world.log)
    async with world.elsewhere("admin", log=held) as behind:
        held.reading.clear()
        await begin(world)
        asking = asyncio.create_task(behind.get(PATH, params={"task_id": TASK}))
        await asyncio.sleep(0.05)
        held.reading.set()
        await finish(world)
        answer = await asyncio.wait_for(asking, 5)
    assert answer.status_code == 200
    assert "event: task_done" in answer.text


async def test_the_stream_of_a_task_shows_that_it_lives_and_ends_with_its_process(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_tasks, "HEARTBEAT_SECONDS", 0.0)
    monkeypatch.setattr(background_tasks, "_LOOK_AROUND_SECONDS", 0.01)
    await begin(world)
    async with (
        world.client("admin") as admin,
        world.api() as (url, services),
        admin.stream("GET", url + PATH, params={"task_id": TASK}) as answer,
    ):
        comments = 0
        async for line in answer.aiter_lines():
            comments += line.startswith(":")
            services.stopping = comments > 1
    assert comments > 1


async def test_the_public_client_has_the_head_of_the_answer_well_before_the_first_event(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(background_tasks, "_FIRST_AFTER_SECONDS", 3600)
    await begin(world)
    async with (
        world.client("admin", **PUBLIC) as admin,
        admin.stream("GET", PATH, params={"task_id": TASK}) as response,
    ):
        assert response.status_code == 200
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await anext(response.aiter_bytes())
