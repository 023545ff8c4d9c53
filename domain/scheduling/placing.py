"""Where a claim goes: pure comparisons of whole numbers, the same today and at replay.

All kernels of a claim or none. An agent must be alive and not excluded, of the right architecture, able to do what the
claim needs, and have the room; of those that do, the one that stays least used is taken, those to be avoided last, the
smaller id where nothing else tells them apart.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from heapq import heapify, heappop, heappush

from domain.messages import AgentId
from domain.scheduling.messages import Claim, Constraint, Placement, Wait
from domain.scheduling.state import Agent, Devices, Standing, without_devices
from domain.slots import WHOLE, Slots, is_whole, lacking, minus

Agents = Mapping[AgentId, Agent]
Wanted = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Placed:
    """A place for every kernel. `candidates`: how many agents could have taken the first."""

    placements: tuple[Placement, ...]
    candidates: int


def place(claim: Claim, agents: Agents) -> Placed | None:
    """The best places that are free now; None if there are none."""
    if claim.together or len(claim.kernels) == 1:
        return _on_one(claim, agents)
    return _on_several(claim, agents)


def _on_one(claim: Claim, agents: Agents) -> Placed | None:
    count = len(claim.kernels)
    wanted = _wanted(claim, count)
    best, candidates = _least_used(claim, wanted, agents)
    while best is not None:
        if (devices := _devices_for(claim, best.free_devices, count)) is not None:
            pairs = zip(claim.kernels, devices, strict=True)
            return Placed(
                tuple(Placement(kernel_id=k, agent_id=best.agent_id, devices=d) for k, d in pairs), candidates
            )
        # Enough in sum but not device by device: only after an agent came back with fewer devices than it had.
        agents = {agent_id: agent for agent_id, agent in agents.items() if agent_id != best.agent_id}
        best, candidates = _least_used(claim, wanted, agents)
    return None


def _least_used(claim: Claim, wanted: Wanted, agents: Agents) -> tuple[Agent | None, int]:
    """The agent that stays least used, and how many there were to choose from.

    The one loop over all agents of a group, so it calls nothing and makes nothing: `_share_left` is written out in it.
    """
    architecture, avoid, alive = claim.architecture, claim.avoid, Standing.ALIVE
    needs = frozenset(claim.needs)
    best: Agent | None = None
    best_share, best_avoided, candidates = 0.0, False, 0
    for agent in agents.values():
        if agent.standing is not alive or agent.excluded or agent.architecture != architecture:
            continue
        if needs and not needs <= agent.capabilities:
            continue
        free, total, share = agent.free, agent.total, 1.0
        for slot, units in wanted:
            left = free.get(slot, 0) - units
            if left < 0:
                break
            if (part := left / total[slot]) < share:
                share = part
        else:
            candidates += 1
            avoided = agent.agent_id in avoid
            if best is not None:
                if avoided is not best_avoided:
                    if avoided:
                        continue
                elif share < best_share or (share == best_share and agent.agent_id > best.agent_id):
                    continue
            best, best_share, best_avoided = agent, share, avoided
    return best, candidates


def _on_several(claim: Claim, agents: Agents) -> Placed | None:
    """Kernel by kernel, each where most is left. All are alike, so only the agent just taken has to be ranked anew."""
    wanted, needs = _wanted(claim, 1), frozenset(claim.needs)
    ranked = [
        (agent_id in claim.avoid, -share, agent_id)
        for agent_id, agent in agents.items()
        if _matches(claim, needs, agent) and (share := _share_left(agent.free, agent.total, wanted)) >= 0
    ]
    heapify(ranked)
    candidates = len(ranked)
    left: dict[AgentId, tuple[Slots, Devices]] = {}
    placements: list[Placement] = []
    while len(placements) < len(claim.kernels):
        if not ranked:
            return None
        avoided, _, agent_id = heappop(ranked)
        agent = agents[agent_id]
        free, free_devices = left.get(agent_id, (agent.free, agent.free_devices))
        devices = _devices_for(claim, free_devices, 1)
        if devices is None:
            continue
        kernel_id = claim.kernels[len(placements)]
        placements.append(Placement(kernel_id=kernel_id, agent_id=agent_id, devices=devices[0]))
        free = minus(free, claim.slots)
        left[agent_id] = free, without_devices(free_devices, devices[0])
        share = _share_left(free, agent.total, wanted)
        if share >= 0:
            heappush(ranked, (avoided, -share, agent_id))
    return Placed(tuple(placements), candidates)


def _share_left(free: Slots, total: Slots, wanted: Wanted) -> float:
    """How much of the slot that gets scarcest would be left, as a part of all the agent has; below 0 if it is too much.

    The quotient of two whole numbers is rounded the same everywhere, so a decision made again comes out the same.
    """
    share = 1.0
    for slot, units in wanted:
        left = free.get(slot, 0) - units
        if left < 0:
            return -1.0
        share = min(share, left / total[slot])
    return share


def _wanted(claim: Claim, count: int) -> Wanted:
    return tuple((slot, units * count) for slot, units in claim.slots.items() if units)


def _matches(claim: Claim, needs: frozenset[str], agent: Agent) -> bool:
    return (
        agent.standing is Standing.ALIVE
        and not agent.excluded
        and agent.architecture == claim.architecture
        and needs <= agent.capabilities
    )


# -- devices -----------------------------------------------------------------------------------------------------------


def _devices_for(claim: Claim, free: Devices, count: int) -> list[dict[str, dict[str, int]]] | None:
    """Devices for that many kernels of the claim; None if they do not go round."""
    given: list[dict[str, dict[str, int]]] = []
    for _ in range(count):
        mine: dict[str, dict[str, int]] = {}
        for slot, units in claim.slots.items():
            if units and slot in free:
                chosen = choose_devices(slot, units, free[slot])
                if chosen is None:
                    return None
                mine[slot] = chosen
        given.append(mine)
        free = without_devices(free, mine)
    return given


def choose_devices(slot: str, units: int, free: Mapping[str, int]) -> dict[str, int] | None:
    """Which devices, and how much of each. Whole devices: smaller ids first. Shares: the tightest fit on one device,
    else as few devices as can be, those with most free first."""
    if is_whole(slot):
        whole = sorted(device for device, units_free in free.items() if units_free >= WHOLE)
        count, rest = divmod(units, WHOLE)
        return None if rest or len(whole) < count else dict.fromkeys(whole[:count], WHOLE)
    fitting = [(units_free, device) for device, units_free in free.items() if units_free >= units]
    if fitting:
        return {min(fitting)[1]: units}
    chosen: dict[str, int] = {}
    for negative, device in sorted((-units_free, device) for device, units_free in free.items()):
        part = min(units, -negative)
        if part <= 0:
            break
        chosen[device] = part
        units -= part
    return chosen if units == 0 else None


# -- why not -----------------------------------------------------------------------------------------------------------


def why(claim: Claim, agents: Agents) -> Wait:
    """Why a claim that has no place now has none: nothing to run on, never enough, or not enough at the moment."""
    standing = excluded = architecture = capabilities = small = busy = 0
    needs = frozenset(claim.needs)
    need = len(claim.kernels) if claim.together else 1
    rooms_empty = rooms_free = 0
    matching: list[Agent] = []
    for agent in agents.values():
        if agent.standing is not Standing.ALIVE:
            standing += 1
        elif agent.excluded:
            excluded += 1
        elif agent.architecture != claim.architecture:
            architecture += 1
        elif not needs <= agent.capabilities:
            capabilities += 1
        else:
            matching.append(agent)
            empty = _rooms(claim, agent.total, agent.profile.devices)
            free = min(empty, _rooms(claim, agent.free, agent.free_devices))
            rooms_empty += empty // need
            rooms_free += free // need
            small += empty < need
            busy += free < need <= empty
    counts = {
        "not-alive": standing,
        "excluded": excluded,
        "architecture": architecture,
        "capabilities": capabilities,
        "too-small": small,
        "in-use": busy,
    }
    removed = {name: count for name, count in counts.items() if count}
    if not matching:
        return Wait(constraint=Constraint.NO_AGENTS, agents=removed)
    enough = len(claim.kernels) // need
    feasible = rooms_empty >= enough
    constraint = Constraint.BUSY if feasible else Constraint.INFEASIBLE
    if enough > 1 and (rooms := rooms_free if feasible else rooms_empty):
        missing = {slot: units * (enough - rooms) for slot, units in claim.slots.items() if units}
    else:
        missing = _closest(claim, matching, need, empty=not feasible)
    return Wait(constraint=constraint, agents=removed, lacking=missing)


def could_ever(claim: Claim, agents: Agents) -> bool:
    """Whether the agents alive now could hold it if they were empty."""
    need = len(claim.kernels) if claim.together else 1
    enough = len(claim.kernels) // need
    needs = frozenset(claim.needs)
    rooms = 0
    for agent in agents.values():
        if _matches(claim, needs, agent):
            rooms += _rooms(claim, agent.total, agent.profile.devices) // need
            if rooms >= enough:
                return True
    return False


def _rooms(claim: Claim, slots: Slots, devices: Devices) -> int:
    """For how many kernels of the claim there is room."""
    rooms = len(claim.kernels)
    for slot, units in claim.slots.items():
        if units:
            rooms = min(rooms, max(slots.get(slot, 0), 0) // units)
            if slot in devices and is_whole(slot):
                whole = sum(units_there >= WHOLE for units_there in devices[slot].values())
                rooms = min(rooms, 0 if units % WHOLE else whole * WHOLE // units)
            elif slot in devices:
                shares = sum(units_there for units_there in devices[slot].values() if units_there > 0)
                rooms = min(rooms, shares // units)
    return rooms


def _closest(claim: Claim, matching: list[Agent], need: int, *, empty: bool) -> dict[str, int]:
    """What the agent that comes closest is short of."""
    wanted = dict(_wanted(claim, need))

    def shortage(agent: Agent) -> tuple[float, AgentId]:
        missing = _missing(agent, wanted, empty)
        return max((units / wanted[slot] for slot, units in missing.items()), default=0.0), agent.agent_id

    return _missing(min(matching, key=shortage), wanted, empty)


def _missing(agent: Agent, wanted: Slots, empty: bool) -> dict[str, int]:
    return lacking(wanted, agent.total if empty else agent.free)
