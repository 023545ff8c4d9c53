"""Folds the session context's events into `session_list`, `kernel_list` and `session_history`."""

from collections.abc import Iterable
from datetime import datetime
from typing import assert_never

from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from domain.session.messages import (
    KernelAdvanced,
    KernelEnded,
    KernelStarted,
    SessionAdvanced,
    SessionEnded,
    SessionEvent,
    SessionEvents,
    SessionLimitsSet,
    SessionRenamed,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
)
from domain.session.status import ENDED, KERNEL_ENDED, KernelStatus, Reason, Result, SessionStatus
from domain.vfolder.mounts import Mount
from infra.decoding import Told
from projections.session_history import SESSION_HISTORY, HistoryRow
from projections.session_list import KERNEL_LIST, SESSION_LIST, KernelRow, SessionRow
from projections.table import Json, Keys, Projection, Rows, bounded

_RUNNING = frozenset({SessionStatus.RUNNING, SessionStatus.RUNNING_DEGRADED})
_GOING = frozenset({SessionStatus.TERMINATING, SessionStatus.RESCHEDULING, SessionStatus.PREEMPTED})


def keys(told: Told, rows: Rows) -> Keys:
    event = told.event
    if not isinstance(event, SessionEvent):
        return
    key = (told.key, event.session_id)
    yield SESSION_LIST, key
    match event:
        case KernelAdvanced() | KernelStarted() | KernelEnded():
            yield KERNEL_LIST, (*key, event.kernel_id)
        case SessionRequested():
            former = rows.peek(SESSION_LIST, key)
            for kernel_id in former.kernels if former else ():
                yield KERNEL_LIST, (*key, kernel_id)
            for seat in event.kernels:
                yield KERNEL_LIST, (*key, seat.kernel_id)
        case SessionScheduled() | SessionAdvanced() | SessionRescheduled() | SessionRestarted():
            session = rows.peek(SESSION_LIST, key)
            for kernel_id in session.kernels if session else ():
                yield KERNEL_LIST, (*key, kernel_id)


def fold(rows: Rows, told: Told) -> None:
    event: SessionEvents | ShardOpened | CommandRefused | CommandUnneeded = told.event  # type: ignore[assignment]
    match event:
        case ShardOpened() | CommandRefused() | CommandUnneeded() | SessionLimitsSet():
            pass
        case SessionRequested():
            _requested(rows, told, event)
        case SessionScheduled():
            _scheduled(rows, told, event)
        case SessionAdvanced():
            _advanced(rows, told, event)
        case SessionRescheduled():
            _rescheduled(rows, told, event)
        case SessionRestarted():
            _restarted(rows, told, event)
        case SessionRenamed():
            _session(rows, told, event).name = event.name
        case SessionEnded():
            _ended(rows, told, event)
        case KernelAdvanced():
            _kernel_advanced(rows, told, event)
        case KernelStarted():
            _kernel_started(rows, told, event)
        case KernelEnded():
            _kernel_ended(rows, told, event)
        case _:
            assert_never(event)


SESSIONS = Projection(
    "sessions",
    contexts=("session",),
    tables=(SESSION_LIST, KERNEL_LIST, SESSION_HISTORY),
    keys=keys,
    fold=fold,
)


def _mount(mount: Mount) -> Json:
    return {
        "name": mount.name,
        "vfid": mount.folder.folder_id,
        "host": mount.folder.host,
        "vfsubpath": mount.subpath,
        "mount_perm": mount.permission.value,
    }


def _requested(rows: Rows, told: Told, event: SessionRequested) -> None:
    former = rows.find(SESSION_LIST, (told.key, event.session_id))
    for kernel_id in former.kernels if former else ():
        rows.remove(KERNEL_LIST, (told.key, event.session_id, kernel_id))
    spec = event.spec
    session = SessionRow(
        owner=told.key,
        session_id=event.session_id,
        name=event.name,
        session_type=spec.session_type.value,
        image=spec.image,
        architecture=spec.architecture,
        status=SessionStatus.PENDING.value,
        reason=Reason.REQUESTED.value,
        result=Result.UNDEFINED.value,
        exit_code=None,
        project=spec.project,
        project_id=spec.project_id,
        domain=spec.domain,
        resource_group=spec.resource_group,
        cell=spec.cell,
        cluster_mode=spec.cluster_mode.value,
        cluster_size=len(event.kernels),
        tag=spec.tag,
        slots=spec.slots,
        environ=sorted(spec.environ),
        startup_command=spec.startup_command,
        runtime_class=None if spec.runtime_class is None else spec.runtime_class.value,
        shm_bytes=bounded(spec.shm_bytes),
        preopen_ports=list(spec.preopen_ports),
        mounts={each.path: _mount(each) for each in spec.mounts},
        attempt=1,
        kernels=[seat.kernel_id for seat in event.kernels],
        requested_at=event.at,
        scheduled_at=None,
        started_at=None,
        ended_at=None,
        status_changed_at=event.at,
        deadline=event.deadline,
        partition=told.record.partition.number,
        first_offset=told.record.offset,
        last_offset=told.record.offset,
    )
    rows.put(SESSION_LIST, session)
    for seat in event.kernels:
        kernel = KernelRow(
            owner=told.key,
            session_id=event.session_id,
            kernel_id=seat.kernel_id,
            role=seat.role,
            index=bounded(seat.index),
            hostname=seat.hostname,
            status=KernelStatus.PENDING.value,
            reason=Reason.REQUESTED.value,
            incarnation=0,
            agent_id=None,
            devices={},
            runtime_id=None,
            exit_code=None,
            message="",
            confirmed=False,
            status_changed_at=event.at,
            started_at=None,
            ended_at=None,
        )
        rows.put(KERNEL_LIST, kernel)
    _tell(rows, told, session, ())


def _scheduled(rows: Rows, told: Told, event: SessionScheduled) -> None:
    session = _session(rows, told, event)
    _enter(session, SessionStatus.SCHEDULED, Reason.PLACED, event.at)
    session.scheduled_at = event.at
    session.deadline = event.deadline
    for place in event.assignments:
        kernel = rows.change(KERNEL_LIST, (session.owner, session.session_id, place.kernel_id))
        _anew(kernel, KernelStatus.SCHEDULED, Reason.PLACED, event.at)
        kernel.incarnation += 1
        kernel.agent_id = place.agent_id
        kernel.devices = {slot: list(ids) for slot, ids in place.devices.items()}
    _tell(rows, told, session, [place.agent_id for place in event.assignments])


def _advanced(rows: Rows, told: Told, event: SessionAdvanced) -> None:
    session = _session(rows, told, event)
    _enter(session, event.status, event.reason, event.at)
    session.deadline = event.deadline
    if event.status in _RUNNING and session.started_at is None:
        session.started_at = event.at
    kernels = _kernels(rows, session)
    if event.status in _GOING:
        for kernel in kernels:
            if kernel.status not in KERNEL_ENDED:
                rows.change(KERNEL_LIST, (kernel.owner, kernel.session_id, kernel.kernel_id))
                kernel.status = KernelStatus.TERMINATING.value
                kernel.reason = event.reason.value
                kernel.status_changed_at = event.at
    _tell(rows, told, session, [kernel.agent_id for kernel in kernels if kernel.agent_id])


def _rescheduled(rows: Rows, told: Told, event: SessionRescheduled) -> None:
    session = _session(rows, told, event)
    _enter(session, SessionStatus.PENDING, event.reason, event.at)
    session.deadline = event.deadline
    session.scheduled_at = None
    session.started_at = None
    before = [kernel.agent_id for kernel in _kernels(rows, session) if kernel.agent_id]
    _tell(rows, told, session, before)  # still of the attempt that failed: that is whom it is about
    session.attempt = event.attempt
    for kernel in _kernels(rows, session):
        rows.change(KERNEL_LIST, (kernel.owner, kernel.session_id, kernel.kernel_id))
        _anew(kernel, KernelStatus.PENDING, event.reason, event.at)
        kernel.agent_id = None
        kernel.devices = {}


def _restarted(rows: Rows, told: Told, event: SessionRestarted) -> None:
    session = _session(rows, told, event)
    _enter(session, SessionStatus.RESTARTING, Reason.RESTART_REQUESTED, event.at)
    session.deadline = event.deadline
    kernels = _kernels(rows, session)
    for kernel in kernels:
        rows.change(KERNEL_LIST, (kernel.owner, kernel.session_id, kernel.kernel_id))
        _anew(kernel, KernelStatus.RESTARTING, Reason.RESTART_REQUESTED, event.at)
        kernel.incarnation += 1
    _tell(rows, told, session, [kernel.agent_id for kernel in kernels if kernel.agent_id])


def _ended(rows: Rows, told: Told, event: SessionEnded) -> None:
    session = _session(rows, told, event)
    assert event.status in ENDED
    _enter(session, event.status, event.reason, event.at)
    session.result = event.result.value
    session.exit_code = bounded(event.exit_code)
    session.ended_at = event.at
    session.deadline = None
    _tell(rows, told, session, ())


def _kernel_advanced(rows: Rows, told: Told, event: KernelAdvanced) -> None:
    session, kernel = _session(rows, told, event), _kernel(rows, told, event)
    kernel.status = event.status.value
    kernel.reason = Reason.PROGRESSED.value
    kernel.status_changed_at = event.at
    _tell_kernel(rows, told, session, kernel)


def _kernel_started(rows: Rows, told: Told, event: KernelStarted) -> None:
    session, kernel = _session(rows, told, event), _kernel(rows, told, event)
    kernel.status = KernelStatus.RUNNING.value
    kernel.reason = Reason.STARTED.value
    kernel.runtime_id = event.runtime_id
    kernel.started_at = event.at
    kernel.status_changed_at = event.at
    _tell_kernel(rows, told, session, kernel)


def _kernel_ended(rows: Rows, told: Told, event: KernelEnded) -> None:
    """Also the late confirmation of one that was given up, which may have been placed anew meanwhile."""
    session = _session(rows, told, event)
    kernel = rows.find(KERNEL_LIST, (told.key, event.session_id, event.kernel_id))
    if kernel is None or kernel.incarnation != event.incarnation or _is_late(kernel, event):
        _tell_end(rows, told, session, event, [])
        return
    rows.change(KERNEL_LIST, (told.key, event.session_id, event.kernel_id))
    if kernel.ended_at is None:
        kernel.status = event.status.value
        kernel.reason = event.reason.value
        kernel.message = event.message
        kernel.ended_at = event.at
        kernel.status_changed_at = event.at
    kernel.exit_code = bounded(event.exit_code)
    kernel.confirmed = event.confirmed
    _tell_end(rows, told, session, event, [kernel.agent_id] if kernel.agent_id else [])


def _is_late(kernel: KernelRow, event: KernelEnded) -> bool:
    """Whether it is about a placement that the row no longer shows: what waits for a place can only be cancelled."""
    return kernel.status == KernelStatus.PENDING and event.status is not KernelStatus.CANCELLED


def _session(rows: Rows, told: Told, event: SessionEvent) -> SessionRow:
    session = rows.change(SESSION_LIST, (told.key, event.session_id))
    session.last_offset = told.record.offset
    return session


def _kernel(rows: Rows, told: Told, event: KernelAdvanced | KernelStarted) -> KernelRow:
    return rows.change(KERNEL_LIST, (told.key, event.session_id, event.kernel_id))


def _kernels(rows: Rows, session: SessionRow) -> list[KernelRow]:
    found = (rows.find(KERNEL_LIST, (session.owner, session.session_id, each)) for each in session.kernels)
    return [kernel for kernel in found if kernel is not None]


def _enter(session: SessionRow, status: SessionStatus, reason: Reason, at: datetime) -> None:
    session.status = status.value
    session.reason = reason.value
    session.status_changed_at = at


def _anew(kernel: KernelRow, status: KernelStatus, reason: Reason, at: datetime) -> None:
    """Nothing of how it ran before is true any more; the history keeps it."""
    kernel.status = status.value
    kernel.reason = reason.value
    kernel.status_changed_at = at
    kernel.runtime_id = None
    kernel.exit_code = None
    kernel.message = ""
    kernel.confirmed = False
    kernel.started_at = None
    kernel.ended_at = None


def _tell(rows: Rows, told: Told, session: SessionRow, agents: Iterable[str]) -> None:
    _add(
        rows,
        told,
        session,
        status=session.status,
        reason=session.reason,
        agents=list(dict.fromkeys(agents)),
        exit_code=session.exit_code,
    )


def _tell_kernel(rows: Rows, told: Told, session: SessionRow, kernel: KernelRow) -> None:
    _add(
        rows,
        told,
        session,
        status=kernel.status,
        reason=kernel.reason,
        agents=[kernel.agent_id] if kernel.agent_id else [],
        kernel_id=kernel.kernel_id,
        incarnation=kernel.incarnation,
    )


def _tell_end(rows: Rows, told: Told, session: SessionRow, event: KernelEnded, agents: list[str]) -> None:
    _add(
        rows,
        told,
        session,
        status=event.status.value,
        reason=event.reason.value,
        agents=agents,
        kernel_id=event.kernel_id,
        incarnation=event.incarnation,
        exit_code=event.exit_code,
        message=event.message,
    )


def _add(
    rows: Rows,
    told: Told,
    session: SessionRow,
    *,
    status: str,
    reason: str,
    agents: list[str],
    kernel_id: str | None = None,
    incarnation: int | None = None,
    exit_code: int | None = None,
    message: str = "",
) -> None:
    entry = HistoryRow(
        owner=session.owner,
        session_id=session.session_id,
        log_offset=told.record.offset,
        partition=told.record.partition.number,
        event_id=told.event_id,
        event=type(told.event).__name__,
        at=told.event.at,
        status=status,
        reason=reason,
        attempt=session.attempt,
        agents=agents,
        kernel_id=kernel_id,
        incarnation=bounded(incarnation),
        exit_code=bounded(exit_code),
        message=message,
    )
    rows.put(SESSION_HISTORY, entry)
