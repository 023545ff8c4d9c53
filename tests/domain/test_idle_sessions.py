"""Which sessions are ended because nobody uses them, or because they do too little."""

from typing import Any

import pytest

from domain.session.consequences import SESSION
from domain.session.idling import Underused, Unused, UtilisationRule, mean_of
from domain.session.messages import EndIdleSession, SessionSpec
from domain.session.status import SessionType
from tests.domain.sessions import (
    BATCH,
    INTERACTIVE,
    OWNER,
    S1,
    admit,
    after,
    limits,
    pending,
    place,
    request,
    restart,
    started,
    statuses,
    terminate,
)
from tests.domain.spec import Given, Outcome, given

TIMEOUT, WINDOW, GRACE = 600, 3600, 300
RULE = UtilisationRule(thresholds={"cpu_util": 10, "cuda_util": 20}, window_seconds=WINDOW, grace_seconds=GRACE)
INFERENCE = INTERACTIVE.model_copy(update={"session_type": SessionType.INFERENCE})


def runs(spec: SessionSpec = INTERACTIVE, timeout: float = TIMEOUT) -> Given:
    """Since second 0."""
    allowed = limits().model_copy(update={"idle_timeout_seconds": timeout})
    return given(SESSION).and_when(admit(allowed), request(spec=spec), place(), started())


def unused(*, at: float, since: float, incarnation: int = 1) -> EndIdleSession:
    return _found(at, incarnation, Unused(last_used_at=after(since)))


def underused(*, at: float, rule: UtilisationRule = RULE, incarnation: int = 1, **means: Any) -> EndIdleSession:
    return _found(at, incarnation, Underused(rule=rule, means=means))


def _found(at: float, incarnation: int, evidence: Unused | Underused) -> EndIdleSession:
    return EndIdleSession(at=after(at), owner=OWNER, session_id=S1, incarnation=incarnation, evidence=evidence)


def is_unneeded(outcome: Outcome, code: str) -> None:
    outcome.then_nothing()
    assert outcome.unneeded is not None
    assert outcome.unneeded.code == code


def test_a_session_nobody_used_for_as_long_as_its_policy_allows_is_ended_and_the_reason_kept() -> None:
    assert statuses(runs().when(unused(at=1000 + TIMEOUT, since=1000))) == [("TERMINATING", "idle-timeout")]


def test_a_session_that_was_used_since_goes_on() -> None:
    is_unneeded(runs().when(unused(at=1000 + TIMEOUT - 1, since=1000)), "in_use")


def test_without_an_idle_timeout_nobody_has_to_use_a_session() -> None:
    is_unneeded(runs(timeout=0).when(unused(at=10**6, since=0)), "exempt")


@pytest.mark.parametrize("spec", [BATCH, INFERENCE])
def test_what_works_by_itself_need_not_be_used(spec: SessionSpec) -> None:
    is_unneeded(runs(spec).when(unused(at=10**6, since=0)), "exempt")


def test_a_start_is_a_use_also_where_an_older_one_was_noted() -> None:
    is_unneeded(runs().when(unused(at=TIMEOUT - 1, since=-1000)), "in_use")


def test_a_restart_begins_the_idle_time_anew() -> None:
    again = runs().and_when(restart, started(incarnation=2).model_copy(update={"at": after(500)}))
    is_unneeded(again.when(unused(at=500 + TIMEOUT - 1, since=0, incarnation=2)), "in_use")
    assert statuses(again.when(unused(at=500 + TIMEOUT, since=0, incarnation=2))) == [("TERMINATING", "idle-timeout")]
    is_unneeded(again.when(unused(at=500 + TIMEOUT, since=0, incarnation=1)), "overtaken")


def test_what_does_not_run_is_not_idle() -> None:
    is_unneeded(pending.when(unused(at=10**6, since=0)), "not_running")
    is_unneeded(runs().and_when(terminate).when(unused(at=10**6, since=0)), "not_running")


def test_a_session_that_does_too_little_in_the_whole_window_is_ended_and_the_reason_kept() -> None:
    found = underused(at=GRACE + WINDOW, cpu_util=9.9, cuda_util=0)
    assert statuses(runs().when(found)) == [("TERMINATING", "low-utilisation")]
    assert statuses(runs(BATCH).when(found)) == [("TERMINATING", "low-utilisation")]
    is_unneeded(runs(INFERENCE).when(found), "exempt")


def test_the_window_begins_no_earlier_than_the_grace_after_the_start() -> None:
    is_unneeded(runs().when(underused(at=GRACE + WINDOW - 1, cpu_util=0, cuda_util=0)), "too_early")
    again = runs().and_when(restart, started(incarnation=2).model_copy(update={"at": after(9000)}))
    found = underused(at=9000 + GRACE + WINDOW - 1, incarnation=2, cpu_util=0, cuda_util=0)
    is_unneeded(again.when(found), "too_early")


@pytest.mark.parametrize(
    ("operator", "means", "is_met"),
    [
        ("and", {"cpu_util": 5, "cuda_util": 5}, True),
        ("and", {"cpu_util": 5, "cuda_util": 25}, False),
        ("and", {"cpu_util": 10, "cuda_util": 5}, False),
        ("and", {"cpu_util": 5}, True),
        ("or", {"cpu_util": 5, "cuda_util": 25}, True),
        ("or", {"cpu_util": 15, "cuda_util": 25}, False),
        ("and", {}, False),
        ("or", {"mem": 0}, False),
    ],
)
def test_all_that_is_measured_must_be_low_or_any_of_it_as_the_rule_says(
    operator: Any, means: dict[str, Any], is_met: bool
) -> None:
    rule = RULE.model_copy(update={"operator": operator})
    outcome = runs().when(underused(at=GRACE + WINDOW, rule=rule, **means))
    if is_met:
        assert statuses(outcome) == [("TERMINATING", "low-utilisation")]
    else:
        is_unneeded(outcome, "in_use")


def test_a_session_does_what_its_kernels_do_in_the_mean() -> None:
    assert mean_of([{"cpu_util": 10, "cuda_util": 40}, {"cpu_util": 30}, {}]) == {"cpu_util": 20, "cuda_util": 40}
