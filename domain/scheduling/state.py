"""What a scheduling decision needs to know, folded from its events: agents with what is free, who waits, who has what.

Everything a placement looks at is a whole number kept ready: a decision compares, it does not add up.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from immutables import Map

from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.scheduling.messages import (
    AgentExcluded,
    AgentFound,
    AgentIncluded,
    AgentLost,
    AgentProfile,
    AgentRegistered,
    AgentRemoved,
    AgentRetired,
    CapacityReleased,
    Claim,
    Constraint,
    DemandWithdrawn,
    Placement,
    PlacementDecided,
    PlacementDelayed,
    PlacementDemanded,
    SchedulingEvents,
)
from domain.slots import Slots, minus, plus

Attempt = tuple[SessionId, int]
"""One attempt of a session: what waits, and what is given a place."""

Devices = Mapping[str, Mapping[str, int]]
"""Slot → device id → units."""


class Standing(StrEnum):
    """Only an alive agent is given anything; what it has stays its own whatever its standing."""

    ALIVE = "alive"
    LOST = "lost"
    RETIRED = "retired"


@dataclass(frozen=True, slots=True)
class Agent:
    """What a decision looks at is kept beside the profile, in plain reach.

    `free` and `free_devices` may go below zero: an agent may come back smaller than what was placed on it.
    """

    agent_id: AgentId
    incarnation: int
    profile: AgentProfile
    architecture: str
    standing: Standing
    total: Slots
    free: Slots
    free_devices: Devices
    kernels: Map[tuple[SessionId, int, KernelId], AccessKey]
    """What is placed there, with its owner."""
    capabilities: frozenset[str] = frozenset()
    excluded: bool = False
    """An operator wants nothing new there."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A claim that waits. `turn` is its place in the order of arrival, `constraint` what it was last told."""

    claim: Claim
    turn: int
    constraint: Constraint | None = None


@dataclass(frozen=True, slots=True)
class Grant:
    """What an attempt was given and has not yet given back."""

    claim: Claim
    placements: Map[KernelId, Placement]


@dataclass(frozen=True, slots=True)
class Group:
    """A resource group: its agents and its queue.

    `line` waits its turn; its first, at `head`, is blocked by what is in use, and everybody else is behind it. `aside`
    stands what no agent could hold even if it were empty: it blocks nobody.
    """

    agents: Map[AgentId, Agent] = field(default_factory=Map)
    line: Map[int, Attempt] = field(default_factory=Map)
    aside: Map[int, Attempt] = field(default_factory=Map)
    head: int = 0
    next_turn: int = 0

    @property
    def first(self) -> Attempt | None:
        """Who is at the head of the line."""
        return self.line.get(self.head)

    def waiting(self) -> Iterator[int]:
        """The turns in line, first come first."""
        span = range(self.head, self.next_turn)
        if len(span) > 8 * len(self.line):  # mostly gaps: whom nobody waits for any more
            return iter(sorted(self.line))
        return (turn for turn in span if turn in self.line)


@dataclass(frozen=True, slots=True)
class Cell:
    """Everything inside one boundary key: what one scheduler schedules."""

    groups: Map[str, Group] = field(default_factory=Map)
    homes: Map[AgentId, str] = field(default_factory=Map)
    demands: Map[Attempt, Demand] = field(default_factory=Map)
    grants: Map[Attempt, Grant] = field(default_factory=Map)

    def agent(self, agent_id: AgentId) -> Agent | None:
        home = self.homes.get(agent_id)
        return None if home is None else self.groups[home].agents[agent_id]

    def group(self, name: str) -> Group:
        return self.groups.get(name, _EMPTY)


_EMPTY = Group()


def evolve(state: Cell, event: SchedulingEvents) -> Cell:
    match event:
        case AgentRegistered():
            return _registered(state, event)
        case AgentLost():
            return _standing(state, event.agent_id, Standing.LOST)
        case AgentFound():
            return _standing(state, event.agent_id, Standing.ALIVE)
        case AgentRetired():
            return _standing(state, event.agent_id, Standing.RETIRED)
        case AgentRemoved():
            return _removed(state, event)
        case AgentExcluded():
            return _excluded(state, event.agent_id, excluded=True)
        case AgentIncluded():
            return _excluded(state, event.agent_id, excluded=False)
        case PlacementDemanded():
            return _demanded(state, event)
        case PlacementDelayed():
            return _delayed(state, event)
        case PlacementDecided():
            return _decided(state, event)
        case DemandWithdrawn():
            return _withdrawn(state, (event.session_id, event.attempt))
        case CapacityReleased():
            return _released(state, (event.session_id, event.attempt), event.kernel_id)


# -- agents ------------------------------------------------------------------------------------------------------------


def _registered(state: Cell, event: AgentRegistered) -> Cell:
    profile = event.profile
    known = state.agent(event.agent_id)
    free, free_devices = (profile.slots, profile.devices) if known is None else _left(profile, known)
    agent = Agent(
        agent_id=event.agent_id,
        incarnation=event.incarnation,
        profile=profile,
        architecture=profile.architecture,
        total=profile.slots,
        standing=Standing.ALIVE,
        free=free,
        free_devices=free_devices,
        kernels=Map() if known is None else known.kernels,
        capabilities=frozenset(profile.capabilities),
        excluded=known is not None and known.excluded,
    )
    if known is not None and known.profile.resource_group != profile.resource_group:
        state = _without_agent(state, event.agent_id)
    return replace(_with_agent(state, agent), homes=state.homes.set(agent.agent_id, profile.resource_group))


def _left(profile: AgentProfile, known: Agent) -> tuple[Slots, Devices]:
    """What there is now, less what is in use of what there was."""
    in_use = minus(known.profile.slots, known.free)
    free = minus(profile.slots, {slot: units for slot, units in in_use.items() if units})
    free_devices = _devices_left(profile.devices, known)
    return _given_by_devices(free, free_devices, free_devices), free_devices


def _devices_left(devices: Devices, known: Agent) -> Devices:
    """The same, device by device."""
    left: dict[str, Mapping[str, int]] = {}
    for slot in (*devices, *(slot for slot in known.free_devices if slot not in devices)):
        in_use = minus(known.profile.devices.get(slot, {}), known.free_devices.get(slot, {}))
        there = minus(devices.get(slot, {}), {each: units for each, units in in_use.items() if units})
        if there or slot in devices:
            left[slot] = there
    return left


def _standing(state: Cell, agent_id: AgentId, standing: Standing) -> Cell:
    agent = state.agent(agent_id)
    assert agent is not None
    return _with_agent(state, replace(agent, standing=standing))


def _excluded(state: Cell, agent_id: AgentId, *, excluded: bool) -> Cell:
    agent = state.agent(agent_id)
    assert agent is not None
    return _with_agent(state, replace(agent, excluded=excluded))


def _removed(state: Cell, event: AgentRemoved) -> Cell:
    agent = state.agent(event.agent_id)
    assert agent is not None
    grants = state.grants
    for session_id, attempt, kernel_id in agent.kernels:
        grants = _less(grants, (session_id, attempt), kernel_id)
    state = _without_agent(state, event.agent_id)
    return replace(state, homes=state.homes.delete(event.agent_id), grants=grants)


def _with_agent(state: Cell, agent: Agent) -> Cell:
    name = agent.profile.resource_group
    group = state.group(name)
    return replace(
        state,
        groups=state.groups.set(name, replace(group, agents=group.agents.set(agent.agent_id, agent))),
    )


def _without_agent(state: Cell, agent_id: AgentId) -> Cell:
    name = state.homes[agent_id]
    group = state.groups[name]
    return replace(state, groups=state.groups.set(name, replace(group, agents=group.agents.delete(agent_id))))


# -- the queue ---------------------------------------------------------------------------------------------------------


def _demanded(state: Cell, event: PlacementDemanded) -> Cell:
    attempt = (event.session_id, event.attempt)
    name = event.claim.resource_group
    group = state.group(name)
    turn = group.next_turn
    queued = replace(
        group,
        line=group.line.set(turn, attempt),
        head=group.head if group.line else turn,
        next_turn=turn + 1,
    )
    return replace(
        state,
        groups=state.groups.set(name, queued),
        demands=state.demands.set(attempt, Demand(event.claim, turn)),
    )


def _delayed(state: Cell, event: PlacementDelayed) -> Cell:
    attempt = (event.session_id, event.attempt)
    demand = replace(state.demands[attempt], constraint=event.wait.constraint)
    name = demand.claim.resource_group
    group = state.groups[name]
    turn = demand.turn
    if event.wait.constraint in {Constraint.NO_AGENTS, Constraint.INFEASIBLE}:
        if turn in group.line:
            group = _out_of_line(replace(group, aside=group.aside.set(turn, attempt)), turn)
    elif turn in group.aside:
        head = min(group.head, turn) if group.line else turn
        group = replace(group, aside=group.aside.delete(turn), line=group.line.set(turn, attempt), head=head)
    return replace(state, groups=state.groups.set(name, group), demands=state.demands.set(attempt, demand))


def _dequeued(state: Cell, attempt: Attempt) -> Cell:
    demand = state.demands[attempt]
    name = demand.claim.resource_group
    group = state.groups[name]
    if demand.turn in group.aside:
        group = replace(group, aside=group.aside.delete(demand.turn))
    else:
        group = _out_of_line(group, demand.turn)
    return replace(state, groups=state.groups.set(name, group), demands=state.demands.delete(attempt))


def _out_of_line(group: Group, turn: int) -> Group:
    line = group.line.delete(turn)
    if turn != group.head:
        return replace(group, line=line)
    near = range(turn + 1, turn + 1 + len(line))
    head = next((each for each in near if each in line), None)
    if head is None:
        head = min(line, default=group.next_turn)
    return replace(group, line=line, head=head)


# -- places ------------------------------------------------------------------------------------------------------------


def _decided(state: Cell, event: PlacementDecided) -> Cell:
    attempt = (event.session_id, event.attempt)
    claim = state.demands[attempt].claim
    state = _dequeued(state, attempt)
    for placement in event.placements:
        state = _taken(state, claim, placement)
    grant = Grant(claim, Map({placement.kernel_id: placement for placement in event.placements}))
    return replace(state, grants=state.grants.set(attempt, grant))


def _taken(state: Cell, claim: Claim, placement: Placement) -> Cell:
    agent = state.agent(placement.agent_id)
    assert agent is not None
    free_devices = without_devices(agent.free_devices, placement.devices)
    taken = replace(
        agent,
        free=_given_by_devices(minus(agent.free, claim.slots), free_devices, placement.devices),
        free_devices=free_devices,
        kernels=agent.kernels.set((claim.session_id, claim.attempt, placement.kernel_id), claim.owner),
    )
    return _with_agent(state, taken)


def _withdrawn(state: Cell, attempt: Attempt) -> Cell:
    if attempt in state.demands:
        return _dequeued(state, attempt)
    for kernel_id in state.grants[attempt].placements:
        state = _released(state, attempt, kernel_id)
    return state


def _released(state: Cell, attempt: Attempt, kernel_id: KernelId) -> Cell:
    grant = state.grants[attempt]
    placement = grant.placements[kernel_id]
    agent = state.agent(placement.agent_id)
    assert agent is not None
    free_devices = _with_devices(agent.free_devices, placement.devices)
    freed = replace(
        agent,
        free=_given_by_devices(plus(agent.free, grant.claim.slots), free_devices, placement.devices),
        free_devices=free_devices,
        kernels=agent.kernels.delete((*attempt, kernel_id)),
    )
    return replace(_with_agent(state, freed), grants=_less(state.grants, attempt, kernel_id))


def _less(grants: Map[Attempt, Grant], attempt: Attempt, kernel_id: KernelId) -> Map[Attempt, Grant]:
    grant = grants[attempt]
    placements = grant.placements.delete(kernel_id)
    return grants.set(attempt, replace(grant, placements=placements)) if placements else grants.delete(attempt)


def _given_by_devices(free: Slots, free_devices: Devices, slots: Iterable[str]) -> Slots:
    """Of slots with devices there is what those have that can be given: one that is in use and has gone (it failed) is
    missing, but takes nothing from the others."""
    return {**free, **{slot: sum(units for units in free_devices[slot].values() if units > 0) for slot in slots}}


def without_devices(free: Devices, taken: Devices) -> Devices:
    """What is left of the devices."""
    return {**free, **{slot: minus(free[slot], units) for slot, units in taken.items()}} if taken else free


def _with_devices(free: Devices, given: Devices) -> Devices:
    return {**free, **{slot: plus(free[slot], units) for slot, units in given.items()}} if given else free
