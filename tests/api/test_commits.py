"""An image of a session: who may have one made, what becomes of it, and who may use it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from agents.fake.runtime import FakeRuntime
from agents.runtime import CommitFailed
from api.sessions.commits import reference_of
from domain.directory.images import OWNER_LABEL
from tests.api.listening import listening
from tests.api.neighbours import client_of, move_in
from tests.api.test_sessions import RECORDED
from tests.api.world import World

PATH = "/session/mysess/commit"
TASKS = "/events/background-task"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with World(tmp_path, container_commit=True).started() as started:
        yield started


@pytest.fixture
async def runtime(world: World) -> AsyncIterator[FakeRuntime]:
    """Of an agent on which ada's session `mysess` runs."""
    async with world.whole.agent() as runtime, world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        assert made.json()["status"] == "RUNNING", made.text
        yield runtime


async def started_from(image: str, client: httpx.AsyncClient) -> int:
    answer = await client.post("/session", json=RECORDED | {"image": image, "name": "another"})
    return answer.status_code


async def until_ended(client: httpx.AsyncClient, task_id: str) -> list[str]:
    async with listening(client, path=TASKS, task_id=task_id) as heard:
        await asyncio.wait_for(heard.ended.wait(), 10)
    return heard.names


async def test_an_image_is_made_of_a_session_and_its_user_and_nobody_else_starts_from_it(
    world: World, runtime: FakeRuntime
) -> None:
    await move_in(world)
    async with world.client() as ada, world.client("eve") as eve, client_of(world, "dora") as dora:
        told = (await ada.post(PATH)).json()
        assert told.keys() == {"bgtask_id", "kernel", "path"}
        assert (await until_ended(ada, told["bgtask_id"]))[-2:] == ["task_done", "server_close"]
        [image] = [each for each in await runtime.images() if each.reference == told["path"]]
        owner = world.services.tail.directory.identity("AKADA")
        assert owner is not None
        assert image.labels[OWNER_LABEL] == f"user:{owner.user.user_id}"
        assert image.labels["ai.backend.customized-image.name"] == "mysess"
        assert await started_from(told["path"], eve) == 404
        assert await started_from(told["path"], dora) == 404
        assert await started_from(told["path"], ada) == 201


@pytest.mark.usefixtures("runtime")
async def test_who_acts_for_the_owner_may_follow_the_task_and_others_may_not(world: World) -> None:
    await move_in(world)
    async with world.client() as ada, client_of(world, "dora") as dora:
        task_id = (await dora.post(PATH, params={"owner_access_key": "AKADA"})).json()["bgtask_id"]
        assert (await until_ended(ada, task_id))[-2:] == ["task_done", "server_close"]
        assert (await until_ended(dora, task_id))[-2:] == ["task_done", "server_close"]
        for who in ("mona", "zoe", "zed"):
            async with client_of(world, who) as other:
                assert (await other.get(TASKS, params={"task_id": task_id})).status_code == 404


async def test_while_an_image_is_made_that_is_told_and_no_second_one_is_begun(
    world: World, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, commit = asyncio.Event(), runtime.commit

    async def slow(*given: Any) -> Any:
        await go_on.wait()
        return await commit(*given)

    monkeypatch.setattr(runtime, "commit", slow)
    async with world.client() as ada:
        assert (await ada.get(PATH)).json()["status"] == "ready"
        told = (await ada.post(PATH)).json()
        assert (await ada.get(PATH)).json() == {"status": "ongoing", "kernel": told["kernel"]}
        again = await ada.post(PATH)
        assert (again.status_code, again.json()["type"].rpartition("/")[2]) == (409, "commit-going-on")
        go_on.set()
        await until_ended(ada, told["bgtask_id"])
        assert (await ada.get(PATH)).json()["status"] == "ready"


async def test_a_request_that_is_sent_again_makes_one_image(world: World, runtime: FakeRuntime) -> None:
    async with world.client(**{"Idempotency-Key": "once"}) as ada:
        first, second = await ada.post(PATH), await ada.post(PATH)
        assert first.json() == second.json()
        await until_ended(ada, first.json()["bgtask_id"])
        assert (await ada.post(PATH)).json() == first.json()
    assert [each.reference for each in await runtime.images() if "customized" in each.reference] == [
        first.json()["path"]
    ]


async def test_a_commit_that_comes_to_nothing_says_why(
    world: World, runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def gone(*_: Any) -> Any:
        raise CommitFailed("no space left on device")

    monkeypatch.setattr(runtime, "commit", gone)
    async with world.client() as ada:
        told = (await ada.post(PATH)).json()
        async with listening(ada, path=TASKS, task_id=told["bgtask_id"]) as heard:
            await asyncio.wait_for(heard.ended.wait(), 10)
        assert heard.names[-2:] == ["task_failed", "server_close"]
        assert "no space left on device" in heard.data[-2]["message"]
        assert world.services.tail.directory.images.get((told["path"], "x86_64")) is None


@pytest.mark.usefixtures("runtime")
async def test_a_name_that_no_image_can_have_is_refused(world: World) -> None:
    async with world.client() as ada:
        for name in ("", "a b", "-a", "../x", "x" * 65):
            answer = await ada.post(PATH, json={"image_name": name})
            assert (answer.status_code, answer.json()["field"]) == (400, "image_name")


async def test_no_image_is_made_of_a_session_that_does_not_run(world: World) -> None:
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        assert (await ada.post(PATH)).status_code == 409
        assert (await ada.get(PATH)).status_code == 409
        assert (await ada.post("/session/other/commit")).status_code == 404


async def test_no_image_is_made_where_that_is_not_allowed(tmp_path: Path) -> None:
    async with World(tmp_path).started() as world, world.whole.agent(), world.client() as ada:
        await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.post(PATH)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "commit-not-allowed")


@pytest.mark.parametrize(
    ("base", "name"),
    [
        ("cr.example.org/stable/python:3.11", "python:3.11-customized_c0ffee"),
        ("python", "python:latest-customized_c0ffee"),
        ("localhost:5000/a/My_Image:V1", "my-image:V1-customized_c0ffee"),
        ("cr.example.org/x/y@sha256:" + "a" * 64, "y:latest-customized_c0ffee"),
        ("x/y:" + "1" * 128, "y:" + "1" * 80 + "-customized_c0ffee"),
    ],
)
def test_an_image_of_a_session_is_named_after_what_it_comes_from(base: str, name: str) -> None:
    assert reference_of("cr.example.org/customized", base, "c0ffee") == f"cr.example.org/customized/{name}"
