"""Who may ask for a session where: project, domain and resource group. What is not for one is not there for one."""

from typing import Any

import pytest

from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.groups import (
    CreateResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    ModifyResourceGroup,
    ResourceGroupChanges,
    ResourceGroupSpec,
    RevokeResourceGroup,
)
from domain.directory.messages.tenants import DomainChanges, ModifyDomain, ModifyProject, ProjectChanges
from domain.directory.messages.users import JoinProject
from domain.messages import Cell, UserId
from tests.api.neighbours import HOME, client_of, directed, move_in
from tests.api.world import World
from tests.whole import now

SESSION: dict[str, Any] = {"image": "fake/image", "enqueueOnly": True}
PRIVATE = CreateResourceGroup(
    at=now(), name="private", cell=Cell("far"), spec=ResourceGroupSpec(public=False, description="for some")
)


def in_group(name: str | None) -> dict[str, Any]:
    return SESSION | {"config": {"scalingGroup": name}}


def command(owner: str = "AKADA", **spec: Any) -> dict[str, Any]:
    """The same as a bare command."""
    asked = {"image": "fake/image", "slots": {"cpu": 1}} | spec
    return {"type": "RequestSession", "owner": owner, "name": "bare", "spec": asked}


@pytest.mark.parametrize(
    "grantee",
    [
        Grantee(kind=GranteeKind.DOMAIN, id="default"),
        Grantee(kind=GranteeKind.PROJECT, id=HOME),
        Grantee(kind=GranteeKind.KEYPAIR, id="AKADA"),
    ],
)
async def test_a_resource_group_is_used_by_whom_it_is_granted_to(world: World, grantee: Grantee) -> None:
    await directed(world, PRIVATE)
    async with world.client() as ada:
        before = await ada.post("/session", json=in_group("private"))
        assert (before.status_code, before.json()["field"]) == (400, "config.scalingGroup")
        await directed(world, GrantResourceGroup(at=now(), name="private", to=grantee))
        asked = await ada.post("/session", json=in_group("private"))
        assert asked.status_code == 201, asked.text
        headers = {"X-Refold-Position": asked.headers["X-Refold-Position"]}
        told = (await ada.get(f"/session/{asked.json()['sessionId']}", headers=headers)).json()
        assert told["resourceGroup"] == "private"
        await directed(world, RevokeResourceGroup(at=now(), name="private", to=grantee))
        assert (await ada.post("/session", json=in_group("private"))).status_code == 400


async def test_one_that_is_not_granted_is_told_like_one_that_is_not_there(world: World) -> None:
    await directed(world, PRIVATE)
    async with world.client() as ada:
        for path, body_for in (
            ("/session", in_group),
            ("/refold/commands", lambda name: command(resource_group=name)),
        ):
            private, never = [await ada.post(path, json=body_for(name)) for name in ("private", "neverwas")]
            assert (private.status_code, never.status_code) == (400, 400), private.text
            told, other = private.json(), never.json()
            assert told["detail"].replace("private", "neverwas") == other["detail"]
            assert {**told, "detail": 0, "msg": 0, "data": 0} == {**other, "detail": 0, "msg": 0, "data": 0}


async def test_a_group_that_is_not_active_takes_no_sessions(world: World) -> None:
    changes = ResourceGroupChanges(active=False)
    await directed(world, ModifyResourceGroup(at=now(), name="default", changes=changes))
    async with world.client() as ada:
        answer = await ada.post("/session", json=in_group("default"))
        assert (answer.status_code, answer.json()["field"]) == (400, "config.scalingGroup")
        nothing = await ada.post("/session", json=SESSION)
        assert (nothing.status_code, nothing.json()["rule"]) == (400, "missing")


async def test_who_names_no_group_gets_one_he_may_use(world: World) -> None:
    await directed(
        world,
        CreateResourceGroup(at=now(), name="another"),
        ModifyResourceGroup(at=now(), name="default", changes=ResourceGroupChanges(active=False)),
    )
    async with world.client() as ada:
        asked = await ada.post("/session", json=in_group(None))
        headers = {"X-Refold-Position": asked.headers["X-Refold-Position"]}
        told = (await ada.get(f"/session/{asked.json()['sessionId']}", headers=headers)).json()
    assert told["resourceGroup"] == "another"


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (ModifyProject(at=now(), project_id=HOME, changes=ProjectChanges(active=False)), "group"),
        (ModifyDomain(at=now(), name="default", changes=DomainChanges(active=False)), "domain"),
    ],
)
async def test_nothing_starts_where_project_or_domain_is_not_active(
    world: World, change: DirectoryCommand, field: str
) -> None:
    await directed(world, change)
    async with world.client() as ada:
        answer = await ada.post("/session", json=SESSION)
        assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (400, field, "inactive")
        bare = await ada.post("/refold/commands", json=command())
        assert (bare.status_code, bare.json()["rule"]) == (400, "inactive")


async def test_a_project_one_is_not_in_is_not_there(world: World) -> None:
    await move_in(world)
    async with world.client() as ada:
        not_in = await ada.post("/session", json=SESSION | {"group": "other"})
        never = await ada.post("/session", json=SESSION | {"group": "never"})
        theirs = await ada.post("/session", json=SESSION | {"domain": "nextdoor"})
        nowhere = await ada.post("/session", json=SESSION | {"domain": "nowhere"})
        assert {each.status_code for each in (not_in, never, theirs, nowhere)} == {400}
        assert not_in.json()["detail"].replace("other", "never") == never.json()["detail"]
        assert theirs.json()["detail"].replace("nextdoor", "nowhere") == nowhere.json()["detail"]
        await directed(world, JoinProject(at=now(), user_id=UserId("user-ada"), project_id="other"))
        assert (await ada.post("/session", json=SESSION | {"group": "other"})).status_code == 201


async def test_an_admin_asks_for_a_user_in_his_domain_only(world: World) -> None:
    await move_in(world)
    async with client_of(world, "dora") as dora:
        for_ada = await dora.post("/session", json=SESSION | {"owner_access_key": "AKADA"})
        assert for_ada.status_code == 201, for_ada.text
        for_zoe = await dora.post("/session", json=SESSION | {"owner_access_key": "AKZOE"})
        for_nobody = await dora.post("/session", json=SESSION | {"owner_access_key": "AKNOBODY"})
        assert (for_zoe.status_code, for_nobody.status_code) == (404, 404)
        assert for_zoe.json()["detail"].replace("AKZOE", "AKNOBODY") == for_nobody.json()["detail"]


async def test_what_is_granted_counts_for_the_owner_of_the_session(world: World) -> None:
    """Not for who asks for it: an admin's own rights lend nobody a resource group."""
    await directed(
        world, PRIVATE, GrantResourceGroup(at=now(), name="private", to=Grantee(kind=GranteeKind.KEYPAIR, id="AKADA"))
    )
    async with world.client("admin") as admin:
        for_ada = await admin.post("/session", json=in_group("private") | {"owner_access_key": "AKADA"})
        for_eve = await admin.post("/session", json=in_group("private") | {"owner_access_key": "AKEVE"})
        assert (for_ada.status_code, for_eve.status_code) == (201, 400)
        bare = await admin.post("/refold/commands", json=command("AKADA", resource_group="private"))
        assert bare.status_code == 200, bare.text


async def test_a_monitor_begins_and_ends_nothing(world: World) -> None:
    await move_in(world)
    async with client_of(world, "mona") as mona:
        assert (await mona.post("/session", json=SESSION)).status_code == 403


async def test_a_session_says_which_project_it_is_in_whatever_its_sender_says(world: World) -> None:
    async with world.client() as ada:
        by_client = await ada.post("/session", json=SESSION | {"name": "asked"})
        bare = await ada.post("/refold/commands", json=command(project_id="other"))
        assert (by_client.status_code, bare.status_code) == (201, 200), bare.text
        position = {"X-Refold-Position": bare.headers["X-Refold-Position"]}
        for name in ("asked", "bare"):
            assert (await ada.get(f"/session/{name}", headers=position)).status_code == 200
            row = await world.known.by_name("AKADA", name)
            assert row is not None
            assert row.project_id == HOME
