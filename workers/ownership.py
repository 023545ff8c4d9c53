"""Which worker runs which shard: leases in Postgres, shared out evenly among the living workers. A shard here is
whatever one worker at a time is to run: the errands have a lease too.

A lease only saves work: two workers that both believe they own a partition are harmless, since the log fences the older
one. So Postgres being away changes nothing for the shards that run, and a fenced shard first asks here before it opens
again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, LiteralString, Protocol

import structlog
from psycopg import AsyncConnection
from psycopg_pool import AsyncConnectionPool

from infra.log import Fenced, LogError
from workers import metrics

_log = structlog.get_logger(__name__)

ShardId = tuple[str, int]
"""A context's name and a partition number."""


class Runs(Protocol):
    """What a lease is for."""

    async def run(self) -> None:
        """Ends by an error or by being cancelled."""


_ALIVE: LiteralString = """
INSERT INTO workers (worker_id, seen_at) VALUES (%(worker)s, clock_timestamp())
ON CONFLICT (worker_id) DO UPDATE SET seen_at = excluded.seen_at"""

_FORGET: LiteralString = """
DELETE FROM workers WHERE seen_at < clock_timestamp() - make_interval(secs => %(lease)s)"""

_COUNT: LiteralString = "SELECT count(*) FROM workers"

_RENEW: LiteralString = """
UPDATE shard_leases SET expires_at = clock_timestamp() + make_interval(secs => %(lease)s)
WHERE worker_id = %(worker)s RETURNING context, partition"""

_TAKE: LiteralString = """
INSERT INTO shard_leases AS held (context, partition, worker_id, expires_at)
VALUES (%(context)s, %(partition)s, %(worker)s, clock_timestamp() + make_interval(secs => %(lease)s))
ON CONFLICT (context, partition) DO UPDATE SET worker_id = excluded.worker_id, expires_at = excluded.expires_at
WHERE held.expires_at < clock_timestamp()
RETURNING worker_id"""

_FREE: LiteralString = """
DELETE FROM shard_leases WHERE context = %(context)s AND partition = %(partition)s AND worker_id = %(worker)s"""

_TAKEN: LiteralString = "SELECT context, partition FROM shard_leases WHERE expires_at >= clock_timestamp()"

_OURS: LiteralString = """
SELECT 1 FROM shard_leases
WHERE context = %(context)s AND partition = %(partition)s AND worker_id = %(worker)s
AND expires_at >= clock_timestamp()"""

_LEAVE: LiteralString = "DELETE FROM workers WHERE worker_id = %(worker)s"

_TICK_SECONDS = 0.5
"""How often leases are looked at: with the lease time, how long a dead worker's partitions stay without a shard."""

_RETRY_SECONDS = 0.5
"""Pause before a shard that ended is opened again, so that a lasting fault does not spin."""


@dataclass(frozen=True)
class Share:
    """What this worker should do about its shards."""

    give_up: Sequence[ShardId]
    take_at_most: int


def share_of(held: Sequence[ShardId], shards: int, workers: int) -> Share:
    """An even share: never more than its part rounded up, and what is over that is given up, the last ones first."""
    fair = -(-shards // max(1, workers))
    return Share(give_up=sorted(held)[fair:], take_at_most=max(0, fair - len(held)))


class Ownership:
    """Runs the shards this worker holds the leases of, until `run` is cancelled."""

    def __init__(
        self,
        pool: AsyncConnectionPool[AsyncConnection[Any]],
        worker_id: str,
        lease_seconds: float,
        shards: Sequence[ShardId],
        open_shard: Callable[[ShardId], Runs],
    ) -> None:
        self._pool = pool
        self._worker_id = worker_id
        self._lease = lease_seconds
        self._shards = shards
        self._open_shard = open_shard
        self._running: dict[ShardId, asyncio.Task[None]] = {}

    @property
    def running(self) -> Mapping[ShardId, asyncio.Task[None]]:
        return self._running

    async def run(self) -> None:
        try:
            while True:
                try:
                    async with asyncio.timeout(self._lease):
                        await self._tick()
                except (
                    Exception
                ) as error:  # Postgres is away: what runs goes on, the log sees to it that it is harmless
                    _log.warning("leases not renewed", reason=f"{type(error).__name__}: {error}")
                metrics.SHARDS_OWNED.set(len(self._running))
                await asyncio.sleep(_TICK_SECONDS)
        finally:
            await asyncio.shield(self._leave())

    async def _tick(self) -> None:
        async with self._pool.connection() as db:
            values = {"worker": self._worker_id, "lease": self._lease}
            await db.execute(_ALIVE, values)
            await db.execute(_FORGET, values)
            workers = await (await db.execute(_COUNT)).fetchone()
            held = [(c, p) for c, p in await (await db.execute(_RENEW, values)).fetchall()]
            taken = {(c, p) for c, p in await (await db.execute(_TAKEN)).fetchall()}
        await self._stop([shard for shard in self._running if shard not in held])
        share = share_of(held, len(self._shards), workers[0] if workers else 1)
        for shard in share.give_up:
            await self._stop([shard])
            await self._execute(_FREE, shard)
        kept = [shard for shard in held if shard not in share.give_up]
        free = [shard for shard in self._shards if shard not in taken]
        for shard in free[: share.take_at_most]:
            if await self._execute(_TAKE, shard):
                kept.append(shard)
        for shard in kept:
            if shard not in self._running:
                self._running[shard] = asyncio.create_task(self._keep_open(shard), name=f"shard {shard}")

    async def _keep_open(self, shard: ShardId) -> None:
        """Open the shard again whenever it ends, for as long as the lease is ours."""
        while True:
            try:
                await self._open_shard(shard).run()
            except Fenced:
                metrics.SHARD_ENDS.labels("fenced").inc()
                _log.info("shard fenced", shard=shard)
                await self._until_still_ours(shard)
            except LogError as error:
                metrics.SHARD_ENDS.labels("log").inc()
                _log.warning("shard ended", shard=shard, reason=str(error))
            except Exception:
                metrics.SHARD_ENDS.labels("defect").inc()
                _log.exception("shard ended", shard=shard)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _until_still_ours(self, shard: ShardId) -> None:
        """Return once Postgres says that the partition is ours. If it is another's, the next tick ends this task."""
        while True:
            try:
                if await self._execute(_OURS, shard):
                    return
            except Exception as error:
                _log.warning("owner not known", shard=shard, reason=str(error))
            await asyncio.sleep(_TICK_SECONDS)

    async def _execute(self, statement: LiteralString, shard: ShardId) -> bool:
        """Run a statement about one lease; whether it touched or found it."""
        context, partition = shard
        values = {"worker": self._worker_id, "lease": self._lease, "context": context, "partition": partition}
        async with self._pool.connection() as db:
            return (await db.execute(statement, values)).rowcount > 0

    async def _stop(self, shards: Sequence[ShardId]) -> None:
        tasks = [self._running.pop(shard) for shard in shards if shard in self._running]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _leave(self) -> None:
        """Stop every shard and give the leases back, so that others need not wait for them to run out."""
        held = list(self._running)
        await self._stop(held)
        try:
            async with asyncio.timeout(3):
                for shard in held:
                    await self._execute(_FREE, shard)
                async with self._pool.connection() as db:
                    await db.execute(_LEAVE, {"worker": self._worker_id})
        except Exception as error:
            _log.warning("leases not given back; they run out by themselves", reason=str(error))
