"""Which kernels ran in a period, and how much was held at each moment?   GET /resource/usage/…, /resource/stats/…"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import Final, LiteralString

from psycopg.rows import class_row

from infra.postgres import Connection
from projections.table import Json


@dataclass(frozen=True, slots=True)
class UsedKernel:
    """One that ran, with the names that things have now, or, where they are gone, had. `slots`: its own.

    What it used is what was measured last, 0 where that is no longer known: it is kept for some days. Microseconds of
    processor time, and bytes; memory is the most it had at a time.
    """

    kernel_id: str
    session_id: str
    session_name: str
    runtime_id: str | None
    access_key: str
    email: str | None
    full_name: str | None
    project_id: str | None
    project: str
    domain: str
    agent_id: str | None
    image: str
    slots: Json
    cluster_mode: str
    status: str
    reason: str
    status_changed_at: datetime
    started_at: datetime
    ended_at: datetime | None
    cpu_usec: int
    memory_bytes: int
    io_read_bytes: int
    io_written_bytes: int


@dataclass(frozen=True, slots=True)
class Moment:
    """What ran at any time in the step that begins there.

    In units of `domain.slots`; `devices`: of all kinds, added.
    """

    at: datetime
    sessions: int
    cpu: int
    mem: int
    devices: int


_RAN: Final[LiteralString] = """
    c.started_at < %(end)s AND (c.ended_at IS NULL OR c.ended_at > %(start)s)"""

_KERNELS: Final[LiteralString] = f"""
SELECT c.kernel_id, c.session_id, s.name AS session_name, c.runtime_id, c.owner AS access_key, u.email, u.full_name,
    s.project_id, coalesce(p.name, s.project) AS project, coalesce(d.name, s.domain) AS domain, c.agent_id,
    s.image, s.slots, s.cluster_mode, c.status, c.reason, c.status_changed_at, c.started_at, c.ended_at,
    coalesce((t.stats #>> '{{kernel,cpu_usec}}')::bigint, 0) AS cpu_usec,
    greatest((t.stats #>> '{{kernel,memory_bytes_peak}}')::bigint, (t.stats #>> '{{kernel,memory_bytes}}')::bigint, 0)
        AS memory_bytes,
    coalesce((t.stats #>> '{{kernel,io_read_bytes}}')::bigint, 0) AS io_read_bytes,
    coalesce((t.stats #>> '{{kernel,io_written_bytes}}')::bigint, 0) AS io_written_bytes
FROM kernel_list c
LEFT JOIN kernel_stats t ON t.kernel_id = c.kernel_id AND t.agent_id = c.agent_id
JOIN session_list s ON s.owner = c.owner AND s.session_id = c.session_id
LEFT JOIN directory_projects p ON p.project_id = s.project_id
LEFT JOIN directory_domains d ON d.number = p.domain_number
LEFT JOIN directory_keypairs k ON k.access_key = c.owner
LEFT JOIN directory_users u ON u.user_id = k.user_id
WHERE (%(projects)s::text[] IS NULL OR s.project_id = ANY(%(projects)s)) AND {_RAN}
ORDER BY domain, project, s.project_id, c.started_at, c.kernel_id LIMIT %(limit)s"""

# Each kernel counts from the step in which it began to the one in which it ended: so much more, and so much less again.
_STEPS: Final[LiteralString] = f"""
WITH ran AS (
    SELECT
        floor(extract(epoch FROM greatest(c.started_at, %(start)s) - %(start)s) / %(seconds)s)::int AS first,
        floor(extract(epoch FROM least(coalesce(c.ended_at, %(end)s), %(end)s) - %(start)s) / %(seconds)s)::int AS last,
        (c.role = 'main')::int AS sessions,
        coalesce((s.slots ->> 'cpu')::bigint, 0) AS cpu,
        coalesce((s.slots ->> 'mem')::bigint, 0) AS mem,
        (SELECT coalesce(sum(units::bigint), 0) FROM jsonb_each_text(s.slots) AS each(slot, units)
            WHERE slot NOT IN ('cpu', 'mem')) AS devices
    FROM kernel_list c JOIN session_list s ON s.owner = c.owner AND s.session_id = c.session_id
    WHERE (%(owners)s::text[] IS NULL OR c.owner = ANY(%(owners)s)) AND {_RAN}
)
SELECT step, sum(sessions), sum(cpu), sum(mem), sum(devices) FROM (
    SELECT first AS step, sessions, cpu, mem, devices FROM ran
    UNION ALL SELECT last + 1, -sessions, -cpu, -mem, -devices FROM ran
) AS changes GROUP BY step"""


async def kernels(
    db: Connection, *, start: datetime, end: datetime, projects: Sequence[str] | None, limit: int
) -> list[UsedKernel]:
    """Those of these projects (None: of all), project by project, the first to start first."""
    values = {
        "start": start,
        "end": end,
        "projects": None if projects is None else list(projects),
        "limit": limit,
    }
    async with db.cursor(row_factory=class_row(UsedKernel)) as cursor:
        await cursor.execute(_KERNELS, values)
        return await cursor.fetchall()


async def over_time(
    db: Connection, *, start: datetime, step: timedelta, count: int, owners: Sequence[str] | None
) -> list[Moment]:
    """`count` moments, one each `step`: of the sessions of these access keys, or (None) of all."""
    values = {
        "start": start,
        "end": start + count * step,
        "seconds": step.total_seconds(),
        "owners": None if owners is None else list(owners),
    }
    cursor = await db.execute(_STEPS, values)
    changes = {row[0]: tuple(map(int, row[1:])) for row in await cursor.fetchall()}
    nothing = (0, 0, 0, 0)
    each = (changes.get(number, nothing) for number in range(count))
    sums = accumulate(each, lambda so_far, change: tuple(a + b for a, b in zip(so_far, change, strict=True)))
    return [Moment(start + number * step, *held) for number, held in enumerate(sums)]
