"""What follows once something happened to a kernel or a session: its status, a retry, its end."""

from collections.abc import Callable, Sequence
from datetime import datetime

from domain.messages import AgentId, SessionId, later
from domain.session.messages import (
    KernelEnded,
    KernelReport,
    SessionAdvanced,
    SessionEnded,
    SessionEvents,
    SessionRescheduled,
)
from domain.session.state import Kernel, Session, Sessions, evolve
from domain.session.status import (
    ATTEMPTS_MAX,
    DEADLINES,
    ENDED,
    RUNNING,
    STARTING,
    TRANSITIONS,
    KernelStatus,
    Reason,
    Result,
    SessionStatus,
    SessionType,
    derive,
)

Events = Sequence[SessionEvents]

GOING = frozenset({SessionStatus.TERMINATING, SessionStatus.RESCHEDULING})
"""On the way down: what its kernels still do changes nothing but when it is over."""

_CALLED_OFF = frozenset({Reason.USER_REQUESTED, Reason.FORCED, Reason.PENDING_TIMEOUT})


def then(state: Sessions, events: list[SessionEvents], what: Callable[[Sessions], Events]) -> Events:
    """`events`, and what follows from the state after them."""
    for event in events:
        state = evolve(state, event)
    return [*events, *what(state)]


def follow(state: Sessions, session_id: SessionId, at: datetime, reason: Reason) -> Events:
    """The session's status follows its kernels'."""
    session = state.living[session_id]
    status = derive(session.status, [kernel.status for kernel in session.kernels])
    if status is session.status:
        return []
    return [_advanced(session, status, at, reason, _deadline_of(session, status, state, at))]


def without(state: Sessions, report: KernelReport, reason: Reason) -> Events:
    """A kernel has ended for good: the session goes with its main kernel, and goes on without one of the others."""
    session = state.living[report.session_id]
    if session.status in GOING:
        return _when_empty(session, report.at)
    if report.kernel_id == session.main.seat.kernel_id or not session.alive:
        return end(session, state, report.at, reason, forced=False)
    return follow(state, session.session_id, report.at, Reason.SUB_KERNEL_ENDED)


def retry(session: Session, state: Sessions, at: datetime, reason: Reason, failed: Sequence[AgentId | None]) -> Events:
    """This attempt is over; try other agents once nothing of it is left, unless it was the last one."""
    if session.attempt >= ATTEMPTS_MAX:
        return end(session, state, at, Reason.ATTEMPTS_EXHAUSTED, forced=False)
    going = _advanced(
        session,
        SessionStatus.RESCHEDULING,
        at,
        reason,
        later(at, DEADLINES[SessionStatus.RESCHEDULING]),
        avoid=(*session.avoid, *(agent for agent in failed if agent and agent not in session.avoid)),
    )
    return then(state, [going], lambda now: _when_empty(now.living[session.session_id], at))


def end(session: Session, state: Sessions, at: datetime, reason: Reason, *, forced: bool) -> Events:
    """Bring it down: at once where nothing was placed or `forced`, else when its agents have confirmed."""
    if session.status is SessionStatus.PENDING:
        cancelled = [_cancelled(kernel, session, at, reason) for kernel in session.alive]
        return [*cancelled, _ended(session, at, reason)]
    if not session.alive:
        return [_ended(session, at, reason)]
    if session.status is SessionStatus.TERMINATING:
        if not forced:
            return []
        return give_up(session, state, at, reason)
    going = _advanced(session, SessionStatus.TERMINATING, at, reason, later(at, DEADLINES[SessionStatus.TERMINATING]))
    if not forced:
        return [going]
    return then(state, [going], lambda now: give_up(now.living[session.session_id], now, at, reason))


def give_up(session: Session, state: Sessions, at: datetime, reason: Reason) -> Events:
    """Wait no longer for the agents of the kernels that are left, for that `reason`; the session's own stays."""
    lost = [
        KernelEnded(
            at=at,
            session_id=session.session_id,
            kernel_id=kernel.seat.kernel_id,
            incarnation=kernel.incarnation,
            status=KernelStatus.TERMINATED,
            reason=reason,
            exit_code=None,
            confirmed=False,
        )
        for kernel in session.alive
    ]
    return then(state, [*lost], lambda now: _when_empty(now.living[session.session_id], at))


def _when_empty(session: Session, at: datetime) -> Events:
    """Once no kernel is left, a session on its way down has ended, and a rescheduled one waits for places again."""
    if session.alive:
        return []
    if session.status is not SessionStatus.RESCHEDULING:
        return [_ended(session, at, session.reason)]
    return [
        SessionRescheduled(
            at=at,
            session_id=session.session_id,
            attempt=session.attempt + 1,
            avoid=session.avoid,
            reason=session.reason,
            deadline=later(at, session.spec.pending_timeout_seconds or DEADLINES[SessionStatus.PENDING]),
        )
    ]


def _advanced(
    session: Session,
    status: SessionStatus,
    at: datetime,
    reason: Reason,
    deadline: datetime | None,
    avoid: tuple[AgentId, ...] = (),
) -> SessionAdvanced:
    assert status in TRANSITIONS[session.status], f"{session.status} → {status} is not a legal step"
    return SessionAdvanced(
        at=at,
        session_id=session.session_id,
        status=status,
        reason=reason,
        deadline=deadline,
        avoid=avoid or session.avoid,
    )


def _ended(session: Session, at: datetime, reason: Reason) -> SessionEnded:
    if session.ran:
        status = SessionStatus.TERMINATED
    else:
        status = SessionStatus.CANCELLED if reason in _CALLED_OFF else SessionStatus.ERROR
    assert status in ENDED
    assert status in TRANSITIONS[session.status], f"{session.status} → {status} is not a legal step"
    return SessionEnded(
        at=at,
        session_id=session.session_id,
        status=status,
        reason=reason,
        result=_result(session, reason),
        exit_code=session.exit_code,
    )


def _result(session: Session, reason: Reason) -> Result:
    if session.spec.session_type is not SessionType.BATCH or not session.ran:
        return Result.UNDEFINED
    if reason is Reason.TASK_DONE:
        return Result.SUCCESS
    return Result.UNDEFINED if reason in {Reason.USER_REQUESTED, Reason.FORCED} else Result.FAILURE


def _cancelled(kernel: Kernel, session: Session, at: datetime, reason: Reason) -> KernelEnded:
    return KernelEnded(
        at=at,
        session_id=session.session_id,
        kernel_id=kernel.seat.kernel_id,
        incarnation=kernel.incarnation,
        status=KernelStatus.CANCELLED,
        reason=reason,
        exit_code=None,
    )


def _deadline_of(session: Session, status: SessionStatus, state: Sessions, at: datetime) -> datetime | None:
    """A starting session keeps the deadline it got with its place; a running one has its owner's lifetime limit."""
    if status in STARTING:
        return session.deadline
    if status in RUNNING:
        if session.status in RUNNING:
            return session.deadline
        if session.status is SessionStatus.RESTARTING:
            return session.expires
        lifetime = state.limits.max_lifetime_seconds if state.limits else 0
        return later(at, lifetime) if lifetime else None
    return later(at, DEADLINES[status])
