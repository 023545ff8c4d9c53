"""Where the workers put down what agents measure, and where it is read: the latest of each kernel and agent, means over
a window, and how far images have come. Telemetry, not a fold of the log: it can be lost, and is measured anew.

Who says something about a kernel need not be who runs it. So readers name both, and get what that agent said.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, NamedTuple

from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from domain.telemetry import DeviceSample, HostSample, KernelSample, KernelSamples, PullProgress, used_percents
from infra.postgres import Connection

BUCKET: Final = timedelta(minutes=1)
"""Means are kept by such stretches of time: a window is as many of them, whatever the agents' interval is."""

_KEPT: Final = timedelta(days=7)
_PULLS_KEPT: Final = timedelta(hours=1)

# A start is a use, and what an agent does not know may be known here: since when nobody has used the kernel.
_KERNELS: Final = """
INSERT INTO kernel_stats (kernel_id, agent_id, incarnation, at, last_used_at, stats)
SELECT n.kernel_id, n.agent_id, n.incarnation, n.at, coalesce(n.last_used_at, k.last_used_at, n.at), n.stats
FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[], %s::timestamptz[], %s::jsonb[])
    AS n (kernel_id, agent_id, incarnation, at, last_used_at, stats)
LEFT JOIN kernel_stats k
    ON k.kernel_id = n.kernel_id AND k.agent_id = n.agent_id AND k.incarnation = n.incarnation
ON CONFLICT (kernel_id, agent_id) DO UPDATE
SET incarnation = excluded.incarnation, at = excluded.at, stats = excluded.stats,
    last_used_at = CASE WHEN excluded.incarnation = kernel_stats.incarnation
        THEN greatest(kernel_stats.last_used_at, excluded.last_used_at) ELSE excluded.last_used_at END
WHERE (excluded.incarnation, excluded.at) >= (kernel_stats.incarnation, kernel_stats.at)"""

_AGENTS: Final = """
INSERT INTO agent_stats (agent_id, at, stats) SELECT * FROM unnest(%s::text[], %s::timestamptz[], %s::jsonb[])
ON CONFLICT (agent_id) DO UPDATE SET at = excluded.at, stats = excluded.stats WHERE excluded.at >= agent_stats.at"""


def _added(column: str) -> str:
    return (
        f"(SELECT jsonb_object_agg(metric, coalesce((kernel_use.{column} ->> metric)::float8, 0)"
        f" + coalesce((excluded.{column} ->> metric)::float8, 0))"
        f" FROM jsonb_object_keys(kernel_use.{column} || excluded.{column}) AS each (metric))"
    )


_USE: Final = f"""
INSERT INTO kernel_use (kernel_id, agent_id, bucket, incarnation, samples, sums)
SELECT * FROM unnest(%s::text[], %s::text[], %s::timestamptz[], %s::bigint[], %s::jsonb[], %s::jsonb[])
ON CONFLICT (kernel_id, agent_id, bucket) DO UPDATE
SET incarnation = excluded.incarnation,
    samples = CASE WHEN excluded.incarnation = kernel_use.incarnation
        THEN {_added("samples")} ELSE excluded.samples END,
    sums = CASE WHEN excluded.incarnation = kernel_use.incarnation THEN {_added("sums")} ELSE excluded.sums END
WHERE excluded.incarnation >= kernel_use.incarnation"""

_PULLS: Final = """
INSERT INTO pull_progress (kernel_id, agent_id, incarnation, at, done, total)
SELECT * FROM unnest(%s::text[], %s::text[], %s::bigint[], %s::timestamptz[], %s::bigint[], %s::bigint[])
ON CONFLICT (kernel_id, agent_id) DO UPDATE
SET incarnation = excluded.incarnation, at = excluded.at, done = excluded.done, total = excluded.total
WHERE (excluded.incarnation, excluded.at) >= (pull_progress.incarnation, pull_progress.at)"""

_OF_KERNELS: Final = """
SELECT kernel_id, agent_id, incarnation, at, last_used_at, stats FROM kernel_stats
WHERE (kernel_id, agent_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""

_MEANS: Final = """
SELECT kernel_id, agent_id, metric, sum(total::float8) / sum((samples ->> metric)::float8)
FROM kernel_use, jsonb_each_text(sums) AS each (metric, total)
WHERE (kernel_id, agent_id) IN (SELECT * FROM unnest(%s::text[], %s::text[])) AND bucket >= %s
GROUP BY kernel_id, agent_id, metric"""

_PULLS_OF: Final = """
SELECT kernel_id, agent_id, done, total FROM pull_progress
WHERE (kernel_id, agent_id) IN (SELECT * FROM unnest(%s::text[], %s::text[]))"""

Placed = tuple[str, str]
"""A kernel, and the agent that runs it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What an agent said last about a kernel."""

    kernel_id: str
    agent_id: str
    incarnation: int
    at: datetime
    last_used_at: datetime
    stats: dict[str, Any]

    @property
    def sample(self) -> KernelSample:
        return KernelSample.model_validate(self.stats["kernel"])

    @property
    def devices(self) -> Mapping[str, DeviceSample]:
        """Those it has."""
        told = [DeviceSample.model_validate(each) for each in self.stats["devices"]]
        return {each.device_id: each for each in told}


class HostMeasured(NamedTuple):
    """What an agent said last about its host and devices."""

    at: datetime
    host: HostSample
    devices: Sequence[DeviceSample]


class Pulled(NamedTuple):
    """Bytes. `total` is 0 while it is not known."""

    done: int
    total: int


# -- putting down ------------------------------------------------------------------------------------------------------


async def store(db: Connection, samples: Sequence[KernelSamples], pulls: Sequence[PullProgress]) -> None:
    """What was heard, in the order in which it was. Of each kernel and agent the latest stays."""
    async with db.transaction():
        if samples:
            await _store_latest(db, {each.agent_id: each for each in samples}.values())
            await _store_use(db, samples)
        if latest := {(each.kernel_id, each.agent_id): each for each in pulls}:
            rows = [
                (*place, each.incarnation, each.at, each.done, each.total) for place, each in sorted(latest.items())
            ]
            await db.execute(_PULLS, _columns(rows))


async def _store_latest(db: Connection, samples: Iterable[KernelSamples]) -> None:
    kernels, agents = [], []
    for each in sorted(samples, key=lambda each: each.agent_id):  # in one order: workers that meet do not lock up
        devices = {device.device_id: device.model_dump_json(exclude_defaults=True) for device in each.devices}
        agents.append((each.agent_id, each.at, each.model_dump_json(include={"host", "devices"})))
        for kernel in each.kernels:
            its_devices = ",".join(devices[device_id] for device_id in kernel.devices if device_id in devices)
            stats = f'{{"kernel":{kernel.model_dump_json(exclude_defaults=True)},"devices":[{its_devices}]}}'
            kernels.append((kernel.kernel_id, each.agent_id, kernel.incarnation, each.at, kernel.last_used_at, stats))
    await db.execute(_AGENTS, _columns(agents))
    if kernels:
        unique = {row[:2]: row for row in sorted(kernels, key=lambda row: (row[0], row[1], row[2]))}
        await db.execute(_KERNELS, _columns(list(unique.values())))


async def _store_use(db: Connection, samples: Iterable[KernelSamples]) -> None:
    counts: defaultdict[tuple[str, str, datetime], dict[str, float]] = defaultdict(dict)
    sums: defaultdict[tuple[str, str, datetime], dict[str, float]] = defaultdict(dict)
    incarnations: dict[tuple[str, str, datetime], int] = {}
    for each in samples:
        devices = {device.device_id: device for device in each.devices}
        for kernel in each.kernels:
            here = (kernel.kernel_id, each.agent_id, bucket_of(each.at))
            if incarnations.setdefault(here, kernel.incarnation) != kernel.incarnation:
                counts.pop(here), sums.pop(here)
                incarnations[here] = kernel.incarnation
            for metric, percent in used_percents(kernel, devices).items():
                counts[here][metric] = counts[here].get(metric, 0) + 1
                sums[here][metric] = sums[here].get(metric, 0) + percent
    rows = [(*here, incarnations[here], Jsonb(counts[here]), Jsonb(sums[here])) for here in sorted(sums)]
    if rows:
        await db.execute(_USE, _columns(rows))


def bucket_of(at: datetime) -> datetime:
    """When the bucket begins."""
    seconds = BUCKET.total_seconds()
    return datetime.fromtimestamp(at.timestamp() // seconds * seconds, at.tzinfo)


async def forget(db: Connection, now: datetime, window: timedelta) -> None:
    """What is older than anybody asks for. `window`: the longest over which means are asked for."""
    await db.execute("DELETE FROM kernel_use WHERE bucket < %s", (now - window - 2 * BUCKET,))
    await db.execute("DELETE FROM kernel_stats WHERE at < %s", (now - _KEPT,))
    await db.execute("DELETE FROM agent_stats WHERE at < %s", (now - _KEPT,))
    await db.execute("DELETE FROM pull_progress WHERE at < %s", (now - _PULLS_KEPT,))


# -- reading -----------------------------------------------------------------------------------------------------------


async def of_kernels(db: Connection, placed: Sequence[Placed]) -> Mapping[Placed, Measured]:
    """What was measured last of these, as far as anything was."""
    if not placed:
        return {}
    async with db.cursor(row_factory=class_row(Measured)) as cursor:
        await cursor.execute(_OF_KERNELS, _columns(placed))
        return {(row.kernel_id, row.agent_id): row for row in await cursor.fetchall()}


async def means(db: Connection, placed: Sequence[Placed], since: datetime) -> Mapping[Placed, Mapping[str, float]]:
    """Of `used_percents`, by metric, from the bucket on in which `since` lies."""
    if not placed:
        return {}
    cursor = await db.execute(_MEANS, (*_columns(placed), bucket_of(since)))
    found: dict[Placed, dict[str, float]] = {}
    for kernel_id, agent_id, metric, mean in await cursor.fetchall():
        found.setdefault((kernel_id, agent_id), {})[metric] = mean
    return found


async def of_agents(db: Connection, agent_ids: Sequence[str]) -> Mapping[str, HostMeasured]:
    """What was measured last of these, as far as anything was."""
    cursor = await db.execute(
        "SELECT agent_id, at, stats FROM agent_stats WHERE agent_id = ANY(%s)", (list(agent_ids),)
    )
    return {
        agent_id: HostMeasured(
            at,
            HostSample.model_validate(stats["host"]),
            [DeviceSample.model_validate(each) for each in stats["devices"]],
        )
        for agent_id, at, stats in await cursor.fetchall()
    }


async def pulls(db: Connection, placed: Sequence[Placed]) -> Mapping[Placed, Pulled]:
    """How far the images of these have come, or came, as far as it is known."""
    if not placed:
        return {}
    cursor = await db.execute(_PULLS_OF, _columns(placed))
    return {(row[0], row[1]): Pulled(row[2], row[3]) for row in await cursor.fetchall()}


def _columns(rows: Sequence[tuple[Any, ...]]) -> list[list[Any]]:
    """For `unnest`."""
    return [list(column) for column in zip(*rows, strict=True)]
