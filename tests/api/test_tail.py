"""The tail goes on where it was when its reader fails, and says how far it is."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import pytest

from api import outcomes, tail
from api.sessions import live
from infra.log import LogUnavailable, Partition, Reader, Record
from infra.memory_log import MemoryLog
from tests.api.listening import listening
from tests.api.test_sessions import RECORDED
from tests.api.world import World


class Flaky:
    """A log whose readers can be made to fail in the middle of a batch."""

    def __init__(self, log: MemoryLog) -> None:
        self._log = log
        self.failures = 0
        self.opened = 0
        self.append = log.append
        self.ends = log.ends
        self.starts = log.starts
        self.writer = log.writer

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        self.opened += 1
        async with self._log.reader(starts) as reader:
            yield _Failing(self, reader)


class _Failing:
    def __init__(self, log: Flaky, reader: Reader) -> None:
        self._log = log
        self._reader = reader

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        records = await self._reader.batch(at_most, within)
        if records and self._log.failures:
            self._log.failures -= 1
            raise LogUnavailable("the connection is gone")
        return records

    def position(self, partition: Partition) -> int:
        return self._reader.position(partition)


async def test_nothing_is_missed_or_told_twice_when_the_reader_fails(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tail, "_BACK_OFF_SECONDS", 0.01)
    flaky = Flaky(world.log)
    async with world.elsewhere(log=flaky) as there, listening(there) as heard:
        for number in range(6):
            flaky.failures = number % 2
            assert (await there.post("/session", json=RECORDED | {"name": f"sess-{number}"})).status_code == 201
        await heard.until(lambda heard: len(heard.events) >= 6)
    assert [each["sessionName"] for each in heard.data] == [f"sess-{number}" for number in range(6)]
    assert flaky.opened > 3


async def test_ready_means_that_the_log_answers_and_is_followed(world: World) -> None:
    async with world.anonymous() as nobody, world.client() as ada:
        assert (await nobody.get("/ready")).status_code == 200
        assert (await ada.post("/session", json=RECORDED)).status_code == 201
        world.services.tail.healthy = False
        assert (await nobody.get("/ready")).status_code == 503
        world.services.tail.healthy = True
        assert (await nobody.get("/health")).status_code == 200
        told = (await nobody.get("/metrics")).text
    assert "refold_api_tail_lag_records 0.0\n" in told
    assert 'refold_api_requests_total{method="POST",route="/session",status="201"} ' in told
    assert 'refold_api_requests_total{method="GET",route="/ready",status="503"} ' in told


async def test_who_scrapes_the_metrics_learns_how_far_behind_the_log_the_api_is(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cannot_tell() -> int:
        raise LogUnavailable("away")

    async def a_hundred() -> int:
        return 100

    async with world.anonymous() as nobody:
        for lag, told in ((a_hundred, "100.0"), (cannot_tell, "NaN")):
            monkeypatch.setattr(world.services.tail, "lag", lag)
            assert f"refold_api_tail_lag_records {told}\n" in (await nobody.get("/metrics")).text


async def test_nobody_is_let_in_before_the_directory_is_known(world: World) -> None:
    world.services.tail.started.clear()
    async with world.client() as ada:
        answer = await ada.get("/session/x")
    assert answer.status_code == 503
    assert answer.json()["type"].endswith("/starting")


async def test_what_is_remembered_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "_LIVING_MAX", 3)
    monkeypatch.setattr(outcomes, "_KEPT_MAX", 3)
    async with world.client() as ada:
        for number in range(6):
            assert (await ada.post("/session", json=RECORDED | {"name": f"sess-{number}"})).status_code == 201
        services = world.services
        assert len(services.tail.live._cards) == len(services.tail.live._names) == 3
        assert len(services.tail.outcomes._expected) == 3
        for number in range(6):  # those that were forgotten are found in the projection
            assert (await ada.delete(f"/session/sess-{number}")).status_code == 200
        async with asyncio.timeout(5):
            while services.tail.live._cards:
                await asyncio.sleep(0.001)
