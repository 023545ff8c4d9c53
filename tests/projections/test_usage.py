"""What was used: what Postgres adds up is what one counts by hand."""

from datetime import timedelta
from itertools import pairwise

import pytest

from infra.postgres import Pool, connection
from projections import usage
from projections.session_list import KERNEL_LIST, SESSION_LIST, KernelRow, SessionRow
from tests.projections.test_capacity import busy, rows_of
from tests.projections.test_live import tables

__all__ = ["busy", "tables"]

pytestmark = pytest.mark.cluster


async def ran(pool: Pool) -> list[tuple[KernelRow, SessionRow]]:
    sessions = {(row.owner, row.session_id): row for row in await rows_of(pool, SESSION_LIST, SessionRow)}
    kernels = await rows_of(pool, KERNEL_LIST, KernelRow)
    return [(row, sessions[(row.owner, row.session_id)]) for row in kernels if row.started_at is not None]


async def test_a_kernel_is_listed_in_each_period_in_which_it_ran(busy: Pool) -> None:
    known = await ran(busy)
    begins = sorted(row.started_at for row, _ in known if row.started_at)
    for start, end in pairwise(begins[:: len(begins) // 4]):
        async with connection(busy) as db:
            told = await usage.kernels(db, start=start, end=end, projects=None, limit=10_000)
        by_hand = {
            row.kernel_id
            for row, _ in known
            if row.started_at and row.started_at < end and (row.ended_at is None or row.ended_at > start)
        }
        assert by_hand
        assert {each.kernel_id for each in told} == by_hand
        assert {each.session_name for each in told} <= {session.name for _, session in known}
    async with connection(busy) as db:
        nowhere = await usage.kernels(db, start=begins[0], end=begins[-1], projects=["nowhere"], limit=10)
        few = await usage.kernels(db, start=begins[0], end=begins[-1], projects=None, limit=3)
    assert (nowhere, len(few)) == ([], 3)


@pytest.mark.parametrize("whose", ["everybody", "one"])
async def test_what_was_held_over_time_is_the_sum_of_what_ran_in_each_step(busy: Pool, whose: str) -> None:
    known = sorted(await ran(busy), key=lambda each: str(each[0].started_at))
    begins = sorted(row.started_at for row, _ in known if row.started_at)
    owners = None if whose == "everybody" else [known[len(known) // 2][0].owner]
    start, span = begins[len(begins) // 4], begins[-1] - begins[0]
    step, count = max(span / 40, timedelta(microseconds=40)), 30
    async with connection(busy) as db:
        told = await usage.over_time(db, start=start, step=step, count=count, owners=owners)
    by_hand = [(0, 0, 0)] * count
    for row, session in known:
        assert row.started_at
        if owners is not None and row.owner not in owners:
            continue
        first = max(0, (row.started_at - start) // step)
        last = count - 1 if row.ended_at is None else min(count - 1, (row.ended_at - start) // step)
        for number in range(first, last + 1):
            sessions, cpu, mem = by_hand[number]
            by_hand[number] = (
                sessions + (row.role == "main"),
                cpu + session.slots.get("cpu", 0),
                mem + session.slots.get("mem", 0),
            )
    assert [(each.sessions, each.cpu, each.mem) for each in told] == by_hand
    assert any(cpu for _, cpu, _ in by_hand)
    assert [each.at for each in told] == [start + number * step for number in range(count)]
