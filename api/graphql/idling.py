"""What threatens a session, by what was measured of its kernels and what its owner's policy and the cluster say."""

import asyncio
from datetime import timedelta
from typing import Any

from api.graphql.asking import Asking
from api.sessions.idle_checks import Situation, idle_checks
from api.writing import now
from domain.messages import AccessKey
from domain.session.idling import UtilisationRule, mean_of
from domain.session.status import RUNNING, SessionStatus, SessionType
from infra.live_stats import Placed
from projections.compute_sessions import ListedSession


async def checks_of(row: ListedSession, asking: Asking) -> dict[str, Any]:
    """Nothing but what the client shows; it is the session itself that decides, and the log that tells why."""
    if SessionStatus(row.status) not in RUNNING or row.started_at is None:
        return {}
    kernels = await asking.loaders.kernels_of_sessions.load(row)
    placed = [(each.kernel_id, each.agent_id) for each in kernels if each.agent_id is not None]
    measured = [each for each in await asking.loaders.stats_of_kernels.load_many(placed) if each is not None]
    limits, rule = asking.directory.limits(AccessKey(row.owner)), asking.directory.utilisation_rule
    situation = Situation(
        session_type=SessionType(row.session_type),
        running_since=max((each.started_at for each in kernels if each.started_at), default=row.started_at),
        deadline=row.deadline,
        last_used_at=max((each.last_used_at for each in measured), default=None),
        idle_timeout_seconds=0 if limits is None else limits.idle_timeout_seconds,
        rule=rule,
        means={} if rule is None else await _means(placed, rule, asking),
    )
    return idle_checks(situation, now())


async def _means(placed: list[Placed], rule: UtilisationRule, asking: Asking) -> dict[str, float]:
    since = now() - timedelta(seconds=rule.window_seconds)
    return mean_of(await asyncio.gather(*(asking.loaders.means_of_kernels.load((each, since)) for each in placed)))
