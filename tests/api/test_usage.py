"""`/resource/usage/…`, `/resource/stats/…`: what was used, as the public client reads it."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from psycopg.types.json import Jsonb

from api.cluster import usage
from tests.api.admin import AWAY, HOME, AdminWorld, access_key, session_id
from tests.whole import now

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]


@pytest.fixture
def ran() -> dict[str, Any]:
    """Ada's session began to run two hours ago, and kim's ran for one hour on the last day of February 2026."""
    today = now()
    then = datetime(2026, 2, 28, 12, tzinfo=UTC)
    return {"ada": (today - timedelta(hours=2), None), "kim": (then, then + timedelta(hours=1))}


@pytest.fixture(autouse=True)
async def started(admin: AdminWorld, ran: dict[str, Any]) -> None:
    async with admin.pool.connection() as db:
        for who, (began, ended) in ran.items():
            await db.execute(
                "UPDATE kernel_list SET started_at = %s, ended_at = %s WHERE owner = %s",
                (began, ended, access_key(who)),
            )


async def asked(admin: AdminWorld, who: str, path: str, **told: Any) -> Any:
    """With a JSON body, as the public client sends it with a GET."""
    async with admin.client(who) as client:
        return await client.request("GET", path, json=told)


async def test_the_usage_of_a_month_is_told_by_project(admin: AdminWorld) -> None:
    answer = await asked(admin, "root", "/resource/usage/month", month="202602", group_ids=[HOME, AWAY])
    [project] = answer.json()
    assert (project["g_id"], project["g_name"], project["domain_name"]) == (AWAY, "away-project", "away")
    assert (project["g_smp"], project["g_mem_allocated"], project["g_device_type"]) == (1.0, 2**28, [])
    [kernel] = project["c_infos"]
    assert (kernel["name"], kernel["access_key"], kernel["id"]) == (
        "session-of-kim",
        access_key("kim"),
        session_id("kim"),
    )
    assert (kernel["used_time"], kernel["used_days"]) == ("1:00:00", 1)
    assert kernel["created_at"].startswith("2026-02-28T12:00:00")
    assert kernel["terminated_at"].startswith("2026-02-28T13:00:00")
    everything = await asked(admin, "root", "/resource/usage/month", month=f"{now():%Y%m}", group_ids=[])
    assert "home-project" in {each["g_name"] for each in everything.json()}
    assert (await asked(admin, "root", "/resource/usage/month", month="202601", group_ids=[AWAY])).json() == []


async def test_what_a_kernel_really_used_is_told_while_it_is_known(admin: AdminWorld) -> None:
    stats = {"kernel": {"cpu_usec": 2_500_000, "memory_bytes": 10, "memory_bytes_peak": 30, "io_read_bytes": 4}}
    async with admin.pool.connection() as db:
        await db.execute("UPDATE kernel_list SET agent_id = 'a' WHERE owner = %s", (access_key("kim"),))
        await db.execute(
            "INSERT INTO kernel_stats VALUES (%s, 'a', 1, now(), now(), %s)", (session_id("kim"), Jsonb(stats))
        )
    [project] = (await asked(admin, "root", "/resource/usage/month", month="202602", group_ids=[AWAY])).json()
    [kernel] = project["c_infos"]
    used = {"cpu_used": 2.5, "mem_used": 30, "io_read": 4, "io_write": 0}
    assert {name: kernel[name] for name in used} == used
    assert {name: project[f"g_{name}"] for name in used} == used


async def test_the_usage_of_a_period_counts_its_last_day_too(admin: AdminWorld) -> None:
    path = "/resource/usage/period"
    told = await asked(admin, "root", path, group_id=AWAY, start_date="20260228", end_date="20260228")
    assert [each["name"] for each in told.json()["c_infos"]] == ["session-of-kim"]
    nothing = await asked(admin, "root", path, group_id=AWAY, start_date="20260201", end_date="20260227")
    assert nothing.json() == {}


@pytest.mark.parametrize(
    ("path", "told", "status", "field"),
    [
        ("month", {"month": "202613", "group_ids": []}, 400, "month"),
        ("month", {"month": "2026", "group_ids": []}, 400, "month"),
        ("month", {"month": "000001", "group_ids": []}, 400, "month"),
        ("month", {"month": "202602", "group_ids": ["nowhere"]}, 404, "group_ids"),
        ("period", {"group_id": HOME, "start_date": "20260228", "end_date": "20260227"}, 400, "end_date"),
        ("period", {"group_id": HOME, "start_date": "20260101", "end_date": "20261231"}, 400, "end_date"),
        ("period", {"group_id": HOME, "start_date": "20260230", "end_date": "20261231"}, 400, "start_date"),
        ("period", {"start_date": "20260101", "end_date": "20260101"}, 400, "group_id"),
    ],
)
async def test_a_period_that_cannot_be_is_refused_by_name(
    admin: AdminWorld, path: str, told: dict[str, Any], status: int, field: str
) -> None:
    answer = await asked(admin, "root", f"/resource/usage/{path}", **told)
    assert (answer.status_code, answer.json()["field"]) == (status, field)


async def test_an_answer_that_would_be_too_long_is_refused(admin: AdminWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(usage, "KERNELS_MAX", 0)
    answer = await asked(admin, "root", "/resource/usage/month", month="202602")
    assert (answer.status_code, answer.json()["rule"]) == (400, "too_many")


async def test_everybody_sees_what_he_held_and_superadmins_what_all_did(admin: AdminWorld) -> None:
    told = {}
    for who, whose in (("ada", "user"), ("kim", "user"), ("root", "admin")):
        moments = (await asked(admin, who, f"/resource/stats/{whose}/month")).json()
        assert len(moments) == 30 * 24 * 4
        assert moments[1]["date"] - moments[0]["date"] == 900
        assert 0 <= now().timestamp() - moments[-1]["date"] < 900
        told[who] = moments
    running = [each["num_sessions"]["value"] for each in told["ada"]]
    assert 9 <= sum(running) <= 10, "two hours ago until now"
    assert running[-9:] == [1] * 9
    assert told["ada"][-1]["cpu_allocated"] == {"value": 1.0, "unit_hint": "count"}
    assert told["ada"][-1]["mem_allocated"] == {"value": 2**28, "unit_hint": "bytes"}
    assert sum(each["num_sessions"]["value"] for each in told["kim"]) == 0, "his was long ago"
    assert [each["num_sessions"]["value"] for each in told["root"]] == running
