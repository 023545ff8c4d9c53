"""`/logs/error`: who reads what somebody's client reported, and that it does not grow without end."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from infra import error_logs
from tests.api.admin import AdminWorld, user_id

pytestmark = pytest.mark.cluster

REPORT = {
    "severity": "ERROR",
    "source": "webui",
    "message": "it broke",
    "context_lang": "javascript",
    "context_env": '{"browser": "lynx"}',
    "request_url": "/session",
    "request_status": 500,
    "traceback": "at line 1",
}


@pytest.fixture
async def world(tmp_path: Path, own_database: str) -> AsyncIterator[AdminWorld]:
    async with AdminWorld(tmp_path, own_database).started() as started:
        yield started


async def listed(world: AdminWorld, who: str, **query: Any) -> Any:
    async with world.client(who) as client:
        answer = await client.get("/logs/error", params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def reported(world: AdminWorld, who: str, **change: Any) -> None:
    async with world.client(who) as client:
        answer = await client.post("/logs/error", json=REPORT | change)
    assert (answer.status_code, answer.json()) == (200, {"success": True}), answer.text


async def test_what_is_reported_is_read_in_the_shape_of_the_client(world: AdminWorld) -> None:
    await reported(world, "ada")
    told = await listed(world, "ada", mark_read="False", page_size=20, page_no=1)
    assert told["count"] == 1
    [log] = told["logs"]
    assert {**log, "log_id": 0, "created_at": 0} == {
        **REPORT,
        "log_id": 0,
        "created_at": 0,
        "severity": "error",
        "context_env": {"browser": "lynx"},
        "user": user_id("ada"),
        "is_read": False,
    }
    assert isinstance(log["created_at"], float)


async def test_numbers_beyond_64_bits_are_told_as_floats(world: AdminWorld) -> None:
    await reported(world, "ada", context_env='{"heap": 1e30}')
    [log] = (await listed(world, "ada"))["logs"]
    assert log["context_env"] == {"heap": 1e30}


async def test_reports_are_read_by_oneself_and_by_the_admins_above(world: AdminWorld) -> None:
    for who in ("ada", "eve", "kim"):
        await reported(world, who, message=f"of {who}")
    seen = {who: [log["message"] for log in (await listed(world, who))["logs"]] for who in ("ada", "boss", "lord")}
    assert seen == {"ada": ["of ada"], "boss": ["of eve", "of ada"], "lord": ["of kim"]}
    assert (await listed(world, "root"))["count"] == 3


async def test_pages_and_marks(world: AdminWorld) -> None:
    for number in range(3):
        await reported(world, "ada", message=f"{number}")
    second = await listed(world, "ada", page_size=2, page_no=2, mark_read="True")
    assert (second["count"], [log["message"] for log in second["logs"]]) == (3, ["0"])
    assert {log["message"]: log["is_read"] for log in (await listed(world, "ada"))["logs"]} == {
        "2": False,
        "1": False,
        "0": True,
    }


async def test_what_is_cleared_is_kept_for_admins_only(world: AdminWorld) -> None:
    await reported(world, "ada")
    [log] = (await listed(world, "ada"))["logs"]
    path = f"/logs/error/{log['log_id']}/clear"
    for stranger in ("eve", "lord", "kim"):
        async with world.client(stranger) as client:
            theirs = await client.post(path)
            nobodys = await client.post("/logs/error/0f0c1c2d-3e4f-4a6b-8c9d-0e1f2a3b4c5d/clear")
            assert (theirs.status_code, nobodys.status_code) == (404, 404)
    async with world.client("ada") as ada:
        assert (await ada.post(path)).json() == {"success": True}
        assert (await ada.post("/logs/error/none/clear")).status_code == 404
    assert await listed(world, "ada") == {"logs": [], "count": 0}
    [told] = (await listed(world, "boss"))["logs"]
    assert told["is_cleared"] is True


async def test_a_client_in_a_loop_does_not_fill_the_disk(world: AdminWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_logs, "KEPT_MAX", 2)
    await reported(world, "eve", message="hers")
    for number in range(4):
        await reported(world, "ada", message=f"{number}")
    assert [log["message"] for log in (await listed(world, "root"))["logs"]] == ["3", "2", "hers"]
    async with world.pool.connection() as db:
        await db.execute("UPDATE error_logs SET created_at = now() - interval '91 days' WHERE message = 'hers'")
    await reported(world, "ada", message="new")
    assert (await listed(world, "root"))["count"] == 2


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"severity": "sad"}, "severity"),
        ({"message": None}, "message"),
        ({"context_env": "{"}, "context_env"),
        ({"context_env": [1]}, "context_env"),
        ({"request_status": "many"}, "request_status"),
        ({"source": "x" * 3000}, "source"),
    ],
)
async def test_a_report_that_is_none_is_refused_by_name(world: AdminWorld, change: dict[str, Any], field: str) -> None:
    async with world.client("ada") as ada:
        answer = await ada.post("/logs/error", json=REPORT | change)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


@pytest.mark.parametrize("query", [{"page_size": 0}, {"page_size": 101}, {"page_no": 0}, {"mark_read": "perhaps"}])
async def test_a_page_that_is_none_is_refused_by_name(world: AdminWorld, query: dict[str, Any]) -> None:
    async with world.client("ada") as ada:
        answer = await ada.get("/logs/error", params=query)
    assert (answer.status_code, answer.json()["field"]) == (400, next(iter(query)))
