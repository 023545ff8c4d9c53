"""The environment of a session: sealed before it is written, and opened for the agents that start its kernels."""

import base64
from collections.abc import Mapping
from typing import Any
from uuid import uuid4

import httpx
import pytest

from agents.fake.runtime import FakeRuntime
from agents.runtime import Running, Task
from api.sessions.environ import BYTES_MAX, SCRIPT_BYTES_MAX
from domain.messages import KernelId, SessionId
from domain.outfits import VARIABLES_MAX
from infra.keyring import Keyring
from infra.secrets import internal_token, start_token
from tests.api.listening import listening
from tests.api.test_sessions import RECORDED
from tests.api.world import World
from tests.whole import AGENT

pytestmark = pytest.mark.usefixtures("any_agent")

SECRET = "the value of a variable"


def new(environ: Mapping[str, str], **changed: Any) -> dict[str, Any]:
    return RECORDED | {"config": {"environ": environ}} | changed


def command(environ: Any, **changed: Any) -> dict[str, Any]:
    spec = {"image": "python:3.9", "slots": {"cpu": 1000}, "environ": environ}
    return {"type": "RequestSession", "owner": "AKADA", "name": "told", "spec": spec} | changed


async def requested(client: httpx.AsyncClient, environ: Mapping[str, str], **changed: Any) -> dict[str, Any]:
    """The event of a session that is asked for with these variables."""
    answer = await client.post("/refold/commands", json=command(environ, **changed))
    assert answer.status_code == 200, answer.text
    event: dict[str, Any] = answer.json()["events"][0]
    return event


async def opened(
    world: World, session_id: str, environ: Mapping[str, str], question: Mapping[str, str] | None = None, **headers: str
) -> httpx.Response:
    """What the api tells an agent that starts a kernel of the session."""
    asked = {"owner": "AKADA", "image": "python:3.9", "environ": environ} | dict(question or {})
    kernel_id = KernelId(str(uuid4()))
    token = start_token(world.settings, AGENT, kernel_id, SessionId(session_id))
    headers = {"Authorization": f"Bearer {token}"} | headers
    async with world.anonymous() as agent:
        return await agent.post(f"/internal/kernels/{kernel_id}/outfit", json=asked, headers=headers)


@pytest.mark.parametrize("path", ["/session", "/refold/commands"])
async def test_no_value_stands_in_the_log_and_the_kernel_has_it(
    world: World, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    tasks: list[Task] = []
    start = FakeRuntime.start

    async def noted(self: FakeRuntime, task: Task) -> Running:
        tasks.append(task)
        return await start(self, task)

    monkeypatch.setattr(FakeRuntime, "start", noted)
    environ = {"TOKEN": SECRET, "EMPTY": "", "Größe": "ß"}
    async with world.client() as ada, world.whole.agent(), listening(ada) as heard:
        body = new(environ) if path == "/session" else command(environ)
        answer = await ada.post(path, json=body)
        assert answer.status_code in {200, 201}, answer.text
        await heard.until("session_started")
    [task] = tasks
    assert environ.items() <= task.environ.items()
    records = [record.value for log in world.log._logs.values() for record in log.records]
    assert any(b'"TOKEN"' in value for value in records)
    for told in (*records, answer.content):
        assert SECRET.encode() not in told
        assert base64.b64encode(SECRET.encode()) not in told


async def test_a_retry_says_the_same(world: World) -> None:
    async with world.client(**{"Idempotency-Key": '"once"'}) as ada:
        answers = [await ada.post("/session", json=new({"TOKEN": SECRET})) for _ in range(2)]
        other = await ada.post("/session", json=new({"TOKEN": "another"}))
    assert answers[0].json() == answers[1].json()
    assert other.json()["code"] == "command_id_reused"


async def test_the_values_are_the_owners_also_when_an_admin_asks_for_him(world: World) -> None:
    async with world.client("admin") as admin:
        event = await requested(admin, {"TOKEN": SECRET})
        sealed = event["spec"]["environ"]
        assert (await opened(world, event["session_id"], sealed)).json()["environ"] == {"TOKEN": SECRET}
        await world.services.keyring.forget("user-admin")
        assert (await opened(world, event["session_id"], sealed)).status_code == 200
        await world.services.keyring.forget("user-ada")
        gone = await opened(world, event["session_id"], sealed)
    assert (gone.status_code, gone.json()["type"].rpartition("/")[2]) == (410, "secret-forgotten")


@pytest.mark.parametrize(
    ("environ", "rule"),
    [
        ({"A": 1}, "string_type"),
        ({"A=B": "1"}, "value_error"),
        ({f"V{number}": "" for number in range(VARIABLES_MAX + 1)}, "too_long"),
        ({"A": "ß" * (BYTES_MAX // 2)}, "value_error"),
        (["A"], "dict_type"),
        (None, "dict_type"),
    ],
)
async def test_an_environment_that_cannot_be_is_refused(world: World, environ: Any, rule: str) -> None:
    async with world.client() as ada:
        told = (await ada.post("/refold/commands", json=command(environ))).json()
        assert (told["status"], told["rule"]) == (400, rule), told
        assert told["field"].startswith("spec.environ")
        if environ is not None:
            told = (await ada.post("/session", json=new(environ))).json()
            assert (told["status"], told["rule"]) == (400, rule), told
            assert told["field"].startswith("config.environ")


async def test_the_largest_environment_and_script_there_may_be_reach_an_agent(world: World) -> None:
    environ = {f'"{"V" * 28}{number:03}': "\\" * 32 for number in range(VARIABLES_MAX)}
    environ[next(iter(environ))] += "x" * (BYTES_MAX - sum(len(name) + len(text) for name, text in environ.items()))
    script = "#" * SCRIPT_BYTES_MAX
    spec = {"image": "python:3.9", "slots": {"cpu": 1000}, "environ": environ, "bootstrap_script": script}
    async with world.client() as ada:
        event = await requested(ada, {}, spec=spec)
    told = {name: event["spec"][name] for name in ("environ", "bootstrap_script")}
    answer = await opened(world, event["session_id"], told.pop("environ"), question=told)
    assert answer.json()["environ"] == environ
    assert answer.json()["bootstrap_script"] == script


# -- the door for agents -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("prefix", ["", "/v6", "/func", "/func/v6"])
async def test_nobody_but_an_agent_that_starts_a_kernel_is_told(world: World, prefix: str) -> None:
    kernel_id, other = KernelId(str(uuid4())), KernelId(str(uuid4()))
    async with world.client("admin") as admin, world.anonymous() as nobody:
        event = await requested(admin, {"TOKEN": SECRET})
        session_id = SessionId(event["session_id"])
        body = {"owner": "AKADA", "image": "python:3.9", "environ": event["spec"]["environ"]}
        forged = world.settings.model_copy(update={"internal_key": type(world.settings.internal_key)("f" * 40)})
        path = f"{prefix}/internal/kernels/{kernel_id}/outfit"
        tokens = {
            "another kernel's": start_token(world.settings, AGENT, other, session_id),
            "an old one": start_token(world.settings, AGENT, kernel_id, session_id, seconds=-1),
            "a forged one": start_token(forged, AGENT, kernel_id, session_id),
            "the api's own, for agents": internal_token(world.settings, AGENT, kernel_id),
            "nonsense": "a.b.c",
        }
        for what, token in tokens.items():
            answer = await nobody.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
            assert (answer.status_code, SECRET in answer.text) == (401, False), what
        signed = await admin.post(path, json=body)
        assert (signed.status_code, SECRET in signed.text) == (401, False), "a superadmin's signature"
        assert (await nobody.post(path, json=body)).status_code == 401
        token = start_token(world.settings, AGENT, kernel_id, session_id)
        told = await nobody.post(path, json=body, headers={"Authorization": f"Bearer {token}"})
    assert told.json()["environ"] == {"TOKEN": SECRET}
    assert told.headers["Cache-Control"] == "no-store"


async def test_only_the_environment_of_that_session_is_told(world: World) -> None:
    keyring = Keyring(world.settings, world.keys)
    async with world.client() as ada:
        one = await requested(ada, {"TOKEN": SECRET})
        two = await requested(ada, {"TOKEN": "x"}, name="another")
    sealed = one["spec"]["environ"]["TOKEN"]
    secret_key = await keyring.seal("user-ada", "ada-secret", "AKADA")
    for session_id, environ in (
        (two["session_id"], {"TOKEN": sealed}),
        (one["session_id"], {"OTHER": sealed}),
        (one["session_id"], {"TOKEN": secret_key}),
        (one["session_id"], {"TOKEN": two["spec"]["environ"]["TOKEN"]}),
        (one["session_id"], {"TOKEN": "bm90aGluZw=="}),
    ):
        answer = await opened(world, session_id, environ)
        assert answer.status_code == 400, answer.text
        assert answer.json()["rule"] == "not_sealed_for_it"
        assert (await opened(world, session_id, {"A": sealed} | environ)).status_code == 400


@pytest.mark.parametrize(
    "body", [b"", b"[]", b'{"environ":{"A":"not base64!"}}', b'{"environ":{},"more":1}', b"x" * 300_000]
)
async def test_what_no_agent_of_ours_sends_is_a_problem(world: World, body: bytes) -> None:
    kernel_id = KernelId(str(uuid4()))
    token = start_token(world.settings, AGENT, kernel_id, SessionId("s"))
    async with world.anonymous() as agent:
        path, headers = f"/internal/kernels/{kernel_id}/outfit", {"Authorization": f"Bearer {token}"}
        answer = await agent.post(path, content=body, headers=headers)
        assert answer.status_code in {400, 413}, answer.text
        assert (await agent.get(path, headers=headers)).status_code == 405
        assert (await agent.post(path + "s", headers=headers)).status_code == 404


async def test_agents_are_not_limited_and_who_is_none_is(world: World) -> None:
    event = {"session_id": str(uuid4())}
    standing = "X-RateLimit-Remaining"
    told = await opened(world, event["session_id"], {})
    refused = [await opened(world, event["session_id"], {}, Authorization="Bearer x") for _ in range(2)]
    assert standing not in told.headers
    before, after = (int(answer.headers[standing]) for answer in refused)
    assert after == before - 1


async def test_the_document_for_clients_does_not_tell_of_it(world: World) -> None:
    async with world.anonymous() as nobody:
        document = (await nobody.get("/openapi.json")).json()
    assert not [path for path in document["paths"] if path.startswith("/internal")]
