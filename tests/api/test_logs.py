"""The output of a session, from the agent that keeps it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from domain.messages import KernelId
from infra.first_session import run_first_session
from infra.secrets import BadToken, check_internal_token
from tests.api.listening import listening
from tests.api.test_sessions import RECORDED
from tests.api.world import KEYS, World
from tests.whole import AGENT, PROFILE

OUTPUT = 'Grüße "quoted" \\ \x1b[0m\n'.encode() * 5000 + b"\xff\x00end\n"


@asynccontextmanager
async def agent_that_keeps(world: World, status: int = 200, asked: list[str] | None = None) -> AsyncIterator[None]:
    """An agent, and beside it the address where it serves output. `asked`: gets the kernel of each request."""

    async def logs(request: web.Request) -> web.StreamResponse:
        if asked is not None:
            asked.append(request.match_info["kernel_id"])
        token = request.headers["Authorization"].removeprefix("Bearer ")
        try:
            check_internal_token(world.settings, AGENT, token, KernelId(request.match_info["kernel_id"]))
        except BadToken:
            return web.Response(status=403)
        return web.Response(body=OUTPUT if status == 200 else b"", status=status)

    server = web.Application()
    server.add_routes([web.get("/kernels/{kernel_id}/logs", logs)])
    runner = web.AppRunner(server)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        async with world.whole.agent(PROFILE.model_copy(update={"address": address})):
            yield
    finally:
        await runner.cleanup()


async def test_output_comes_from_the_agent_as_text(world: World) -> None:
    async with agent_that_keeps(world), world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.get("/session/mysess/logs", headers={"X-Refold-Position": made.headers["X-Refold-Position"]})
    assert answer.status_code == 200, answer.text
    assert answer.json() == {"result": {"logs": OUTPUT.decode(errors="replace")}}


async def test_output_of_a_task_comes_as_it_is(world: World) -> None:
    async with agent_that_keeps(world), world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.get("/session/_/logs", params={"taskId": made.json()["sessionId"]})
        missing = await ada.get("/session/_/logs", params={"taskId": "nothing"})
        unnamed = await ada.get("/session/_/logs")
    assert (answer.status_code, answer.content) == (200, OUTPUT)
    assert (missing.status_code, unnamed.status_code, unnamed.json()["field"]) == (404, 400, "taskId")


async def test_each_kernel_of_a_cluster_has_its_own_output(world: World) -> None:
    asked: list[str] = []
    async with agent_that_keeps(world, asked=asked), world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"enqueueOnly": False, "clusterSize": 2})
        assert made.json()["status"] == "RUNNING", made.text
        main, sub = (each["kernelId"] for each in (await ada.get("/session/mysess")).json()["kernels"])
        for params in ({}, {"kernel_id": sub}, {"kernel_id": main}):
            assert (await ada.get("/session/mysess/logs", params=params)).status_code == 200
        missing = await ada.get("/session/mysess/logs", params={"kernel_id": "of-another-session"})
    assert asked == [main, sub, main]
    assert (missing.status_code, missing.json()["field"]) == (404, "kernel_id")


async def test_a_waiting_session_has_no_output_yet(world: World) -> None:
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        answer = await ada.get("/session/mysess/logs")
    assert answer.json() == {"result": {"logs": ""}}


@pytest.mark.parametrize(("status", "expected"), [(404, 200), (500, 502)])
async def test_an_agent_that_cannot_answer_is_told(world: World, status: int, expected: int) -> None:
    async with agent_that_keeps(world, status), world.client() as ada:
        await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.get("/session/mysess/logs")
    assert answer.status_code == expected


async def test_an_agent_that_is_gone_is_a_502(world: World) -> None:
    gone = PROFILE.model_copy(update={"address": "http://127.0.0.1:9"})
    async with world.client() as ada, world.whole.agent(gone):
        await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.get("/session/mysess/logs")
    assert answer.status_code == 502
    assert answer.json()["retryable"] is True


async def test_the_first_session_of_an_installation(world: World) -> None:
    said: list[str] = []
    async with world.whole.agent():
        assert await run_first_session(world.url, *KEYS["admin"], said.append, "python:3.9")
    assert "session_enqueued" in said[0]
    assert "session_terminated" in said[-1]
    said.clear()
    assert not await run_first_session(world.url, "AKADMIN", "wrong", said.append, "python:3.9")
    assert "401" in said[0]


async def test_a_first_session_that_fails_is_no_success(world: World) -> None:
    said: list[str] = []
    async with world.whole.agent(), world.client("admin") as admin, listening(admin) as heard:
        assert not await run_first_session(world.url, *KEYS["admin"], said.append, "fake/exit:1")
        await heard.until("session_failure")
