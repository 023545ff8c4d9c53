"""What threatens a session that runs, and when, in the words of the public client and of web consoles. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from domain.session.idling import MEASURED_TYPES, USED_TYPES, UtilisationRule, idle_for
from domain.session.status import SessionType


@dataclass(frozen=True)
class Situation:
    """Of a session: `means` are of what it uses (`used_percents`), over the window of the rule.

    `last_used_at` is None while nothing has been heard of it.
    """

    session_type: SessionType
    running_since: datetime
    deadline: datetime | None
    last_used_at: datetime | None
    idle_timeout_seconds: float
    rule: UtilisationRule | None
    means: Mapping[str, float]


def idle_checks(situation: Situation, now: datetime) -> dict[str, Any]:
    """By check: `remaining` seconds until it ends the session (`expire_after`; null: as it is, it will not), or until
    the session is judged at all (`grace_period`). What does not concern it is not there."""
    checks: dict[str, Any] = {}
    since, timeout = situation.running_since, situation.idle_timeout_seconds
    if timeout and situation.session_type in USED_TYPES:
        idle = idle_for(situation.last_used_at or now, since, now)
        checks["network_timeout"] = _check(timeout - idle, "expire_after")
    if situation.deadline is not None:
        checks["session_lifetime"] = _check((situation.deadline - now).total_seconds(), "expire_after")
    if situation.rule is not None and situation.session_type in MEASURED_TYPES:
        checks["utilization"] = _utilisation(situation.rule, situation.means, now - since)
    return checks


def _utilisation(rule: UtilisationRule, means: Mapping[str, float], ran: timedelta) -> dict[str, Any]:
    """`resources`: metric → its mean, which is null while it is not known, and what it has to be."""
    resources = {
        metric: [round(means[metric], 2) if metric in means else None, percent]
        for metric, percent in rule.thresholds.items()
    }
    extra = {"resources": resources, "operator": rule.operator}
    if ran < rule.asked_from:
        return _check((rule.asked_from - ran).total_seconds(), "grace_period") | {"extra": extra}
    remaining = 0.0 if rule.is_met(means) else None
    return _check(remaining, "expire_after") | {"extra": extra}


def _check(remaining: float | None, kind: str) -> dict[str, Any]:
    shown = None if remaining is None else max(0.0, round(remaining, 1))
    return {"remaining": shown, "remaining_time_type": kind, "extra": None}
