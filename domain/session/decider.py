"""What may happen to sessions. `decide` is the table of contents; below it one small function for each command."""

from domain.messages import Refused, SessionId, Unneeded, later
from domain.session.ending_idle import end_idle
from domain.session.following import GOING, Events, end, follow, give_up, retry, then, without
from domain.session.messages import (
    CancelSession,
    EndIdleSession,
    KernelAdvanced,
    KernelEnded,
    KernelReport,
    KernelStarted,
    Limits,
    LoseKernel,
    PassDeadline,
    PlaceSession,
    RefuseMount,
    RenameSession,
    ReportKernelExited,
    ReportKernelFailed,
    ReportKernelGone,
    ReportKernelProgress,
    ReportKernelStarted,
    RequestSession,
    RestartSession,
    SessionCommands,
    SessionLimitsSet,
    SessionRenamed,
    SessionRequested,
    SessionRestarted,
    SessionScheduled,
    SetSessionLimits,
    TerminateSession,
)
from domain.session.state import Kernel, Session, Sessions
from domain.session.status import (
    DEADLINES,
    STARTING,
    KernelStatus,
    Reason,
    SessionStatus,
    SessionType,
    may_follow,
)
from domain.slots import WHOLE, is_whole

_HOW = {
    "exited": Reason.SELF_TERMINATED,
    "killed": Reason.KILLED,
    "oom": Reason.OUT_OF_MEMORY,
    "fenced": Reason.FENCED,
}
_SAFE_TO_RETRY = frozenset(
    {KernelStatus.SCHEDULED, KernelStatus.PREPARING, KernelStatus.PULLING, KernelStatus.PREPARED}
)


def decide(command: SessionCommands, state: Sessions) -> Events:
    match command:
        case SetSessionLimits():
            return _set_limits(command, state)
        case RequestSession():
            return _request(command, state)
        case CancelSession():
            return _cancel(command, state)
        case TerminateSession():
            return _terminate(command, state)
        case RestartSession():
            return _restart(command, state)
        case RenameSession():
            return _rename(command, state)
        case PlaceSession():
            return _place(command, state)
        case LoseKernel():
            return _lose(command, state)
        case PassDeadline():
            return _pass_deadline(command, state)
        case RefuseMount():
            return _refuse_mount(command, state)
        case EndIdleSession():
            return end_idle(command, state)
        case ReportKernelProgress():
            return _progress(command, state)
        case ReportKernelStarted():
            return _started(command, state)
        case ReportKernelExited():
            return _exited(command, state)
        case ReportKernelFailed():
            return _failed(command, state)
        case ReportKernelGone():
            return _gone(command, state, Reason.KERNEL_GONE)


# -- users -------------------------------------------------------------------------------------------------------------


def _request(command: RequestSession, state: Sessions) -> Events:
    limits = state.limits
    if limits is None:
        raise Refused("keypair_not_admitted", f"the keypair {command.owner} may not start sessions")
    existing = state.names.get(command.name)
    if existing is not None:
        if command.reuse and state.living[existing].spec.image == command.spec.image:
            raise Unneeded("session_exists", f"a session named {command.name} lives", existing)
        raise Refused("session_name_taken", f"a living session is named {command.name} already", "name")
    if command.session_id in state.living:
        raise Refused("session_id_taken", f"{command.session_id} lives already", "session_id")
    if len({seat.kernel_id for seat in command.kernels}) < len(command.kernels):
        raise Refused("kernel_id_repeated", "every kernel needs an id of its own", "kernels")
    if len({seat.hostname for seat in command.kernels}) < len(command.kernels):
        raise Refused("hostname_repeated", "every kernel needs a role and index of its own", "kernels")
    if len(command.kernels) > limits.max_kernels_per_session:
        raise Refused(
            "too_many_kernels",
            f"the policy allows {limits.max_kernels_per_session} kernels a session",
            "kernels",
        )
    _refuse_beyond(limits, command.spec.session_type, state)
    if command.spec.session_type is SessionType.BATCH and not command.spec.startup_command:
        raise Refused("no_startup_command", "a batch session needs a startup command", "spec.startup_command")
    for name, units in command.spec.slots.items():
        if is_whole(name) and units % WHOLE:
            raise Refused("bad_slots", f"{name} is given as a whole only", f"spec.slots.{name}")
    wait = command.spec.pending_timeout_seconds or DEADLINES[SessionStatus.PENDING]
    return [
        SessionRequested(
            at=command.at,
            session_id=command.session_id,
            owner=command.owner,
            name=command.name,
            spec=command.spec,
            kernels=command.kernels,
            deadline=later(command.at, wait),
        )
    ]


def _refuse_beyond(limits: Limits, kind: SessionType, state: Sessions) -> None:
    """Sessions of type `system`, which are there to reach folders, are limited for themselves."""
    is_system = kind is SessionType.SYSTEM
    most = limits.max_concurrent_sftp_sessions if is_system else limits.max_concurrent_sessions
    if len(state.living) < most:
        return  # and nobody has to be counted
    if sum((each.spec.session_type is SessionType.SYSTEM) is is_system for each in state.living.values()) >= most:
        what = "system sessions" if is_system else "sessions"
        raise Refused("too_many_sessions", f"the policy allows {most} {what} at a time")


def _cancel(command: CancelSession, state: Sessions) -> Events:
    session = _living(state, command.session_id)
    if session.ran:
        raise Refused("already_started", f"session {session.name} has started: terminate it")
    return end(session, state, command.at, Reason.USER_REQUESTED, forced=False)


def _terminate(command: TerminateSession, state: Sessions) -> Events:
    session = _living(state, command.session_id)
    reason = Reason.FORCED if command.forced else Reason.USER_REQUESTED
    return end(session, state, command.at, reason, forced=command.forced)


def _restart(command: RestartSession, state: Sessions) -> Events:
    session = _living(state, command.session_id)
    if session.status is SessionStatus.RESTARTING:
        return []
    if session.status is not SessionStatus.RUNNING:
        raise Refused("not_running", f"session {session.name} is {session.status.value}; only a running one restarts")
    return [
        SessionRestarted(
            at=command.at,
            session_id=session.session_id,
            deadline=later(command.at, DEADLINES[SessionStatus.RESTARTING]),
        )
    ]


def _rename(command: RenameSession, state: Sessions) -> Events:
    session = _living(state, command.session_id)
    if session.name == command.name:
        return []
    if command.name in state.names:
        raise Refused("session_name_taken", f"a living session is named {command.name} already", "name")
    return [SessionRenamed(at=command.at, session_id=session.session_id, name=command.name)]


# -- the directory, the scheduler, the clock ---------------------------------------------------------------------------


def _set_limits(command: SetSessionLimits, state: Sessions) -> Events:
    if command.limits == state.limits:
        return []
    return [SessionLimitsSet(at=command.at, owner=command.owner, limits=command.limits)]


def _place(command: PlaceSession, state: Sessions) -> Events:
    session = state.living.get(command.session_id)
    if session is None or session.status is not SessionStatus.PENDING or session.attempt != command.attempt:
        raise Unneeded("not_waiting", "the session does not wait for this placement (any more)")
    if {a.kernel_id for a in command.assignments} != {k.seat.kernel_id for k in session.kernels}:
        raise Refused("wrong_kernels", "a placement must name each kernel of the session once", "assignments")
    return [
        SessionScheduled(
            at=command.at,
            session_id=session.session_id,
            attempt=command.attempt,
            assignments=command.assignments,
            deadline=later(command.at, DEADLINES[SessionStatus.SCHEDULED]),
        )
    ]


def _pass_deadline(command: PassDeadline, state: Sessions) -> Events:
    session = state.living.get(command.session_id)
    if session is None or session.status is not command.status or session.deadline != command.deadline:
        raise Unneeded("deadline_moved", "the session is no longer where this deadline was set")
    match session.status:
        case SessionStatus.PENDING:
            return end(session, state, command.at, Reason.PENDING_TIMEOUT, forced=False)
        case status if status in STARTING:
            late = [k.agent_id for k in session.alive if k.agent_id and k.status is not KernelStatus.RUNNING]
            return retry(session, state, command.at, Reason.START_TIMEOUT, late)
        case SessionStatus.RESTARTING:
            return end(session, state, command.at, Reason.START_TIMEOUT, forced=False)
        case SessionStatus.RESCHEDULING | SessionStatus.TERMINATING:
            return give_up(session, state, command.at, Reason.TERMINATION_UNCONFIRMED)
        case _:
            return end(session, state, command.at, Reason.LIFETIME_OVER, forced=False)


def _refuse_mount(command: RefuseMount, state: Sessions) -> Events:
    session = state.living.get(command.session_id)
    if session is None or session.status in GOING:
        raise Unneeded("session_ending", "the session has ended, or is about to")
    events = end(session, state, command.at, Reason.MOUNT_REFUSED, forced=False)
    why = {"message": command.message}
    return [event.model_copy(update=why) if isinstance(event, KernelEnded) else event for event in events]


# -- agents ------------------------------------------------------------------------------------------------------------


def _progress(command: ReportKernelProgress, state: Sessions) -> Events:
    session, kernel = _reported(command, state)
    if not may_follow(kernel.status, command.status):
        raise Unneeded("overtaken", f"the kernel is {kernel.status.value} already")
    advanced = KernelAdvanced(
        at=command.at,
        session_id=session.session_id,
        kernel_id=command.kernel_id,
        incarnation=command.incarnation,
        status=command.status,
    )
    return then(state, [advanced], lambda now: follow(now, session.session_id, command.at, Reason.PROGRESSED))


def _started(command: ReportKernelStarted, state: Sessions) -> Events:
    session, kernel = _reported(command, state)
    if not may_follow(kernel.status, KernelStatus.RUNNING):
        raise Unneeded("overtaken", f"the kernel is {kernel.status.value} already")
    started = KernelStarted(
        at=command.at,
        session_id=session.session_id,
        kernel_id=command.kernel_id,
        incarnation=command.incarnation,
        runtime_id=command.runtime_id,
    )
    return then(state, [started], lambda now: follow(now, session.session_id, command.at, Reason.STARTED))


def _exited(command: ReportKernelExited, state: Sessions) -> Events:
    if (confirmed := _confirmation(command, state, command.exit_code)) is not None:
        return confirmed
    session, _ = _reported(command, state)
    reason = session.reason if session.status in GOING else _HOW[command.how]
    ended = _kernel_ended(command, KernelStatus.TERMINATED, reason, command.exit_code)
    return then(state, [ended], lambda now: without(now, command, _outcome_of(session, command)))


def _failed(command: ReportKernelFailed, state: Sessions) -> Events:
    if (confirmed := _confirmation(command, state, None)) is not None:
        return confirmed
    session, _ = _reported(command, state)
    ended = _kernel_ended(command, KernelStatus.ERROR, command.reason, None, command.message)
    if command.reason is Reason.MOUNT_REFUSED and session.status not in GOING:  # as it would be elsewhere
        return then(
            state,
            [ended],
            lambda now: end(now.living[session.session_id], now, command.at, command.reason, forced=False),
        )
    if session.status in STARTING:
        return then(
            state,
            [ended],
            lambda now: retry(now.living[session.session_id], now, command.at, command.reason, [command.agent_id]),
        )
    return then(state, [ended], lambda now: without(now, command, command.reason))


def _gone(command: ReportKernelGone, state: Sessions, reason: Reason) -> Events:
    if (confirmed := _confirmation(command, state, None)) is not None:
        return confirmed
    session, kernel = _reported(command, state)
    if session.status in GOING:
        ended = _kernel_ended(command, KernelStatus.TERMINATED, session.reason, None)
    else:
        ended = _kernel_ended(command, KernelStatus.ERROR, reason, None)
    if session.status in STARTING and kernel.status in _SAFE_TO_RETRY:
        return then(
            state,
            [ended],
            lambda now: retry(now.living[session.session_id], now, command.at, reason, [command.agent_id]),
        )
    return then(state, [ended], lambda now: without(now, command, reason))


def _lose(command: LoseKernel, state: Sessions) -> Events:
    """The kernel is gone, under whichever number it was last started there, or waited for."""
    session = state.living.get(command.session_id)
    kernel = session.kernel(command.kernel_id) if session and session.attempt == command.attempt else None
    numbers = [kernel.incarnation] if kernel and kernel.alive and kernel.agent_id == command.agent_id else []
    numbers += [
        incarnation
        for (kernel_id, incarnation), waited_for in state.unconfirmed.items()
        if kernel_id == command.kernel_id
        and (waited_for.session_id, waited_for.attempt) == (command.session_id, command.attempt)
    ]
    if not numbers:
        raise Unneeded("not_there", f"nothing is known to run or to be waited for on {command.agent_id}")
    gone = ReportKernelGone(
        at=command.at,
        owner=command.owner,
        session_id=command.session_id,
        kernel_id=command.kernel_id,
        incarnation=numbers[0],
        agent_id=command.agent_id,
    )
    return _gone(gone, state, Reason.AGENT_REMOVED)


def _reported(report: KernelReport, state: Sessions) -> tuple[Session, Kernel]:
    """The session and the living kernel a report is about. A word about an earlier incarnation is no news."""
    session = state.living.get(report.session_id)
    if session is None:
        raise Unneeded("session_ended", "the session has ended already")
    kernel = session.kernel(report.kernel_id)
    if kernel is None:
        raise Refused("unknown_kernel", f"the session has no kernel {report.kernel_id}", "kernel_id")
    if report.incarnation != kernel.incarnation or not kernel.alive or kernel.place is None:
        raise Unneeded("overtaken", f"incarnation {report.incarnation} of the kernel is over")
    if kernel.agent_id != report.agent_id:
        raise Refused("not_your_kernel", f"the kernel is not placed on {report.agent_id}", "agent_id")
    return session, kernel


def _confirmation(report: KernelReport, state: Sessions, exit_code: int | None) -> Events | None:
    """The end of a kernel that had been given up: its capacity is free at last."""
    owed = state.unconfirmed.get((report.kernel_id, report.incarnation))
    if owed is None or owed.agent_id != report.agent_id:
        return None
    return [_kernel_ended(report, KernelStatus.TERMINATED, Reason.TERMINATION_UNCONFIRMED, exit_code)]


def _outcome_of(session: Session, exited: ReportKernelExited) -> Reason:
    if session.spec.session_type is not SessionType.BATCH or exited.how in {"oom", "fenced"}:
        return _HOW[exited.how]
    return Reason.TASK_DONE if exited.exit_code == 0 else Reason.TASK_FAILED


def _kernel_ended(
    report: KernelReport, status: KernelStatus, reason: Reason, exit_code: int | None, message: str = ""
) -> KernelEnded:
    return KernelEnded.model_validate(
        {
            "at": report.at,
            "session_id": report.session_id,
            "kernel_id": report.kernel_id,
            "incarnation": report.incarnation,
            "status": status,
            "reason": reason,
            "exit_code": exit_code,
            "message": message,
        }
    )


def _living(state: Sessions, session_id: SessionId) -> Session:
    session = state.living.get(session_id)
    if session is None:
        raise Refused("unknown_session", f"no living session {session_id}", "session_id")
    return session
