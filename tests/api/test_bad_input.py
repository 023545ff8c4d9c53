"""Whatever is sent, the answer is a problem that says what is wrong, and never a 500."""

import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.http.problems import from_error
from api.sessions.requests import NewSession, parse_new_session
from tests.api.test_sessions import RECORDED
from tests.api.world import World

CONFIG = RECORDED["config"]


def _with(field: str, value: Any) -> dict[str, Any]:
    if field.startswith("config."):
        return RECORDED | {"config": CONFIG | {field.removeprefix("config."): value}}
    return RECORDED | {field: value}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("image", ""),
        ("image", None),
        ("image", 5),
        ("name", "-starts-badly"),
        ("name", "x" * 65),
        ("name", "späce"),
        ("type", "inference"),
        ("clusterSize", 0),
        ("clusterSize", 10**30),
        ("clusterMode", "triple"),
        ("maxWaitSeconds", -1),
        ("reuseIfExists", "perhaps"),
        ("config", 7),
        ("config.environ", {"A": 1}),
        ("config.environ", {"A=B": "1"}),
        ("config.resources", {"cpu": "1e999999999"}),
        ("config.resources", {"cpu": -1}),
        ("config.resources", {"mem": "lots"}),
        ("config.resources", {"CPU!": "1"}),
        ("config.resources", {"cpu": [1]}),
        ("config.scalingGroup", "no-such-group"),
        ("startupCommand", "x" * 70_000),
        ("bootstrap_script", "x" * 70_000),
        ("startupCommand", "echo \x00"),
        ("group", "no-such-project"),
        ("owner_access_key", 3),
    ],
)
async def test_a_bad_parameter_is_named(world: World, field: str, value: Any) -> None:
    body = json.dumps(_with(field, value)).encode()
    async with world.client() as ada:
        answer = await ada.post("/session", content=body, headers={"Content-Type": "application/json"})
    assert answer.status_code == 400, answer.text
    told = answer.json()
    assert told["type"] == "https://api.backend.ai/probs/invalid-api-params"
    assert told["rule"]
    assert told["field"].split(".")[0] in {field.split(".")[0], "body", "session_type", "cluster_size"}, told
    assert told["data"]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("config.agentList", ["a1"]),
        ("dependencies", ["other"]),
        ("callback_url", "http://x"),
        ("starts_at", "2030-01-01T00:00:00"),
    ],
)
async def test_an_option_without_effect_is_refused_by_name(world: World, field: str, value: Any) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=_with(field, value))
    assert answer.status_code == 400, answer.text
    assert (answer.json()["field"], answer.json()["rule"]) == (field, "not_supported_yet")


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"null", b'"x"', b"\xff\xfe", b'{"image": "\xff"}', b'{"image": "\\ud800"}', b"[" * 50_000],
)
async def test_a_body_that_is_no_object_is_a_400(world: World, body: bytes) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        headers = {"Content-Type": "application/json"}
        for answer in (
            await ada.post("/session", content=body, headers=headers),
            await admin.post("/refold/commands", content=body, headers=headers),
        ):
            assert answer.status_code == 400, answer.text
            assert answer.json()["type"].startswith("https://api.backend.ai/probs/")


async def test_a_batch_session_needs_a_command(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=RECORDED | {"type": "batch"})
    assert (answer.status_code, answer.json()["code"]) == (400, "no_startup_command")


async def test_a_huge_body_is_a_413(world: World) -> None:
    async with world.client() as ada:
        answer = await ada.post("/session", json=RECORDED | {"tag": "x" * 300_000})
    assert answer.status_code == 413


@pytest.mark.parametrize(
    "path", ["/session/%00", "/session/a%00b/logs", "/session/%ff%fe", "/session/..%2f..", "/nothing"]
)
async def test_a_bad_path_is_a_problem(world: World, path: str) -> None:
    async with world.client() as ada:
        answer = await ada.get(path)
    assert answer.status_code in {400, 404}, answer.text
    assert answer.headers["content-type"] == "application/problem+json"


async def test_what_the_framework_refuses_is_a_problem_too(world: World) -> None:
    async with world.client() as ada:
        for answer in (
            await ada.put("/session/x"),
            await ada.get("/nothing"),
            await ada.get("/events/session", params={"scope": "everything"}),
            await ada.post("/session/x/rename"),
            await ada.get("/refold/sessions/x/history", params={"start": "soon"}),
            await ada.get("/refold/commands/not-a-uuid"),
        ):
            assert answer.headers["content-type"] == "application/problem+json"
            told = answer.json()
            assert {"type", "title", "status", "detail", "msg", "instance", "retryable"} <= set(told)
            assert told["status"] == answer.status_code < 500


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = sorted({field.alias or name for name, field in NewSession.model_fields.items()} | {"lang", "config"})


@given(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=6))
@settings(max_examples=300, suppress_health_check=[HealthCheck.too_slow], deadline=None)
def test_no_body_is_a_defect(fields: dict[str, Any]) -> None:
    defect = None
    try:
        parse_new_session(json.dumps(RECORDED | fields).encode())
    except Exception as error:
        defect = error if from_error(error) is None else None
    assert defect is None
