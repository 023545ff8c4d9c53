"""The scheduler: what it is told, whom it makes wait and why, and what it frees."""

from datetime import UTC, datetime
from typing import Any

import pytest

from domain.context import PLACEMENTS, Send
from domain.directory.messages.images import ForgetAgent
from domain.messages import AccessKey, AgentId, Cell, KernelId, SessionId
from domain.placements import AdmitAgent, StopKernel
from domain.scheduling.consequences import SCHEDULING
from domain.scheduling.messages import (
    AgentFound,
    AgentLost,
    AgentProfile,
    AgentRegistered,
    AgentRemoved,
    AgentRetired,
    CapacityReleased,
    Claim,
    Constraint,
    DemandPlacement,
    DemandWithdrawn,
    ExcludeAgent,
    IncludeAgent,
    MarkAgentFound,
    MarkAgentLost,
    PlacementDecided,
    PlacementDelayed,
    PlacementDemanded,
    RegisterAgent,
    ReleaseCapacity,
    RemoveAgent,
    RetireAgent,
    RunningKernel,
    WithdrawDemand,
)
from domain.scheduling.state import Cell as CellState
from domain.session.messages import Assignment, LoseKernel, PlaceSession
from tests.domain.spec import Outcome, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
CELL = Cell("default")
OWNER = AccessKey("AKIA")


def profile(cpu: int = 2000, *, group: str = "gpus", gpus: int = 0, **more: Any) -> AgentProfile:
    slots = {"cpu": cpu} | ({"cuda.device": gpus * 1000} if gpus else {})
    devices = {"cuda.device": {f"GPU-{n}": 1000 for n in range(gpus)}} if gpus else {}
    values = {"resource_group": group, "slots": slots, "devices": devices, "address": "http://a", "runtime": "fake"}
    return AgentProfile.model_validate(values | more)


def register(name: str = "a1", cpu: int = 2000, incarnation: int = 1, **more: Any) -> RegisterAgent:
    kernels, journal = more.pop("kernels", ()), more.pop("journal", 0)
    return RegisterAgent(
        at=NOW,
        cell=CELL,
        agent_id=AgentId(name),
        incarnation=incarnation,
        journal=journal,
        profile=profile(cpu, **more),
        kernels=kernels,
    )


def demand(name: str, cpu: int = 1000, attempt: int = 1, kernels: int = 1, **more: Any) -> DemandPlacement:
    claim = {
        "session_id": name,
        "owner": OWNER,
        "attempt": attempt,
        "resource_group": "gpus",
        "architecture": "x86_64",
        "kernels": [f"{name}-k{n}" for n in range(1, kernels + 1)],
        "slots": {"cpu": cpu},
        "together": True,
    }
    return DemandPlacement(at=NOW, cell=CELL, claim=Claim.model_validate(claim | more))


def release(name: str, attempt: int = 1, kernel: int = 1) -> ReleaseCapacity:
    return ReleaseCapacity(
        at=NOW, cell=CELL, session_id=SessionId(name), attempt=attempt, kernel_id=KernelId(f"{name}-k{kernel}")
    )


def withdraw(name: str, attempt: int = 1) -> WithdrawDemand:
    return WithdrawDemand(at=NOW, cell=CELL, session_id=SessionId(name), attempt=attempt)


def lose(name: str = "a1", incarnation: int = 1) -> MarkAgentLost:
    return MarkAgentLost(at=NOW, cell=CELL, agent_id=AgentId(name), incarnation=incarnation)


def find(name: str = "a1", incarnation: int = 1) -> MarkAgentFound:
    return MarkAgentFound(at=NOW, cell=CELL, agent_id=AgentId(name), incarnation=incarnation)


def retire(name: str = "a1", incarnation: int = 1) -> RetireAgent:
    return RetireAgent(at=NOW, cell=CELL, agent_id=AgentId(name), incarnation=incarnation)


def remove(name: str = "a1") -> RemoveAgent:
    return RemoveAgent(at=NOW, cell=CELL, agent_id=AgentId(name))


def placed(outcome: Outcome) -> list[str]:
    return [event.session_id for event in outcome.events if isinstance(event, PlacementDecided)]


def waits(outcome: Outcome) -> dict[str, Constraint]:
    return {e.session_id: e.wait.constraint for e in outcome.events if isinstance(e, PlacementDelayed)}


nothing = given(SCHEDULING)
one_agent = nothing.and_when(register())
full = one_agent.and_when(demand("s1", 2000))


# -- agents ------------------------------------------------------------------------------------------------------------


def test_an_agent_registers_once() -> None:
    nothing.when(register()).then(
        AgentRegistered(at=NOW, agent_id=AgentId("a1"), incarnation=1, profile=profile(), kernels=(), strays=())
    )
    one_agent.when(register()).then_nothing()


def test_an_older_incarnation_is_refused() -> None:
    nothing.and_when(register(incarnation=2)).when(register(incarnation=1)).then_refused("stale_incarnation")


def test_who_registers_is_told_among_its_orders_that_from_there_on_they_are_its_own() -> None:
    again = one_agent.when(register(incarnation=2, journal=7))
    assert again.sends == [Send(PLACEMENTS, AdmitAgent(at=NOW, agent_id=AgentId("a1"), incarnation=2, journal=7))]


def test_a_restarted_agent_keeps_what_was_placed_on_it() -> None:
    again = full.and_when(register(incarnation=2))
    assert waits(again.when(demand("s2"))) == {"s2": Constraint.BUSY}


def test_an_agent_may_come_back_smaller_than_what_it_carries() -> None:
    smaller = full.and_when(register(cpu=1000, incarnation=2))
    state: CellState = smaller.state
    agent = state.agent(AgentId("a1"))
    assert agent is not None
    assert agent.free == {"cpu": -1000}
    assert placed(smaller.and_when(release("s1")).when(demand("s2", 1000))) == ["s2"]


def test_a_device_that_fails_is_given_to_nobody_until_it_recovers_and_whoever_has_it_keeps_it() -> None:
    def host(*gpus: str, **faults: str) -> RegisterAgent:
        units = dict.fromkeys(gpus, 1000)
        slots = {"cpu": 8000, "cuda.device": 1000 * len(gpus)}
        return register(slots=slots, devices={"cuda.device": units}, faults=faults)

    def wants(name: str) -> DemandPlacement:
        return demand(name, slots={"cpu": 1000, "cuda.device": 1000})

    def given_to(outcome: Outcome) -> dict[str, list[str]]:
        decided = [event for event in outcome.events if isinstance(event, PlacementDecided)]
        return {event.session_id: list(event.placements[0].devices["cuda.device"]) for event in decided}

    running = nothing.and_when(host("gpu-1", "gpu-2", "gpu-3"), wants("s1"))
    changed = running.when(host("gpu-2", "gpu-3", **{"gpu-1": "Xid 79"}))
    assert changed.only(AgentRegistered).profile.faults == {"gpu-1": "Xid 79"}
    failed = running.and_when(host("gpu-2", "gpu-3", **{"gpu-1": "Xid 79"}))
    assert given_to(failed.when(wants("s2"))) == {"s2": ["gpu-2"]}
    full = failed.and_when(wants("s2"), wants("s3"))
    assert waits(full.when(wants("s4"))) == {"s4": Constraint.BUSY}, "though gpu-1 takes nothing from the others"
    waiting = full.and_when(wants("s4"))
    assert given_to(waiting.when(release("s1"))) == {}, "nobody gets it when it is free"
    assert given_to(waiting.when(release("s2"))) == {"s4": ["gpu-2"]}
    recovered = host("gpu-1", "gpu-2", "gpu-3")
    assert given_to(waiting.when(recovered)) == {}, "whoever had it has it still"
    assert given_to(waiting.and_when(release("s1")).when(recovered)) == {"s4": ["gpu-1"]}


def test_an_agent_may_come_back_without_a_device_in_use() -> None:
    carrying = nothing.and_when(
        register(gpus=2), demand("s1", slots={"cuda.device": 1000}), demand("s2", slots={"cuda.device": 1000})
    )
    shrunk = carrying.and_when(register(gpus=1, incarnation=2))
    assert waits(shrunk.when(demand("s3", slots={"cuda.device": 1000}))) == {"s3": Constraint.BUSY}
    freed = shrunk.and_when(release("s1"), release("s2"))
    decided = freed.when(demand("s3", slots={"cuda.device": 1000})).only(PlacementDecided)
    assert decided.placements[0].devices == {"cuda.device": {"GPU-0": 1000}}
    state: CellState = freed.state
    agent = state.agent(AgentId("a1"))
    assert agent is not None
    assert (agent.free["cuda.device"], agent.free_devices["cuda.device"]["GPU-0"]) == (1000, 1000)


def test_what_runs_without_having_been_placed_is_stopped() -> None:
    known = RunningKernel(kernel_id=KernelId("s1-k1"), incarnation=1, session_id=SessionId("s1"), owner=OWNER)
    stray = RunningKernel(kernel_id=KernelId("s9-k1"), incarnation=3, session_id=SessionId("s9"), owner=OWNER)
    back = full.when(register(incarnation=2, kernels=(known, stray)))
    assert back.only(AgentRegistered).strays == (stray,)
    assert back.sends[1:] == [
        Send(
            PLACEMENTS,
            StopKernel(
                at=NOW,
                agent_id=AgentId("a1"),
                owner=OWNER,
                session_id=SessionId("s9"),
                kernel_id=KernelId("s9-k1"),
                incarnation=3,
            ),
        )
    ]


@pytest.mark.parametrize("command", [lose(), find(), retire()])
def test_nothing_happens_to_an_agent_nobody_knows(command: MarkAgentLost) -> None:
    nothing.when(command).then_refused("unknown_agent")


@pytest.mark.parametrize("command", [lose(), find(), retire()])
def test_the_end_of_an_earlier_incarnation_is_no_news(command: MarkAgentLost) -> None:
    nothing.and_when(register(incarnation=2)).when(command).then_nothing()


def test_a_lost_agent_gets_nothing_until_it_is_found() -> None:
    one_agent.when(lose()).then(AgentLost(at=NOW, agent_id=AgentId("a1")))
    lost = one_agent.and_when(lose())
    lost.when(lose()).then_nothing()
    assert waits(lost.when(demand("s1"))) == {"s1": Constraint.NO_AGENTS}
    found = lost.and_when(demand("s1")).when(find())
    assert found.events[0] == AgentFound(at=NOW, agent_id=AgentId("a1"))
    assert placed(found) == ["s1"]
    one_agent.when(find()).then_nothing()


def test_a_retired_agent_keeps_what_it_has_and_may_register_again() -> None:
    full.when(retire()).then(AgentRetired(at=NOW, agent_id=AgentId("a1")))
    retired = full.and_when(retire())
    retired.when(retire()).then_nothing()
    retired.when(lose()).then_nothing()
    retired.when(find()).then_nothing()
    again = retired.and_when(register(incarnation=2))
    assert waits(again.when(demand("s2"))) == {"s2": Constraint.BUSY}
    assert placed(again.and_when(demand("s2")).when(release("s1"))) == ["s2"]


def test_a_lost_agent_may_register_again_under_the_same_incarnation() -> None:
    one_agent.and_when(lose()).when(register()).then_types(AgentRegistered)


def test_an_excluded_agent_gets_nothing_new_until_it_is_included_again() -> None:
    about = {"at": NOW, "cell": CELL, "agent_id": AgentId("a1")}
    excluded = one_agent.and_when(ExcludeAgent(**about))
    waiting = excluded.when(demand("s1"))
    assert waits(waiting) == {"s1": Constraint.NO_AGENTS}
    assert [e.wait.agents for e in waiting.events if isinstance(e, PlacementDelayed)] == [{"excluded": 1}]
    assert placed(excluded.and_when(demand("s1")).when(IncludeAgent(**about))) == ["s1"]
    excluded.when(ExcludeAgent(**about)).then_nothing()
    one_agent.when(IncludeAgent(**about)).then_nothing()
    nothing.when(ExcludeAgent(**about)).then_refused("unknown_agent")


def test_an_excluded_agent_keeps_what_it_has_and_stays_excluded_when_it_starts_again() -> None:
    about = {"at": NOW, "cell": CELL, "agent_id": AgentId("a1")}
    again = one_agent.and_when(demand("s1", 500), ExcludeAgent(**about), register(incarnation=2))
    assert waits(again.when(demand("s2", 500))) == {"s2": Constraint.NO_AGENTS}
    assert placed(again.and_when(IncludeAgent(**about)).when(demand("s2", 1500))) == ["s2"]
    removed = again.and_when(remove(), register(incarnation=3))
    assert placed(removed.when(demand("s3"))) == ["s3"], "another host of that name starts afresh"


def test_a_removed_agent_takes_its_kernels_along_and_their_sessions_and_the_directory_are_told() -> None:
    removed = full.when(remove())
    removed.then(AgentRemoved(at=NOW, agent_id=AgentId("a1")))
    assert removed.sends == [
        Send(
            "session",
            LoseKernel(
                at=NOW,
                owner=OWNER,
                session_id=SessionId("s1"),
                attempt=1,
                kernel_id=KernelId("s1-k1"),
                agent_id=AgentId("a1"),
            ),
        ),
        Send("directory", ForgetAgent(at=NOW, agent_id=AgentId("a1"))),
    ]
    gone = full.and_when(remove())
    gone.when(remove()).then_nothing()
    gone.when(release("s1")).then_nothing()
    assert placed(gone.and_when(register(incarnation=1)).when(demand("s2", 2000))) == ["s2"]


def test_an_agent_that_changes_its_group_serves_the_other_queue() -> None:
    moved = one_agent.and_when(demand("s1", resource_group="cpus")).when(register(group="cpus", incarnation=2))
    assert placed(moved) == ["s1"]


# -- demands -----------------------------------------------------------------------------------------------------------


def test_a_demand_that_fits_is_placed_and_its_session_told() -> None:
    outcome = nothing.and_when(register(gpus=2)).when(demand("s1", slots={"cpu": 1000, "cuda.device": 1000}))
    outcome.then_types(PlacementDemanded, PlacementDecided)
    assert outcome.sends == [
        Send(
            "session",
            PlaceSession(
                at=NOW,
                owner=OWNER,
                session_id=SessionId("s1"),
                attempt=1,
                assignments=(
                    Assignment(
                        kernel_id=KernelId("s1-k1"),
                        agent_id=AgentId("a1"),
                        host="a",
                        devices={"cuda.device": {"GPU-0": 1000}},
                    ),
                ),
            ),
        )
    ]


def test_the_same_demand_again_is_the_same_demand() -> None:
    full.when(demand("s1", 2000)).then_nothing()
    full.and_when(demand("s2")).when(demand("s2")).then_nothing()


def test_a_demand_waits_when_all_is_in_use_and_is_told_what_is_lacking() -> None:
    delayed = full.when(demand("s2", 1500)).only(PlacementDelayed)
    assert delayed.wait.constraint is Constraint.BUSY
    assert delayed.wait.lacking == {"cpu": 1500}
    assert delayed.wait.agents == {"in-use": 1}


def test_a_demand_without_agents_says_which_filter_removed_them() -> None:
    three = nothing.and_when(register("a1"), lose("a1"), register("a2", architecture="aarch64"))
    delayed = three.when(demand("s1")).only(PlacementDelayed)
    assert delayed.wait.constraint is Constraint.NO_AGENTS
    assert delayed.wait.agents == {"not-alive": 1, "architecture": 1}


def test_a_demand_that_lacks_able_agents_is_told_so_and_has_its_turn_once_one_is_able() -> None:
    waiting = one_agent.when(demand("s1", needs=["runtime:runsc"]))
    assert waiting.only(PlacementDelayed).wait.constraint is Constraint.NO_AGENTS
    assert waiting.only(PlacementDelayed).wait.agents == {"capabilities": 1}
    able = register("a1", incarnation=2, capabilities=["runtime:runsc"])
    assert placed(one_agent.and_when(demand("s1", needs=["runtime:runsc"])).when(able)) == ["s1"]


def test_those_aside_are_told_apart_by_what_they_need() -> None:
    aside = one_agent.and_when(
        demand("s0", 9000), demand("s1", needs=["runtime:kata"]), demand("s2", needs=["runtime:runsc"])
    )
    again = aside.when(register("a1", incarnation=2, capabilities=["runtime:runsc"]))
    assert placed(again) == ["s2"]


def test_a_demand_no_agent_could_ever_hold_blocks_nobody() -> None:
    outcome = one_agent.when(demand("s1", 3000))
    assert outcome.only(PlacementDelayed).wait.constraint is Constraint.INFEASIBLE
    assert outcome.only(PlacementDelayed).wait.lacking == {"cpu": 1000}
    assert placed(one_agent.and_when(demand("s1", 3000)).when(demand("s2", 2000))) == ["s2"]


def test_a_slot_that_no_agent_has_can_never_be_had() -> None:
    outcome = one_agent.when(demand("s1", slots={"rocm.device": 1000}))
    assert waits(outcome) == {"s1": Constraint.INFEASIBLE}


def test_who_could_never_fit_is_tried_again_when_an_agent_comes() -> None:
    waiting = one_agent.and_when(demand("s1", 3000), demand("s2", 4000))
    outcome = waiting.when(register("a2", 4000))
    assert placed(outcome) == ["s1"]
    assert waits(outcome) == {"s2": Constraint.BUSY}


def test_who_stood_aside_gets_his_turn_back() -> None:
    waiting = full.and_when(demand("big", 3000), demand("late", 1000))  # big aside, late at the head
    outcome = waiting.when(register("a1", 3000, incarnation=2))
    assert placed(outcome) == []
    assert waits(outcome) == {"big": Constraint.BUSY}
    freed = waiting.and_when(register("a1", 3000, incarnation=2)).when(release("s1"))
    assert placed(freed) == ["big"]
    assert waits(freed) == {}


def test_who_stood_aside_waits_behind_another_who_did() -> None:
    aside = full.and_when(demand("big", 3000), demand("bigger", 4000), demand("huge", 9000))
    outcome = aside.when(register("a1", 4000, incarnation=2))
    assert waits(outcome) == {"big": Constraint.BUSY, "bigger": Constraint.BEHIND}
    freed = aside.and_when(register("a1", 4000, incarnation=2)).when(release("s1"))
    assert placed(freed) == ["big"]
    assert waits(freed) == {"bigger": Constraint.BUSY}


def test_first_come_first_served_a_blocked_head_blocks_those_behind() -> None:
    blocked = one_agent.and_when(demand("s1", 1500), demand("s2", 1000))
    outcome = blocked.when(demand("s3", 500))
    wait = outcome.only(PlacementDelayed).wait
    assert (wait.constraint, wait.behind) == (Constraint.BEHIND, "s2")
    freed = blocked.and_when(demand("s3", 500)).when(release("s1"))
    assert placed(freed) == ["s2", "s3"]


def test_queues_of_different_groups_do_not_block_each_other() -> None:
    two = full.and_when(register("a2", group="cpus"), demand("s2"))
    assert placed(two.when(demand("s3", resource_group="cpus"))) == ["s3"]


def test_waiting_on_for_the_same_reason_is_no_news() -> None:
    waiting = one_agent.and_when(demand("s1", 1000), demand("s2", 500), demand("s3", 2000), demand("s4", 100))
    waiting.when(release("s2")).then_types(CapacityReleased)


def test_the_new_head_is_told_that_it_waits_for_capacity_now() -> None:
    waiting = one_agent.and_when(demand("s1", 1000), demand("s2", 1000), demand("s3", 1000), demand("s4", 1000))
    outcome = waiting.when(release("s1"))
    assert placed(outcome) == ["s3"]
    assert waits(outcome) == {"s4": Constraint.BUSY}


def test_when_the_last_matching_agent_goes_the_head_stands_aside() -> None:
    waiting = nothing.and_when(register("a1", 4000), register("a2"), demand("s1", 4000), demand("s2", 4000))
    waiting = waiting.and_when(demand("s3", 1000))
    outcome = waiting.when(retire("a1"))
    assert waits(outcome) == {"s2": Constraint.INFEASIBLE}
    assert placed(outcome) == ["s3"]


def test_a_head_that_can_never_fit_any_more_is_noticed_when_it_gets_there() -> None:
    waiting = nothing.and_when(
        register("a1", 4000), register("a2"), demand("x", 4000), demand("y", 2000), demand("s1", 2000)
    )
    waiting = waiting.and_when(demand("s2", 4000), demand("s3", 2000), retire("a1"))
    outcome = waiting.when(withdraw("s1"))
    assert waits(outcome) == {"s2": Constraint.INFEASIBLE, "s3": Constraint.BUSY}
    assert placed(waiting.and_when(withdraw("s1")).when(release("y"))) == ["s3"]


# -- withdrawing and releasing -----------------------------------------------------------------------------------------


def test_a_withdrawn_demand_is_gone_and_the_next_may_go() -> None:
    waiting = one_agent.and_when(demand("s1", 1500), demand("s2", 1000), demand("s3", 500))
    outcome = waiting.when(withdraw("s2"))
    assert outcome.events[0] == DemandWithdrawn(at=NOW, session_id=SessionId("s2"), attempt=1)
    assert placed(outcome) == ["s3"]
    waiting.and_when(withdraw("s2")).when(withdraw("s2")).then_nothing()


def test_withdrawing_from_the_middle_or_from_aside_moves_nobody() -> None:
    waiting = full.and_when(demand("s2"), demand("s3"), demand("s4"))
    waiting.when(withdraw("s3")).then_types(DemandWithdrawn)
    aside = full.and_when(demand("s2", 5000))
    aside.when(withdraw("s2")).then_types(DemandWithdrawn)


def test_a_demand_withdrawn_after_it_was_placed_frees_its_places() -> None:
    outcome = full.and_when(demand("s2")).when(withdraw("s1"))
    assert outcome.events[0] == DemandWithdrawn(at=NOW, session_id=SessionId("s1"), attempt=1)
    assert placed(outcome) == ["s2"]
    full.and_when(withdraw("s1")).when(release("s1")).then_nothing()


def test_a_kernel_gives_its_capacity_back_once() -> None:
    full.when(release("s1")).then(
        CapacityReleased(at=NOW, session_id=SessionId("s1"), attempt=1, kernel_id=KernelId("s1-k1"))
    )
    full.and_when(release("s1")).when(release("s1")).then_nothing()


def test_what_was_never_placed_frees_nothing() -> None:
    full.when(release("s2")).then_nothing()
    full.when(release("s1", kernel=2)).then_nothing()
    full.when(withdraw("s2")).then_nothing()


def test_a_new_attempt_is_placed_while_a_kernel_of_the_old_one_still_holds_its_place() -> None:
    second = one_agent.and_when(demand("s1", 1000)).when(demand("s1", 1000, attempt=2))
    assert placed(second) == ["s1"]
    both = one_agent.and_when(demand("s1", 1000), demand("s1", 1000, attempt=2))
    assert waits(both.when(demand("s2", 1000))) == {"s2": Constraint.BUSY}
    outcome = both.and_when(demand("s2", 1000)).when(release("s1", attempt=1))
    assert placed(outcome) == ["s2"]
    both.when(release("s1", attempt=3)).then_nothing()


def test_a_large_gap_in_the_queue_is_no_detour() -> None:
    waiting = full.and_when(demand("big", 3000), *(demand(f"s{n}") for n in range(2, 60)))
    waiting = waiting.and_when(*(withdraw(f"s{n}") for n in range(2, 58)))
    outcome = waiting.when(register("a2", 3000))
    assert placed(outcome) == ["big"]
    assert placed(waiting.and_when(register("a2", 3000)).when(release("s1"))) == ["s58", "s59"]


def test_who_was_overtaken_by_a_returning_head_is_then_tried_everywhere() -> None:
    both_full = nothing.and_when(register("a1", 4000), register("a2"), demand("x", 4000), demand("y", 2000))
    waiting = both_full.and_when(demand("big", 6000), demand("d", 2000))
    returned = waiting.and_when(register("a1", 6000, incarnation=2), release("y"))
    assert placed(returned.when(release("x"))) == ["big", "d"]


def test_who_was_overtaken_and_can_never_fit_any_more_blocks_nobody() -> None:
    gpu = {"cuda.device": 1000}
    both_full = nothing.and_when(register("a1"), register("a2", gpus=1), demand("x", 2000), demand("y", slots=gpu))
    waiting = both_full.and_when(demand("big", 6000), demand("d", slots=gpu), demand("e", 1000))
    overtaken = waiting.and_when(register("a1", 6000, incarnation=2), lose("a2"))
    outcome = overtaken.when(withdraw("big"))
    assert waits(outcome) == {"d": Constraint.INFEASIBLE}
    assert placed(outcome) == ["e"]
