"""Sessions and containers as GraphQL lists them: whose they are, where, and in which domain and project."""

from datetime import datetime, timedelta

import pytest

from domain.directory.messages.keypairs import CreateKeypair, DeleteKeypair
from domain.directory.messages.policies import CreateKeypairPolicy, CreateProjectPolicy, CreateUserPolicy
from domain.directory.messages.tenants import CreateDomain, CreateProject, ModifyDomain, ModifyProject, PurgeProject
from domain.directory.messages.users import CreateUser, Role, UserSpec
from domain.messages import AccessKey, Command, ProjectId, UserId
from infra.postgres import Pool, connection
from projections import agents
from projections.compute_sessions import (
    compute_container,
    compute_containers,
    compute_session,
    compute_sessions,
    containers_of_agents,
    kernels_of_sessions,
    sessions_of_keypairs,
)
from projections.filtering import BadQuery
from projections.listing import Query
from tests.projections import story
from tests.projections.people import HASHED, SEALED
from tests.projections.story import START, Scribe, lives
from tests.projections.test_live import SETTINGS, fold_all, log_of, tables

__all__ = ["tables"]

pytestmark = pytest.mark.cluster

ADA, EVE = UserId("u-ada"), UserId("u-eve")
ADAS, EVES = AccessKey("AK000000000000000000"), AccessKey("AK000000000000000001")
AFTER = START + timedelta(days=1)


def founded(scribe: Scribe, *later: Command) -> None:
    """Ada in the domain `default`, eve in `club`: both domains have a project `default`."""
    given: list[Command] = [
        CreateKeypairPolicy(at=START, name="default"),
        CreateUserPolicy(at=START, name="default"),
        CreateProjectPolicy(at=START, name="default"),
        *(domain(name, START) for name in ("default", "club")),
        *(project(f"p-{name}", "default", name, START) for name in ("default", "club")),
    ]
    for user_id, name, home, access_key in ((ADA, "ada", "default", ADAS), (EVE, "eve", "club", EVES)):
        spec = UserSpec(username=name, full_name=name.title(), domain=home, role=Role.SUPERADMIN)
        given += [
            CreateUser(at=START, user_id=user_id, email=f"{name}@x.org", spec=spec, password_hash=HASHED),
            CreateKeypair(at=START, access_key=access_key, user_id=user_id, secret_sealed=SEALED),
        ]
    for command in (*given, *later):
        scribe.settle("directory", [command])


def domain(name: str, at: datetime) -> Command:
    return CreateDomain(at=at, name=name)


def project(project_id: str, name: str, domain: str, at: datetime) -> Command:
    return CreateProject(at=at, project_id=ProjectId(project_id), name=name, domain=domain)


async def folded(tables: Pool, *later: Command) -> Pool:
    """25 sessions of the two, in turn, all requested in the domain and project `default`; every tenth lives."""
    scribe = Scribe(SETTINGS)
    founded(scribe, *later)
    story.agents(scribe, 3)
    lives(scribe, 25, owners=2)
    await fold_all(await log_of(scribe), tables, contexts=("directory", "session", "scheduling"))
    return tables


async def test_sessions_are_listed_youngest_first_with_their_owners(tables: Pool) -> None:
    async with connection(await folded(tables)) as db:
        page = await compute_sessions(db, Query(limit=3))
        assert ([each.name for each in page.items], page.total) == (["train-24", "train-23", "train-22"], 25)
        youngest = page.items[0]
        assert (youngest.user_id, youngest.email, youngest.full_name) == (ADA, "ada@x.org", "Ada")
        assert (youngest.domain, youngest.project, youngest.project_id) == ("default", "default", "p-default")
        assert youngest.agent_ids == ["agent-24"]
        assert await compute_session(db, youngest.session_id) == youngest
        assert await compute_session(db, youngest.session_id, EVES) is None
        running = await compute_sessions(db, statuses=["RUNNING", "PENDING"])
        assert [each.name for each in running.items] == ["train-20", "train-10", "train-0"]
        assert (await compute_sessions(db, access_key=EVES)).total == 12
        assert (await compute_sessions(db, user_id=ADA)).total == 13
        assert (await compute_sessions(db, project_id="p-default")).total == 25
        assert (await compute_sessions(db, project_id="p-club")).total == 0
        assert (await compute_sessions(db, domain="default")).total == 25
        assert (await compute_sessions(db, domain="club")).total == 0  # where they run counts, not where eve is


async def test_sessions_are_filtered_and_sorted_by_what_clients_name(tables: Pool) -> None:
    async with connection(await folded(tables)) as db:
        asked = Query('status == "terminated" & user_email == "eve@x.org" & agent_ids contains "agent-2"', "name", 2, 1)
        page = await compute_sessions(db, asked)
        assert ([each.name for each in page.items], page.total) == (["train-23"], 2)
        at = (START + timedelta(seconds=20)).isoformat()
        page = await compute_sessions(db, Query(f'created_at >= "{at}" & terminated_at == null'))
        assert [each.name for each in page.items] == ["train-20"]
        with pytest.raises(BadQuery):
            await compute_sessions(db, Query('environ == "x"'))


async def test_a_session_stays_in_its_domain_when_that_is_renamed_and_its_name_given_away(tables: Pool) -> None:
    renamed = ModifyDomain(at=AFTER, name="default", rename="lab")
    later = (renamed, domain("default", AFTER), project("p-new", "default", "default", AFTER))
    async with connection(await folded(tables, *later)) as db:
        assert (await compute_sessions(db, domain="default")).total == 0
        assert (await compute_sessions(db, project_id="p-new")).total == 0
        in_lab = await compute_sessions(db, domain="lab")
        assert {each.user_id for each in in_lab.items} == {ADA, EVE}
        assert (in_lab.total, in_lab.items[0].project_id) == (25, "p-default")


async def test_a_session_stays_in_its_project_when_that_is_renamed_and_its_name_given_away(tables: Pool) -> None:
    renamed = ModifyProject(at=AFTER, project_id=ProjectId("p-default"), rename="old")
    later = (renamed, project("p-new", "default", "default", AFTER))
    async with connection(await folded(tables, *later)) as db:
        assert (await compute_sessions(db, project_id="p-new")).total == 0
        page = await compute_sessions(db, Query('group_name == "old"'), project_id="p-default")
        assert (page.total, page.items[0].project) == (25, "old")


async def test_a_session_keeps_the_names_its_project_had_when_that_is_gone(tables: Pool) -> None:
    later = PurgeProject(at=AFTER, project_id=ProjectId("p-default"))
    async with connection(await folded(tables, later)) as db:
        youngest = (await compute_sessions(db)).items[0]
        assert (youngest.project, youngest.project_id, youngest.domain) == ("default", "p-default", "default")


async def test_sessions_of_a_keypair_that_is_gone_are_still_listed(tables: Pool) -> None:
    async with connection(await folded(tables, DeleteKeypair(at=AFTER, access_key=EVES))) as db:
        page = await compute_sessions(db, access_key=EVES)
        assert (page.total, page.items[0].user_id, page.items[0].domain) == (12, None, "default")


async def test_containers_are_those_of_a_session_or_an_agent(tables: Pool) -> None:
    async with connection(await folded(tables)) as db:
        session = (await compute_sessions(db, statuses=["RUNNING"])).items[0]
        [kernel] = (await compute_containers(db, session=session)).items
        assert (kernel.kernel_id, kernel.role, kernel.image) == (session.kernels[0], "main", session.image)
        assert (kernel.slots, kernel.user_id, kernel.domain) == (session.slots, ADA, "default")
        assert kernel.requested_at == session.requested_at
        assert (await compute_containers(db, session=session, role="sub")).items == []
        assert (await compute_containers(db, Query('cluster_idx == 1 & status == "RUNNING"'))).total == 3
        assert (await compute_containers(db, agent_id="agent-20", statuses=["RUNNING"])).items == [kernel]
        assert await compute_container(db, kernel.kernel_id) == kernel
        assert await compute_container(db, kernel.kernel_id, EVES) is None
        other = (await compute_sessions(db, access_key=EVES)).items[0]
        many = await kernels_of_sessions(db, [session, other])
        assert many[session.owner, session.session_id] == [kernel]
        assert len(many[other.owner, other.session_id]) == 1
        assert await containers_of_agents(db, ["agent-20", "agent-21"]) == {"agent-20": [kernel], "agent-21": []}
        [ended] = (await containers_of_agents(db, ["agent-21"], ["TERMINATED"]))["agent-21"]
        assert ended.exit_code == 137


async def test_sessions_of_many_keypairs_come_at_once(tables: Pool) -> None:
    async with connection(await folded(tables)) as db:
        living = await sessions_of_keypairs(db, [ADAS, EVES, "AKNONE"])
        assert {key: [each.name for each in of] for key, of in living.items()} == {
            ADAS: ["train-20", "train-10", "train-0"],
            EVES: [],
            "AKNONE": [],
        }
        ended = await sessions_of_keypairs(db, [EVES], ["TERMINATED"])
        assert len(ended[EVES]) == 12


async def test_agents_are_listed_as_clients_ask_for_them(tables: Pool) -> None:
    async with connection(await folded(tables)) as db:
        page = await agents.listed(db, Query('id like "agent-%" & lost_at is null', "-id", 2), statuses=["ALIVE"])
        assert ([each.agent_id for each in page.items], page.total) == (["agent-2", "agent-1"], 3)
        assert (await agents.listed(db, resource_group="other")).total == 0
        with pytest.raises(BadQuery):
            await agents.listed(db, Query("status == 1"))
