"""How much is held already, how much is free, and of what is there anything at all?   POST /resource/check-presets"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from domain.slots import minus
from infra.postgres import Connection
from projections.table import Json

_OCCUPYING: Final = "ended_at IS NULL AND status <> 'PENDING'"

_HELD: Final = f"""
SELECT slot,
       coalesce(sum(units) FILTER (WHERE owner = %(owner)s), 0)::bigint,
       coalesce(sum(units) FILTER (WHERE project_id = %(project_id)s), 0)::bigint,
       coalesce(sum(units) FILTER (WHERE domain = %(domain)s), 0)::bigint
FROM (
    SELECT owner, project_id, domain, slot, amount::bigint * cluster_size AS units
    FROM (
        SELECT s.owner, s.project_id, coalesce(d.name, s.domain) AS domain, s.slots, s.cluster_size
        FROM session_list s
        LEFT JOIN directory_projects p ON p.project_id = s.project_id
        LEFT JOIN directory_domains d ON d.number = p.domain_number
        WHERE {_OCCUPYING}
    ) AS placed, jsonb_each_text(slots) AS each(slot, amount)
    WHERE owner = %(owner)s OR domain = %(domain)s
) AS held
GROUP BY slot"""

_HELD_BY_GROUP: Final = f"""
SELECT resource_group, slot, sum(amount::bigint * cluster_size)::bigint
FROM session_list, jsonb_each_text(slots) AS each(slot, amount)
WHERE {_OCCUPYING} AND owner = ANY(%s)
GROUP BY resource_group, slot"""

_FREE_OF: Final = "SELECT resource_group, slots, used FROM agents WHERE status = 'ALIVE' AND resource_group = ANY(%s)"

_SLOT_NAMES: Final = """
SELECT DISTINCT name FROM agents, jsonb_object_keys(slots) AS each(name)
WHERE status <> 'REMOVED' AND (%(group)s::text IS NULL OR resource_group = %(group)s)"""


_SLOT_FORMATS: Final = """
SELECT DISTINCT ON (slot) slot, told FROM agents, jsonb_each(formats) AS each(slot, told)
WHERE status <> 'REMOVED' AND (%(group)s::text IS NULL OR resource_group = %(group)s) ORDER BY slot, agent_id"""


@dataclass(frozen=True, slots=True)
class Held:
    """What sessions that have been placed hold, by slot: those of one keypair, of its project, and of its domain.

    Each kernel of a session counts.
    """

    keypair: Mapping[str, int]
    project: Mapping[str, int]
    domain: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Capacity:
    """`slots`: of which any agent has some. `held_by_group`: by some keypairs together, in each resource group.

    `free`: what each living agent has left, with its resource group.
    """

    slots: frozenset[str]
    held: Held
    held_by_group: Mapping[str, Mapping[str, int]]
    free: Sequence[tuple[str, Mapping[str, int]]]


async def capacity(
    db: Connection, *, owner: str, domain: str, project_id: str | None, owners: Sequence[str], groups: Sequence[str]
) -> Capacity:
    """For one keypair in a project of its domain; `owners`: whose use is told by resource group."""
    return Capacity(
        await slot_names(db),
        await _held(db, owner, domain, project_id),
        await _held_by_group(db, owners),
        await _free(db, groups),
    )


async def slot_names(db: Connection, group: str | None = None) -> frozenset[str]:
    """Of which slots any agent has some; of one resource group, or of all."""
    cursor = await db.execute(_SLOT_NAMES, {"group": group})
    return frozenset(name for (name,) in await cursor.fetchall())


async def slot_formats(db: Connection, group: str | None = None) -> Mapping[str, Json]:
    """How amounts of a slot are shown, as the first of the agents says that says so: fields of a `SlotFormat`."""
    cursor = await db.execute(_SLOT_FORMATS, {"group": group})
    return {slot: told for slot, told in await cursor.fetchall()}  # noqa: C416 (rows are tuples of any length)


async def _held(db: Connection, owner: str, domain: str, project_id: str | None) -> Held:
    cursor = await db.execute(_HELD, {"owner": owner, "domain": domain, "project_id": project_id})
    rows: list[tuple[Any, ...]] = await cursor.fetchall()
    return Held({row[0]: row[1] for row in rows}, {row[0]: row[2] for row in rows}, {row[0]: row[3] for row in rows})


async def _held_by_group(db: Connection, owners: Sequence[str]) -> Mapping[str, Mapping[str, int]]:
    cursor = await db.execute(_HELD_BY_GROUP, (list(owners),))
    found: dict[str, dict[str, int]] = {}
    for group, slot, units in await cursor.fetchall():
        found.setdefault(group, {})[slot] = units
    return found


async def _free(db: Connection, groups: Sequence[str]) -> Sequence[tuple[str, Mapping[str, int]]]:
    cursor = await db.execute(_FREE_OF, (list(groups),))
    return [(group, minus(slots, used)) for group, slots, used in await cursor.fetchall()]
