"""What an event of a session is called on the event stream, and what is told with it. Pure.

The names are those of the public client; it ignores the ones it does not know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from domain.messages import KernelId, SessionId
from domain.session.messages import (
    KernelAdvanced,
    KernelEnded,
    KernelEvent,
    KernelStarted,
    SessionAdvanced,
    SessionEnded,
    SessionEvents,
    SessionRenamed,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
)
from domain.session.status import KernelStatus, Result, SessionStatus


@dataclass(frozen=True, slots=True)
class Card:
    """What every message about a session carries, and only the event of its request says. `seats`: role and index."""

    session_id: SessionId
    owner: str
    name: str
    project: str
    seats: Mapping[KernelId, tuple[str, int]]

    @classmethod
    def of(cls, requested: SessionRequested) -> "Card":
        seats = {seat.kernel_id: (seat.role, seat.index) for seat in requested.kernels}
        return cls(requested.session_id, requested.owner, requested.name, requested.spec.project, seats)

    def renamed(self, name: str) -> "Card":
        return replace(self, name=name)


@dataclass(frozen=True, slots=True)
class Told:
    """One message of the stream."""

    name: str
    data: Mapping[str, Any]

    @property
    def is_about_kernel(self) -> bool:
        return self.name.startswith("kernel_")


_SESSION_NAMES: Final = {
    SessionStatus.RUNNING: "session_started",
    SessionStatus.RUNNING_DEGRADED: "session_degraded",
}
_KERNEL_NAMES: Final = {
    KernelStatus.TERMINATED: "kernel_terminated",
    KernelStatus.CANCELLED: "kernel_cancelled",
    KernelStatus.ERROR: "kernel_terminated",
}


def tell(event: SessionEvents, card: Card) -> list[Told]:
    """The messages for an event, mostly one. The last one of a session's end is `session_terminated`, unless it never
    ran: then it is `session_cancelled`, or `session_failure` before it when it could not be started."""
    match event:
        case SessionRequested():
            return [_session("session_enqueued", event, card)]
        case SessionScheduled():
            return [_session("session_scheduled", event, card)]
        case SessionAdvanced():
            name = _SESSION_NAMES.get(event.status) or f"session_{event.status.value.lower()}"
            return [_session(name, event, card, reason=event.reason)]
        case SessionRescheduled():
            return [_session("session_rescheduled", event, card, reason=event.reason)]
        case SessionRestarted():
            return [_session("session_restarting", event, card)]
        case SessionRenamed():
            return [_session("session_renamed", event, card)]
        case SessionEnded():
            return _ended(event, card)
        case KernelAdvanced():
            return [_kernel(f"kernel_{event.status.value.lower()}", event, card)]
        case KernelStarted():
            return [_kernel("kernel_started", event, card)]
        case KernelEnded():
            ended = _kernel(_KERNEL_NAMES[event.status], event, card, event.reason, event.exit_code)
            return [ended]
        case _:
            return []


def _ended(event: SessionEnded, card: Card) -> list[Told]:
    last = "session_cancelled" if event.status is SessionStatus.CANCELLED else "session_terminated"
    names = [last]
    if event.result is Result.SUCCESS:
        names = ["session_success", last]
    elif event.result is Result.FAILURE or event.status is SessionStatus.ERROR:
        names = ["session_failure", last]
    return [_session(name, event, card, event.reason, event.exit_code, event.result) for name in names]


def _session(
    name: str,
    event: Any,
    card: Card,
    reason: str | None = None,
    exit_code: int | None = None,
    result: Result | None = None,
) -> Told:
    data = {
        "sessionId": card.session_id,
        "sessionName": card.name,
        "ownerAccessKey": card.owner,
        "reason": reason or "",
        "exitCode": exit_code,
        "at": event.at,
    }
    return Told(name, data if result is None else data | {"result": result})


def _kernel(name: str, event: KernelEvent, card: Card, reason: str | None = None, exit_code: int | None = None) -> Told:
    role, index = card.seats.get(event.kernel_id, ("main", 1))
    told = _session(name, event, card, reason, exit_code)
    return Told(name, {**told.data, "kernelId": event.kernel_id, "clusterRole": role, "clusterIdx": index})
