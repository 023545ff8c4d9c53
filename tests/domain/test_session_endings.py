"""Sessions on their way down, and those that start anew or take another name."""

import pytest

from domain.context import PLACEMENTS, Alarm
from domain.messages import Command
from domain.placements import StartKernel, StopKernel
from domain.scheduling.messages import ReleaseCapacity, WithdrawDemand
from domain.session.consequences import SESSION
from domain.session.messages import (
    KernelEnded,
    RenameSession,
    SessionEnded,
    SessionRenamed,
    SessionRequested,
    SessionRestarted,
)
from domain.session.state import Sessions
from domain.session.status import (
    DEADLINES,
    Reason,
    Result,
)
from tests.domain.sessions import (
    A1,
    A2,
    BATCH,
    K1,
    K2,
    NOW,
    S1,
    SUB,
    K,
    S,
    admitted,
    after,
    at_deadline,
    cancel,
    ended,
    exited,
    failed,
    force,
    gone,
    lose,
    one,
    pending,
    place,
    request,
    restart,
    running,
    scheduled,
    sent,
    started,
    statuses,
    terminate,
    terminating,
    two_running,
)

# -- ending ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [terminate, force, cancel])
def test_a_session_that_still_waits_ends_at_once(command: Command) -> None:
    outcome = pending.when(command)
    reason = Reason.FORCED if command is force else Reason.USER_REQUESTED
    outcome.then(
        ended(K1, K.CANCELLED, reason, incarnation=0),
        SessionEnded(
            at=NOW,
            session_id=S1,
            status=S.CANCELLED,
            reason=reason,
            result=Result.UNDEFINED,
            exit_code=None,
        ),
    )
    assert sent(outcome, "scheduling") == [WithdrawDemand]
    pending.and_when(command).when(command).then_refused("unknown_session")


def test_a_running_session_ends_when_its_agent_has_confirmed() -> None:
    outcome = running.when(terminate)
    assert statuses(outcome) == [("TERMINATING", "user-requested")]
    assert sent(outcome, PLACEMENTS) == [StopKernel]
    terminating.when(terminate).then_nothing()
    over = terminating.when(exited(exit_code=143, how="killed"))
    over.then(
        ended(K1, K.TERMINATED, Reason.USER_REQUESTED, 143),
        SessionEnded(
            at=NOW,
            session_id=S1,
            status=S.TERMINATED,
            reason=Reason.USER_REQUESTED,
            result=Result.UNDEFINED,
            exit_code=143,
        ),
    )
    assert sent(over, "scheduling") == [ReleaseCapacity]


def test_a_kernel_that_was_stopped_before_it_ran_ends_as_it_was_asked_to() -> None:
    over = scheduled.and_when(terminate).when(gone())
    over.then_types(KernelEnded, SessionEnded)
    assert over.only(KernelEnded).status is K.TERMINATED
    assert statuses(over) == [("CANCELLED", "user-requested")]


def test_forcing_does_not_wait_but_keeps_the_capacity_until_the_agent_speaks() -> None:
    for before in (running, terminating):
        outcome = before.when(force)
        assert not outcome.only(KernelEnded).confirmed
        assert statuses(outcome)[-1][0] == "TERMINATED"
        assert sent(outcome, "scheduling") == []
        late = before.and_when(force).when(exited(exit_code=137, how="killed"))
        assert sent(late, "scheduling") == [ReleaseCapacity]


def test_what_has_started_cannot_be_cancelled() -> None:
    running.when(cancel).then_refused("already_started")
    assert statuses(scheduled.when(cancel)) == [("TERMINATING", "user-requested")]
    scheduled.and_when(cancel).when(cancel).then_nothing()


def test_an_end_nobody_confirms_is_given_up_for_the_reason_it_was_asked_for() -> None:
    outcome = terminating.when(at_deadline(terminating))
    assert outcome.only(KernelEnded).reason is Reason.TERMINATION_UNCONFIRMED
    assert statuses(outcome) == [("TERMINATED", "user-requested")]


def test_who_waits_too_long_is_cancelled() -> None:
    assert statuses(pending.when(at_deadline(pending))) == [("CANCELLED", "pending-timeout")]


def test_a_deadline_that_was_moved_has_not_come() -> None:
    early = at_deadline(pending)
    scheduled.when(early).then_nothing()
    pending.when(early.model_copy(update={"deadline": after(1)})).then_nothing()
    admitted.when(early).then_nothing()


@pytest.mark.parametrize(
    ("how", "exit_code", "reason"),
    [("exited", 0, "self-terminated"), ("killed", 137, "killed"), ("oom", 137, "out-of-memory")],
)
def test_an_interactive_session_ends_with_its_main_kernel(how: str, exit_code: int, reason: str) -> None:
    assert statuses(running.when(exited(exit_code=exit_code, how=how))) == [("TERMINATED", reason)]


@pytest.mark.parametrize(
    ("word", "result", "reason"),
    [
        (exited(), Result.SUCCESS, Reason.TASK_DONE),
        (exited(exit_code=3), Result.FAILURE, Reason.TASK_FAILED),
        (exited(exit_code=137, how="oom"), Result.FAILURE, Reason.OUT_OF_MEMORY),
        (gone(), Result.FAILURE, Reason.KERNEL_GONE),
    ],
)
def test_a_batch_session_has_the_result_of_its_command(word: Command, result: Result, reason: Reason) -> None:
    over = admitted.and_when(request(BATCH), place(), started()).when(word).only(SessionEnded)
    assert (over.status, over.result, over.reason) == (S.TERMINATED, result, reason)


def test_a_batch_session_that_was_stopped_has_no_result() -> None:
    stopped = admitted.and_when(request(BATCH), place(), started(), terminate).when(exited(exit_code=143))
    assert stopped.only(SessionEnded).result is Result.UNDEFINED


def test_a_command_that_succeeded_has_succeeded_even_if_a_sub_kernel_does_not_confirm_its_end() -> None:
    done = admitted.and_when(request(BATCH, kernels=2), place(A1, A2), started(), started(K2, agent=A2), exited())
    over = done.when(at_deadline(done)).only(SessionEnded)
    assert (over.result, over.reason, over.exit_code) == (Result.SUCCESS, Reason.TASK_DONE, 0)


def test_without_one_of_the_others_a_session_goes_on_degraded() -> None:
    outcome = two_running.when(exited(K2, agent=A2))
    assert statuses(outcome) == [("RUNNING_DEGRADED", "sub-kernel-ended")]
    two_running.and_when(exited(K2, agent=A2)).when(exited(K2, agent=A2)).then_nothing()


def test_without_its_main_kernel_a_session_brings_the_others_down() -> None:
    outcome = two_running.when(exited())
    assert statuses(outcome) == [("TERMINATING", "self-terminated")]
    (stop,) = [send.message for send in outcome.sends if isinstance(send.message, StopKernel)]
    assert stop.kernel_id == K2


def test_a_session_that_ended_is_forgotten_with_its_name_and_alarm() -> None:
    over = running.when(exited())
    state: Sessions = over.after
    assert not any((state.living, state.names, state.unconfirmed))
    assert SESSION.alarm(over.only(SessionEnded), running.state) == Alarm(S1, None)


# -- removed agents ----------------------------------------------------------------------------------------------------


def test_what_ran_on_a_removed_agent_has_ended() -> None:
    outcome = running.when(lose())
    assert statuses(outcome) == [("TERMINATED", "agent-removed")]
    running.and_when(lose()).when(lose()).then_nothing()


def test_what_had_not_run_on_a_removed_agent_is_tried_elsewhere_and_never_there() -> None:
    outcome = scheduled.when(lose())
    assert statuses(outcome) == [("RESCHEDULING", "agent-removed")]
    (stop,) = [send.message for send in outcome.sends if isinstance(send.message, StopKernel)]
    assert (stop.agent_id, stop.kernel_id, stop.incarnation) == (A1, K1, 1)


def test_a_removed_agent_is_not_waited_for() -> None:
    forced = running.and_when(force)
    forced.when(lose()).then_types(KernelEnded)
    state: Sessions = forced.and_when(lose()).state
    assert not state.unconfirmed
    assert statuses(terminating.when(lose())) == [("TERMINATED", "user-requested")]


def test_a_restarted_kernel_goes_with_its_removed_agent_too() -> None:
    assert statuses(running.and_when(restart).when(lose())) == [("TERMINATED", "agent-removed")]


def test_another_agents_removal_changes_nothing() -> None:
    running.when(lose(agent=A2)).then_nothing()
    running.when(lose(attempt=2)).then_nothing()
    admitted.when(lose()).then_nothing()


# -- restarting and renaming -------------------------------------------------------------------------------------------


def test_a_restart_stops_and_starts_where_it_is() -> None:
    outcome = running.when(restart)
    outcome.then(SessionRestarted(at=NOW, session_id=S1, deadline=after(DEADLINES[S.RESTARTING])))
    assert sent(outcome, PLACEMENTS) == [StopKernel, StartKernel]
    stop, start = (send.message for send in outcome.sends)
    assert isinstance(stop, StopKernel)
    assert isinstance(start, StartKernel)
    assert (stop.incarnation, start.incarnation, start.agent_id) == (1, 2, A1)
    restarting = running.and_when(restart)
    restarting.when(restart).then_nothing()
    restarting.when(exited(exit_code=143)).then_nothing()  # the old incarnation
    assert statuses(restarting.when(started(incarnation=2))) == [("RUNNING", "started")]


def test_only_a_running_session_restarts() -> None:
    pending.when(restart).then_refused("not_running")
    terminating.when(restart).then_refused("not_running")
    admitted.when(restart).then_refused("unknown_session")


def test_a_restart_that_fails_ends_the_session() -> None:
    restarting = running.and_when(restart)
    assert statuses(restarting.when(failed(incarnation=2))) == [("TERMINATED", "start-failed")]
    assert statuses(restarting.when(at_deadline(restarting))) == [("TERMINATING", "start-timeout")]


def test_a_session_takes_a_free_name_once() -> None:
    rename = RenameSession(**one(name="better"))
    pending.when(rename).then(SessionRenamed(at=NOW, session_id=S1, name="better"))
    pending.and_when(rename).when(rename).then_nothing()
    two = pending.and_when(request(session_id="s2", name="better", kernels=[SUB]))
    two.when(rename).then_refused("session_name_taken")
    pending.and_when(rename).when(request(session_id="s2", kernels=[SUB])).then_types(SessionRequested)


@pytest.mark.parametrize("command", [terminate, force, cancel, restart, RenameSession(**one(name="b"))])
def test_what_does_not_live_cannot_be_changed(command: Command) -> None:
    admitted.when(command).then_refused("unknown_session")
