"""A session and what is said to it and about it: the vocabulary of its examples."""

from datetime import UTC, datetime, timedelta
from typing import Any

from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.session.consequences import SESSION
from domain.session.messages import (
    Assignment,
    CancelSession,
    KernelEnded,
    Limits,
    LoseKernel,
    PassDeadline,
    PlaceSession,
    ReportKernelExited,
    ReportKernelFailed,
    ReportKernelGone,
    ReportKernelProgress,
    ReportKernelStarted,
    RequestSession,
    RestartSession,
    Seat,
    SessionAdvanced,
    SessionEnded,
    SessionSpec,
    SetSessionLimits,
    TerminateSession,
)
from domain.session.state import Sessions
from domain.session.status import (
    KernelStatus,
    Reason,
    SessionStatus,
    SessionType,
)
from tests.domain.spec import Given, Outcome, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
OWNER, S1 = AccessKey("AKIA"), SessionId("s1")
K1, K2 = KernelId("s1-k1"), KernelId("s1-k2")
A1, A2 = AgentId("a1"), AgentId("a2")
S, K = SessionStatus, KernelStatus

INTERACTIVE = SessionSpec(image="python", slots={"cpu": 1000})
BATCH = INTERACTIVE.model_copy(update={"session_type": SessionType.BATCH, "startup_command": "true"})
MAIN, SUB = Seat(kernel_id=K1, role="main", index=1), Seat(kernel_id=K2, role="sub", index=1)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def limits(sessions: int = 2, lifetime: float = 0) -> Limits:
    return Limits(max_concurrent_sessions=sessions, max_kernels_per_session=2, max_lifetime_seconds=lifetime)


def admit(allowed: Limits | None = None) -> SetSessionLimits:
    return SetSessionLimits(at=NOW, owner=OWNER, limits=allowed or limits())


def one(**values: Any) -> dict[str, Any]:
    return {"at": NOW, "owner": OWNER, "session_id": S1} | values


def request(spec: SessionSpec = INTERACTIVE, *, kernels: Any = 1, **values: Any) -> RequestSession:
    seats = (MAIN, SUB)[:kernels] if isinstance(kernels, int) else kernels
    return RequestSession.model_validate(one(name="job", spec=spec, kernels=seats) | values)


def place(*agents: AgentId, attempt: int = 1) -> PlaceSession:
    pairs = zip((K1, K2), agents or (A1,), strict=False)
    return PlaceSession(
        **one(attempt=attempt, assignments=tuple(Assignment(kernel_id=k, agent_id=a) for k, a in pairs))
    )


def report(kernel: KernelId = K1, incarnation: int = 1, agent: AgentId = A1, **values: Any) -> dict[str, Any]:
    return one(kernel_id=kernel, incarnation=incarnation, agent_id=agent) | values


def progress(status: KernelStatus = K.PULLING, **values: Any) -> ReportKernelProgress:
    return ReportKernelProgress.model_validate(report(status=status, **values))


def started(kernel: KernelId = K1, **values: Any) -> ReportKernelStarted:
    return ReportKernelStarted(**report(kernel, runtime_id="c1", **values))


def exited(kernel: KernelId = K1, exit_code: int | None = 0, how: str = "exited", **values: Any) -> ReportKernelExited:
    return ReportKernelExited(**report(kernel, exit_code=exit_code, how=how, **values))


def failed(kernel: KernelId = K1, reason: Reason = Reason.START_FAILED, **values: Any) -> ReportKernelFailed:
    return ReportKernelFailed(**report(kernel, reason=reason, **values))


def gone(kernel: KernelId = K1, **values: Any) -> ReportKernelGone:
    return ReportKernelGone(**report(kernel, **values))


def lose(kernel: KernelId = K1, attempt: int = 1, agent: AgentId = A1) -> LoseKernel:
    return LoseKernel(**one(kernel_id=kernel, attempt=attempt, agent_id=agent))


def ended(kernel: KernelId, status: KernelStatus, reason: Reason, exit_code: int | None = None, **more: Any) -> Any:
    values = {"at": NOW, "session_id": S1, "kernel_id": kernel, "incarnation": 1, "status": status} | more
    return KernelEnded.model_validate(values | {"reason": reason, "exit_code": exit_code})


terminate = TerminateSession(**one())
force = TerminateSession(**one(forced=True))
cancel = CancelSession(**one())
restart = RestartSession(**one())

admitted = given(SESSION).and_when(admit())
pending = admitted.and_when(request())
scheduled = pending.and_when(place())
running = scheduled.and_when(started())
terminating = running.and_when(terminate)
two_running = admitted.and_when(request(kernels=2), place(A1, A2), started(), started(K2, agent=A2))


def at_deadline(given: Given) -> PassDeadline:
    """The alarm of the one living session."""
    sessions: Sessions = given.state
    session = sessions.living[S1]
    assert session.deadline is not None
    return PassDeadline(
        at=session.deadline, owner=OWNER, session_id=S1, status=session.status, deadline=session.deadline
    )


def statuses(outcome: Outcome) -> list[tuple[str, str]]:
    """Status and reason of each step of the session."""
    steps = [e for e in outcome.events if isinstance(e, SessionAdvanced | SessionEnded)]
    return [(e.status.value, e.reason.value) for e in steps]


def sent(outcome: Outcome, to: str) -> list[type]:
    return [type(send.message) for send in outcome.sends if send.to == to]
