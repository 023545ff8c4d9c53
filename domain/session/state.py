"""What a decision about sessions needs to know, folded from their events. Only the living are remembered."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from immutables import Map

from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.session.messages import (
    Assignment,
    KernelAdvanced,
    KernelEnded,
    KernelStarted,
    Limits,
    Seat,
    SessionAdvanced,
    SessionEnded,
    SessionEvents,
    SessionLimitsSet,
    SessionRenamed,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
    SessionSpec,
)
from domain.session.status import KERNEL_ENDED, RUNNING, KernelStatus, Reason, SessionStatus


@dataclass(frozen=True, slots=True)
class Kernel:
    seat: Seat
    status: KernelStatus = KernelStatus.PENDING
    incarnation: int = 0
    place: Assignment | None = None

    @property
    def alive(self) -> bool:
        """Not ended; it may still be waiting for its place."""
        return self.status not in KERNEL_ENDED

    @property
    def agent_id(self) -> AgentId | None:
        return self.place.agent_id if self.place else None


@dataclass(frozen=True, slots=True)
class Session:
    session_id: SessionId
    owner: AccessKey
    name: str
    spec: SessionSpec
    kernels: tuple[Kernel, ...]
    status: SessionStatus
    deadline: datetime | None
    attempt: int = 1
    avoid: tuple[AgentId, ...] = ()
    reason: Reason = Reason.REQUESTED
    expires: datetime | None = None
    """When its lifetime is over; known once it runs, and not moved by a restart."""
    running_since: datetime | None = None
    """When all of it ran for the first time, or again after a restart."""
    ran: bool = False
    exit_code: int | None = None

    @property
    def main(self) -> Kernel:
        return self.kernels[0]

    @property
    def alive(self) -> list[Kernel]:
        return [kernel for kernel in self.kernels if kernel.alive]

    def kernel(self, kernel_id: KernelId) -> Kernel | None:
        return next((kernel for kernel in self.kernels if kernel.seat.kernel_id == kernel_id), None)


@dataclass(frozen=True, slots=True)
class Unconfirmed:
    """A kernel given up on: its agent has yet to say that it is gone, and holds its capacity until then."""

    session_id: SessionId
    spec: SessionSpec
    attempt: int
    agent_id: AgentId


@dataclass(frozen=True, slots=True)
class Sessions:
    """Everything inside one boundary key: the living sessions of one access key."""

    limits: Limits | None = None
    living: Map[SessionId, Session] = field(default_factory=Map)
    names: Map[str, SessionId] = field(default_factory=Map)
    unconfirmed: Map[tuple[KernelId, int], Unconfirmed] = field(default_factory=Map)


def evolve(state: Sessions, event: SessionEvents) -> Sessions:
    match event:
        case SessionLimitsSet():
            return replace(state, limits=event.limits)
        case SessionRequested():
            session = _requested(event)
            return replace(
                state,
                living=state.living.set(session.session_id, session),
                names=state.names.set(session.name, session.session_id),
            )
        case SessionEnded():
            session = state.living[event.session_id]
            return replace(
                state, living=state.living.delete(session.session_id), names=state.names.delete(session.name)
            )
        case SessionRenamed():
            session = state.living[event.session_id]
            renamed = replace(session, name=event.name)
            return replace(
                state,
                living=state.living.set(session.session_id, renamed),
                names=state.names.delete(session.name).set(event.name, session.session_id),
            )
        case KernelEnded():
            return _kernel_ended(state, event)
        case _:
            session = state.living[event.session_id]
            return replace(state, living=state.living.set(session.session_id, evolve_session(session, event)))


def evolve_session(
    session: Session,
    event: SessionScheduled | SessionAdvanced | SessionRescheduled | SessionRestarted | KernelAdvanced | KernelStarted,
) -> Session:
    match event:
        case SessionScheduled():
            places = {assignment.kernel_id: assignment for assignment in event.assignments}
            return replace(
                session,
                status=SessionStatus.SCHEDULED,
                deadline=event.deadline,
                reason=Reason.PLACED,
                kernels=_each(
                    session,
                    lambda kernel: replace(
                        kernel,
                        status=KernelStatus.SCHEDULED,
                        incarnation=kernel.incarnation + 1,
                        place=places[kernel.seat.kernel_id],
                    ),
                ),
            )
        case SessionAdvanced():
            return replace(
                session,
                status=event.status,
                reason=event.reason,
                deadline=event.deadline,
                avoid=event.avoid,
                expires=event.deadline if event.status in RUNNING else session.expires,
                running_since=_running_since(session, event),
            )
        case SessionRescheduled():
            return replace(
                session,
                status=SessionStatus.PENDING,
                attempt=event.attempt,
                avoid=event.avoid,
                reason=event.reason,
                deadline=event.deadline,
                ran=False,
                exit_code=None,
                kernels=_each(session, lambda kernel: replace(kernel, status=KernelStatus.PENDING, place=None)),
            )
        case SessionRestarted():
            return replace(
                session,
                status=SessionStatus.RESTARTING,
                reason=Reason.RESTART_REQUESTED,
                deadline=event.deadline,
                kernels=_each(
                    session,
                    lambda kernel: replace(kernel, status=KernelStatus.RESTARTING, incarnation=kernel.incarnation + 1),
                ),
            )
        case KernelAdvanced():
            return _with_kernel(session, event.kernel_id, lambda kernel: replace(kernel, status=event.status))
        case KernelStarted():
            started = _with_kernel(
                session, event.kernel_id, lambda kernel: replace(kernel, status=KernelStatus.RUNNING)
            )
            return replace(started, ran=True)


def _running_since(session: Session, event: SessionAdvanced) -> datetime | None:
    """One that has lost a kernel has run on."""
    if event.status in RUNNING and session.status not in RUNNING:
        return event.at
    return session.running_since


def _requested(event: SessionRequested) -> Session:
    return Session(
        session_id=event.session_id,
        owner=event.owner,
        name=event.name,
        spec=event.spec,
        kernels=tuple(Kernel(seat) for seat in event.kernels),
        status=SessionStatus.PENDING,
        deadline=event.deadline,
    )


def owed(state: Sessions, event: KernelEnded) -> Unconfirmed | None:
    """What this end confirms: a kernel that was given up before. A cancelled one had no place, whatever its number."""
    if event.status is KernelStatus.CANCELLED:
        return None
    return state.unconfirmed.get((event.kernel_id, event.incarnation))


def _kernel_ended(state: Sessions, event: KernelEnded) -> Sessions:
    given_up = (event.kernel_id, event.incarnation)
    if owed(state, event) is not None:
        return replace(state, unconfirmed=state.unconfirmed.delete(given_up))
    session = state.living[event.session_id]
    kernel = session.kernel(event.kernel_id)
    if not event.confirmed and kernel is not None and kernel.agent_id is not None:
        waited_for = Unconfirmed(session.session_id, session.spec, session.attempt, kernel.agent_id)
        state = replace(state, unconfirmed=state.unconfirmed.set(given_up, waited_for))
    ended = _with_kernel(session, event.kernel_id, lambda kernel: replace(kernel, status=event.status))
    if event.kernel_id == session.main.seat.kernel_id:
        ended = replace(ended, exit_code=event.exit_code, ran=ended.ran or event.exit_code is not None)
    return replace(state, living=state.living.set(session.session_id, ended))


def _each(session: Session, change: Callable[[Kernel], Kernel]) -> tuple[Kernel, ...]:
    return tuple(change(kernel) for kernel in session.kernels)


def _with_kernel(session: Session, kernel_id: KernelId, change: Callable[[Kernel], Kernel]) -> Session:
    return replace(
        session,
        kernels=_each(session, lambda kernel: change(kernel) if kernel.seat.kernel_id == kernel_id else kernel),
    )
