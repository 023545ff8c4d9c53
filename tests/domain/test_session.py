"""Sessions on their way up: what each command leads to, when it is refused, and when it changes nothing."""

import pytest
from pydantic import ValidationError

from domain.context import PLACEMENTS, Alarm, AnyContext
from domain.messages import Cell, Command
from domain.placements import StartKernel, StopKernel
from domain.scheduling.messages import DemandPlacement, ReleaseCapacity, WithdrawDemand
from domain.session.consequences import SESSION
from domain.session.messages import (
    Assignment,
    KernelAdvanced,
    KernelEnded,
    KernelStarted,
    PassDeadline,
    RequestSession,
    SessionAdvanced,
    SessionEnded,
    SessionLimitsSet,
    SessionRequested,
    SessionRescheduled,
    SessionScheduled,
    SessionSpec,
    SetSessionLimits,
)
from domain.session.state import Sessions
from domain.session.status import (
    ATTEMPTS_MAX,
    DEADLINES,
    ClusterMode,
    Reason,
)
from tests.domain.sessions import (
    A1,
    A2,
    BATCH,
    INTERACTIVE,
    K1,
    K2,
    MAIN,
    NOW,
    OWNER,
    S1,
    SUB,
    K,
    S,
    admit,
    admitted,
    after,
    at_deadline,
    cancel,
    ended,
    exited,
    failed,
    gone,
    limits,
    pending,
    place,
    progress,
    request,
    restart,
    running,
    scheduled,
    sent,
    started,
    statuses,
    terminate,
)
from tests.domain.spec import Given, given

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


def test_an_order_says_how_much_of_which_devices_a_kernel_has() -> None:
    devices = {"cuda.shares": {"g0": 600, "g1": 400}}
    mine = Assignment(kernel_id=K1, agent_id=A1, devices=devices)
    (send,) = pending.when(place().model_copy(update={"assignments": (mine,)})).sends
    assert isinstance(send.message, StartKernel)
    assert send.message.devices == devices


def test_an_order_says_sealed_what_the_owner_gave_and_clear_what_refold_says() -> None:
    sealed = {"TOKEN": "c2VhbGVk", "BACKENDAI_KERNEL_ID": "c2VhbGVk"}
    (send,) = admitted.and_when(request(INTERACTIVE.model_copy(update={"environ": sealed}))).when(place()).sends
    order = send.message
    assert isinstance(order, StartKernel)
    assert order.sealed_environ == sealed
    assert order.environ["BACKENDAI_KERNEL_ID"] == K1
    with pytest.raises(ValidationError):
        SessionSpec(image="python", slots={"cpu": 1000}, environ={"TOKEN": "a value in clear"})


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


def test_the_ports_that_are_to_listen_are_the_main_kernels() -> None:
    spec = INTERACTIVE.model_copy(update={"preopen_ports": (8090,)})
    outcome = admitted.and_when(request(spec, kernels=2)).when(place(A1, A1))
    ports = [send.message.preopen_ports for send in outcome.sends if isinstance(send.message, StartKernel)]
    assert ports == [(8090,), ()]


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
