"""Where the api processes put down how often and when keypairs were used: one row for each."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, NamedTuple, Protocol

from infra.postgres import Pool, connection

_ADD: Final = """
INSERT INTO keypair_uses (access_key, last_used, num_queries)
SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::bigint[])
ON CONFLICT (access_key) DO UPDATE
SET last_used = greatest(keypair_uses.last_used, excluded.last_used),
    num_queries = keypair_uses.num_queries + excluded.num_queries"""


class Use(NamedTuple):
    """That a keypair signed so many requests, the last one then."""

    access_key: str
    last_used: datetime
    requests: int


class KeypairUses(Protocol):
    async def add(self, uses: Sequence[Use]) -> None:
        """Each keypair once. Raises `infra.postgres.Unavailable`; whether they were added is then not known."""


class PostgresUses:
    """The table `keypair_uses`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def add(self, uses: Sequence[Use]) -> None:
        columns = list(map(list, zip(*sorted(uses), strict=True)))  # in one order: processes that meet do not lock up
        async with connection(self._pool) as db:
            await db.execute(_ADD, columns)


class MemoryUses:
    """The same without a database, for tests that need none."""

    def __init__(self) -> None:
        self.rows: dict[str, Use] = {}

    async def add(self, uses: Sequence[Use]) -> None:
        for access_key, last_used, requests in uses:
            known = self.rows.get(access_key, Use(access_key, last_used, 0))
            self.rows[access_key] = Use(access_key, max(last_used, known.last_used), requests + known.requests)
