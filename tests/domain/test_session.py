"""Sessions: what each command leads to, when it is refused, and when it changes nothing."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from domain.context import PLACEMENTS, Alarm, AnyContext
from domain.messages import AccessKey, AgentId, Cell, Command, KernelId, SessionId
from domain.placements import StartKernel, StopKernel
from domain.scheduling.messages import DemandPlacement, ReleaseCapacity, WithdrawDemand
from domain.session.consequences import SESSION
from domain.session.messages import (
    Assignment,
    CancelSession,
    KernelAdvanced,
    KernelEnded,
    KernelStarted,
    Limits,
    LoseKernel,
    PassDeadline,
    PlaceSession,
    RenameSession,
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
    SessionLimitsSet,
    SessionRenamed,
    SessionRequested,
    SessionRescheduled,
    SessionRestarted,
    SessionScheduled,
    SessionSpec,
    SetSessionLimits,
    TerminateSession,
)
from domain.session.state import Sessions
from domain.session.status import (
    ATTEMPTS_MAX,
    DEADLINES,
    ClusterMode,
    KernelStatus,
    Reason,
    Result,
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


# -- limits ------------------------------------------------------------------------------------------------------------


def test_limits_are_set_once() -> None:
    given(SESSION).when(admit()).then(SessionLimitsSet(at=NOW, owner=OWNER, limits=limits()))
    admitted.when(admit()).then_nothing()


def test_a_keypair_that_was_taken_away_starts_nothing_more_and_keeps_what_runs() -> None:
    without = running.and_when(SetSessionLimits(at=NOW, owner=OWNER, limits=None))
    without.when(request(session_id="s2", name="other")).then_refused("keypair_not_admitted")
    without.when(terminate).then_types(SessionAdvanced)


# -- requesting --------------------------------------------------------------------------------------------------------


def test_a_requested_session_waits_for_its_places() -> None:
    outcome = admitted.when(request())
    outcome.then(
        SessionRequested(
            at=NOW,
            session_id=S1,
            owner=OWNER,
            name="job",
            spec=INTERACTIVE,
            kernels=(MAIN,),
            deadline=after(DEADLINES[S.PENDING]),
        )
    )
    assert sent(outcome, "scheduling") == [DemandPlacement]


def test_nobody_asks_without_having_been_admitted() -> None:
    given(SESSION).when(request()).then_refused("keypair_not_admitted")


def test_a_name_belongs_to_one_living_session_of_its_owner() -> None:
    pending.when(request(session_id="s2", kernels=[MAIN])).then_refused("session_name_taken")
    pending.and_when(terminate).when(request(session_id="s2")).then_types(SessionRequested)


def test_asking_again_for_a_session_that_may_be_reused_gives_the_living_one() -> None:
    outcome = pending.when(request(session_id="s2", reuse=True))
    outcome.then_nothing()
    assert outcome.unneeded is not None
    assert outcome.unneeded.subject == S1
    other_image = INTERACTIVE.model_copy(update={"image": "r"})
    pending.when(request(other_image, session_id="s2", reuse=True)).then_refused("session_name_taken")


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (request(name="other"), "session_id_taken"),
        (request(session_id="s2", name="b", kernels=[MAIN, SUB, SUB]), "kernel_id_repeated"),
        (request(session_id="s2", name="b", kernels=[MAIN, {**SUB.model_dump(), "role": "main"}]), "hostname_repeated"),
        (
            request(
                session_id="s2",
                name="b",
                kernels=[MAIN, SUB, {"kernel_id": "k3", "role": "sub", "index": 2}],
            ),
            "too_many_kernels",
        ),
        (
            request(BATCH.model_copy(update={"startup_command": None}), session_id="s2", name="b"),
            "no_startup_command",
        ),
        (
            request(INTERACTIVE.model_copy(update={"slots": {"cuda.device": 500}}), session_id="s2", name="b"),
            "bad_slots",
        ),
    ],
)
def test_an_impossible_request_is_refused(command: RequestSession, code: str) -> None:
    pending.when(command).then_refused(code)


def test_no_more_sessions_at_a_time_than_the_policy_allows() -> None:
    given(SESSION).and_when(admit(limits(1)), request()).when(request(session_id="s2", name="b")).then_refused(
        "too_many_sessions"
    )


# -- placing -----------------------------------------------------------------------------------------------------------


def test_a_placed_session_is_started_on_its_agents() -> None:
    outcome = pending.when(place())
    assignment = Assignment(kernel_id=K1, agent_id=A1)
    deadline = after(DEADLINES[S.SCHEDULED])
    outcome.then(SessionScheduled(at=NOW, session_id=S1, attempt=1, assignments=(assignment,), deadline=deadline))
    (send,) = outcome.sends
    order = send.message
    assert isinstance(order, StartKernel)
    assert (send.to, order.agent_id, order.incarnation, order.hostname) == (PLACEMENTS, A1, 1, "main1")
    assert order.not_after == deadline
    assert order.environ["BACKENDAI_CLUSTER_SIZE"] == "1"


def test_a_placement_nobody_waits_for_changes_nothing() -> None:
    admitted.when(place()).then_nothing()
    scheduled.when(place()).then_nothing()
    pending.when(place(attempt=2)).then_nothing()
    pending.and_when(cancel).when(place()).then_nothing()


def test_a_placement_must_name_every_kernel() -> None:
    admitted.and_when(request(kernels=2)).when(place(A1)).then_refused("wrong_kernels")


def test_only_the_main_kernel_of_a_batch_session_runs_its_command() -> None:
    outcome = admitted.and_when(request(BATCH, kernels=2)).when(place(A1, A2))
    commands = [send.message.command for send in outcome.sends if isinstance(send.message, StartKernel)]
    assert commands == [("/bin/sh", "-c", "true"), None]


def test_kernels_of_a_multi_node_session_may_be_apart_and_know_each_other() -> None:
    spec = INTERACTIVE.model_copy(update={"cluster_mode": ClusterMode.MULTI_NODE})
    asked = admitted.when(request(spec, kernels=2))
    (demand,) = [send.message for send in asked.sends if isinstance(send.message, DemandPlacement)]
    assert not demand.claim.together
    outcome = admitted.and_when(request(spec, kernels=2)).when(place(A1, A2))
    environs = [send.message.environ for send in outcome.sends if isinstance(send.message, StartKernel)]
    assert {environ["BACKENDAI_CLUSTER_HOSTS"] for environ in environs} == {"main1,sub1"}
    assert [environ["BACKENDAI_CLUSTER_HOST"] for environ in environs] == ["main1", "sub1"]
    assert {environ["BACKENDAI_CLUSTER_REPLICAS"] for environ in environs} == {"main:1,sub:1"}


# -- starting ----------------------------------------------------------------------------------------------------------


def test_a_session_follows_its_kernel_and_keeps_its_deadline() -> None:
    deadline = after(DEADLINES[S.SCHEDULED])
    scheduled.when(progress(K.PULLING)).then(
        KernelAdvanced(at=NOW, session_id=S1, kernel_id=K1, incarnation=1, status=K.PULLING),
        SessionAdvanced(at=NOW, session_id=S1, status=S.PULLING, reason=Reason.PROGRESSED, deadline=deadline),
    )


def test_a_session_is_as_far_as_its_slowest_kernel() -> None:
    two = admitted.and_when(request(kernels=2), place(A1, A2))
    two.when(started()).then_types(KernelStarted)
    assert statuses(two.and_when(started()).when(started(K2, agent=A2))) == [("RUNNING", "started")]


def test_a_word_that_was_overtaken_is_no_news() -> None:
    scheduled.and_when(progress(K.CREATING)).when(progress(K.PULLING)).then_nothing()
    running.when(progress(K.CREATING)).then_nothing()
    running.when(started()).then_nothing()


def test_a_running_session_has_the_lifetime_its_policy_allows() -> None:
    limited = given(SESSION).and_when(admit(limits(lifetime=60)), request(), place())
    outcome = limited.when(started())
    assert outcome.only(SessionAdvanced).deadline == after(60)
    live = limited.and_when(started())
    assert statuses(live.when(at_deadline(live))) == [("TERMINATING", "lifetime-over")]


def test_a_restart_does_not_prolong_a_life() -> None:
    live = given(SESSION).and_when(admit(limits(lifetime=60)), request(), place(), started(), restart)
    again = live.when(started(incarnation=2, at=after(50)))
    assert again.only(SessionAdvanced).deadline == after(60)


@pytest.mark.parametrize("word", [progress(), started(), exited(), failed(), gone()])
def test_reports_are_heard_only_from_whom_the_kernel_was_given_to(word: Command) -> None:
    scheduled.when(word.model_copy(update={"agent_id": A2})).then_refused("not_your_kernel")
    scheduled.when(word.model_copy(update={"kernel_id": "k9"})).then_refused("unknown_kernel")
    scheduled.when(word.model_copy(update={"incarnation": 2})).then_nothing()
    pending.when(word.model_copy(update={"incarnation": 1})).then_nothing()
    admitted.when(word).then_nothing()


# -- retrying ----------------------------------------------------------------------------------------------------------


def test_a_failed_start_is_tried_elsewhere() -> None:
    outcome = scheduled.when(failed())
    outcome.then_types(KernelEnded, SessionAdvanced, SessionRescheduled)
    again = outcome.only(SessionRescheduled)
    assert (again.attempt, again.avoid, again.reason) == (2, (A1,), Reason.START_FAILED)
    assert sent(outcome, "scheduling") == [ReleaseCapacity, DemandPlacement]
    second = scheduled.and_when(failed()).when(place(A2, attempt=2))
    (start,) = [send.message for send in second.sends if isinstance(send.message, StartKernel)]
    assert start.incarnation == 2


def test_a_retry_waits_until_nothing_of_the_failed_attempt_is_left() -> None:
    two = admitted.and_when(request(kernels=2), place(A1, A2))
    outcome = two.when(failed())
    outcome.then_types(KernelEnded, SessionAdvanced)
    assert sent(outcome, PLACEMENTS) == [StopKernel]
    outcome = two.and_when(failed()).when(gone(K2, agent=A2))
    outcome.then_types(KernelEnded, SessionRescheduled)


def test_after_so_many_attempts_it_is_given_up() -> None:
    tried = pending
    for attempt in range(1, ATTEMPTS_MAX):
        tried = tried.and_when(place(attempt=attempt), failed(incarnation=attempt))
    last = tried.and_when(place(attempt=ATTEMPTS_MAX)).when(failed(incarnation=ATTEMPTS_MAX))
    assert statuses(last) == [("ERROR", "attempts-exhausted")]


def test_a_start_that_takes_too_long_is_given_up_in_two_steps() -> None:
    late = scheduled.when(at_deadline(scheduled))
    assert statuses(late) == [("RESCHEDULING", "start-timeout")]
    assert sent(late, PLACEMENTS) == [StopKernel]
    waiting = scheduled.and_when(at_deadline(scheduled))
    outcome = waiting.when(at_deadline(waiting))
    outcome.then_types(KernelEnded, SessionRescheduled)
    assert not outcome.only(KernelEnded).confirmed
    assert outcome.only(SessionRescheduled).avoid == (A1,)
    assert sent(outcome, "scheduling") == [DemandPlacement]


def given_up_once() -> Given:
    """The first attempt was given up without a word from its agent, the second waits for its place."""
    late = scheduled.and_when(at_deadline(scheduled))
    return late.and_when(at_deadline(late))


def test_capacity_comes_back_when_the_agent_speaks_at_last() -> None:
    outcome = given_up_once().when(gone())
    outcome.then(ended(K1, K.TERMINATED, Reason.TERMINATION_UNCONFIRMED))
    (send,) = outcome.sends
    assert send.message == ReleaseCapacity(at=NOW, cell=Cell("default"), session_id=S1, attempt=1, kernel_id=K1)
    given_up_once().and_when(gone()).when(gone()).then_nothing()


def test_cancelling_a_retry_does_not_speak_for_the_silent_agent() -> None:
    cancelled = given_up_once().when(terminate)
    cancelled.then_types(KernelEnded, SessionEnded)
    assert sent(cancelled, "scheduling") == [WithdrawDemand]
    state: Sessions = cancelled.after
    assert list(state.unconfirmed) == [(K1, 1)]
    assert sent(given_up_once().and_when(terminate).when(exited()), "scheduling") == [ReleaseCapacity]


def test_a_late_word_of_a_failed_attempt_is_no_news() -> None:
    scheduled.and_when(failed()).when(started()).then_nothing()
    scheduled.and_when(failed(), place(A1, attempt=2)).when(started()).then_nothing()


def test_a_kernel_that_vanished_before_it_can_have_run_is_tried_elsewhere() -> None:
    assert statuses(scheduled.when(gone())) == [("RESCHEDULING", "kernel-gone")]


def test_a_kernel_that_may_have_run_is_not_run_again() -> None:
    assert statuses(scheduled.and_when(progress(K.CREATING)).when(gone())) == [("ERROR", "kernel-gone")]
    assert statuses(running.when(gone())) == [("TERMINATED", "kernel-gone")]


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


# -- alarms ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "command"),
    [
        (admitted, request()),
        (pending, place()),
        (scheduled, progress()),
        (scheduled, failed()),
        (running, restart),
        (running, terminate),
        (given(SESSION).and_when(admit(limits(lifetime=60)), request(), place()), started()),
    ],
)
def test_whatever_a_session_waits_for_has_a_deadline(before: Given, command: Command) -> None:
    outcome = before.when(command)
    context: AnyContext = SESSION
    state, alarm = outcome.state, None
    for event in outcome.events:
        alarm = context.alarm(event, state) or alarm
        state = context.evolve(state, event)
    session = state.living[S1]
    assert alarm is not None
    expected = PassDeadline(
        at=session.deadline, owner=OWNER, session_id=S1, status=session.status, deadline=session.deadline
    )
    assert (alarm.subject, alarm.due, alarm.command) == (S1, session.deadline, expected)


def test_a_session_that_runs_without_limit_has_no_alarm() -> None:
    outcome = scheduled.when(started())
    assert SESSION.alarm(outcome.only(SessionAdvanced), scheduled.state) == Alarm(S1, None)
