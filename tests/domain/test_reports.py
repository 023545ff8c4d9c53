"""What agents report: each about its own kernels only, and every end with its reason."""

from typing import Any

import pytest

from domain.session.messages import KernelEnded, KernelReport
from domain.session.status import Reason, SessionStatus
from tests.domain.sessions import (
    A1,
    A2,
    BATCH,
    admitted,
    exited,
    force,
    gone,
    place,
    report,
    request,
    running,
    scheduled,
    started,
    statuses,
)

DETAILS: dict[str, dict[str, Any]] = {
    "ReportKernelProgress": {"status": "PULLING"},
    "ReportKernelStarted": {"runtime_id": "c1"},
    "ReportKernelExited": {"exit_code": 0},
    "ReportKernelFailed": {"reason": Reason.START_FAILED},
    "ReportKernelGone": {},
}


@pytest.mark.parametrize("kind", KernelReport.__subclasses__(), ids=lambda kind: kind.__name__)
def test_an_agent_may_report_only_about_kernels_placed_on_it(kind: type[KernelReport]) -> None:
    strange = kind.model_validate(report(agent=A2, **DETAILS[kind.__name__]))
    scheduled.when(strange).then_refused("not_your_kernel")


def test_nobody_but_its_own_agent_says_that_a_kernel_that_was_given_up_is_gone() -> None:
    given_up = running.and_when(force)
    given_up.when(exited(agent=A2)).then_nothing()
    assert given_up.when(exited()).only(KernelEnded).confirmed


def test_an_agent_that_had_the_kernel_before_says_nothing_about_it_now() -> None:
    moved = scheduled.and_when(gone(), place(A2, attempt=2))
    moved.when(exited(incarnation=1)).then_nothing()
    moved.when(started(incarnation=2)).then_refused("not_your_kernel")


@pytest.mark.parametrize("of", [running, admitted.and_when(request(BATCH), place(), started())])
def test_a_kernel_that_its_agent_fenced_ends_the_session_with_that_reason(of: Any) -> None:
    outcome = of.when(exited(exit_code=143, how="fenced", agent=A1))
    assert outcome.only(KernelEnded).reason is Reason.FENCED
    assert statuses(outcome) == [(SessionStatus.TERMINATED.value, "fenced")]
