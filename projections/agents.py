"""Which agents are there, what has each, what of it is in use, and who waits for some?   GET /refold/agents

Mirrors the scheduler's own account (`domain.scheduling.state`): what was placed counts until it is released, withdrawn,
or its agent removed.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from psycopg import sql
from psycopg.rows import class_row, scalar_row

from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from domain.scheduling.messages import (
    AgentEvent,
    AgentExcluded,
    AgentFound,
    AgentIncluded,
    AgentLost,
    AgentRegistered,
    AgentRemoved,
    AgentRetired,
    CapacityReleased,
    DemandEvent,
    DemandWithdrawn,
    PlacementDecided,
    PlacementDelayed,
    PlacementDemanded,
    SchedulingEvents,
)
from domain.slots import minus, plus
from infra.decoding import Told
from infra.postgres import Connection
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query
from projections.table import Index, Json, Keys, Projection, Rows, Table, bounded


@dataclass(slots=True)
class AgentRow:
    """An agent as the scheduler knows it: `status` is ALIVE, LOST, RETIRED or REMOVED. `excluded`: it gets nothing new.

    `slots` and `devices` (slot → device id → units) are what it has, `used` and `devices_used` what of it is given
    away, `faults` (by device id) why it does not offer what has failed, `formats` how amounts of a slot are shown.
    `holds` names the claims placed there, as `<attempt>/<session id>`. `last_contact` is its last word in this context;
    heartbeats are not among them.
    """

    cell: str
    agent_id: str
    status: str
    status_changed_at: datetime
    excluded: bool
    incarnation: int
    resource_group: str
    architecture: str
    address: str
    runtime: str
    slots: Json
    devices: Json
    faults: Json
    formats: Json
    used: Json
    devices_used: Json
    holds: list[str]
    first_contact: datetime
    last_contact: datetime
    last_offset: int

    @property
    def free(self) -> dict[str, int]:
        """May be below zero where an agent has come back smaller than what was placed on it."""
        return minus(self.slots, self.used)


@dataclass(slots=True)
class ClaimRow:
    """What one attempt of a session waits for, or holds.

    `kernels`: kernel id → {"agent_id", "devices"}, or None while it waits. `wait`: what keeps it waiting (`Wait`).
    """

    cell: str
    session_id: str
    attempt: int
    owner: str
    resource_group: str
    architecture: str
    slots: Json
    kernels: Json
    wait: Json | None
    demanded_at: datetime
    delayed_at: datetime | None
    placed_at: datetime | None
    candidates: int | None
    last_offset: int


AGENTS = Table(
    "agents",
    AgentRow,
    key=("cell", "agent_id"),
    indexes=(Index("by_id", "agent_id"), Index("by_group", "resource_group, agent_id")),
)

CLAIMS = Table(
    "claims",
    ClaimRow,
    key=("cell", "session_id", "attempt"),
    indexes=(
        Index("by_session", "session_id, attempt"),
        Index("waiting", "cell, resource_group, demanded_at", where="placed_at IS NULL"),
    ),
)


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(told: Told, rows: Rows) -> Keys:
    event, cell = told.event, told.key
    match event:
        case AgentEvent():
            yield AGENTS, (cell, event.agent_id)
            if isinstance(event, AgentRemoved):
                agent = rows.peek(AGENTS, (cell, event.agent_id))
                for hold in agent.holds if agent else ():
                    yield CLAIMS, (cell, *_claim_of(hold))
        case DemandEvent():
            yield CLAIMS, (cell, event.session_id, event.attempt)
            if isinstance(event, PlacementDecided):
                yield from ((AGENTS, (cell, placement.agent_id)) for placement in event.placements)
            claim = rows.peek(CLAIMS, (cell, event.session_id, event.attempt))
            for place in claim.kernels.values() if claim else ():
                if place is not None:
                    yield AGENTS, (cell, place["agent_id"])


def fold(rows: Rows, told: Told) -> None:
    event: SchedulingEvents | ShardOpened | CommandRefused | CommandUnneeded = told.event  # type: ignore[assignment]
    match event:
        case ShardOpened() | CommandRefused() | CommandUnneeded():
            pass
        case AgentRegistered():
            _registered(rows, told, event)
        case AgentLost():
            _stands(rows, told, event, "LOST")
        case AgentFound():
            _stands(rows, told, event, "ALIVE").last_contact = event.at
        case AgentRetired():
            _stands(rows, told, event, "RETIRED").last_contact = event.at
        case AgentRemoved():
            _removed(rows, told, event)
        case AgentExcluded() | AgentIncluded():
            agent = rows.change(AGENTS, (told.key, event.agent_id))
            agent.excluded = isinstance(event, AgentExcluded)
            agent.last_offset = told.record.offset
        case PlacementDemanded():
            _demanded(rows, told, event)
        case PlacementDelayed():
            claim = _claim(rows, told, event)
            claim.wait = event.wait.model_dump(mode="json")
            claim.delayed_at = event.at
        case PlacementDecided():
            _decided(rows, told, event)
        case DemandWithdrawn():
            _give_back(rows, told, event, None)
        case CapacityReleased():
            _give_back(rows, told, event, event.kernel_id)
        case _:
            assert_never(event)


PROJECTION = Projection("agents", contexts=("scheduling",), tables=(AGENTS, CLAIMS), keys=keys, fold=fold)


def _registered(rows: Rows, told: Told, event: AgentRegistered) -> None:
    known = rows.find(AGENTS, (told.key, event.agent_id))
    profile = event.profile
    agent = AgentRow(
        cell=told.key,
        agent_id=event.agent_id,
        status="ALIVE",
        status_changed_at=event.at,
        excluded=known is not None and known.excluded,
        incarnation=bounded(event.incarnation),
        resource_group=profile.resource_group,
        architecture=profile.architecture,
        address=profile.address,
        runtime=profile.runtime,
        slots=dict(profile.slots),
        devices={slot: dict(devices) for slot, devices in profile.devices.items()},
        faults=dict(profile.faults),
        formats={slot: each.model_dump(mode="json") for slot, each in profile.formats.items()},
        used=known.used if known else {},
        devices_used=known.devices_used if known else {},
        holds=known.holds if known else [],
        first_contact=known.first_contact if known else event.at,
        last_contact=event.at,
        last_offset=told.record.offset,
    )
    rows.put(AGENTS, agent)


def _stands(rows: Rows, told: Told, event: AgentEvent, status: str) -> AgentRow:
    agent = rows.change(AGENTS, (told.key, event.agent_id))
    agent.status = status
    agent.status_changed_at = event.at
    agent.last_offset = told.record.offset
    return agent


def _removed(rows: Rows, told: Told, event: AgentRemoved) -> None:
    """With everything on it."""
    agent = _stands(rows, told, event, "REMOVED")
    for hold in agent.holds:
        key = (told.key, *_claim_of(hold))
        claim = rows.change(CLAIMS, key)
        claim.kernels = {
            kernel_id: place
            for kernel_id, place in claim.kernels.items()
            if place is None or place["agent_id"] != event.agent_id
        }
        claim.last_offset = told.record.offset
        if not claim.kernels:
            rows.remove(CLAIMS, key)
    agent.excluded = False
    agent.used = {}
    agent.devices_used = {}
    agent.holds = []


def _demanded(rows: Rows, told: Told, event: PlacementDemanded) -> None:
    claim = event.claim
    row = ClaimRow(
        cell=told.key,
        session_id=event.session_id,
        attempt=event.attempt,
        owner=claim.owner,
        resource_group=claim.resource_group,
        architecture=claim.architecture,
        slots=dict(claim.slots),
        kernels=dict.fromkeys(claim.kernels),
        wait=None,
        demanded_at=event.at,
        delayed_at=None,
        placed_at=None,
        candidates=None,
        last_offset=told.record.offset,
    )
    rows.put(CLAIMS, row)


def _decided(rows: Rows, told: Told, event: PlacementDecided) -> None:
    claim = _claim(rows, told, event)
    claim.wait = None
    claim.placed_at = event.at
    claim.candidates = event.candidates
    for placement in event.placements:
        devices = {slot: dict(units) for slot, units in placement.devices.items()}
        claim.kernels[placement.kernel_id] = {"agent_id": placement.agent_id, "devices": devices}
        agent = rows.change(AGENTS, (told.key, placement.agent_id))
        agent.used = plus(agent.used, claim.slots)
        agent.devices_used = _with_devices(agent.devices_used, devices, 1)
        if (hold := _hold(claim)) not in agent.holds:
            agent.holds.append(hold)


def _give_back(rows: Rows, told: Told, event: DemandWithdrawn | CapacityReleased, kernel_id: str | None) -> None:
    """One kernel's part of a claim, or all that is left of it."""
    claim = _claim(rows, told, event)
    for each in [kernel_id] if kernel_id is not None else list(claim.kernels):
        place = claim.kernels.pop(each, None)
        if place is None:
            continue
        agent = rows.change(AGENTS, (told.key, place["agent_id"]))
        agent.used = {slot: units for slot, units in minus(agent.used, claim.slots).items() if units}
        agent.devices_used = _with_devices(agent.devices_used, place["devices"], -1)
        if not any(other and other["agent_id"] == agent.agent_id for other in claim.kernels.values()):
            agent.holds.remove(_hold(claim))
    if not claim.kernels:
        rows.remove(CLAIMS, (told.key, event.session_id, event.attempt))


def _claim(rows: Rows, told: Told, event: DemandEvent) -> ClaimRow:
    claim = rows.change(CLAIMS, (told.key, event.session_id, event.attempt))
    claim.last_offset = told.record.offset
    return claim


def _with_devices(used: Json, devices: Mapping[str, Mapping[str, int]], sign: int) -> Json:
    changed: Json = {slot: dict(units) for slot, units in used.items()}
    for slot, units in devices.items():
        held = changed.setdefault(slot, {})
        for device, amount in units.items():
            held[device] = held.get(device, 0) + sign * amount
            if held[device] == 0:
                del held[device]
        if not held:
            del changed[slot]
    return changed


def _hold(claim: ClaimRow) -> str:
    return f"{claim.attempt}/{claim.session_id}"


def _claim_of(hold: str) -> tuple[str, int]:
    attempt, _, session_id = hold.partition("/")
    return session_id, int(attempt)


# -- the questions -----------------------------------------------------------------------------------------------------

_FILTER = """
WHERE (%(statuses)s::text[] IS NULL OR status = ANY(%(statuses)s))
  AND (%(resource_group)s::text IS NULL OR resource_group = %(resource_group)s)"""

_PAGE = (
    sql.SQL("SELECT {} FROM agents").format(AGENTS.names)
    + sql.SQL(_FILTER)
    + sql.SQL("""
  AND (%(after)s::text IS NULL OR (agent_id, cell) > (%(after)s, %(after_cell)s))
ORDER BY agent_id, cell OFFSET %(skip)s LIMIT %(limit)s""")
)

_COUNT = sql.SQL("SELECT count(*) FROM agents") + sql.SQL(_FILTER)

_BY_ID = sql.SQL("SELECT {} FROM agents WHERE agent_id = %s ORDER BY last_contact DESC LIMIT 1").format(AGENTS.names)

_AGENTS = Listing(
    AgentRow,
    sql.SQL("SELECT * FROM agents"),
    fields={
        "id": Field("agent_id"),
        "status": Field("status", choices=("ALIVE", "LOST", "RETIRED", "REMOVED")),
        "status_changed": Field("status_changed_at", Kind.TIME),
        "scaling_group": Field("resource_group"),
        "architecture": Field("architecture"),
        "addr": Field("address"),
        "first_contact": Field("first_contact", Kind.TIME),
        "lost_at": Field("(CASE WHEN status = 'LOST' THEN status_changed_at END)", Kind.TIME, nullable=True),
    },
    key=("agent_id", "cell"),
)

_CLAIMS = sql.SQL("SELECT {} FROM claims WHERE session_id = %s ORDER BY attempt").format(CLAIMS.names)


async def page(
    db: Connection,
    *,
    statuses: Sequence[str] | None = None,
    resource_group: str | None = None,
    after: tuple[str, str] | None = None,
    skip: int = 0,
    limit: int = 100,
) -> tuple[list[AgentRow], int]:
    """Agents by id, those after (agent id, cell), and how many fit the filter in all."""
    agent_id, cell = after or (None, None)
    values = {
        "statuses": None if statuses is None else list(statuses),
        "resource_group": resource_group,
        "after": agent_id,
        "after_cell": cell,
        "skip": skip,
        "limit": limit,
    }
    async with db.cursor(row_factory=class_row(AgentRow)) as cursor:
        await cursor.execute(_PAGE, values)
        found = await cursor.fetchall()
    async with db.cursor(row_factory=scalar_row) as counting:
        await counting.execute(_COUNT, values)
        total = await counting.fetchone()
    return found, int(total or 0)


async def listed(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    statuses: Sequence[str] | None = None,
    resource_group: str | None = None,
) -> Page[AgentRow]:
    """Agents by id, filtered and sorted as clients ask for. Raises `BadQuery`."""
    return await _AGENTS.page(
        db,
        query,
        ("status = ANY({})", statuses if statuses is None else list(statuses)),
        ("resource_group = {}", resource_group),
    )


async def by_id(db: Connection, agent_id: str) -> AgentRow | None:
    """The agent of that name; in the cell where it was heard last."""
    async with db.cursor(row_factory=class_row(AgentRow)) as cursor:
        await cursor.execute(_BY_ID, (agent_id,))
        return await cursor.fetchone()


async def claims_of_session(db: Connection, session_id: str) -> list[ClaimRow]:
    """What its attempts wait for or hold; none once everything is given back."""
    async with db.cursor(row_factory=class_row(ClaimRow)) as cursor:
        await cursor.execute(_CLAIMS, (session_id,))
        return await cursor.fetchall()
