"""Sessions over HTTP, in the shapes of the public client."""

from typing import Any
from uuid import uuid4

import pytest

from api.sessions.images import shown_services
from domain.directory.state import Directory
from infra.log import Position
from tests.api.world import KEYS, World

# As recorded from the public client, `session create` with every default.
RECORDED: dict[str, Any] = {
    "tag": None,
    "name": "mysess",
    "config": {
        "mounts": [],
        "environ": {"A": "B"},
        "resources": {"cpu": "1", "mem": "512m"},
        "resource_opts": {},
        "scalingGroup": None,
        "mount_map": {},
        "preopen_ports": None,
    },
    "dependencies": [],
    "callback_url": None,
    "architecture": "x86_64",
    "clusterSize": 1,
    "clusterMode": "single-node",
    "starts_at": None,
    "bootstrap_script": None,
    "owner_access_key": None,
    "domain": "default",
    "group": "default",
    "type": "interactive",
    "enqueueOnly": True,
    "maxWaitSeconds": 0,
    "reuseIfExists": True,
    "startupCommand": None,
    "image": "python:3.9-ubuntu20.04",
}


async def test_a_recorded_request_makes_a_session(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=RECORDED)
        assert answer.status_code == 201, answer.text
        told = answer.json()
        assert told == {
            "sessionId": told["sessionId"],
            "sessionName": "mysess",
            "status": "PENDING",
            "servicePorts": shown_services("", "", Directory()),
            "created": True,
        }
        position = answer.headers["X-Refold-Position"]
        detail = await ada.get("/session/mysess", headers={"X-Refold-Position": position})
    assert detail.status_code == 200, detail.text
    assert detail.json()["sessionId"] == told["sessionId"]
    assert detail.json()["kernels"][0]["kernelId"] == told["sessionId"], "the main kernel has the session's id"
    assert detail.json()["occupyingSlots"] == {"cpu": "1", "mem": str(512 * 1024 * 1024)}


@pytest.mark.parametrize("path", ["/session", "/session/create", "/v7/session", "/v6/session/create"])
async def test_old_spellings_of_the_path_work(world: World, path: str) -> None:
    async with world.client() as ada:
        answer = await ada.post(path, json=RECORDED)
    assert answer.status_code == 201, answer.text


async def test_an_unsupported_major_version_is_not_found(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/v99/session", json=RECORDED)
    assert answer.status_code == 404
    assert answer.json()["type"].endswith("/unsupported-api-version")


async def test_a_living_session_of_that_name_and_image_is_as_good(world: World) -> None:
    async with world.client() as ada:
        first = await ada.post("/session", json=RECORDED)
        again = await ada.post("/session", json=RECORDED)
        other_image = await ada.post("/session", json=RECORDED | {"image": "other"})
        not_reused = await ada.post("/session", json=RECORDED | {"reuseIfExists": False})
    assert again.status_code == 200
    assert again.json()["created"] is False
    assert again.json()["sessionId"] == first.json()["sessionId"]
    assert again.json()["service_ports"] == shown_services("", "", Directory())
    for answer in (other_image, not_reused):
        assert answer.status_code == 409
        assert answer.json()["type"] == "https://api.backend.ai/probs/session-already-exists"
        assert isinstance(answer.json()["data"], dict), "the public client looks into it"
        assert answer.headers["content-type"] == "application/problem+json"


async def test_the_answer_waits_until_the_session_runs(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        answer = await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
    assert answer.json()["status"] == "RUNNING"


async def test_the_wait_is_bounded(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=RECORDED | {"enqueueOnly": False, "maxWaitSeconds": 1})
    assert (answer.status_code, answer.json()["status"]) == (201, "TIMEOUT")


async def test_restart_rename_and_end(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        early = await ada.patch("/session/none-such")
        await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        renamed = await ada.post("/session/mysess/rename", params={"name": "newname"})
        restarted = await ada.patch("/session/newname")
        ended = await ada.delete("/session/newname")
        await ada.get("/session/newname", headers={"X-Refold-Position": ended.headers["X-Refold-Position"]})
        again = await ada.delete("/session/newname", params={"forced": "true"})
    assert early.status_code == 404
    assert early.json()["type"].endswith("/session-not-found")
    assert renamed.status_code == 204, renamed.text
    assert restarted.status_code == 204, restarted.text
    assert ended.json() == {"stats": {"status": "terminated"}}
    assert again.status_code in {200, 404}


async def test_ending_a_waiting_session_cancels_it(world: World) -> None:
    async with world.client() as ada:
        created = await ada.post("/session", json=RECORDED)
        ended = await ada.delete(f"/session/{created.json()['sessionId'][:13]}")
    assert ended.json() == {"stats": {"status": "cancelled"}}


async def test_only_a_running_session_restarts(world: World) -> None:
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        answer = await ada.patch("/session/mysess")
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("/session-not-running")


async def test_a_quota_is_a_412(world: World) -> None:
    async with world.client("eve") as eve:
        for name in ("one1", "two2"):
            assert (await eve.post("/session", json=RECORDED | {"name": name})).status_code == 201
        answer = await eve.post("/session", json=RECORDED | {"name": "three3"})
    assert answer.status_code == 412
    assert answer.json()["code"] == "too_many_sessions"


async def test_nobody_sees_another_ones_sessions(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve, world.client("admin") as admin:
        created = (await ada.post("/session", json=RECORDED)).json()
        for reference in (created["sessionId"], created["sessionName"], created["sessionId"][:8]):
            for answer in (
                await eve.get(f"/session/{reference}"),
                await eve.delete(f"/session/{reference}"),
                await eve.patch(f"/session/{reference}"),
                await eve.get(f"/session/{reference}/logs"),
                await eve.get(f"/refold/sessions/{reference}/history"),
            ):
                assert answer.status_code == 404, answer.text
        assert (await eve.get("/session/mysess", params={"owner_access_key": "AKADA"})).status_code == 403
        assert (await admin.get("/session/mysess", params={"owner_access_key": "AKADA"})).status_code == 200


async def test_an_admin_may_ask_for_a_session_of_another_key(world: World) -> None:
    async with world.client("admin") as admin, world.client() as ada, world.client("eve") as eve:
        made = await admin.post("/session", json=RECORDED | {"owner_access_key": KEYS["ada"][0]})
        seen = await ada.get("/session/mysess", headers={"X-Refold-Position": made.headers["X-Refold-Position"]})
        refused = await eve.post("/session", json=RECORDED | {"owner_access_key": KEYS["ada"][0]})
    assert seen.json()["ownerAccessKey"] == "AKADA"
    assert refused.status_code == 403


async def test_a_cluster_has_a_main_kernel_and_subs(world: World) -> None:
    async with world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"clusterSize": 3, "clusterMode": "multi-node"})
        seen = await ada.get("/session/mysess", headers={"X-Refold-Position": made.headers["X-Refold-Position"]})
    assert [each["clusterHostname"] for each in seen.json()["kernels"]] == ["main1", "sub1", "sub2"]


async def test_status_history_has_the_names_the_client_reads(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        ended = await ada.delete("/session/mysess")
        answer = await ada.get(
            "/session/mysess/status-history", headers={"X-Refold-Position": ended.headers["X-Refold-Position"]}
        )
    assert {"pending", "scheduled", "running"} <= set(answer.json()["result"])


async def test_a_read_waits_for_its_position_and_no_longer_than_it_may(world: World) -> None:
    world.known.resumed.clear()
    world.settings.__dict__["read_timeout"] = 0.2
    async with world.client() as ada:
        made = await ada.post("/session", json=RECORDED)
        position = made.headers["X-Refold-Position"]
        late = await ada.get("/session/mysess", headers={"X-Refold-Position": position})
        assert late.status_code == 504
        assert late.json()["retryable"] is True
        world.known.resumed.set()
        seen = await ada.get("/session/mysess", headers={"X-Refold-Position": position})
        assert seen.status_code == 200
        bad = await ada.get("/session/mysess", headers={"X-Refold-Position": "x!"})
        assert bad.status_code == 400


async def test_the_history_has_every_step(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"enqueueOnly": False})
        answer = await ada.get(
            "/refold/sessions/mysess/history", headers={"X-Refold-Position": made.headers["X-Refold-Position"]}
        )
    told = answer.json()
    assert told["entries"][0]["event"] == "SessionRequested"
    assert told["next"] is None


async def test_a_new_session_can_be_named_at_once_though_no_projection_knows_it(world: World) -> None:
    world.known.resumed.clear()
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        ended = await ada.delete("/session/mysess")
    assert ended.status_code == 200


async def test_a_write_answers_with_a_position_of_events(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=RECORDED | {"name": None})
    [place] = Position.parse(answer.headers["X-Refold-Position"]).offsets
    assert place.topic == "refold.session.events"
    assert answer.json()["sessionName"].startswith("session-")


async def test_an_unknown_reference_of_any_form_is_not_found(world: World) -> None:
    async with world.client() as ada:
        for reference in (str(uuid4()), "%", "_", "nobody", "a" * 128):
            assert (await ada.get(f"/session/{reference}")).status_code == 404
