"""What a session's owner is shown of the checks that may end it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.sessions.idle_checks import Situation, idle_checks
from domain.session.idling import UtilisationRule
from domain.session.status import SessionType

NOW = datetime(2026, 1, 1, tzinfo=UTC)
RULE = UtilisationRule(thresholds={"cpu_util": 10}, window_seconds=600, grace_seconds=60)
RUNS = Situation(
    session_type=SessionType.INTERACTIVE,
    running_since=NOW - timedelta(seconds=900),
    deadline=NOW + timedelta(seconds=300),
    last_used_at=NOW - timedelta(seconds=100),
    idle_timeout_seconds=500,
    rule=RULE,
    means={"cpu_util": 50.0},
)


def remaining(situation: Situation) -> dict[str, float | None]:
    return {name: check["remaining"] for name, check in idle_checks(situation, NOW).items()}


def test_each_check_shows_the_seconds_until_it_ends_the_session() -> None:
    assert remaining(RUNS) == {"network_timeout": 400, "session_lifetime": 300, "utilization": None}
    assert remaining(replace(RUNS, means={"cpu_util": 5.0}))["utilization"] == 0
    assert remaining(replace(RUNS, last_used_at=None))["network_timeout"] == 500, "nothing was heard of it yet"
    assert remaining(replace(RUNS, last_used_at=NOW - timedelta(hours=9)))["network_timeout"] == 0, "it is being ended"


def test_before_its_window_is_over_a_session_shows_when_it_is_judged() -> None:
    young = idle_checks(replace(RUNS, running_since=NOW - timedelta(seconds=60)), NOW)["utilization"]
    assert (young["remaining_time_type"], young["remaining"]) == ("grace_period", 600)


@pytest.mark.parametrize(
    ("session_type", "checks"),
    [
        (SessionType.INTERACTIVE, {"network_timeout", "session_lifetime", "utilization"}),
        (SessionType.BATCH, {"session_lifetime", "utilization"}),
        (SessionType.INFERENCE, {"session_lifetime"}),
    ],
)
def test_what_does_not_concern_a_session_is_not_shown(session_type: SessionType, checks: set[str]) -> None:
    assert remaining(replace(RUNS, session_type=session_type)).keys() == checks
    assert remaining(replace(RUNS, idle_timeout_seconds=0, deadline=None, rule=None)) == {}
