"""The life of sessions and kernels: statuses, legal transitions, reasons, deadlines, and how the status of a session
follows from its kernels'."""

from collections.abc import Sequence
from enum import StrEnum


class SessionStatus(StrEnum):
    PENDING = "PENDING"
    DEPRIORITIZING = "DEPRIORITIZING"
    RESERVED = "RESERVED"
    SCHEDULED = "SCHEDULED"
    PREPARING = "PREPARING"
    PULLING = "PULLING"
    PREPARED = "PREPARED"
    CREATING = "CREATING"
    RUNNING = "RUNNING"
    RUNNING_DEGRADED = "RUNNING_DEGRADED"
    RESTARTING = "RESTARTING"
    PREEMPTED = "PREEMPTED"
    RESCHEDULING = "RESCHEDULING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"


class KernelStatus(StrEnum):
    PENDING = "PENDING"
    SCHEDULED = "SCHEDULED"
    PREPARING = "PREPARING"
    PULLING = "PULLING"
    PREPARED = "PREPARED"
    CREATING = "CREATING"
    RUNNING = "RUNNING"
    RESTARTING = "RESTARTING"
    TERMINATING = "TERMINATING"
    TERMINATED = "TERMINATED"
    CANCELLED = "CANCELLED"
    ERROR = "ERROR"


class SessionType(StrEnum):
    INTERACTIVE = "interactive"
    BATCH = "batch"
    INFERENCE = "inference"
    SYSTEM = "system"


class ClusterMode(StrEnum):
    SINGLE_NODE = "single-node"
    MULTI_NODE = "multi-node"


class Result(StrEnum):
    """How a batch session's work came out; UNDEFINED for every other type and until it ended by itself."""

    UNDEFINED = "UNDEFINED"
    SUCCESS = "SUCCESS"
    FAILURE = "FAILURE"


class Reason(StrEnum):
    """Why a session or kernel is in its status. The list is closed: a reason that is not here cannot be written."""

    REQUESTED = "requested"
    PLACED = "placed"
    PROGRESSED = "progressed"
    STARTED = "started"
    USER_REQUESTED = "user-requested"
    FORCED = "forced"
    RESTART_REQUESTED = "restart-requested"
    SELF_TERMINATED = "self-terminated"
    TASK_DONE = "task-done"
    TASK_FAILED = "task-failed"
    SUB_KERNEL_ENDED = "sub-kernel-ended"
    MAIN_KERNEL_ENDED = "main-kernel-ended"
    KILLED = "killed"
    FENCED = "fenced"
    OUT_OF_MEMORY = "out-of-memory"
    IMAGE_UNAVAILABLE = "image-unavailable"
    START_FAILED = "start-failed"
    START_EXPIRED = "start-expired"
    MOUNT_REFUSED = "mount-refused"
    KERNEL_GONE = "kernel-gone"
    AGENT_REMOVED = "agent-removed"
    PENDING_TIMEOUT = "pending-timeout"
    START_TIMEOUT = "start-timeout"
    LIFETIME_OVER = "lifetime-over"
    IDLE_TIMEOUT = "idle-timeout"
    LOW_UTILISATION = "low-utilisation"
    TERMINATION_UNCONFIRMED = "termination-unconfirmed"
    ATTEMPTS_EXHAUSTED = "attempts-exhausted"


_S, _K = SessionStatus, KernelStatus

STARTING = (_S.SCHEDULED, _S.PREPARING, _S.PULLING, _S.PREPARED, _S.CREATING)
"""Placed but not yet running, in order. A word may get lost on the way, so a later one may follow any earlier one."""

RUNNING = frozenset({_S.RUNNING, _S.RUNNING_DEGRADED})
ENDED = frozenset({_S.TERMINATED, _S.CANCELLED, _S.ERROR})
KERNEL_ENDED = frozenset({_K.TERMINATED, _K.CANCELLED, _K.ERROR})

_GIVEN_UP = frozenset({_S.TERMINATING, _S.CANCELLED, _S.ERROR})
_LOST_PLACE = frozenset({_S.RESCHEDULING, _S.PREEMPTED}) | _GIVEN_UP | {_S.TERMINATED}

TRANSITIONS: dict[SessionStatus, frozenset[SessionStatus]] = {
    _S.PENDING: frozenset({_S.SCHEDULED, _S.RESERVED, _S.DEPRIORITIZING, _S.CANCELLED, _S.ERROR}),
    _S.DEPRIORITIZING: frozenset({_S.PENDING, _S.CANCELLED, _S.ERROR}),
    _S.RESERVED: frozenset({_S.SCHEDULED, _S.PENDING, _S.CANCELLED, _S.ERROR}),
    **{
        status: frozenset({*STARTING[n + 1 :], _S.RUNNING, _S.RUNNING_DEGRADED}) | _LOST_PLACE
        for n, status in enumerate(STARTING)
    },
    _S.RUNNING: frozenset({_S.RUNNING_DEGRADED, _S.RESTARTING, _S.PREEMPTED, _S.TERMINATING, *ENDED}),
    _S.RUNNING_DEGRADED: frozenset({_S.RESTARTING, _S.PREEMPTED, _S.TERMINATING, *ENDED}),
    _S.RESTARTING: frozenset({_S.RUNNING, _S.RUNNING_DEGRADED, _S.TERMINATING, *ENDED}),
    _S.PREEMPTED: frozenset({_S.RESCHEDULING, _S.TERMINATING, *ENDED}),
    _S.RESCHEDULING: frozenset({_S.PENDING, _S.TERMINATING, *ENDED}),
    _S.TERMINATING: ENDED,
    **{status: frozenset() for status in ENDED},
}
"""Every legal step of a session. What is not here cannot be written."""

KERNEL_PROGRESS = (_K.SCHEDULED, _K.PREPARING, _K.PULLING, _K.PREPARED, _K.CREATING, _K.RUNNING)
"""The way of a kernel, forwards only."""

DEADLINES: dict[SessionStatus, float] = {
    _S.PENDING: 7 * 86400.0,  # a busy cluster may make people wait for days; a week is a mistake
    _S.DEPRIORITIZING: 60.0,
    _S.RESERVED: 3600.0,  # victims need their grace to leave
    **dict.fromkeys(STARTING, 1800.0),  # counted once, from placement: large images take long to pull
    _S.RESTARTING: 1800.0,
    _S.PREEMPTED: 600.0,
    _S.RESCHEDULING: 600.0,
    _S.TERMINATING: 600.0,
}
"""Seconds a session may stay in a status that something else must end. A running one ends by a fact (the end of its
kernel is journalled by the agent until it is reported) or by the lifetime its owner's policy allows."""

ATTEMPTS_MAX = 4
"""Placements tried for one session before it is given up; as many hosts failing in a row is the session's own fault."""


def may_follow(before: KernelStatus, after: KernelStatus) -> bool:
    """Whether a kernel on its way up may go from one status to the other: forwards, steps may be left out."""
    if before is _K.RESTARTING:
        return after in KERNEL_PROGRESS[1:]
    return (
        before in KERNEL_PROGRESS
        and after in KERNEL_PROGRESS
        and KERNEL_PROGRESS.index(before) < KERNEL_PROGRESS.index(after)
    )


def derive(status: SessionStatus, kernels: Sequence[KernelStatus]) -> SessionStatus:
    """A session's status from its kernels' (the main kernel's first) and from what it is on its way to.

    On the way down (terminating, rescheduling) it stays so until no kernel is left; its end is decided, not derived. On
    the way up it is as far as its least advanced kernel. While main runs without one of the others it is degraded.
    """
    if status in ENDED or status in {_S.TERMINATING, _S.RESCHEDULING, _S.PREEMPTED}:
        return status
    if all(kernel is _K.PENDING for kernel in kernels):
        return status
    alive = [kernel for kernel in kernels if kernel not in KERNEL_ENDED]
    if not alive:
        return status
    if all(kernel is _K.RUNNING for kernel in alive):
        return _S.RUNNING if len(alive) == len(kernels) else _S.RUNNING_DEGRADED
    if status in {_S.RESTARTING, _S.RUNNING, _S.RUNNING_DEGRADED}:
        return status
    least = min(alive, key=KERNEL_PROGRESS.index)
    return _S(least.value)
