"""What agents measure, from their telemetry to what clients and idle checks see of it."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
import pytest_asyncio

from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.session.idling import Underused, Unused, UtilisationRule
from domain.session.messages import EndIdleSession, ReportKernelStarted
from domain.telemetry import DeviceSample, HostSample, KernelSample, KernelSamples, PullProgress
from infra import live_stats
from infra.live_stats import BUCKET, Pulled
from tests.api.admin import AdminWorld, access_key, session_id
from tests.whole import AGENT, now
from workers.idling import underused, unused

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

FRESH = timedelta(seconds=60)
GPU = DeviceSample(
    device_id="GPU-1",
    slot="cuda.device",
    utilisation_percent=40,
    memory_bytes=2**30,
    memory_bytes_max=4 * 2**30,
    temperature_celsius=55,
)
STAT = "query($id: UUID!) { compute_session(id: $id) { idle_checks containers { live_stat last_stat } } }"


@pytest_asyncio.fixture(autouse=True, loop_scope="module")
async def cluster(admin: AdminWorld) -> None:
    """Ada's session runs since an hour ago, and nothing was measured yet."""
    await admin.whole.give("session", started("ada", now() - timedelta(hours=1)), name="ada runs")
    await admin.settled()
    async with admin.pool.connection() as db:
        await db.execute("TRUNCATE kernel_stats, agent_stats, kernel_use, pull_progress")


def started(who: str, at: datetime) -> ReportKernelStarted:
    return ReportKernelStarted(
        at=at,
        owner=access_key(who),
        session_id=session_id(who),
        kernel_id=KernelId(session_id(who)),
        incarnation=1,
        agent_id=AGENT,
        runtime_id="1",
    )


def sampled(at: datetime, *, agent: AgentId = AGENT, incarnation: int = 1, **values: Any) -> KernelSamples:
    """Of ada's kernel."""
    kernel = KernelSample.model_validate(
        {
            "kernel_id": session_id("ada"),
            "incarnation": incarnation,
            "session_id": session_id("ada"),
            "owner": access_key("ada"),
            "cpu_millis": 1000,
        }
        | values
    )
    host = HostSample(cpu_percents=(10, 30), memory_bytes=2**30, memory_bytes_max=2**32)
    return KernelSamples(
        at=at, agent_id=agent, incarnation=9, interval_seconds=5, host=host, devices=(GPU,), kernels=(kernel,)
    )


async def store(admin: AdminWorld, *samples: KernelSamples, pulls: Sequence[PullProgress] = ()) -> None:
    async with admin.pool.connection() as db:
        await live_stats.store(db, samples, pulls)


async def last_used(admin: AdminWorld) -> datetime:
    async with admin.pool.connection() as db:
        [measured] = (await live_stats.of_kernels(db, [(session_id("ada"), AGENT)])).values()
    return measured.last_used_at


async def shown(admin: AdminWorld, who: str = "ada") -> Any:
    return (await admin.ask(who, STAT, {"id": session_id("ada")}))["compute_session"]


# -- shown -------------------------------------------------------------------------------------------------------------


async def test_a_running_kernel_shows_what_was_measured_last_in_the_words_of_the_client(admin: AdminWorld) -> None:
    assert (await shown(admin))["containers"] == [{"live_stat": None, "last_stat": None}]
    at = now()
    await store(admin, sampled(at - timedelta(seconds=5), cpu_usec=1))
    used: dict[str, Any] = {
        "cpu_usec": 2_500_000,
        "cpu_percent": 50.0,
        "memory_bytes": 2**20,
        "memory_bytes_peak": 2**21,
        "memory_bytes_max": 2**22,
        "net_received_bytes": 700,
        "io_written_bytes": 512,
        "devices": ("GPU-1",),
    }
    await store(admin, sampled(at, **used))
    [container] = (await shown(admin))["containers"]
    stat = orjson.loads(container["live_stat"])
    assert container["last_stat"] == container["live_stat"]
    assert stat["cpu_used"] == {"current": "2500", "capacity": None, "pct": None, "unit_hint": "msec"}
    assert stat["cpu_util"] == {"current": "50", "capacity": "100", "pct": "50.00", "unit_hint": "percent"}
    assert stat["mem"] == {
        "current": "1048576",
        "capacity": "4194304",
        "pct": "25.00",
        "unit_hint": "bytes",
        "stats.max": "2097152",
    }
    assert (stat["net_rx"]["current"], stat["io_write"]["current"]) == ("700", "512")
    assert stat["cuda_util"]["pct"] == "40.00"
    assert stat["cuda_mem"]["current"] == "1073741824"
    assert not {"net_tx", "io_read"} & set(stat), "what its host does not tell is not made up"
    async with admin.client("ada") as client:
        assert (await client.get(f"/session/{session_id('ada')}")).json()["cpuCreditUsed"] == 2500


async def test_what_another_agent_says_about_a_kernel_is_not_shown(admin: AdminWorld) -> None:
    await store(admin, sampled(now(), cpu_usec=1_000_000), sampled(now(), agent=AgentId("liar"), cpu_usec=9_000_000))
    [container] = (await shown(admin))["containers"]
    assert orjson.loads(container["live_stat"])["cpu_used"]["current"] == "1000"


async def test_of_an_earlier_start_only_the_last_is_shown_and_nothing_live(admin: AdminWorld) -> None:
    await store(admin, sampled(now(), cpu_usec=1_000_000))
    async with admin.pool.connection() as db:
        await db.execute("UPDATE kernel_stats SET incarnation = 0")
    [container] = (await shown(admin))["containers"]
    assert container["live_stat"] is None
    assert container["last_stat"] is not None


async def test_an_agent_shows_its_host_and_devices_in_units_the_client_can_print(admin: AdminWorld) -> None:
    await store(admin, sampled(now()))
    query = "query($id: String!) { agent(agent_id: $id) { live_stat cpu_cur_pct mem_cur_bytes } }"
    agent = (await admin.ask("root", query, {"id": AGENT}))["agent"]
    stat = orjson.loads(agent["live_stat"])
    assert (agent["cpu_cur_pct"], agent["mem_cur_bytes"]) == (20, 2**30)
    assert stat["node"]["cpu_util"]["pct"] == "20.00"
    assert len(stat["devices"]["cpu_util"]) == 2, "the client counts the processors here"
    assert stat["devices"]["cuda_util"]["GPU-1"]["pct"] == "40.00"
    every = [*stat["node"].values(), *(each for devices in stat["devices"].values() for each in devices.values())]
    assert {each["unit_hint"] for each in every} <= {"bytes", "Celsius", "bps", "pct"}, "others break the client"


async def test_how_far_an_image_has_come_is_known_to_whoever_asks(admin: AdminWorld) -> None:
    def pulled(done: int, at: datetime) -> PullProgress:
        kernel_id = KernelId(session_id("ada"))
        return PullProgress(at=at, agent_id=AGENT, kernel_id=kernel_id, incarnation=1, done=done, total=100)

    at = now()
    await store(admin, pulls=[pulled(10, at), pulled(60, at + timedelta(seconds=1))])
    await store(admin, pulls=[pulled(30, at)])
    async with admin.pool.connection() as db:
        assert await live_stats.pulls(db, [(session_id("ada"), AGENT)]) == {(session_id("ada"), AGENT): Pulled(60, 100)}


# -- kept --------------------------------------------------------------------------------------------------------------


async def test_since_when_nobody_used_a_kernel_outlives_its_agent(admin: AdminWorld) -> None:
    at = now()
    used = at - timedelta(minutes=9)
    await store(admin, sampled(at - timedelta(minutes=5), last_used_at=used))
    await store(admin, sampled(at, last_used_at=None))
    assert await last_used(admin) == used, "an agent that knows nothing does not make it used"
    await store(admin, sampled(at, last_used_at=used - timedelta(minutes=1)))
    assert await last_used(admin) == used
    await store(admin, sampled(at, last_used_at=at))
    assert await last_used(admin) == at


async def test_where_nothing_is_known_the_idle_time_begins_with_the_first_word(admin: AdminWorld) -> None:
    at = now()
    await store(admin, sampled(at, last_used_at=None))
    assert await last_used(admin) == at


async def test_a_restarted_kernel_forgets_when_it_was_used(admin: AdminWorld) -> None:
    at = now()
    await store(admin, sampled(at, last_used_at=at))
    await store(admin, sampled(at, incarnation=2, last_used_at=at - timedelta(minutes=1)))
    assert await last_used(admin) == at - timedelta(minutes=1)
    await store(admin, sampled(at + FRESH, incarnation=1, last_used_at=at + FRESH))
    assert await last_used(admin) == at - timedelta(minutes=1), "a late word of an earlier start"


async def test_old_measurements_are_deleted_and_the_window_is_kept(admin: AdminWorld) -> None:
    at = now()
    hour = timedelta(hours=1)
    await store(admin, *(sampled(at - age, cpu_percent=7) for age in (30 * hour, 2 * hour, 10 * BUCKET)))
    async with admin.pool.connection() as db:
        await live_stats.forget(db, at, window=hour)
        cursor = await db.execute("SELECT count(*) FROM kernel_use")
        assert await cursor.fetchone() == (1,)
        assert await live_stats.means(db, [(session_id("ada"), AGENT)], at - hour) == {
            (session_id("ada"), AGENT): {"cpu_util": 7}
        }


# -- idle --------------------------------------------------------------------------------------------------------------


async def found_unused(admin: AdminWorld, at: datetime) -> list[EndIdleSession]:
    async with admin.pool.connection() as db:
        return [command for _, command in await unused(db, at, FRESH)]


async def found_underused(admin: AdminWorld, rule: UtilisationRule, at: datetime) -> list[EndIdleSession]:
    async with admin.pool.connection() as db:
        return [command for _, command in await underused(db, rule, at, FRESH)]


async def test_a_session_unused_for_longer_than_its_owners_policy_allows_is_found(admin: AdminWorld) -> None:
    at = now()
    used = at - timedelta(seconds=1801)
    await store(admin, sampled(at, last_used_at=used))
    [found] = await found_unused(admin, at)
    assert (found.owner, found.session_id) == (AccessKey(access_key("ada")), SessionId(session_id("ada")))
    assert found.evidence == Unused(last_used_at=used)
    assert await found_unused(admin, at - timedelta(seconds=2)) == []


async def test_what_was_not_measured_lately_is_not_found_idle(admin: AdminWorld) -> None:
    """Its agent may be cut off, and somebody use it all the time."""
    at = now()
    await store(admin, sampled(at - FRESH - timedelta(seconds=1), last_used_at=at - timedelta(days=1)))
    assert await found_unused(admin, at) == []
    await store(admin, sampled(at, agent=AgentId("liar"), last_used_at=at - timedelta(days=1)))
    assert await found_unused(admin, at) == [], "nor by the word of an agent that does not run it"


async def test_a_session_that_does_too_little_for_the_whole_window_is_found(admin: AdminWorld) -> None:
    rule = UtilisationRule(thresholds={"cpu_util": 10, "mem": 90}, window_seconds=600, grace_seconds=60)
    at = datetime(*now().timetuple()[:5], tzinfo=UTC)
    minutes = [at - minute * BUCKET for minute in range(1, 11)]
    much: dict[str, Any] = {"memory_bytes": 99, "memory_bytes_max": 100}
    half = (sampled(each, cpu_percent=percent) for each in minutes[:5] for percent in (2, 4))
    await store(admin, *half, sampled(at))
    assert await found_underused(admin, rule, at) == [], "half of the window was not measured"
    await store(admin, *(sampled(each, cpu_percent=6) for each in reversed(minutes[5:])), sampled(at))
    [found] = await found_underused(admin, rule, at)
    assert found.evidence == Underused(rule=rule, means={"cpu_util": (5 * 6 + 10 * 3) / 15})
    await store(admin, sampled(at, **much))
    assert await found_underused(admin, rule, at) == [], "all that is measured has to be low"
    either = rule.model_copy(update={"operator": "or"})
    assert len(await found_underused(admin, either, at)) == 1
    late = rule.model_copy(update={"grace_seconds": 3600.0})
    assert await found_underused(admin, late, at) == [], "it began an hour ago"


# -- shown to their owners ---------------------------------------------------------------------------------------------


async def test_a_session_shows_how_long_it_may_go_on_unused(admin: AdminWorld) -> None:
    await store(admin, sampled(now(), last_used_at=now() - timedelta(seconds=600)))
    checks = orjson.loads((await shown(admin))["idle_checks"])
    assert checks.keys() == {"network_timeout"}, "no lifetime is set, and no rule"
    assert 1190 < checks["network_timeout"]["remaining"] <= 1200
    assert checks["network_timeout"]["remaining_time_type"] == "expire_after"
    waiting = "query($id: UUID!) { compute_session(id: $id) { idle_checks } }"
    kim = (await admin.ask("kim", waiting, {"id": session_id("kim")}))["compute_session"]
    assert kim["idle_checks"] == "{}", "it does not run yet"


async def test_the_rule_of_the_cluster_is_set_by_its_keys_and_shown_with_what_is_used(admin: AdminWorld) -> None:
    key = "config/idle/checkers/utilization"
    told = {
        "resource-thresholds": {"cpu_util": {"average": "30"}, "cuda_util": {"average": 5}},
        "thresholds-check-operator": "or",
        "time-window": "10m",
        "initial-grace-period": "1h",
    }
    async with admin.client("root") as root, admin.client("ada") as ada:
        assert (await ada.post("/config/set", json={"key": key, "value": told})).status_code == 403
        bad = await root.post("/config/set", json={"key": key, "value": told | {"time-window": "soon"}})
        assert (bad.status_code, bad.json()["field"]) == (400, "value")
        assert (await root.post("/config/set", json={"key": key, "value": told})).status_code == 200
        shown_now = (await root.post("/config/get", json={"key": key, "prefix": True})).json()["result"]
        await admin.settled()
        at = now()
        await store(admin, sampled(at - 2 * BUCKET, cpu_percent=10), sampled(at, cpu_percent=20))
        checks = orjson.loads((await shown(admin))["idle_checks"])
        assert (await root.post("/config/delete", json={"key": key, "prefix": True})).status_code == 200
        await admin.settled()
    assert shown_now["time-window"] == "600"
    assert shown_now["resource-thresholds"] == {"cpu_util": {"average": "30"}, "cuda_util": {"average": "5"}}
    assert checks["utilization"]["extra"]["resources"] == {"cpu_util": [15, 30], "cuda_util": [None, 5]}
    assert checks["utilization"]["remaining_time_type"] == "grace_period"
    assert 590 < checks["utilization"]["remaining"] <= 600, "of an hour and ten minutes it ran for an hour"
    assert "utilization" not in orjson.loads((await shown(admin))["idle_checks"])
