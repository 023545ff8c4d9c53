"""Where a claim goes, and which devices it gets."""

from typing import Any

import pytest
from immutables import Map

from domain.messages import AgentId
from domain.scheduling.messages import AgentProfile, Claim, Constraint
from domain.scheduling.placing import Placed, choose_devices, could_ever, place, why
from domain.scheduling.state import Agent, Standing


def agent(name: str, free: int = 4000, total: int = 4000, **more: Any) -> Agent:
    """An agent with that much cpu; `gpus` are whole devices, `shares` parts of devices, as (total, free) by id."""
    gpus: dict[str, bool] = more.pop("gpus", {})
    shares: dict[str, tuple[int, int]] = more.pop("shares", {})
    slots, left = {"cpu": total}, {"cpu": free}
    devices: dict[str, dict[str, int]] = {}
    devices_left: dict[str, dict[str, int]] = {}
    if gpus:
        devices["cuda.device"] = dict.fromkeys(gpus, 1000)
        devices_left["cuda.device"] = {gpu: 1000 * is_free for gpu, is_free in gpus.items()}
    if shares:
        devices["cuda.shares"] = {gpu: size for gpu, (size, _) in shares.items()}
        devices_left["cuda.shares"] = {gpu: part for gpu, (_, part) in shares.items()}
    for slot, parts in devices.items():
        slots[slot] = sum(parts.values())
        left[slot] = sum(devices_left[slot].values())
    profile = AgentProfile(
        resource_group="gpus",
        architecture=more.pop("architecture", "x86_64"),
        slots=slots,
        devices=devices,
        address="http://a",
        runtime="fake",
    )
    return Agent(
        agent_id=AgentId(name),
        incarnation=1,
        profile=profile,
        architecture=profile.architecture,
        standing=more.pop("standing", Standing.ALIVE),
        total=profile.slots,
        free=left,
        free_devices=devices_left,
        kernels=Map(),
        capabilities=more.pop("capabilities", frozenset()),
    )


def claim(
    kernels: int = 1, together: bool = False, avoid: tuple[str, ...] = (), needs: tuple[str, ...] = (), **slots: int
) -> Claim:
    return Claim.model_validate(
        {
            "session_id": "s1",
            "owner": "AKIA",
            "attempt": 1,
            "resource_group": "gpus",
            "architecture": "x86_64",
            "kernels": [f"k{n}" for n in range(kernels)],
            "slots": {name.replace("_", "."): units for name, units in slots.items()},
            "together": together,
            "avoid": avoid,
            "needs": needs,
        }
    )


def where(claim: Claim, *agents: Agent) -> list[str] | None:
    placed = place(claim, {each.agent_id: each for each in agents})
    return None if placed is None else [placement.agent_id for placement in placed.placements]


@pytest.mark.parametrize("together", [True, False])
def test_an_agent_that_lacks_what_a_claim_needs_is_no_candidate(together: bool) -> None:
    able = agent("able", 2000, capabilities=frozenset({"runtime:runsc", "cluster:multi-node"}))
    half = agent("half", 9000, capabilities=frozenset({"runtime:runsc"}))
    wanted = claim(kernels=2, together=together, needs=("cluster:multi-node", "runtime:runsc"), cpu=1000)
    assert where(wanted, agent("none", 9000), half, able) == ["able", "able"]
    assert where(wanted, agent("none", 9000), half) is None
    assert not could_ever(wanted, {half.agent_id: half})


def test_the_agent_that_stays_least_used_is_taken() -> None:
    assert where(claim(cpu=1000), agent("a", 2000), agent("b", 3000), agent("c", 2500)) == ["b"]


def test_what_counts_is_the_part_that_is_left_not_the_amount() -> None:
    assert where(claim(cpu=1000), agent("a", 5000, 10000), agent("b", 4000, 4000)) == ["b"]


def test_what_counts_is_the_slot_that_gets_scarcest() -> None:
    crowded = agent("a", 4000, gpus={"g0": True, "g1": False, "g2": False, "g3": False})
    busy = agent("b", 2000, gpus={"g0": True, "g1": True})
    assert where(claim(cpu=1000, cuda_device=1000), crowded, busy) == ["b"]


def test_the_smaller_id_is_taken_where_nothing_else_tells_them_apart() -> None:
    assert where(claim(cpu=1000), agent("b"), agent("a"), agent("c")) == ["a"]


def test_an_agent_to_be_avoided_comes_last_but_is_better_than_none() -> None:
    assert where(claim(cpu=1000, avoid=("b",)), agent("a", 1000), agent("b", 4000)) == ["a"]
    assert where(claim(cpu=1000, avoid=("b",)), agent("b", 4000), agent("a", 1000)) == ["a"]
    assert where(claim(cpu=1000, avoid=("b", "c")), agent("b", 3000), agent("c", 4000)) == ["c"]
    assert where(claim(cpu=2000, avoid=("b",)), agent("a", 1000), agent("b", 4000)) == ["b"]
    assert where(claim(kernels=2, cpu=1000, avoid=("b",)), agent("a", 1000), agent("b", 4000)) == ["a", "b"]


@pytest.mark.parametrize(
    "unfit", [{"standing": Standing.LOST}, {"standing": Standing.RETIRED}, {"architecture": "arm"}]
)
def test_only_living_agents_of_the_architecture_are_candidates(unfit: dict[str, Any]) -> None:
    assert where(claim(cpu=1000), agent("a", **unfit)) is None
    assert where(claim(kernels=2, cpu=1000), agent("a", **unfit)) is None


def test_all_kernels_or_none() -> None:
    assert where(claim(kernels=3, cpu=2000), agent("a", 2000), agent("b", 2000)) is None
    assert where(claim(kernels=3, cpu=2000), agent("a", 4000), agent("b", 2000)) == ["a", "a", "b"]


def test_kernels_spread_over_the_least_used() -> None:
    assert where(claim(kernels=4, cpu=1000), agent("a", 4000), agent("b", 3000)) == ["a", "a", "b", "a"]


def test_together_means_on_one_agent() -> None:
    assert where(claim(kernels=2, together=True, cpu=2000), agent("a", 3000), agent("b", 3000)) is None
    assert where(claim(kernels=2, together=True, cpu=2000), agent("a", 3000), agent("b", 4000)) == ["b", "b"]


def test_how_many_could_have_taken_it_is_told() -> None:
    agents = {each.agent_id: each for each in (agent("a"), agent("b"), agent("c", 500))}
    for kernels in (1, 2):
        placed = place(claim(kernels=kernels, cpu=1000), agents)
        assert isinstance(placed, Placed)
        assert placed.candidates == 2


def test_kernels_of_one_session_get_different_devices() -> None:
    gpus = agent("a", gpus={"g0": True, "g1": True})
    for together in (True, False):
        placed = place(claim(kernels=2, together=together, cuda_device=1000), {gpus.agent_id: gpus})
        assert placed is not None
        assert [p.devices for p in placed.placements] == [
            {"cuda.device": {"g0": 1000}},
            {"cuda.device": {"g1": 1000}},
        ]


def test_enough_in_sum_is_not_enough_device_by_device() -> None:
    """An agent that came back with another device than the one in use."""
    odd = agent("a", gpus={"g0": False, "g1": True})
    odd.free["cuda.device"] = 2000  # type: ignore[index]
    sound = agent("b", 1000, gpus={"g0": True, "g1": True})
    assert where(claim(cuda_device=2000, cpu=1), odd, sound) == ["b"]
    assert where(claim(kernels=2, cuda_device=1000, cpu=1), odd, agent("c", 500)) is None


@pytest.mark.parametrize(
    ("slot", "units", "free", "chosen"),
    [
        ("cuda.device", 2000, {"b": 1000, "a": 1000, "c": 1000}, {"a": 1000, "b": 1000}),
        ("cuda.device", 1000, {"a": 0, "b": 1000}, {"b": 1000}),
        ("cuda.device", 2000, {"a": 0, "b": 1000}, None),
        ("cuda.device", 500, {"a": 1000}, None),
        ("cuda.shares", 300, {"a": 1000, "b": 400, "c": 350}, {"c": 300}),
        ("cuda.shares", 300, {"b": 400, "a": 400}, {"a": 300}),
        ("cuda.shares", 1200, {"a": 500, "b": 1000, "c": 900}, {"b": 1000, "c": 200}),
        ("cuda.shares", 1200, {"a": 500, "b": -1000}, None),
    ],
)
def test_devices_are_chosen_by_id_whole_and_shares_by_best_fit(
    slot: str, units: int, free: dict[str, int], chosen: dict[str, int] | None
) -> None:
    assert choose_devices(slot, units, free) == chosen


def test_why_tells_never_from_not_now() -> None:
    def constraint(claim: Claim, *agents: Agent) -> Constraint:
        known = {each.agent_id: each for each in agents}
        wait = why(claim, known)
        assert could_ever(claim, known) is (wait.constraint is Constraint.BUSY)
        return wait.constraint

    assert constraint(claim(cpu=1)) is Constraint.NO_AGENTS
    assert constraint(claim(cpu=5000), agent("a")) is Constraint.INFEASIBLE
    assert constraint(claim(cpu=4000), agent("a", 0)) is Constraint.BUSY
    assert constraint(claim(kernels=3, cpu=2000), agent("a", 0)) is Constraint.INFEASIBLE
    assert constraint(claim(kernels=3, cpu=2000), agent("a", 0), agent("b", 0)) is Constraint.BUSY
    assert constraint(claim(kernels=3, together=True, cpu=2000), agent("a", 0), agent("b", 0)) is Constraint.INFEASIBLE
    assert constraint(claim(cuda_device=500), agent("a", gpus={"g0": True})) is Constraint.INFEASIBLE
    assert constraint(claim(cuda_shares=500), agent("a", shares={"g0": (1000, 0)})) is Constraint.BUSY


def test_what_the_closest_agent_is_short_of_is_told() -> None:
    agents = {each.agent_id: each for each in (agent("a", 500), agent("b", 900), agent("c", 100))}
    assert why(claim(cpu=1000), agents).lacking == {"cpu": 100}
    assert why(claim(cpu=1000), agents).agents == {"in-use": 3}


def test_what_a_session_of_many_kernels_is_short_of_is_told_in_sum() -> None:
    agents = {each.agent_id: each for each in (agent("a", 1000), agent("b", 3000))}
    assert why(claim(kernels=3, cpu=2000), agents).lacking == {"cpu": 4000}
