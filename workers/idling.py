"""Which sessions does nobody use, and which do too little? Looked for by what agents measured; the sessions decide.

Each process looks at the sessions whose main agent it hears, so every session is looked at by one. What was not
measured lately, or not for long enough, is not proposed: an agent that is cut off says nothing about use.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Final
from uuid import uuid4

import structlog
from psycopg.rows import class_row

from domain.messages import AccessKey, AgentId, SessionId
from domain.session.idling import MEASURED_TYPES, USED_TYPES, Underused, Unused, UtilisationRule, mean_of
from domain.session.messages import EndIdleSession
from infra import live_stats
from infra.live_stats import BUCKET, bucket_of
from infra.log import LogUnavailable
from infra.postgres import Connection, Pool, Unavailable, connection
from infra.sending import Sender
from infra.settings import Settings
from projections.directory.cluster import cluster
from workers.hearing import Mine
from workers.projecting import ProjectingApp

_log = structlog.get_logger(__name__)

KEPT_WINDOW: Final = timedelta(hours=1)
"""For which means are kept also while no rule asks for them: a rule that comes finds some."""
_LOOKS_IN_WINDOW: Final = 20
"""How often within its window a rule is looked at: a mean over hours does not change within seconds, and costs much."""
_LOOK_SECONDS_MAX: Final = 1800.0
_MEASURED_PART: Final = 0.9
"""Of the window: an agent that was cut off for a moment is not to put it off."""
_FRESH_SECONDS_MIN: Final = 60.0
_FRESH_INTERVALS: Final = 3

_RUNNING: Final = """
    FROM session_list s
    JOIN kernel_list k ON k.owner = s.owner AND k.session_id = s.session_id AND k.ended_at IS NULL
    LEFT JOIN kernel_stats t
        ON t.kernel_id = k.kernel_id AND t.agent_id = k.agent_id AND t.incarnation = k.incarnation
        AND t.at > %(fresh)s
    WHERE s.status IN ('RUNNING', 'RUNNING_DEGRADED') AND s.session_type = ANY(%(types)s)"""

_WHO: Final = """
SELECT s.owner, s.session_id,
    max(k.agent_id) FILTER (WHERE k.kernel_id = s.kernels[1]) AS agent_id,
    max(k.incarnation) FILTER (WHERE k.kernel_id = s.kernels[1]) AS incarnation,
    array_agg(k.kernel_id) AS kernels, array_agg(k.agent_id) AS agents, max(t.last_used_at) AS last_used_at"""

_UNUSED: Final = f"""
{_WHO} {_RUNNING}
GROUP BY s.owner, s.session_id
HAVING count(t.kernel_id) = count(*) AND max(t.last_used_at) < %(now)s - make_interval(secs => (
    SELECT nullif((p.spec ->> 'idle_timeout')::float8, 0) FROM directory_keypairs o
    JOIN directory_keypair_policies p ON p.name = o.resource_policy WHERE o.access_key = s.owner))
LIMIT %(limit)s"""

_OLD_ENOUGH: Final = f"""
{_WHO} {_RUNNING}
GROUP BY s.owner, s.session_id
HAVING count(t.kernel_id) = count(*) AND max(k.started_at) < %(since)s AND bool_and(%(buckets)s <= (
    SELECT count(*) FROM kernel_use u WHERE u.kernel_id = k.kernel_id AND u.agent_id = k.agent_id
    AND u.incarnation = k.incarnation AND u.bucket >= %(window)s))
LIMIT %(limit)s"""

_AT_ONCE_MAX: Final = 1000
"""Sessions that end by one look; the next one finds the others."""


@dataclass(frozen=True, slots=True)
class Running:
    """A session all of whose kernels were measured lately. `agent_id` and `incarnation` are of its main kernel."""

    owner: str
    session_id: str
    agent_id: str
    incarnation: int
    kernels: list[str]
    agents: list[str]
    last_used_at: datetime

    def found(self, evidence: Unused | Underused, now: datetime) -> EndIdleSession:
        return EndIdleSession(
            at=now,
            owner=AccessKey(self.owner),
            session_id=SessionId(self.session_id),
            incarnation=self.incarnation,
            evidence=evidence,
        )


def add_idle_checks(app: ProjectingApp, settings: Settings, sender: Sender, pool: Pool, mine: Mine) -> None:
    """Look every `idle_check_seconds`, at what agents do with more patience."""
    fresh = timedelta(seconds=max(_FRESH_SECONDS_MIN, _FRESH_INTERVALS * settings.agent_sample_seconds))
    judged_at = float("-inf")

    async def look() -> None:
        nonlocal judged_at
        try:
            now = datetime.now(UTC)
            async with connection(pool) as db:
                found = await unused(db, now, fresh)
                rule = await rule_of(db)
                if rule is not None and monotonic() - judged_at >= _pause(rule):
                    found = [*found, *await underused(db, rule, now, fresh)]
                    judged_at = monotonic()
            await _tell(sender, [command for agent_id, command in found if mine(AgentId(agent_id))])
        except (LogUnavailable, Unavailable) as error:
            _log.warning("idle sessions were not looked for", reason=str(error))

    app.timer(settings.idle_check_seconds)(look)


def _pause(rule: UtilisationRule) -> float:
    return min(_LOOK_SECONDS_MAX, rule.window_seconds / _LOOKS_IN_WINDOW)


Found = Sequence[tuple[str, EndIdleSession]]
"""With the agent of the session's main kernel."""


async def unused(db: Connection, now: datetime, fresh: timedelta) -> Found:
    """Those nobody used for as long as their owner's policy allows. `fresh`: how old what was measured may be."""
    values = {"now": now, "fresh": now - fresh, "types": [each.value for each in USED_TYPES], "limit": _AT_ONCE_MAX}
    async with db.cursor(row_factory=class_row(Running)) as cursor:
        await cursor.execute(_UNUSED, values)
        rows = await cursor.fetchall()
    return [(row.agent_id, row.found(Unused(last_used_at=row.last_used_at), now)) for row in rows]


async def underused(db: Connection, rule: UtilisationRule, now: datetime, fresh: timedelta) -> Found:
    """Those whose kernels, in the mean of them all, did too little in the whole of the rule's window."""
    window = timedelta(seconds=rule.window_seconds)
    values = {
        "fresh": now - fresh,
        "since": now - rule.asked_from,
        "window": bucket_of(now - window),
        "buckets": max(1, int(window / BUCKET * _MEASURED_PART)),
        "types": [each.value for each in MEASURED_TYPES],
        "limit": _AT_ONCE_MAX,
    }
    async with db.cursor(row_factory=class_row(Running)) as cursor:
        await cursor.execute(_OLD_ENOUGH, values)
        rows = await cursor.fetchall()
    placed = [place for row in rows for place in zip(row.kernels, row.agents, strict=True)]
    means = await live_stats.means(db, placed, now - window)
    found = []
    for row in rows:
        of_session = mean_of([means.get(place, {}) for place in zip(row.kernels, row.agents, strict=True)])
        if rule.is_met(of_session):
            found.append((row.agent_id, row.found(Underused(rule=rule, means=of_session), now)))
    return found


async def rule_of(db: Connection) -> UtilisationRule | None:
    """None where nothing has to be done."""
    known = await cluster(db)
    told = None if known is None else known.utilisation_rule
    return None if told is None else UtilisationRule.model_validate(told)


async def window_of(pool: Pool) -> timedelta:
    """Over which means are asked for. Raises `Unavailable`."""
    async with connection(pool) as db:
        rule = await rule_of(db)
    return KEPT_WINDOW if rule is None else max(KEPT_WINDOW, timedelta(seconds=rule.window_seconds))


async def _tell(sender: Sender, commands: Sequence[EndIdleSession]) -> None:
    if commands:
        _log.info("idle sessions", sessions=len(commands))
        await sender.send_all([("session", command, str(uuid4())) for command in commands], "idle-check")
