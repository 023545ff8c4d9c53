"""What holds whatever happens, in whatever order: one property a promise."""

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.contexts import CONTEXTS
from domain.scheduling.state import Cell as CellState
from domain.scheduling.state import Standing
from domain.session.state import Sessions
from domain.session.status import RUNNING
from tests.domain.world import CELL, OWNERS, World

histories = st.lists(st.integers(0, 2**20), min_size=50, max_size=250)
many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))


def lived(choices: list[int]) -> World:
    """What became of a fresh cluster; the world and its ledger complain themselves on the way."""
    world = World()
    for choice in choices:
        world.step(choice)
    return world


@many
@given(histories)
def test_whatever_happens_every_step_is_legal_and_nothing_is_given_out_or_runs_twice_at_once(
    choices: list[int],
) -> None:
    lived(choices)


@many
@given(histories)
def test_no_start_is_ever_carried_out_twice(choices: list[int]) -> None:
    world = lived(choices)
    starts = [start for host in world.hosts.values() for start in host.started]
    assert len(starts) == len(set(starts))


@many
@given(histories)
def test_every_session_comes_to_rest_and_all_capacity_comes_back(choices: list[int]) -> None:
    world = lived(choices)
    world.settle()
    for owner in OWNERS:
        for session in world.states["session", owner].living.values():
            assert session.status in RUNNING
    world.end_all_sessions()
    for owner in OWNERS:
        sessions: Sessions = world.states["session", owner]
        assert not any((sessions.living, sessions.names, sessions.unconfirmed))
    cell: CellState = world.states["scheduling", CELL]
    assert not any((cell.demands, cell.grants))
    assert not any(world.ledger.used.values())
    for group in cell.groups.values():
        assert not any((group.line, group.aside))
        for agent in group.agents.values():
            assert agent.standing is Standing.ALIVE
            assert (agent.free, agent.free_devices) == (agent.profile.slots, agent.profile.devices)
            assert not agent.kernels


@many
@given(histories)
def test_folding_the_history_again_gives_the_same_state(choices: list[int]) -> None:
    world = lived(choices)
    for (name, key), events in world.history.items():
        context = CONTEXTS[name]
        state: Any = context.empty
        for event in events:
            state = context.evolve(state, context.events.validate_json(event.model_dump_json()))
        assert state == world.states[name, key]
