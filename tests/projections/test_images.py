"""Every question about images has its answer, from a real Postgres."""

from typing import Final

import pytest

from domain.directory.messages.images import LOCAL
from domain.messages import Cell
from domain.scheduling.messages import AgentProfile, RegisterAgent
from infra.postgres import Pool, connection
from projections.directory.images import agents_with, images, references_on_agents
from tests.projections.images import AGENT_1, AGENT_2, DIGEST, HOST, OURS, PYTHON, TORCH, commands
from tests.projections.story import START, Scribe
from tests.projections.test_live import SETTINGS, fold_all, log_of, tables

__all__ = ["tables"]

pytestmark = pytest.mark.cluster

GROUPS: Final = {AGENT_1: "fast", AGENT_2: "slow"}


@pytest.fixture
async def known(tables: Pool) -> Pool:
    """In whose tables all of the story is, with agent-1 in the resource group `fast`, and agent-2 in `slow`."""
    scribe = Scribe(SETTINGS)
    for command in commands():
        scribe.settle("directory", [command])
    for agent_id, group in GROUPS.items():
        profile = AgentProfile(resource_group=group, slots={}, address="http://127.0.0.1:0", runtime="fake")
        register = RegisterAgent(at=START, agent_id=agent_id, cell=Cell("default"), incarnation=1, profile=profile)
        scribe.settle("scheduling", [register])
    await fold_all(await log_of(scribe), tables, contexts=("directory", "scheduling"))
    return tables


async def test_an_image_is_shown_as_it_was_found_last_with_its_rules_and_aliases(known: Pool) -> None:
    async with connection(known) as db:
        [python] = await images(db, reference=PYTHON, architecture="x86_64")
        [other] = await images(db, reference=PYTHON, architecture="aarch64")
        [torch] = await images(db, reference=TORCH)
    assert (python.registry, python.digest, python.size_bytes) == (HOST, DIGEST, 2**33)
    assert python.labels["ai.backend.accelerators"] == "cuda"
    assert python.rules == {"resources": {"cpu": {"min": 1000, "max": 4000}}, "accelerators": None}
    assert python.registered_at == START
    assert (python.aliases, other.aliases, torch.aliases) == (["moved", "python"], ["python"], ["torch"])


async def test_images_are_listed_by_registry(known: Pool) -> None:
    async with connection(known) as db:
        assert [each.reference for each in await images(db)] == [PYTHON, PYTHON, TORCH, OURS]
        assert [each.reference for each in await images(db, owners=[LOCAL])] == [OURS]
        assert await images(db, owners=[]) == []


async def test_images_are_listed_by_where_they_are(known: Pool) -> None:
    async with connection(known) as db:
        installed = [(each.reference, each.architecture) for each in await images(db, installed=True)]
        assert installed == [(PYTHON, "x86_64"), (OURS, "x86_64")]
        assert [each.architecture for each in await images(db, installed=False)] == ["aarch64", "x86_64"]
        assert [each.reference for each in await images(db, resource_groups=["fast"])] == [PYTHON]
        assert [each.reference for each in await images(db, resource_groups=["slow", "fast"])] == [PYTHON, OURS]
        assert await images(db, resource_groups=[]) == []


async def test_agents_are_known_by_their_images_and_images_by_their_agents(known: Pool) -> None:
    async with connection(known) as db:
        wanted = [(PYTHON, "x86_64"), (PYTHON, "aarch64"), (OURS, "x86_64")]
        assert await agents_with(db, wanted) == dict(zip(wanted, ([AGENT_1], [], [AGENT_2]), strict=True))
        assert await references_on_agents(db, [AGENT_1, AGENT_2, "agent-3"]) == {
            AGENT_1: [PYTHON],
            AGENT_2: [OURS, "some/thing/local:1"],
            "agent-3": [],
        }
