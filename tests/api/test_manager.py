"""The cluster as a whole: frozen or not, and what is announced."""

import asyncio
from typing import Any

import httpx
import pytest

from tests.api.listening import listening
from tests.api.neighbours import client_of, move_in
from tests.api.world import World
from tests.whole import AGENT

SESSION = {"image": "fake/image", "name": "mysess", "enqueueOnly": True}


async def test_the_status_is_told_in_the_shape_of_the_client(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.request("GET", "/manager/status", json={"status": "running"})
    told = answer.json()
    assert (told["status"], told["active_sessions"]) == ("running", 0)
    [node] = told["nodes"]
    assert {"id", "num_proc", "service_addr", "heartbeat_timeout", "ssl_enabled", "version", "api_version"} <= set(node)


async def test_sessions_that_have_been_placed_are_counted(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        await ada.post("/session", json=SESSION | {"name": "waits", "config": {"resources": {"cpu": 1000}}})
        started = await ada.post("/session", json=SESSION | {"enqueueOnly": False})
        assert started.json()["status"] == "RUNNING"
        async with asyncio.timeout(10):  # until the projection has that too
            while (await ada.get("/session/mysess")).json()["status"] != "RUNNING":
                await asyncio.sleep(0.01)
        told = (await ada.get("/manager/status")).json()
    assert told["active_sessions"] == 1


async def test_while_it_is_frozen_no_session_is_begun(world: World) -> None:
    async with world.client("admin") as admin, world.client() as ada:
        before = await ada.post("/session", json=SESSION)
        frozen = await admin.put("/manager/status", json={"status": "frozen", "force_kill": False})
        assert (frozen.status_code, frozen.content) == (204, b"")
        assert (await ada.get("/manager/status")).json()["status"] == "frozen"
        refused = await ada.post("/session", json=SESSION | {"name": "other"})
        assert refused.status_code == 503
        assert refused.json()["type"].endswith("/server-frozen")
        assert refused.json()["retryable"] is True
        given = {
            "type": "RequestSession",
            "owner": "AKADA",
            "name": "other",
            "spec": {"image": "i", "slots": {"cpu": 1}},
        }
        assert (await ada.post("/refold/commands", json=given)).status_code == 503
        assert (await ada.get("/session/mysess")).json()["sessionId"] == before.json()["sessionId"]
        assert (await ada.delete("/session/mysess")).status_code == 200, "what is there may end"
        assert (await admin.put("/manager/status", json={"status": "running"})).status_code == 204
        assert (await ada.post("/session", json=SESSION | {"name": "other"})).status_code == 201


@pytest.mark.parametrize(
    ("body", "field"),
    [({}, "status"), ({"status": "asleep"}, "status"), ({"status": "frozen", "force_kill": True}, "force_kill")],
)
async def test_a_status_that_is_none_is_refused(world: World, body: dict[str, Any], field: str) -> None:
    async with world.client("admin") as admin:
        answer = await admin.put("/manager/status", json=body)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_what_is_announced_is_read_by_everybody(world: World) -> None:
    async with world.client("admin") as admin, world.client() as ada:
        assert (await ada.get("/manager/announcement")).json() == {"enabled": False, "message": ""}
        posted = await admin.post("/manager/announcement", json={"enabled": True, "message": "*Sunday*"})
        assert posted.status_code == 204
        headers = {"X-Refold-Position": posted.headers["X-Refold-Position"]}
        told = await ada.get("/manager/announcement", headers=headers)
        assert told.json() == {"enabled": True, "message": "*Sunday*"}
        await admin.post("/manager/announcement", json={"enabled": False, "message": None})
        assert (await ada.get("/manager/announcement")).json() == {"enabled": False, "message": ""}


async def test_an_announcement_needs_a_message(world: World) -> None:
    async with world.client("admin") as admin:
        for message in (None, "", "  "):
            answer = await admin.post("/manager/announcement", json={"enabled": True, "message": message})
            assert (answer.status_code, answer.json()["field"]) == (400, "message")


async def test_only_superadmins_freeze_and_announce(world: World) -> None:
    await move_in(world)
    for name in ("dora", "mona", "zed", "zoe"):
        async with client_of(world, name) as somebody:
            for answer in (
                await somebody.put("/manager/status", json={"status": "frozen"}),
                await somebody.post("/manager/announcement", json={"enabled": True, "message": "hi"}),
            ):
                assert answer.status_code == 403, (name, answer.text)


async def test_a_retried_write_has_its_first_outcome(world: World) -> None:
    async with world.client("admin", **{"Idempotency-Key": '"freeze-1"'}) as admin:
        first = await admin.put("/manager/status", json={"status": "frozen"})
        again = await admin.put("/manager/status", json={"status": "frozen"})
        other = await admin.put("/manager/status", json={"status": "running"})
    assert first.headers["X-Refold-Position"] == again.headers["X-Refold-Position"]
    assert other.status_code == 422


async def test_nobody_waits_for_an_outcome_who_does_not_want_to(world: World) -> None:
    async with world.client("admin", Prefer="respond-async") as admin:
        later = await admin.put("/manager/status", json={"status": "frozen"})
        assert later.status_code == 202
        headers = {"X-Refold-Position": later.headers["X-Refold-Position"]}
        assert (await admin.get("/manager/status", headers=headers)).json()["status"] == "frozen"


# -- the scheduler -----------------------------------------------------------------------------------------------------


async def operated(client: httpx.AsyncClient, op: str, *args: str) -> httpx.Response:
    return await client.post("/manager/scheduler/operation", json={"op": op, "args": list(args)})


async def test_an_excluded_agent_gets_no_session_until_it_is_included_again(world: World) -> None:
    async with world.whole.agent(), world.client("admin") as admin, world.client() as ada:
        async with asyncio.timeout(5):
            while (done := await operated(admin, "exclude-agents", AGENT, AGENT)).status_code == 404:
                await asyncio.sleep(0.01)  # until the agent has registered
        assert done.status_code == 204, done.text
        waiting = await ada.post("/session", json=SESSION | {"enqueueOnly": False, "maxWaitSeconds": 1})
        assert waiting.json()["status"] == "TIMEOUT"
        assert (await operated(admin, "include-agents", AGENT)).status_code == 204
        async with listening(ada, sessionName="mysess") as heard:
            await heard.until("session_started")


async def test_a_scheduler_operation_that_cannot_be_is_refused_by_name(world: World) -> None:
    async with world.client("admin") as admin, world.client() as ada:
        for answer, status, field in (
            (await operated(admin, "include-agents", "nobody"), 404, "args"),
            (await operated(admin, "include-agents"), 400, "args"),
            (await operated(admin, "feed-agents", AGENT), 400, "op"),
            (await operated(ada, "include-agents", AGENT), 403, None),
        ):
            assert (answer.status_code, answer.json().get("field")) == (status, field)
