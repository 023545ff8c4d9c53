"""Each partition has one living shard, whichever workers come and go."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.log import Fenced
from infra.postgres import Pool
from workers.ownership import Ownership, ShardId, share_of
from workers.shard import Shard

SHARDS: list[ShardId] = [("session", number) for number in range(6)]


class Quiet(Shard):
    """Stands for a shard: counts who has it open."""

    def __init__(self, openings: list[str], by: str, ends: BaseException | None = None) -> None:
        self._openings = openings
        self._by = by
        self._ends = ends

    async def run(self) -> None:
        self._openings.append(self._by)
        if self._ends is not None:
            raise self._ends
        await asyncio.Event().wait()


@asynccontextmanager
async def worker(
    pool: Pool, name: str, open_shard: Callable[[ShardId], Shard] | None = None
) -> AsyncIterator[Ownership]:
    ownership = Ownership(pool, name, 1.0, SHARDS, open_shard or (lambda _: Quiet([], name)))
    task = asyncio.create_task(ownership.run())
    try:
        yield ownership
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def until(condition: Callable[[], bool], within: float = 10) -> None:
    async with asyncio.timeout(within):
        while not condition():
            await asyncio.sleep(0.02)


@given(st.integers(0, 30), st.integers(1, 10))
def test_shares_are_even_and_leave_nothing_over(shards: int, workers: int) -> None:
    every = [("session", number) for number in range(shards)]
    share = share_of([], shards, workers)
    assert share.take_at_most * workers >= shards
    assert share.take_at_most * workers < shards + workers
    assert len(every) - len(share_of(every, shards, workers).give_up) == share.take_at_most


@pytest.mark.cluster
async def test_one_worker_takes_every_shard(pool: Pool) -> None:
    async with worker(pool, "a") as a:
        await until(lambda: sorted(a.running) == SHARDS)


@pytest.mark.cluster
async def test_a_worker_that_joins_gets_its_share(pool: Pool) -> None:
    async with worker(pool, "a") as a:
        await until(lambda: len(a.running) == 6)
        async with worker(pool, "b") as b:
            await until(lambda: len(a.running) == 3 and len(b.running) == 3)
            assert sorted([*a.running, *b.running]) == SHARDS


@pytest.mark.cluster
async def test_a_clean_stop_hands_over_without_waiting_for_the_lease(pool: Pool) -> None:
    async with worker(pool, "b") as b:
        async with worker(pool, "a") as a:
            await until(lambda: len(a.running) == 3 and len(b.running) == 3)
        async with pool.connection() as db:
            held = await (await db.execute("SELECT DISTINCT worker_id FROM shard_leases")).fetchall()
        assert held == [("b",)]
        await until(lambda: len(b.running) == 6)


@pytest.mark.cluster
async def test_the_shards_of_a_worker_that_fell_silent_are_taken_over(pool: Pool) -> None:
    async with pool.connection() as db:
        await db.execute("INSERT INTO workers VALUES ('dead', clock_timestamp())")
        for context, number in SHARDS:
            await db.execute(
                "INSERT INTO shard_leases VALUES (%s, %s, 'dead', clock_timestamp() + interval '1 s')",
                (context, number),
            )
    async with worker(pool, "a") as a:
        await until(lambda: len(a.running) == 6)


@pytest.mark.cluster
async def test_a_fenced_shard_is_not_opened_again_while_another_holds_the_lease(pool: Pool) -> None:
    openings: list[str] = []
    async with worker(pool, "a", lambda shard: Quiet(openings, f"{shard[1]}", Fenced("newer"))) as a:
        await until(lambda: len(openings) >= 6)
        async with pool.connection() as db:
            await db.execute(
                "UPDATE shard_leases SET worker_id = 'other', expires_at = clock_timestamp() + interval '1 h'"
            )
        await until(lambda: not a.running)
        before = Counter(openings)
        await asyncio.sleep(1.5)  # three looks at the leases: time enough to open again, if it would
        assert Counter(openings) == before


@pytest.mark.cluster
async def test_a_shard_that_ends_by_an_error_is_opened_again(pool: Pool) -> None:
    openings: list[str] = []
    async with worker(pool, "a", lambda _: Quiet(openings, "a", ZeroDivisionError())):
        await until(lambda: len(openings) >= 12)


@pytest.mark.cluster
async def test_shards_run_on_while_postgres_does_not_answer(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    async with worker(pool, "a") as a:
        await until(lambda: len(a.running) == 6)

        def away(*_: object, **__: object) -> None:
            raise ConnectionError("away")

        monkeypatch.setattr(pool, "connection", away)
        await asyncio.sleep(2)  # twice the lease
        assert len(a.running) == 6
        assert not any(task.done() for task in a.running.values())
        monkeypatch.undo()
