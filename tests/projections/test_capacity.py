"""How much is held and how much is free: what Postgres sums up is what one counts by hand."""

from collections.abc import Iterable
from typing import TypeVar

import pytest
from psycopg import sql
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from domain.slots import total
from infra.postgres import Pool, connection
from projections.agents import AGENTS, AgentRow
from projections.capacity import Held, capacity, slot_formats, slot_names
from projections.session_list import SESSION_LIST, SessionRow
from projections.table import Table
from tests.projections.story import Scribe, WrittenWorld, lives
from tests.projections.test_live import SETTINGS, fold_all, log_of, tables

__all__ = ["tables"]

R = TypeVar("R")

pytestmark = pytest.mark.cluster


@pytest.fixture
async def busy(tables: Pool) -> Pool:
    """Sessions in all stages, and agents that came and went."""
    scribe = Scribe(SETTINGS)
    world = WrittenWorld(scribe)
    for choice in range(300):
        world.step(choice * 7919)
    lives(scribe, 60, owners=3)
    await fold_all(await log_of(scribe), tables, contexts=("session", "scheduling"))
    return tables


async def rows_of(pool: Pool, table: Table[R], kind: type[R]) -> list[R]:
    async with connection(pool) as db, db.cursor(row_factory=class_row(kind)) as cursor:
        await cursor.execute(sql.SQL("SELECT * FROM {}").format(sql.Identifier(table.name)))
        return list(await cursor.fetchall())


def held(rows: Iterable[SessionRow]) -> dict[str, int]:
    return total([row.slots for row in rows for _ in range(row.cluster_size)])


async def test_what_is_held_is_the_sum_of_the_kernels_of_sessions_that_were_placed(busy: Pool) -> None:
    sessions = await rows_of(busy, SESSION_LIST, SessionRow)
    placed = [row for row in sessions if row.ended_at is None and row.status != "PENDING"]
    assert placed
    assert len(placed) < len(sessions)
    for one in placed:
        async with connection(busy) as db:
            told = await capacity(
                db, owner=one.owner, domain=one.domain, project_id=one.project_id, owners=[one.owner], groups=[]
            )
        of_domain = [row for row in placed if row.domain == one.domain]
        of_owner = [row for row in placed if row.owner == one.owner]
        by_hand = Held(
            held(of_owner),
            held(r for r in of_domain if r.project_id and r.project_id == one.project_id),
            held(of_domain),
        )
        for mine, theirs in ((told.held.keypair, by_hand.keypair), (told.held.project, by_hand.project)):
            assert {slot: units for slot, units in mine.items() if units} == theirs
        assert told.held.domain == by_hand.domain
        assert told.held_by_group == {
            group: held(row for row in of_owner if row.resource_group == group)
            for group in {row.resource_group for row in of_owner}
        }


async def test_what_is_free_is_what_living_agents_have_left(busy: Pool) -> None:
    agents = await rows_of(busy, AGENTS, AgentRow)
    groups = sorted({agent.resource_group for agent in agents})
    async with connection(busy) as db:
        told = await capacity(db, owner="nobody", domain="nowhere", project_id=None, owners=[], groups=groups[:1])
    assert (told.held, told.held_by_group) == (Held({}, {}, {}), {})
    alive = [agent for agent in agents if agent.status == "ALIVE" and agent.resource_group == groups[0]]
    assert sorted(map(str, told.free)) == sorted(str((agent.resource_group, agent.free)) for agent in alive)


async def test_slots_are_those_of_agents_that_were_not_removed(busy: Pool) -> None:
    agents = [agent for agent in await rows_of(busy, AGENTS, AgentRow) if agent.status != "REMOVED"]
    async with connection(busy) as db:
        assert await slot_names(db) == {slot for agent in agents for slot in agent.slots}
        assert await slot_names(db, "no such group") == frozenset()


async def test_how_a_slot_is_shown_is_told_by_the_first_agent_that_says_so(busy: Pool) -> None:
    agents = [agent for agent in await rows_of(busy, AGENTS, AgentRow) if agent.status != "REMOVED"][:2]
    async with connection(busy) as db:
        assert await slot_formats(db) == {}
        for agent in agents:
            told = Jsonb({"cuda.device": {"description": agent.agent_id}})
            await db.execute("UPDATE agents SET formats = %s WHERE agent_id = %s", (told, agent.agent_id))
        assert await slot_formats(db) == {"cuda.device": {"description": min(each.agent_id for each in agents)}}
        assert await slot_formats(db, "no such group") == {}
