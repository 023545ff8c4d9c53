"""What the scheduler makes of what it is told. `decide` is the table of contents; below it one function a command.

Each decision is the fact first, then what follows for the queue of the resource group it touched: first come, first
served. Whoever is at the head and does not fit blocks those behind; whom no agent could ever hold stands aside.
"""

from collections.abc import Sequence
from datetime import datetime
from heapq import merge

from domain.messages import AgentId, Refused, Unneeded
from domain.scheduling.messages import (
    AgentExcluded,
    AgentFound,
    AgentIncluded,
    AgentLost,
    AgentRegistered,
    AgentRemoved,
    AgentRetired,
    CapacityReleased,
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
    SchedulingCommands,
    SchedulingEvents,
    Wait,
    WithdrawDemand,
)
from domain.scheduling.placing import Agents, could_ever, place, why
from domain.scheduling.state import Agent, Attempt, Cell, Demand, Group, Standing, evolve

Events = Sequence[SchedulingEvents]

_NEVER = frozenset({Constraint.NO_AGENTS, Constraint.INFEASIBLE})


def decide(command: SchedulingCommands, state: Cell) -> Events:
    match command:
        case RegisterAgent():
            return _register(command, state)
        case MarkAgentLost():
            return _lose(command, state)
        case MarkAgentFound():
            return _find(command, state)
        case RetireAgent():
            return _retire(command, state)
        case RemoveAgent():
            return _remove(command, state)
        case ExcludeAgent() | IncludeAgent():
            return _exclude(command, state)
        case DemandPlacement():
            return _demand(command, state)
        case WithdrawDemand():
            return _withdraw(command, state)
        case ReleaseCapacity():
            return _release(command, state)


# -- agents ------------------------------------------------------------------------------------------------------------


def _register(command: RegisterAgent, state: Cell) -> Events:
    known = state.agent(command.agent_id)
    placed = set() if known is None else {(kernel_id, session_id) for session_id, _, kernel_id in known.kernels}
    if known is not None:
        if command.incarnation < known.incarnation:
            raise Refused(
                "stale_incarnation", f"{command.agent_id} has registered as {known.incarnation}", "incarnation"
            )
        as_known = (command.incarnation, command.profile) == (known.incarnation, known.profile)
        if as_known and known.standing is Standing.ALIVE:
            return []
    registered = AgentRegistered(
        at=command.at,
        agent_id=command.agent_id,
        incarnation=command.incarnation,
        journal=command.journal,
        profile=command.profile,
        kernels=command.kernels,
        strays=tuple(each for each in command.kernels if (each.kernel_id, each.session_id) not in placed),
    )
    queue = _Queue(state, command.at)
    queue.tell(registered)
    if known is not None and known.profile.resource_group != command.profile.resource_group:
        queue.serve_changed(known.profile.resource_group)
    queue.serve_changed(command.profile.resource_group)
    return queue.told


def _lose(command: MarkAgentLost, state: Cell) -> Events:
    agent = _current(command.agent_id, command.incarnation, state)
    if agent.standing is not Standing.ALIVE:
        return []
    return _standing(AgentLost(at=command.at, agent_id=command.agent_id), agent, state)


def _find(command: MarkAgentFound, state: Cell) -> Events:
    agent = _current(command.agent_id, command.incarnation, state)
    if agent.standing is not Standing.LOST:
        return []
    return _standing(AgentFound(at=command.at, agent_id=command.agent_id), agent, state)


def _retire(command: RetireAgent, state: Cell) -> Events:
    agent = _current(command.agent_id, command.incarnation, state)
    if agent.standing is Standing.RETIRED:
        return []
    return _standing(AgentRetired(at=command.at, agent_id=command.agent_id), agent, state)


def _remove(command: RemoveAgent, state: Cell) -> Events:
    agent = state.agent(command.agent_id)
    if agent is None:
        return []
    return _standing(AgentRemoved(at=command.at, agent_id=command.agent_id), agent, state)


def _exclude(command: ExcludeAgent | IncludeAgent, state: Cell) -> Events:
    agent = _known(command.agent_id, state)
    wanted = isinstance(command, ExcludeAgent)
    if agent.excluded is wanted:
        return []
    kind = AgentExcluded if wanted else AgentIncluded
    return _standing(kind(at=command.at, agent_id=command.agent_id), agent, state)


def _known(agent_id: AgentId, state: Cell) -> Agent:
    agent = state.agent(agent_id)
    if agent is None:
        raise Refused("unknown_agent", f"no agent {agent_id} has registered", "agent_id")
    return agent


def _current(agent_id: AgentId, incarnation: int, state: Cell) -> Agent:
    """The agent, if the word is about what it is now: an earlier incarnation's end is no news."""
    agent = _known(agent_id, state)
    if agent.incarnation != incarnation:
        raise Unneeded("other_incarnation", f"{agent_id} has registered as {agent.incarnation}")
    return agent


def _standing(
    event: AgentLost | AgentFound | AgentRetired | AgentRemoved | AgentExcluded | AgentIncluded,
    agent: Agent,
    state: Cell,
) -> Events:
    queue = _Queue(state, event.at)
    queue.tell(event)
    queue.serve_changed(agent.profile.resource_group)
    return queue.told


# -- demands -----------------------------------------------------------------------------------------------------------


def _demand(command: DemandPlacement, state: Cell) -> Events:
    claim = command.claim
    attempt = (claim.session_id, claim.attempt)
    if attempt in state.demands or attempt in state.grants:
        return []
    queue = _Queue(state, command.at)
    queue.tell(PlacementDemanded(at=command.at, session_id=claim.session_id, attempt=claim.attempt, claim=claim))
    first = state.group(claim.resource_group).first
    if first is None:
        queue.serve(claim.resource_group)
    else:
        queue.delay(attempt, Wait(constraint=Constraint.BEHIND, behind=first[0]))
    return queue.told


def _withdraw(command: WithdrawDemand, state: Cell) -> Events:
    attempt = (command.session_id, command.attempt)
    demand, grant = state.demands.get(attempt), state.grants.get(attempt)
    if demand is not None:
        name = demand.claim.resource_group
        moved = {name} if state.groups[name].first == attempt else set()
    elif grant is not None:
        moved = {state.homes[placement.agent_id] for placement in grant.placements.values()}
    else:
        return []
    queue = _Queue(state, command.at)
    queue.tell(DemandWithdrawn(at=command.at, session_id=command.session_id, attempt=command.attempt))
    for name in sorted(moved):
        queue.serve(name)
    return queue.told


def _release(command: ReleaseCapacity, state: Cell) -> Events:
    attempt = (command.session_id, command.attempt)
    grant = state.grants.get(attempt)
    if grant is None or command.kernel_id not in grant.placements:
        return []
    queue = _Queue(state, command.at)
    queue.tell(
        CapacityReleased(
            at=command.at,
            session_id=command.session_id,
            attempt=command.attempt,
            kernel_id=command.kernel_id,
        )
    )
    freed = grant.placements[command.kernel_id].agent_id
    queue.serve(state.homes[freed], freed)
    return queue.told


# -- first come, first served ------------------------------------------------------------------------------------------


class _Queue:
    """One decision in the making: what was told so far, and the state after it."""

    def __init__(self, state: Cell, at: datetime) -> None:
        self.told: list[SchedulingEvents] = []
        self._before = self._state = state
        self._at = at

    def tell(self, event: SchedulingEvents) -> None:
        self.told.append(event)
        self._state = evolve(self._state, event)

    def group(self, name: str) -> Group:
        return self._state.group(name)

    def delay(self, attempt: Attempt, wait: Wait) -> None:
        """Says so only if it is news: who waits behind whom changes all the time, the constraint does not."""
        if self._state.demands[attempt].constraint is not wait.constraint:
            session_id, number = attempt
            self.tell(PlacementDelayed(at=self._at, session_id=session_id, attempt=number, wait=wait))

    def serve(self, name: str, freed: AgentId | None = None) -> None:
        """Place those at the head until one does not fit.

        Who was at the head before this decision is known not to fit. With `freed`, that agent alone has more room now,
        so if he needs one agent only, no other is looked at.
        """
        first = self._before.group(name).first
        while (attempt := self.group(name).first) is not None:
            demand = self._state.demands[attempt]
            agents: Agents = self.group(name).agents
            blocked_before = attempt == first
            for_one_agent = demand.claim.together or len(demand.claim.kernels) == 1
            if freed is not None and blocked_before and for_one_agent:
                agents = {freed: agents[freed]}
            if self._placed(attempt, demand, agents):
                continue
            if not blocked_before:
                self.delay(attempt, why(demand.claim, agents))
            if attempt == self.group(name).first:
                return

    def serve_changed(self, name: str) -> None:
        """Agents of the group came, went or changed: also those aside may fit now, and those in line may never."""
        ever: dict[object, bool] = {}
        group = self.group(name)
        blocked: int | None = None
        aside = sorted(group.aside)
        for turn in merge(aside, group.waiting()):
            attempt = group.aside.get(turn) or group.line[turn]
            demand = self._state.demands[attempt]
            if turn in group.aside and not self._could_ever(demand, name, ever):
                self.delay(attempt, why(demand.claim, self.group(name).agents))
                continue
            if self._placed(attempt, demand, self.group(name).agents):
                continue
            wait = why(demand.claim, self.group(name).agents)
            self.delay(attempt, wait)
            if wait.constraint not in _NEVER:
                blocked = turn
                break
        if blocked is None:
            return
        head = self.group(name).line[blocked]
        for turn in aside:
            if turn > blocked:
                attempt = group.aside[turn]
                demand = self._state.demands[attempt]
                if self._could_ever(demand, name, ever):
                    self.delay(attempt, Wait(constraint=Constraint.BEHIND, behind=head[0]))
                else:
                    self.delay(attempt, why(demand.claim, self.group(name).agents))

    def _placed(self, attempt: Attempt, demand: Demand, agents: Agents) -> bool:
        placed = place(demand.claim, agents)
        if placed is None:
            return False
        session_id, number = attempt
        self.tell(
            PlacementDecided(
                at=self._at,
                session_id=session_id,
                attempt=number,
                placements=placed.placements,
                candidates=placed.candidates,
            )
        )
        return True

    def _could_ever(self, demand: Demand, name: str, ever: dict[object, bool]) -> bool:
        """Asked once for all claims of the same shape."""
        claim = demand.claim
        shape = (
            claim.architecture,
            claim.together,
            len(claim.kernels),
            claim.needs,
            tuple(sorted(claim.slots.items())),
        )
        if shape not in ever:
            ever[shape] = could_ever(claim, self.group(name).agents)
        return ever[shape]
