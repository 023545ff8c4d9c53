"""The event stream: everything that happens to a session, once, whenever one begins to listen."""

import asyncio
from itertools import pairwise
from typing import Any

import httpx
import pytest

from api.sessions import live, streams
from infra.log import Position
from tests.api.holding import Held
from tests.api.listening import Heard, listening
from tests.api.test_sessions import RECORDED
from tests.api.world import World

BATCH = RECORDED | {"type": "batch", "startupCommand": "echo hi", "name": "batch1"}
WHOLE_LIFE = [
    "session_enqueued",
    "session_scheduled",
    "session_started",
    "session_success",
    "session_terminated",
]


def milestones(heard: Heard) -> list[str]:
    return [name for name in heard.names if name in WHOLE_LIFE]


async def test_a_session_is_heard_that_did_not_exist_when_one_began_to_listen(world: World) -> None:
    async with world.whole.agent(), world.client() as ada, listening(ada, sessionName="batch1") as heard:
        await ada.post("/session", json=BATCH)
        await heard.until("session_terminated")
    assert milestones(heard) == WHOLE_LIFE
    first = heard.data[0]
    assert first["sessionName"] == "batch1"
    assert first["ownerAccessKey"] == "AKADA"
    assert heard.data[-1]["exitCode"] == 0
    started = heard.data[heard.names.index("kernel_started")]
    assert (started["clusterRole"], started["clusterIdx"]) == ("main", 1)


@pytest.mark.parametrize("by", ["sessionName", "name", "sessionId"])
async def test_a_session_that_has_ended_is_told_from_its_beginning(world: World, by: str) -> None:
    async with world.whole.agent(), world.client() as ada:
        async with listening(ada) as live_heard:
            made = await ada.post("/session", json=BATCH)
            await live_heard.until("session_terminated")
        wanted = made.json()["sessionId"] if by == "sessionId" else "batch1"
        async with listening(ada, **{by: wanted}) as heard:
            await heard.until("session_terminated")
    assert heard.names == live_heard.names
    assert heard.data == live_heard.data
    assert [event.id for event in heard.events] == [event.id for event in live_heard.events]


async def test_a_session_is_told_that_no_projection_knows_yet(world: World) -> None:
    world.known.resumed.clear()
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        async with listening(ada, sessionName="mysess") as heard:
            await heard.until("session_enqueued")


async def test_from_any_id_the_stream_goes_on_without_gap_or_repeat(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        async with listening(ada, sessionName="batch1") as whole:
            await ada.post("/session", json=BATCH)
            await whole.until("session_terminated")
        for params in ({"sessionName": "batch1"}, {}):
            for index, event in enumerate(whole.events[:-1]):
                async with listening(ada, last_id=event.id, **params) as rest:
                    await rest.until("session_terminated")
                assert rest.names == whole.names[index + 1 :], event.event


async def test_another_process_knows_the_ids_too(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        async with listening(ada, sessionName="batch1") as whole:
            await ada.post("/session", json=BATCH)
            await whole.until("session_terminated")
        last_id = whole.events[0].id
        async with world.elsewhere() as there, listening(there, last_id=last_id, sessionName="batch1") as rest:
            await rest.until("session_terminated")
    assert rest.names == whole.names[1:]


async def test_a_process_that_is_behind_tells_nothing_twice(world: World) -> None:
    held = Held(world.log)
    async with world.elsewhere(log=held) as behind, world.client() as ada, listening(ada) as whole:
        held.reading.clear()
        for name in ("aaaa", "bbbb"):
            await ada.post("/session", json=RECORDED | {"name": name})
        await whole.until(lambda heard: len(heard.events) == 2)
        async with listening(behind, last_id=whole.events[0].id) as rest:
            held.reading.set()
            await ada.post("/session", json=RECORDED | {"name": "cccc"})
            await rest.until(lambda heard: heard.data[-1]["sessionName"] == "cccc" if heard.data else False)
    assert [each["sessionName"] for each in rest.data] == ["bbbb", "cccc"]


async def test_everyone_hears_his_own_sessions_and_admins_all_if_they_ask(world: World) -> None:
    async with (
        world.client() as ada,
        world.client("eve") as eve,
        world.client("admin") as admin,
        listening(eve, sessionName="*") as by_eve,
        listening(admin) as by_admin,
        listening(admin, ownerAccessKey="*") as by_all,
        listening(admin, owner_access_key="AKADA") as by_ada,
    ):
        adas = (await ada.post("/session", json=RECORDED)).json()["sessionId"]
        async with listening(eve, sessionId=adas) as nothing:
            eves = (await eve.post("/session", json=RECORDED)).json()["sessionId"]
            await by_all.until(lambda heard: len(heard.events) == 2)
            await by_eve.until("session_enqueued")
            await by_ada.until("session_enqueued")
        assert [each["sessionId"] for each in by_eve.data] == [eves]
        assert [each["sessionId"] for each in by_ada.data] == [adas]
        assert {each["sessionId"] for each in by_all.data} == {adas, eves}
        assert by_admin.names == []
        assert nothing.names == []
        refused = await eve.get("/events/session", params={"ownerAccessKey": "AKADA"})
        assert refused.status_code == 403


async def test_the_scope_chooses_sessions_or_kernels(world: World) -> None:
    async with (
        world.whole.agent(),
        world.client() as ada,
        listening(ada, sessionName="batch1", scope="session") as sessions,
        listening(ada, sessionName="batch1", scope="kernel") as kernels,
        listening(ada, sessionName="batch1", scope="session,kernel") as both,
    ):
        await ada.post("/session", json=BATCH)
        await asyncio.gather(
            sessions.until("session_terminated"),
            kernels.until("kernel_terminated"),
            both.until("session_terminated"),
        )
    assert all(name.startswith("session_") for name in sessions.names)
    assert all(name.startswith("kernel_") for name in kernels.names)
    assert sorted(both.names) == sorted(sessions.names + kernels.names)


async def test_a_group_filters_by_project(world: World) -> None:
    async with (
        world.client("admin") as admin,
        listening(admin, group="other") as others,
        listening(admin, group="default") as defaults,
    ):
        await admin.post("/session", json=RECORDED | {"name": "aaaa"})
        await admin.post("/session", json=RECORDED | {"name": "bbbb", "group": "other"})
        await asyncio.gather(defaults.until("session_enqueued"), others.until("session_enqueued"))
    assert [each["sessionName"] for each in defaults.data] == ["aaaa"]
    assert [each["sessionName"] for each in others.data] == ["bbbb"]


async def test_a_renamed_session_stays_in_the_stream_of_its_old_name(world: World) -> None:
    async with world.client() as ada, listening(ada, sessionName="mysess") as heard:
        await ada.post("/session", json=RECORDED)
        await ada.post("/session/mysess/rename", params={"name": "other-name"})
        await ada.delete("/session/other-name")
        await heard.until("session_cancelled")
    assert [each["sessionName"] for each in heard.data][-1] == "other-name"


async def test_a_slow_client_is_told_of_the_gap_and_can_go_on(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "QUEUE_MAX", 3)
    async with world.client() as ada:
        async with listening(ada) as heard:
            await ada.post("/session", json=RECORDED | {"name": "first"})
            await heard.until("session_enqueued")
            [listener] = world.services.tail.live._listeners["AKADA"]
            record = await _last_record(world)
            for _ in range(4):  # as if the log were faster than the client
                listener.put(live.Happening(record, "SessionRenamed", "x"))
            await heard.until("gap")
            await heard.ended.wait()
        assert world.services.tail.live.listening == 0
        await ada.post("/session", json=RECORDED | {"name": "second"})
        async with listening(ada, last_id=heard.events[0].id) as rest:
            await rest.until("session_enqueued")
    assert [each["sessionName"] for each in rest.data] == ["second"]


async def _last_record(world: World) -> Any:
    places = world.services.tail.session_partitions()
    records = [record for place in places for record in world.log._log(place).records]
    return records[-1]


async def test_idle_streams_send_heartbeats_and_bookmarks(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "HEARTBEAT_SECONDS", 0.05)
    async with world.client() as ada, listening(ada, sessionName="nobody", bookmarks="true") as heard:
        await ada.post("/session", json=RECORDED)
        await heard.until(lambda heard: heard.names.count("bookmark") > 1)
        bookmark = heard.events[-1].id
        async with ada.stream("GET", "/events/session") as plain:
            comments = 0
            async for line in plain.aiter_lines():
                comments += line.startswith(":")
                if comments > 2:
                    break
    assert bookmark
    assert set(heard.names) == {"bookmark"}


async def test_an_id_of_another_log_is_gone_and_one_of_no_form_is_bad(world: World) -> None:
    async with world.client() as ada:
        place = world.services.tail.session_partitions()
        far = str(Position(dict.fromkeys(place, 10**9)))
        gone = await ada.get("/events/session", headers={"Last-Event-ID": far})
        bad = await ada.get("/events/session", params={"after": "???"})
    assert gone.status_code == 410
    assert bad.status_code == 400


async def test_a_write_s_position_is_a_place_to_listen_from(world: World) -> None:
    async with world.client() as ada:
        for headers, heard_first in (({}, "second"), ({"Prefer": "respond-async"}, "first")):
            before = await ada.post("/session", json=RECORDED | {"name": "first"}, headers=headers)
            await ada.post("/session", json=RECORDED | {"name": "second"})
            position = before.headers["X-Refold-Position"]
            async with listening(ada, after=position) as heard:
                await heard.until("session_enqueued")
            assert heard.data[0]["sessionName"] == heard_first, "what was not decided yet is still to come"
            assert (await ada.get("/session/first", headers={"X-Refold-Position": position})).status_code == 200
            for name in ("first", "second"):
                await ada.delete(f"/session/{name}")


async def test_one_key_has_only_so_many_streams(world: World) -> None:
    world.settings.__dict__["streams_per_key_max"] = 2
    async with world.client() as ada, listening(ada), listening(ada):
        refused = await ada.get("/events/session")
    assert refused.status_code == 429
    assert refused.headers["Retry-After"]


async def test_a_stopping_process_ends_its_streams(world: World) -> None:
    async with world.client() as ada, world.api() as (url, services):
        async with httpx.AsyncClient(base_url=url, auth=ada.auth) as there, listening(there) as heard:
            services.stopping = True
            services.tail.live.wake_all()
            await asyncio.wait_for(heard.ended.wait(), 5)
        ready = await ada.get(f"{url}/ready")
    assert ready.status_code == 503


async def test_the_public_client_gets_no_retry_it_would_read_as_seconds(world: World) -> None:
    for agent, says_retry in (("Backend.AI Client for Python 23.09.10", False), ("curl", True)):
        async with world.client(**{"User-Agent": agent}) as ada, ada.stream("GET", "/events/session") as answer:
            lines = answer.aiter_lines()
            assert (await anext(lines) == "retry: 2000") is says_retry


async def test_streams_are_chained_by_increasing_places(world: World) -> None:
    async with world.whole.agent(), world.client("admin") as admin, listening(admin, group="*") as heard:
        for name in ("aaaa", "bbbb", "cccc"):
            await admin.post("/session", json=BATCH | {"name": name})
        await heard.until(lambda heard: heard.names.count("session_terminated") == 3)
    ids = [str(event.id).partition(".")[0] for event in heard.events]
    for before, after in pairwise(ids):
        old, new = Position.parse(before), Position.parse(after)
        assert all(new.offsets[place] >= offset for place, offset in old.offsets.items())
