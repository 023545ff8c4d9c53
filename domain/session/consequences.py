"""What follows from an event of a session: words to the scheduler and to its folders, orders to agents, and its next
deadline.

All of it sees the state before the event, so that what has just ended still says where it was.
"""

from collections.abc import Sequence

from domain.context import PLACEMENTS, Alarm, Context, Send
from domain.messages import AgentId
from domain.placements import Peer, StartKernel, StopKernel
from domain.scheduling.messages import Claim, DemandPlacement, ReleaseCapacity, WithdrawDemand
from domain.session.decider import decide
from domain.session.messages import (
    COMMANDS,
    EVENTS,
    KernelEnded,
    PassDeadline,
    SessionAdvanced,
    SessionCommands,
    SessionEnded,
    SessionEvents,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
    SessionSpec,
)
from domain.session.state import Kernel, Session, Sessions, evolve, evolve_session, owed
from domain.session.status import Reason, SessionStatus, SessionType
from domain.vfolder.messages.reports import MountFolder, UnmountFolder
from domain.vfolder.mounts import RANK, FolderId, Mount

NAME = "session"


def consequences(event: SessionEvents, before: Sessions) -> Sequence[Send]:
    match event:
        case SessionRequested():
            return [*_mounts(event), _demand(evolve(before, event).living[event.session_id], event, ())]
        case SessionRescheduled():
            session = evolve_session(before.living[event.session_id], event)
            return [_demand(session, event, event.avoid)]
        case SessionScheduled():
            session = evolve_session(before.living[event.session_id], event)
            return [_start(session, kernel, event) for kernel in session.kernels]
        case SessionRestarted():
            session = before.living[event.session_id]
            again = evolve_session(session, event)
            return [*_stops(session, event), *(_start(again, kernel, event) for kernel in again.kernels)]
        case SessionAdvanced(status=SessionStatus.TERMINATING | SessionStatus.RESCHEDULING):
            return _stops(before.living[event.session_id], event)
        case KernelEnded():
            return [*_release(event, before), *_bar(event, before)]
        case SessionEnded():
            session = before.living[event.session_id]
            withdrawal = [_withdraw(session, event)] if session.status is SessionStatus.PENDING else []
            return [*withdrawal, *_unmounts(session, event)]
        case _:
            return []


def alarm(event: SessionEvents, before: Sessions) -> Alarm | None:
    """One alarm a session: for the deadline of the status it is in."""
    match event:
        case SessionRequested():
            owner, status, due = event.owner, SessionStatus.PENDING, event.deadline
        case SessionScheduled():
            owner, status, due = (
                before.living[event.session_id].owner,
                SessionStatus.SCHEDULED,
                event.deadline,
            )
        case SessionRescheduled():
            owner, status, due = before.living[event.session_id].owner, SessionStatus.PENDING, event.deadline
        case SessionRestarted():
            owner, status, due = (
                before.living[event.session_id].owner,
                SessionStatus.RESTARTING,
                event.deadline,
            )
        case SessionAdvanced(deadline=None) | SessionEnded():
            return Alarm(event.session_id, None)
        case SessionAdvanced():
            assert event.deadline is not None
            owner, status, due = before.living[event.session_id].owner, event.status, event.deadline
        case _:
            return None
    passed = PassDeadline(at=due, owner=owner, session_id=event.session_id, status=status, deadline=due)
    return Alarm(event.session_id, due, passed)


def _demand(session: Session, event: SessionEvents, avoid: tuple[AgentId, ...]) -> Send:
    spec = session.spec
    claim = Claim(
        session_id=session.session_id,
        owner=session.owner,
        attempt=session.attempt,
        resource_group=spec.resource_group,
        architecture=spec.architecture,
        kernels=tuple(kernel.seat.kernel_id for kernel in session.kernels),
        slots=spec.slots,
        together=spec.cluster_mode.value == "single-node",
        needs=_needs(spec, len(session.kernels)),
        avoid=avoid,
    )
    return Send("scheduling", DemandPlacement(at=event.at, cell=spec.cell, claim=claim))


def _mounts(event: SessionRequested) -> list[Send]:
    """Its folders are its own until it ends, so that they stay where they are. Each is asked for once, and for the most
    that is to be done in it, wherever its parts are mounted."""
    most: dict[FolderId, Mount] = {}
    for mount in event.spec.mounts:
        known = most.get(mount.folder.folder_id)
        if known is None or RANK[known.permission] < RANK[mount.permission]:
            most[mount.folder.folder_id] = mount
    return [
        Send(
            "vfolder",
            MountFolder(
                at=event.at,
                scope=mount.folder.scope,
                folder_id=folder_id,
                session_id=event.session_id,
                owner=event.owner,
                user_id=mount.user_id,
                permission=mount.permission,
                by_project=mount.by_project,
            ),
        )
        for folder_id, mount in most.items()
    ]


def _unmounts(session: Session, event: SessionEnded) -> list[Send]:
    scopes = {mount.folder.folder_id: mount.folder.scope for mount in session.spec.mounts}
    return [
        Send(
            "vfolder",
            UnmountFolder(at=event.at, scope=scope, folder_id=folder_id, session_id=session.session_id),
        )
        for folder_id, scope in scopes.items()
    ]


def _withdraw(session: Session, event: SessionEvents) -> Send:
    withdrawal = WithdrawDemand(
        at=event.at, cell=session.spec.cell, session_id=session.session_id, attempt=session.attempt
    )
    return Send("scheduling", withdrawal)


def _release(event: KernelEnded, before: Sessions) -> Sequence[Send]:
    """Its capacity is free once its agent has said that it is gone."""
    if not event.confirmed:
        return []
    if (waited_for := owed(before, event)) is not None:
        spec: SessionSpec = waited_for.spec
        attempt = waited_for.attempt
    else:
        session = before.living[event.session_id]
        kernel = session.kernel(event.kernel_id)
        if kernel is None or kernel.place is None:
            return []
        spec, attempt = session.spec, session.attempt
    released = ReleaseCapacity(
        at=event.at, cell=spec.cell, session_id=event.session_id, attempt=attempt, kernel_id=event.kernel_id
    )
    return [Send("scheduling", released)]


def _bar(event: KernelEnded, before: Sessions) -> list[Send]:
    """Should the host that was removed come back, it is not to carry out an old order to start this kernel."""
    session = before.living.get(event.session_id)
    if event.reason is not Reason.AGENT_REMOVED or session is None:
        return []
    return [stop for stop in _stops(session, event) if stop.message.subject == event.kernel_id]


def _start(session: Session, kernel: Kernel, event: SessionScheduled | SessionRestarted) -> Send:
    assert kernel.place is not None
    spec = session.spec
    is_main = kernel is session.main
    runs_command = is_main and spec.startup_command and spec.session_type is SessionType.BATCH
    order = StartKernel(
        at=event.at,
        agent_id=kernel.place.agent_id,
        owner=session.owner,
        session_id=session.session_id,
        kernel_id=kernel.seat.kernel_id,
        incarnation=kernel.incarnation,
        image=spec.image,
        project_id=spec.project_id,
        command=("/bin/sh", "-c", spec.startup_command) if runs_command and spec.startup_command else None,
        environ=_cluster_environ(session, kernel),
        sealed_environ=spec.environ,
        sealed_bootstrap=spec.bootstrap_script,
        hostname=kernel.seat.hostname,
        slots=spec.slots,
        devices=kernel.place.devices,
        runtime_class=spec.runtime_class,
        shm_bytes=spec.shm_bytes,
        preopen_ports=spec.preopen_ports if is_main else (),
        peers=_peers(session),
        fence_after_seconds=spec.fence_after_seconds,
        mounts=spec.mounts,
        not_after=event.deadline,
    )
    return Send(PLACEMENTS, order)


def _stops(session: Session, event: SessionEvents) -> list[Send]:
    return [
        Send(
            PLACEMENTS,
            StopKernel(
                at=event.at,
                agent_id=kernel.place.agent_id,
                owner=session.owner,
                session_id=session.session_id,
                kernel_id=kernel.seat.kernel_id,
                incarnation=kernel.incarnation,
            ),
        )
        for kernel in session.alive
        if kernel.place is not None
    ]


def _peers(session: Session) -> tuple[Peer, ...]:
    """Of a cluster session: where all its kernels are."""
    if len(session.kernels) == 1:
        return ()
    return tuple(
        Peer(
            hostname=kernel.seat.hostname,
            kernel_id=kernel.seat.kernel_id,
            agent_id=kernel.place.agent_id,
            host=kernel.place.host,
        )
        for kernel in session.kernels
        if kernel.place is not None
    )


def _needs(spec: SessionSpec, kernels: int) -> tuple[str, ...]:
    """What its agents must be able to do."""
    needs = [] if spec.runtime_class is None else [f"runtime:{spec.runtime_class.value}"]
    if kernels > 1:
        needs.append(f"cluster:{spec.cluster_mode.value}")
    return (*needs, *dict.fromkeys(mount.needs for mount in spec.mounts))


def _cluster_environ(session: Session, kernel: Kernel) -> dict[str, str]:
    """The variables by which a kernel finds the others (catalogue SES-7)."""
    seats = [each.seat for each in session.kernels]
    roles = list(dict.fromkeys(seat.role for seat in seats))
    return {
        "BACKENDAI_SESSION_ID": session.session_id,
        "BACKENDAI_KERNEL_ID": kernel.seat.kernel_id,
        "BACKENDAI_CLUSTER_SIZE": str(len(seats)),
        "BACKENDAI_CLUSTER_HOSTS": ",".join(seat.hostname for seat in seats),
        "BACKENDAI_CLUSTER_REPLICAS": ",".join(f"{role}:{sum(seat.role == role for seat in seats)}" for role in roles),
        "BACKENDAI_CLUSTER_HOST": kernel.seat.hostname,
        "BACKENDAI_CLUSTER_IDX": str(kernel.seat.index),
        "BACKENDAI_CLUSTER_ROLE": kernel.seat.role,
        "BACKENDAI_CLUSTER_LOCAL_RANK": str(seats.index(kernel.seat)),
    }


SESSION: Context[SessionCommands, SessionEvents, Sessions] = Context(
    name=NAME,
    commands=COMMANDS,
    events=EVENTS,
    empty=Sessions(),
    decide=decide,
    evolve=evolve,
    consequences=consequences,
    alarm=alarm,
)
