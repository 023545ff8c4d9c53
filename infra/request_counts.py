"""Where the api processes add up what each of them counts: one small table, by caller and stretch of time.

A process adds what it has counted since the last time, and is told what changed since then. Exchanges are numbered in
the order in which they are committed (a lock sees to that), so that nobody misses a change.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple, Protocol

from infra.postgres import Pool, connection

PAGE: Final = 20_000  # rows told at once, some 20 ms of work; those that changed in the same exchange come together

_LOCK: Final = 0x72636E74  # "rcnt": one exchange at a time
_STATEMENT_SECONDS: Final = 5  # whoever waits for the lock longer tries again later

_ADD: Final = """
INSERT INTO request_counts (who, bucket, count, number)
SELECT who, bucket, count, number
FROM unnest(%s::text[], %s::bigint[], %s::bigint[]) AS added (who, bucket, count),
     (SELECT nextval('request_counts_exchanges')) AS this (number)
ON CONFLICT (who, bucket) DO UPDATE
SET count = request_counts.count + excluded.count, number = excluded.number"""

_CHANGED: Final = """
SELECT who, bucket, count, number FROM request_counts WHERE number > %s
ORDER BY number FETCH FIRST %s ROWS WITH TIES"""


class Count(NamedTuple):
    """How many requests `who` made within the stretch of time `bucket`."""

    who: str
    bucket: int
    requests: int


class Exchanged(NamedTuple):
    """`totals`: of everybody whose count changed, those of the giver among them. `number`: give it the next time."""

    totals: Sequence[Count]
    number: int


class RequestCounts(Protocol):
    """Both methods raise `infra.postgres.Unavailable`; whether the counts were added is then not known."""

    async def exchange(self, added: Sequence[Count], number: int) -> Exchanged:
        """Add these (each `who` and `bucket` once); a page of what changed since `number`, at first 0."""

    async def forget(self, before: int) -> None:
        """Delete the buckets before that one."""


class PostgresCounts:
    """The table `request_counts`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def exchange(self, added: Sequence[Count], number: int) -> Exchanged:
        async with connection(self._pool) as db, db.pipeline(), db.transaction():
            await db.execute(f"SET LOCAL statement_timeout = '{_STATEMENT_SECONDS}s'")
            await db.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
            if added:
                await db.execute(_ADD, tuple(map(list, zip(*added, strict=True))))
            cursor = await db.execute(_CHANGED, (number, PAGE))
            rows: list[tuple[str, int, int, int]] = await cursor.fetchall()
        return Exchanged([Count(*row[:3]) for row in rows], rows[-1][3] if rows else number)

    async def forget(self, before: int) -> None:
        async with connection(self._pool) as db:
            await db.execute("DELETE FROM request_counts WHERE bucket < %s", (before,))


class MemoryCounts:
    """The same without a database, for tests that need none."""

    def __init__(self) -> None:
        self._rows: dict[tuple[str, int], tuple[int, int]] = {}
        self._number = 0

    async def exchange(self, added: Sequence[Count], number: int) -> Exchanged:
        self._number += 1
        for who, bucket, count in added:
            before, _ = self._rows.get((who, bucket), (0, 0))
            self._rows[who, bucket] = (before + count, self._number)
        changed = [Count(*place, count) for place, (count, at) in self._rows.items() if at > number]
        return Exchanged(changed, self._number)

    async def forget(self, before: int) -> None:
        self._rows = {place: row for place, row in self._rows.items() if place[1] >= before}
