"""Who asks for what a kernel needs is believed by the log itself, as soon as it says where the kernel is placed."""

from api.hosts.placed import Placed
from domain.messages import AccessKey, AgentId, Event, KernelId, SessionId
from domain.session.messages import (
    Assignment,
    KernelEnded,
    Seat,
    SessionEnded,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
    SessionSpec,
)
from domain.session.status import KernelStatus, Reason, Result, SessionStatus
from infra.log import Partition, Record
from tests.whole import now

S1 = SessionId("s1")
MAIN, SUB = KernelId("s1"), KernelId("s1-sub")
A1, A2 = AgentId("a1"), AgentId("a2")


def said(*events: Event) -> Placed:
    placed = Placed()
    for event in events:
        headers = {"ce_type": type(event).__name__.encode(), "ce_subject": event.subject.encode()}
        value = event.model_dump_json().encode()
        placed.take(Record(Partition("session.events", 0), 0, b"ADA", tuple(headers.items()), value), headers)
    return placed


def kernels(*events: Event) -> dict[KernelId, AgentId] | None:
    found = said(*events).session(S1)
    return None if found is None else found.kernels


def requested() -> SessionRequested:
    seats = (Seat(kernel_id=MAIN, role="main", index=1), Seat(kernel_id=SUB, role="sub", index=1))
    spec = SessionSpec(image="python", slots={"cpu": 1000})
    return SessionRequested(
        at=now(), session_id=S1, owner=AccessKey("ADA"), name="one", spec=spec, kernels=seats, deadline=now()
    )


def scheduled(attempt: int, agent: AgentId) -> SessionScheduled:
    places = tuple(Assignment(kernel_id=kernel_id, agent_id=agent) for kernel_id in (MAIN, SUB))
    return SessionScheduled(at=now(), session_id=S1, attempt=attempt, assignments=places, deadline=now())


def ended(kernel_id: KernelId, incarnation: int) -> KernelEnded:
    return KernelEnded(
        at=now(), session_id=S1, kernel_id=kernel_id, incarnation=incarnation, exit_code=None,
        status=KernelStatus.ERROR, reason=Reason.START_FAILED,
    )  # fmt: skip


def test_kernels_are_where_they_were_placed_last() -> None:
    again = SessionRescheduled(
        at=now(), session_id=S1, attempt=2, avoid=(A1,), reason=Reason.START_FAILED, deadline=now()
    )
    assert kernels(requested()) == {}
    assert kernels(requested(), scheduled(1, A1)) == {MAIN: A1, SUB: A1}
    assert kernels(requested(), scheduled(1, A1), again) == {}
    assert kernels(requested(), scheduled(1, A1), again, scheduled(2, A2)) == {MAIN: A2, SUB: A2}


def test_a_kernel_that_has_ended_is_nowhere_and_an_earlier_end_changes_nothing() -> None:
    restarted = SessionRestarted(at=now(), session_id=S1, deadline=now())
    assert kernels(requested(), scheduled(1, A1), ended(SUB, 1)) == {MAIN: A1}
    assert kernels(requested(), scheduled(1, A1), restarted, ended(SUB, 1)) == {MAIN: A1, SUB: A1}
    assert kernels(requested(), scheduled(1, A1), restarted, ended(SUB, 2)) == {MAIN: A1}


def test_of_what_has_ended_or_began_before_nothing_is_known_here() -> None:
    end = SessionEnded(
        at=now(), session_id=S1, status=SessionStatus.TERMINATED, reason=Reason.KILLED, result=Result.UNDEFINED,
        exit_code=None,
    )  # fmt: skip
    assert kernels(requested(), scheduled(1, A1), end) is None
    assert kernels(scheduled(1, A1)) is None
