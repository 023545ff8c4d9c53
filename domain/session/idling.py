"""When a session is idle: nobody uses it, or it does little with what it was given. Pure.

Who watches over use proposes, with what was measured; the session decides, by what it knows of itself and its owner.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from statistics import fmean
from typing import Annotated, Literal

from pydantic import Field

from domain.messages import Instant, Value
from domain.session.status import SessionType

DAY_SECONDS = 86_400.0

MEASURED_TYPES = frozenset({SessionType.INTERACTIVE, SessionType.BATCH})
"""Others wait for requests, or work for the cluster: that they do little is as it should be."""
USED_TYPES = frozenset({SessionType.INTERACTIVE})
"""Nobody has to look at what works by itself."""

Metric = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_-]{0,63}$")]
Percent = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]


class UtilisationRule(Value):
    """Sessions that use less of what they were given, in the mean over the window, are ended.

    `thresholds`: metric (`cpu_util`, `mem`, `cuda_util`, `cuda_mem`) → percent. By `and` all that are measured must be
    below, by `or` any. The window begins no earlier than `grace_seconds` after the session's (re)start.
    """

    thresholds: dict[Metric, Percent] = Field(min_length=1, max_length=16)
    operator: Literal["and", "or"] = "and"
    window_seconds: float = Field(ge=60, le=DAY_SECONDS)
    grace_seconds: float = Field(0, ge=0, le=30 * DAY_SECONDS)

    @property
    def asked_from(self) -> timedelta:
        """After its start, a session is judged for the first time."""
        return timedelta(seconds=self.grace_seconds + self.window_seconds)

    def is_met(self, means: Mapping[str, float]) -> bool:
        """Whether these means say that little is done. What is not measured says nothing."""
        below = [means[metric] < percent for metric, percent in self.thresholds.items() if metric in means]
        return bool(below) and (all(below) if self.operator == "and" else any(below))


class Unused(Value):
    """Nobody has done anything in it since."""

    type: Literal["Unused"] = "Unused"
    last_used_at: Instant


class Underused(Value):
    """Its means over the window of the rule, that ends when it is said."""

    type: Literal["Underused"] = "Underused"
    rule: UtilisationRule
    means: dict[Metric, Percent]


Evidence = Annotated[Unused | Underused, Field(discriminator="type")]


def mean_of(kernels: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Of a session, by those of its kernels; of a metric, of those that have it."""
    metrics = {metric for means in kernels for metric in means}
    return {metric: fmean(means[metric] for means in kernels if metric in means) for metric in sorted(metrics)}


def idle_for(last_used_at: datetime, running_since: datetime, at: datetime) -> float:
    """Seconds. A (re)start is a use."""
    return (at - max(last_used_at, running_since)).total_seconds()
