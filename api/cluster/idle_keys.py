"""The key of the reference's cluster-wide configuration that says which sessions do too little. Pure.

    config/idle/checkers/utilization    an object: resource-thresholds ({"cuda_util": {"average": 5}}),
                                        thresholds-check-operator, time-window, initial-grace-period

It is set and deleted as a whole. How long a session may be unused is in its owner's policy.
"""

import re
from typing import Annotated, Any, Final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from api.cluster.config_keys import Told
from api.http.problems import Problem, invalid
from domain.session.idling import UtilisationRule

KEY: Final = ("config", "idle", "checkers", "utilization")

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_DURATION: Final = re.compile(r"(\d+(?:\.\d+)?)\s*([smhdw]?)")


def _seconds(told: Any) -> Any:
    match = _DURATION.fullmatch(str(told).strip().lower())
    if match is None:
        raise ValueError(f"{str(told)[:32]!r} is no time such as 600, 10m or 12h")
    return float(match[1]) * _UNITS[match[2] or "s"]


Seconds = Annotated[float, BeforeValidator(_seconds)]


class _Threshold(BaseModel):
    model_config = ConfigDict(extra="forbid")
    average: float


class _Checker(BaseModel):
    model_config = ConfigDict(extra="forbid")
    thresholds: dict[str, _Threshold] = Field(alias="resource-thresholds")
    operator: str = Field("and", alias="thresholds-check-operator")
    window_seconds: Seconds = Field(alias="time-window")
    grace_seconds: Seconds = Field(0, alias="initial-grace-period")


def is_idle_key(key: tuple[str, ...]) -> bool:
    """Whether it is the key, or stands under it. Raises `Problem` for the second."""
    if key[: len(KEY)] == KEY and key != KEY:
        raise invalid("key", "not_configurable", f"{'/'.join(KEY)} is set as a whole, by an object")
    return key == KEY


def rule_of(value: Told) -> UtilisationRule:
    """Raises `Problem`."""
    try:
        checker = _Checker.model_validate(value)
        return UtilisationRule.model_validate(
            {
                "thresholds": {metric: each.average for metric, each in checker.thresholds.items()},
                "operator": checker.operator,
                "window_seconds": checker.window_seconds,
                "grace_seconds": checker.grace_seconds,
            }
        )
    except ValidationError as error:
        raise _problem(error) from None


def held(rule: UtilisationRule | None) -> dict[tuple[str, ...], str]:
    """What stands there, as text."""
    if rule is None:
        return {}
    thresholds: dict[tuple[str, ...], str] = {
        (*KEY, "resource-thresholds", metric, "average"): f"{percent:g}" for metric, percent in rule.thresholds.items()
    }
    return {
        **thresholds,
        (*KEY, "thresholds-check-operator"): rule.operator,
        (*KEY, "time-window"): f"{rule.window_seconds:g}",
        (*KEY, "initial-grace-period"): f"{rule.grace_seconds:g}",
    }


def _problem(error: ValidationError) -> Problem:
    first = error.errors(include_url=False, include_input=False, include_context=False)[0]
    return invalid("value", str(first["type"]), f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
