"""One command, one outcome, however often it is sent, and nothing acknowledged that is not durable."""

import asyncio
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest

from api.commands import GivenByPeople
from api.http.asyncapi import members
from domain.contexts import CONTEXTS
from tests.api.holding import Held
from tests.api.test_sessions import RECORDED
from tests.api.world import World

PROBS = "https://api.backend.ai/probs/"


async def test_a_retry_with_the_same_key_acts_once(world: World) -> None:
    async with world.client() as ada:
        for header in ("Idempotency-Key", "X-BackendAI-Client-Token"):
            body = RECORDED | {"name": None, "reuseIfExists": False}
            key = {header: f'"{uuid4()}"'}
            first = await ada.post("/session", json=body, headers=key)
            again = await ada.post("/session", json=body, headers=key)
            bare = await ada.post("/session", json=body, headers={header: key[header].strip('"')})
            assert first.status_code == again.status_code == bare.status_code == 201
            assert first.json() == again.json() == bare.json()
            assert first.headers["X-Refold-Position"] == again.headers["X-Refold-Position"]
        told = await world.services.known.counts()
    assert sum(told["sessions"].values()) == 2


async def test_a_retry_at_another_process_gets_the_first_outcome(world: World) -> None:
    key = {"Idempotency-Key": '"k1"'}
    body = RECORDED | {"name": "mysess", "reuseIfExists": False}
    async with world.client() as ada:
        first = await ada.post("/session", json=body, headers=key)
        await ada.delete("/session/mysess")
        async with world.elsewhere() as there:
            again = await there.post("/session", json=body, headers=key)
    assert (again.status_code, again.json()) == (first.status_code, first.json())


async def test_a_retry_does_not_wait_for_a_start_that_was_before(world: World) -> None:
    async with world.whole.agent(), world.client() as ada:
        body = RECORDED | {"enqueueOnly": False}
        answers = [await ada.post("/session", json=body, headers={"Idempotency-Key": "k5"}) for _ in range(2)]
    assert [answer.json()["status"] for answer in answers] == ["RUNNING", "RUNNING"]


async def test_a_refusal_is_repeated_too(world: World) -> None:
    key = {"Idempotency-Key": "k2"}
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        answers = [await ada.post("/session", json=RECORDED | {"image": "b"}, headers=key) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [409, 409]


async def test_a_key_used_for_another_request_is_refused(world: World) -> None:
    key = {"Idempotency-Key": "k3"}
    async with world.client() as ada, world.client("eve") as eve:
        await ada.post("/session", json=RECORDED, headers=key)
        answer = await ada.post("/session", json=RECORDED | {"image": "other"}, headers=key)
        of_another = await eve.post("/session", json=RECORDED, headers=key)
        malformed = await ada.post("/session", json=RECORDED, headers={"Idempotency-Key": '"half'})
    assert answer.status_code == 422
    assert answer.json()["type"] == PROBS + "idempotency-key-reused"
    assert of_another.status_code == 201, "keys are each caller's own"
    assert malformed.status_code == 400


async def test_ending_twice_with_one_key_is_ending_once(world: World) -> None:
    key = {"Idempotency-Key": "k4"}
    async with world.client() as ada:
        await ada.post("/session", json=RECORDED)
        first = await ada.delete("/session/mysess", headers=key)
        again = await ada.delete("/session/mysess", headers=key)
    assert (first.status_code, first.json()) == (again.status_code, again.json()) == (200, first.json())


async def test_who_does_not_want_to_wait_is_told_where_the_outcome_will_be(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve, world.client("admin") as admin:
        sent = await ada.post("/session", json=RECORDED, headers={"Prefer": "respond-async"})
        assert sent.status_code == 202
        assert sent.headers["Retry-After"]
        where = sent.headers["Location"]
        position = {"X-Refold-Position": sent.headers["X-Refold-Position"]}
        told = await ada.get(where, headers=position)
        assert told.status_code == 200
        assert told.json()["status"] == "accepted"
        assert [event["type"] for event in told.json()["events"]] == ["SessionRequested"]
        assert (await eve.get(where)).status_code == 404
        assert (await admin.get(where)).status_code == 200
        async with world.elsewhere() as there:
            elsewhere = await there.get(where)
        assert elsewhere.json() == told.json(), "found by the projection, read from the log"


async def test_an_outcome_that_takes_long_is_a_202(world: World) -> None:
    world.settings.__dict__["outcome_timeout"] = 0.05
    world.settings.__dict__["read_timeout"] = 0.2
    stuck = Held(world.log)
    async with world.elsewhere(log=stuck) as there:
        stuck.reading.clear()
        answer = await there.post("/session", json=RECORDED)
        pending = await there.get(answer.headers["Location"])
        stuck.reading.set()
    assert answer.status_code == 202
    assert pending.status_code in {202, 503}
    assert pending.headers["Retry-After"]


async def test_a_log_that_cannot_be_written_is_a_503_and_nothing_is_acknowledged(world: World) -> None:
    broken = Held(world.log, fails=True)
    async with world.elsewhere(log=broken) as there:
        for headers in ({}, {"Prefer": "respond-async"}):
            answer = await there.post("/session", json=RECORDED, headers=headers)
            assert answer.status_code == 503
            assert answer.headers["Retry-After"]
            assert answer.json()["retryable"] is True


async def test_beyond_what_may_be_in_flight_the_answer_is_429(world: World) -> None:
    world.settings.__dict__["appends_in_flight_max"] = 2
    slow = Held(world.log)
    slow.appending.clear()
    async with world.api(slow) as (url, services), world.client() as there:
        there.base_url = httpx.URL(url)
        waiting = [asyncio.create_task(there.post("/session", json=RECORDED | {"name": f"sess-{n}"})) for n in range(2)]
        async with asyncio.timeout(5):
            while services.sender.in_flight < 2:
                await asyncio.sleep(0.001)
        refused = await there.post("/session", json=RECORDED)
        slow.appending.set()
        answers = await asyncio.gather(*waiting)
    assert refused.status_code == 429
    assert refused.headers["Retry-After"] == "1"
    assert [answer.status_code for answer in answers] == [201, 201]


# -- /refold/commands --------------------------------------------------------------------------------------------------


async def test_any_command_its_sender_may_give(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        made = (await ada.post("/session", json=RECORDED)).json()
        cancel = {"type": "CancelSession", "owner": "AKADA", "session_id": made["sessionId"]}
        told = await ada.post("/refold/commands", json=cancel)
        assert told.status_code == 200, told.text
        assert [event["type"] for event in told.json()["events"]] == ["KernelEnded", "SessionEnded"]
        again = await ada.post("/refold/commands", json=cancel)
        assert (again.status_code, again.json()["type"]) == (404, PROBS + "session-not-found")
        domain = await admin.post("/refold/commands", json={"type": "CreateDomain", "name": "research"})
        assert domain.json()["status"] == "accepted"
        same = await admin.post("/refold/commands", json={"type": "CreateDomain", "name": "research"})
        assert same.json()["status"] == "unneeded"
        agent = await admin.post("/refold/commands", json={"type": "RemoveAgent", "cell": "default", "agent_id": "no"})
        assert agent.json()["status"] == "unneeded"


@pytest.mark.parametrize(
    ("command", "status"),
    [
        ({"type": "CreateDomain", "name": "mine"}, 403),
        ({"type": "RemoveAgent", "cell": "default", "agent_id": "a"}, 403),
        ({"type": "CancelSession", "owner": "AKADMIN", "session_id": "x"}, 403),
        ({"type": "SetSessionLimits", "owner": "AKADA", "limits": None}, 400),
        ({"type": "PassDeadline", "owner": "AKADA", "session_id": "x"}, 400),
        ({"type": "NoSuchThing"}, 400),
        ({}, 400),
        ({"type": "CancelSession", "owner": "AKADA", "session_id": "x", "surprise": 1}, 400),
    ],
)
async def test_nobody_gives_what_is_not_his_to_give(world: World, command: dict[str, Any], status: int) -> None:
    async with world.client() as ada:
        answer = await ada.post("/refold/commands", json=command)
    assert answer.status_code == status, answer.text


async def test_nobody_chooses_the_ids_of_a_session_or_its_kernels(world: World) -> None:
    """With another's ids, one's own stop would end his kernels."""
    theirs = str(uuid4())
    command = {
        "type": "RequestSession",
        "owner": "AKADA",
        "session_id": theirs,
        "name": "mine",
        "spec": {"image": "python", "slots": {"cpu": 1000}},
        "kernels": [
            {"kernel_id": theirs, "role": "main", "index": 1},
            {"kernel_id": theirs, "role": "sub", "index": 1},
        ],
    }
    async with world.client() as ada:
        answer = await ada.post("/refold/commands", json=command)
    [requested] = answer.json()["events"]
    assert theirs not in str(requested)
    assert requested["kernels"][0]["kernel_id"] == requested["session_id"]


@pytest.mark.parametrize(
    ("spec", "field"), [({"resource_group": "nowhere"}, "spec.resource_group"), ({"project": "no"}, "spec.project")]
)
async def test_a_session_goes_only_where_its_owner_may_go(world: World, spec: dict[str, str], field: str) -> None:
    command = {"type": "RequestSession", "owner": "AKADA", "name": "mine"}
    async with world.client() as ada:
        asked = {**command, "spec": {"image": "python", "slots": {"cpu": 1000}, "cell": "other", **spec}}
        answer = await ada.post("/refold/commands", json=asked)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


def test_exactly_what_the_domain_says_is_given_by_people() -> None:
    """But for folders: what is asked of them takes more than the right to give the command (`api.folders`)."""
    given = {model.__name__ for model in members(GivenByPeople)}
    by_people = {
        model.__name__
        for name, context in CONTEXTS.items()
        for model in members(context.commands._type)
        if name != "vfolder" and cast(Any, model).by_users
    }
    assert given == by_people | {"RemoveAgent", "ExcludeAgent", "IncludeAgent"}
