"""Limits hold in any 15 minutes, over all api processes, and whoever asks is told how he stands."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from api.access.ratelimit import BUCKET_SECONDS, WINDOW_SECONDS, Kind, Limiter, Standing
from api.access.visitors import Visitors, counted_as
from infra import request_counts
from infra.postgres import Pool, Unavailable
from infra.request_counts import Count, Exchanged, MemoryCounts, PostgresCounts, RequestCounts
from tests.api.world import World

KEY = Kind.KEYPAIR
START = 1_700_000_000.0


class Clock:
    def __init__(self) -> None:
        self.at = START

    def __call__(self) -> float:
        return self.at


class Failing(MemoryCounts):
    """A database that can be gone."""

    def __init__(self) -> None:
        super().__init__()
        self.gone = False

    async def exchange(self, added: Sequence[Count], number: int) -> Exchanged:
        if self.gone:
            raise Unavailable("gone")
        return await super().exchange(added, number)


def two(counts: RequestCounts, clock: Clock) -> tuple[Limiter, Limiter]:
    return Limiter(counts, clock), Limiter(counts, clock)


def taken(limiter: Limiter, who: str = "AK", limit: int = 1000) -> int:
    """How many are counted, this look included."""
    return limit - limiter.hit(KEY, who, limit).remaining


@settings(max_examples=300, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["a", "b"]), st.one_of(st.floats(0, 40), st.floats(0, 1000))), max_size=80
    ),
    exchanges=st.booleans(),
)
def test_the_window_rolls(steps: list[tuple[str, float]], exchanges: bool) -> None:
    """Against a list of all moments: what lies 15 minutes back at most counts, what lies 30 seconds more does not."""
    clock = Clock()
    limiter = Limiter(MemoryCounts(), clock)
    moments: dict[str, list[float]] = {"a": [], "b": []}
    for who, pause in steps:
        clock.at += pause
        if exchanges:
            asyncio.run(limiter.exchange())
        moments[who].append(clock.at)
        counted = taken(limiter, who)
        ages = [clock.at - moment for moment in moments[who]]
        assert counted >= sum(age < WINDOW_SECONDS for age in ages)
        assert counted <= sum(age < WINDOW_SECONDS + BUCKET_SECONDS for age in ages)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.floats(0, 300)), max_size=60))
def test_after_an_exchange_every_process_knows_the_total(steps: list[tuple[int, float]]) -> None:
    async def story() -> None:
        clock, counts = Clock(), MemoryCounts()
        alone, together = Limiter(MemoryCounts(), clock), [Limiter(counts, clock) for _ in range(3)]
        for index, pause in steps:
            clock.at += pause
            expected = taken(alone)
            counted = taken(together[index])
            assert counted == expected
            for each in (*together, *together):
                await each.exchange()

    asyncio.run(story())


def test_past_the_limit_one_is_told_when_to_come_back() -> None:
    clock = Clock()
    limiter = Limiter(MemoryCounts(), clock)
    assert [limiter.hit(KEY, "AK", 3).remaining for _ in range(3)] == [2, 1, 0]
    refused = limiter.hit(KEY, "AK", 3)
    assert refused.retry_after is not None
    assert WINDOW_SECONDS <= refused.retry_after <= WINDOW_SECONDS + BUCKET_SECONDS
    clock.at += refused.retry_after - 1
    again = limiter.hit(KEY, "AK", 4)
    assert again.retry_after is not None, "a refused request counts too"
    clock.at += 1
    assert limiter.hit(KEY, "AK", 3) == Standing(3, 1)


def test_callers_are_counted_apart() -> None:
    limiter = Limiter(MemoryCounts(), Clock())
    assert limiter.hit(KEY, "AK", 1).retry_after is None
    assert limiter.hit(KEY, "AK2", 1).retry_after is None
    assert limiter.hit(Kind.ADDRESS, "AK", 1).retry_after is None
    assert limiter.hit(KEY, "AK", 1).retry_after is not None


def test_a_flood_of_addresses_is_forgotten_and_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("api.access.ratelimit._CALLERS_MAX", 10)
    limiter = Limiter(MemoryCounts(), Clock())
    limiter.hit(KEY, "AK", 1)
    for number in range(100):
        limiter.hit(Kind.ADDRESS, str(number), 1)
    assert limiter.hit(Kind.ADDRESS, "99", 1).retry_after is not None, "the latest are known"
    assert limiter.hit(Kind.ADDRESS, "0", 1).retry_after is None, "the earliest are forgotten"
    assert limiter.hit(KEY, "AK", 1).retry_after is not None, "access keys are not pushed out by addresses"


async def test_without_the_database_each_process_goes_on_and_tells_later() -> None:
    clock, counts = Clock(), Failing()
    here, there = two(counts, clock)
    counts.gone = True
    for _ in range(5):
        here.hit(KEY, "AK", 1000)
    with pytest.raises(Unavailable):
        await here.exchange()
    counts.gone = False
    await here.exchange()
    await there.exchange()
    assert taken(there) == taken(here) == 6


async def test_a_process_with_a_wrong_clock_pushes_nothing_out() -> None:
    counts, clock, wrong = MemoryCounts(), Clock(), Clock()
    here, there = Limiter(counts, clock), Limiter(counts, wrong)
    wrong.at += 10 * WINDOW_SECONDS
    here.hit(KEY, "AK", 1000)
    for _ in range(5):
        there.hit(KEY, "AK", 1000)
    await there.exchange()
    await here.exchange()
    assert taken(here) == 2


async def test_old_buckets_are_deleted() -> None:
    clock, counts = Clock(), MemoryCounts()
    here, newcomer = two(counts, clock)
    here.hit(KEY, "AK", 1000)
    await here.exchange()
    assert (await counts.exchange([], 0)).totals
    clock.at += WINDOW_SECONDS + 2 * BUCKET_SECONDS
    await here.exchange()
    assert not (await counts.exchange([], 0)).totals
    await newcomer.exchange()
    assert taken(newcomer) == 1


async def test_two_processes_share_one_table(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a real Postgres: totals are exact, also when everybody exchanges at once and changes come in pages."""
    monkeypatch.setattr("api.access.ratelimit.PAGE", 7)
    monkeypatch.setattr(request_counts, "PAGE", 7)
    clock, counts = Clock(), PostgresCounts(pool)
    limiters = [Limiter(counts, clock) for _ in range(4)]
    for step in range(10):
        for number, limiter in enumerate(limiters):
            for _ in range(number + 1):
                limiter.hit(KEY, "AK", 10_000)
            for each in range(5):
                limiter.hit(KEY, f"AK{number}-{step}-{each}", 10_000)
        await asyncio.gather(*(limiter.exchange() for limiter in limiters))
        clock.at += 20
    for limiter in (*limiters, newcomer := Limiter(counts, clock)):
        while await limiter.exchange():
            pass
        assert taken(limiter) == 10 * (1 + 2 + 3 + 4) + 1
    names = [f"AK{number}-{step}-{each}" for number in range(4) for step in range(10) for each in range(5)]
    assert [taken(newcomer, name) for name in names] == 200 * [2]
    await newcomer.exchange()
    clock.at += WINDOW_SECONDS + 2 * BUCKET_SECONDS
    await newcomer.exchange()
    assert not (await counts.exchange([], 0)).totals, "old buckets are deleted"


# -- at the door -------------------------------------------------------------------------------------------------------


def standing(answer: httpx.Response) -> tuple[int, int, int]:
    return tuple(int(answer.headers[f"x-ratelimit-{each}"]) for each in ("limit", "remaining", "window"))  # type: ignore[return-value]


async def test_every_answer_says_how_one_stands(world: World) -> None:
    async with world.client() as ada, world.anonymous() as nobody:
        assert standing(await ada.get("/manager/announcement")) == (30_000, 29_999, 900)
        assert standing(await ada.get("/nothing")) == (30_000, 29_998, 900), "failures count"
        assert standing(await ada.post("/session", content=b"{")) == (30_000, 29_997, 900)
        assert standing(await nobody.get("/")) == (5000, 4999, 900)
        refused = await nobody.get("/session/x")
        assert (refused.status_code, standing(refused)) == (401, (5000, 4998, 900))
        forged = await nobody.get("/session/x", headers={"Authorization": "BackendAI x", "Date": "now"})
        assert standing(forged) == (5000, 4997, 900), "what is not proven counts for the address, not for the key"
        assert standing(await nobody.get("/v99/session")) == (5000, 4996, 900)
        for probe in ("/health", "/ready", "/metrics"):
            assert "x-ratelimit-limit" not in (await nobody.get(probe)).headers


async def test_past_the_limit_of_a_keypair_there_is_a_problem(world: World) -> None:
    change = {"type": "ModifyKeypair", "access_key": "AKADA", "changes": {"rate_limit": 2}}
    async with world.client() as ada, world.client("admin") as admin, world.anonymous() as nobody:
        assert (await admin.post("/refold/commands", json=change)).status_code == 200
        assert [(await ada.get("/manager/announcement")).status_code for _ in range(2)] == [200, 200]
        refused = await ada.get("/manager/announcement")
        assert refused.status_code == 429
        assert refused.headers["content-type"] == "application/problem+json"
        assert refused.json()["type"].endswith("/rate-limit-exceeded")
        assert refused.json()["retryable"] is True
        assert 840 <= int(refused.headers["retry-after"]) <= WINDOW_SECONDS + BUCKET_SECONDS
        assert standing(refused) == (2, 0, 900)
        assert (await admin.get("/manager/announcement")).status_code == 200
        assert (await nobody.get("/")).status_code == 200


async def test_past_the_limit_of_an_address_signed_requests_go_on(tmp_path: Path) -> None:
    limited = World(tmp_path, unsigned_requests_max=3)
    async with limited.started() as world, world.client() as ada, world.anonymous() as nobody:
        got = [(await nobody.get(path)).status_code for path in ("/", "/session", "/v6", "/", "/session/x")]
        assert got == [200, 401, 200, 429, 429]
        assert (await nobody.get("/health")).status_code == 200, "a load balancer goes on"
        assert (await ada.get("/manager/announcement")).status_code == 200


async def test_a_process_knows_what_others_let_in(world: World) -> None:
    async with world.client() as ada, world.elsewhere() as elsewhere:
        await ada.get("/manager/announcement")
        async with asyncio.timeout(10):
            asked = 1
            while (told := standing(await elsewhere.get("/manager/announcement"))[1]) != 30_000 - asked - 1:
                assert told == 30_000 - asked
                asked += 1
                await asyncio.sleep(0.02)


# -- who is at the door ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("trusted", "peer", "forwarded", "address"),
    [
        ("", "192.0.2.1", None, "192.0.2.1"),
        ("", "192.0.2.1", "198.51.100.1", "192.0.2.1"),
        ("10.0.0.0/8", "10.1.1.1", "198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.1.1.1", "1.1.1.1, 198.51.100.1", "198.51.100.1"),
        ("10.0.0.0/8", "10.1.1.1", "198.51.100.1, 10.2.2.2", "198.51.100.1"),
        ("10.0.0.0/8", "10.1.1.1", "10.3.3.3, 10.2.2.2", "10.3.3.3"),
        ("10.0.0.0/8", "10.1.1.1", "nonsense", "10.1.1.1"),
        ("10.0.0.0/8", "10.1.1.1", "198.51.100.1, nonsense", "10.1.1.1"),
        ("10.0.0.0/8", "10.1.1.1", None, "10.1.1.1"),
        ("10.0.0.1, 2001:db8::/32", "2001:db8::1", "2001:db9::7", "2001:db9::7"),
        ("10.0.0.1", "::ffff:10.0.0.1", "::ffff:198.51.100.1", "198.51.100.1"),
        ("10.0.0.1", None, "198.51.100.1", "unknown"),
    ],
)
def test_only_trusted_proxies_say_whose_request_it_is(
    trusted: str, peer: str | None, forwarded: str | None, address: str
) -> None:
    headers = {} if forwarded is None else {"x-forwarded-for": forwarded}
    scope = {"client": None if peer is None else (peer, 1)}
    assert Visitors(trusted).address(scope, headers) == address


def test_an_ipv6_subscriber_is_counted_once() -> None:
    assert counted_as("2001:db8:1:2::7") == counted_as("2001:db8:1:2:ffff::1") == "2001:db8:1:2::/64"
    assert counted_as("2001:db8:1:3::7") != counted_as("2001:db8:1:2::7")
    assert counted_as("192.0.2.1") == "192.0.2.1"


async def test_a_user_may_be_kept_to_some_addresses(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        for networks, status in ((["10.0.0.0/8"], 403), (["10.0.0.0/8", "127.0.0.1"], 200), ([], 200)):
            change = {"type": "ModifyUser", "user_id": "user-ada", "changes": {"allowed_client_ip": networks}}
            assert (await admin.post("/refold/commands", json=change)).status_code == 200
            answer = await ada.get("/manager/announcement")
            assert answer.status_code == status
