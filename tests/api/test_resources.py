"""Presets, what may still be asked for, resource groups, and what clients ask about the cluster."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    ModifyResourceGroup,
    PresetSpec,
    ResourceGroupChanges,
    ResourceGroupSpec,
)
from domain.directory.messages.policies import KeypairPolicyChanges, ModifyKeypairPolicy, Unspecified
from domain.directory.messages.tenants import DomainChanges, ModifyDomain, ModifyProject, ProjectChanges
from domain.scheduling.messages import AgentProfile, SlotFormat
from infra.log import Position
from tests.api.neighbours import HOME, client_of, directed, move_in
from tests.api.world import World
from tests.whole import AGENT, now

GIB = 2**30
PROFILE = AgentProfile(
    resource_group="default",
    slots={"cpu": 8000, "mem": 16 * GIB, "cuda.device": 2000},
    devices={"cuda.device": {"gpu0": 1000, "gpu1": 1000}},
    address="http://127.0.0.1:0",
    runtime="fake",
)
SESSION = {"image": "fake/image", "name": "mysess", "config": {"resources": {"cpu": "2", "mem": "4g"}}}


def preset(name: str, cpu: int = 1, mem: int = GIB, group: str | None = None, tpus: int = 0) -> CreatePreset:
    slots = {"cpu": cpu * 1000, "mem": mem} | ({"tpu.device": tpus * 1000} if tpus else {})
    spec = PresetSpec(resource_slots=slots, shared_memory=64 * 2**20)
    return CreatePreset(at=now(), name=name, resource_group=group, spec=spec)


async def until_known(world: World) -> None:
    """The projections have all that has happened."""
    places = {place: end for place, end in (await world.log.ends(list(world.services.tail.places))).items() if end > 1}
    await world.known.wait_for(Position({place: end - 1 for place, end in places.items()}), 5)


async def checked(client: httpx.AsyncClient, **query: str) -> Any:
    answer = await client.post("/resource/check-presets", params=query, headers={"Content-Type": "text/plain"})
    assert answer.status_code == 200, answer.text
    return answer.json()


def allocatable(told: Any) -> dict[str, bool]:
    return {each["name"]: each["allocatable"] for each in told["presets"]}


async def test_presets_are_listed_without_slots_that_nobody_has(world: World) -> None:
    await directed(world, preset("small"), preset("exotic", tpus=1))
    async with world.client() as ada:
        told = (await ada.get("/resource/presets", headers={"Content-Type": "text/plain"})).json()
    slots = {"cpu": "1", "mem": str(GIB)}
    assert told == {
        "presets": [
            {"name": name, "resource_slots": slots, "shared_memory": str(64 * 2**20)} for name in ("exotic", "small")
        ]
    }


async def test_a_preset_of_a_resource_group_is_for_those_who_may_use_that(world: World) -> None:
    await directed(
        world,
        CreateResourceGroup(at=now(), name="private", spec=ResourceGroupSpec(public=False)),
        preset("everywhere"),
        preset("there", group="private"),
    )
    async with world.client() as ada:
        names = [each["name"] for each in (await ada.get("/resource/presets")).json()["presets"]]
        assert names == ["everywhere"]
        missing = await ada.get("/resource/presets", params={"scaling_group": "private"})
        never = await ada.get("/resource/presets", params={"scaling_group": "neverwas"})
        assert (missing.status_code, never.status_code) == (404, 404)
        assert missing.json()["detail"].replace("private", "neverwas") == never.json()["detail"]
        await directed(
            world,
            GrantResourceGroup(at=now(), name="private", to=Grantee(kind=GranteeKind.PROJECT, id=HOME)),
        )
        told = await ada.get("/resource/presets", params={"scaling_group": "private"})
        assert [each["name"] for each in told.json()["presets"]] == ["everywhere", "there"]


async def test_all_totals_are_told_without_limits_as_infinity(world: World) -> None:
    await directed(world, preset("small"), preset("large", cpu=100))
    async with world.whole.agent(PROFILE), world.client() as ada:
        await ada.post("/session", json=SESSION)
        await until_known(world)
        told = await checked(ada)
    none, used = "Infinity", {"cpu": "2", "cuda.device": "0", "mem": str(4 * GIB)}
    left = {"cpu": "6", "cuda.device": "2", "mem": str(12 * GIB)}
    unlimited = {"cpu": none, "cuda.device": none, "mem": none}
    assert told["keypair_limits"] == told["keypair_remaining"] == unlimited
    assert told["group_limits"] == told["group_remaining"] == unlimited
    assert told["keypair_using"] == told["group_using"] == used
    assert told["scaling_group_remaining"] == left
    assert told["scaling_groups"] == {"default": {"using": used, "remaining": left}}
    assert allocatable(told) == {"small": True, "large": False}


async def test_the_least_of_policy_project_and_domain_is_what_is_left(world: World) -> None:
    await directed(
        world,
        preset("small"),
        preset("middling", cpu=3),
        ModifyKeypairPolicy(
            at=now(),
            name="default",
            changes=KeypairPolicyChanges(
                total_resource_slots={"cpu": 5000, "mem": 64 * GIB}, default_for_unspecified=Unspecified.LIMITED
            ),
        ),
        ModifyProject(at=now(), project_id=HOME, changes=ProjectChanges(total_resource_slots={"cpu": 4000})),
        ModifyDomain(at=now(), name="default", changes=DomainChanges(total_resource_slots={"mem": 8 * GIB})),
    )
    async with world.whole.agent(PROFILE), world.client() as ada:
        await ada.post("/session", json=SESSION)
        await until_known(world)
        told = await checked(ada, group="default")
    assert told["keypair_limits"] == {"cpu": "5", "cuda.device": "0", "mem": str(64 * GIB)}
    assert told["keypair_remaining"] == {"cpu": "2", "cuda.device": "0", "mem": str(4 * GIB)}
    assert told["group_remaining"] == {"cpu": "2", "cuda.device": "Infinity", "mem": "Infinity"}
    assert told["scaling_group_remaining"] == told["keypair_remaining"]
    assert allocatable(told) == {"small": True, "middling": False}


async def test_nothing_is_allocatable_where_no_agent_is(world: World) -> None:
    await directed(world, preset("small"))
    async with world.client() as ada:
        told = await checked(ada, scaling_group="default")
    assert allocatable(told) == {"small": False}
    assert told["scaling_group_remaining"] == {"cpu": "0", "mem": "0"}


async def test_another_tenants_project_is_not_there(world: World) -> None:
    await move_in(world)
    async with client_of(world, "zoe") as zoe:
        theirs = await zoe.post("/resource/check-presets", json={"group": HOME})
        nobodys = await zoe.post("/resource/check-presets", json={"group": "no-such"})
        groups = await zoe.get("/scaling-groups", params={"group": HOME})
    assert (theirs.status_code, nobodys.status_code, groups.status_code) == (404, 404, 404)
    assert theirs.json()["detail"].replace(HOME, "no-such") == nobodys.json()["detail"]


async def test_resource_groups_are_those_that_are_granted_and_active(world: World) -> None:
    await directed(
        world,
        CreateResourceGroup(at=now(), name="private", spec=ResourceGroupSpec(public=False)),
        CreateResourceGroup(at=now(), name="mine", spec=ResourceGroupSpec(public=False)),
        CreateResourceGroup(at=now(), name="gone"),
        GrantResourceGroup(at=now(), name="mine", to=Grantee(kind=GranteeKind.KEYPAIR, id="AKADA")),
        ModifyResourceGroup(at=now(), name="gone", changes=ResourceGroupChanges(active=False)),
    )
    async with world.client() as ada, world.client("eve") as eve:
        headers = {"Content-Type": "text/plain"}
        hers = await ada.get("/scaling-groups", params={"group": "default"}, headers=headers)
        others = await eve.get("/scaling-groups", params={"group": HOME})
    assert hers.json() == {"scaling_groups": [{"name": "default"}, {"name": "mine"}]}
    assert others.json() == {"scaling_groups": [{"name": "default"}]}


@pytest.mark.parametrize(("query", "field"), [({}, "group"), ({"group": ""}, "group"), ({"group": "x" * 200}, "group")])
async def test_which_project_must_be_said(world: World, query: dict[str, str], field: str) -> None:
    async with world.client() as ada:
        answer = await ada.get("/scaling-groups", params=query)
    assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_an_admin_asks_for_another_keypair(world: World) -> None:
    await directed(world, preset("small"))
    async with world.client("admin") as admin, world.client() as ada:
        await ada.post("/session", json=SESSION | {"enqueueOnly": True})
        await until_known(world)
        answer = await admin.post("/resource/check-presets", params={"owner_access_key": "AKEVE"})
    assert answer.status_code == 200, answer.text


async def test_the_slots_of_the_cluster_are_told(world: World) -> None:
    async with world.client() as ada:
        assert (await ada.get("/config/resource-slots")).json() == {"cpu": "count", "mem": "bytes"}
        async with world.whole.agent(PROFILE):
            async with asyncio.timeout(10):
                while "cuda.device" not in (await ada.get("/config/resource-slots")).json():
                    await asyncio.sleep(0.01)
        slots = (await ada.get("/config/resource-slots")).json()
        details = (await ada.get("/config/resource-slots/details")).json()
        elsewhere = (await ada.get("/config/resource-slots/details", params={"sgroup": "other"})).json()
    assert slots == {"cpu": "count", "cuda.device": "count", "mem": "bytes"}
    assert set(details) == set(slots)
    assert details["mem"]["number_format"] == {"binary": True, "round_length": 0}
    assert set(elsewhere) == {"cpu", "mem"}


async def test_a_slot_is_shown_as_the_plugin_of_its_devices_says(world: World) -> None:
    shown = SlotFormat(
        human_readable_name="TPU", description="A tensor thing", display_unit="chip", display_icon="t", round_length=2
    )
    profile = PROFILE.model_copy(update={"slots": {"tpu.shares": 1000}, "formats": {"tpu.shares": shown}})
    async with world.whole.agent(profile), world.client() as ada, asyncio.timeout(10):
        while "tpu.shares" not in (details := (await ada.get("/config/resource-slots/details")).json()):
            await asyncio.sleep(0.01)
    assert details["tpu.shares"] == {
        "slot_name": "tpu.shares",
        "human_readable_name": "TPU",
        "description": "A tensor thing",
        "display_unit": "chip",
        "display_icon": "t",
        "number_format": {"binary": False, "round_length": 2},
    }


async def test_what_clients_ask_about_the_cluster(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        assert (await ada.get("/config/vfolder-types")).json() == ["user", "group"]
        assert (await ada.get("/config/docker-registries")).status_code == 403
        assert (await admin.get("/config/docker-registries")).json() == {}


async def test_usage_needs_no_recalculation(world: World) -> None:
    async with world.client() as ada, world.client("admin") as admin:
        assert (await ada.post("/resource/recalculate-usage")).status_code == 403
        assert (await admin.post("/resource/recalculate-usage", headers={"Content-Type": "text/plain"})).json() == {}


# -- app proxies and watchers ------------------------------------------------------------------------------------------


@asynccontextmanager
async def proxy(body: bytes, status: int = 200) -> AsyncIterator[str]:
    """The URL of something that says this of itself."""

    async def answer(_request: web.Request) -> web.Response:
        return web.Response(body=body, status=status)

    app = web.Application()
    app.add_routes([web.get("/base/status", answer)])
    async with TestServer(app) as server:
        yield str(server.make_url("/base/"))


async def version(world: World, address: str | None, **query: str) -> httpx.Response:
    changes = ResourceGroupChanges(wsproxy_addr=address)
    await directed(world, ModifyResourceGroup(at=now(), name="default", changes=changes))
    async with world.client() as ada:
        return await ada.get("/scaling-groups/default/wsproxy-version", params=query)


async def test_an_app_proxy_says_itself_which_version_it_has(world: World) -> None:
    async with proxy(b'{"api_version": "v2"}') as address:
        assert (await version(world, address, group="default")).json() == {"wsproxy_version": "v2"}
        assert (await version(world, address)).status_code == 200


@pytest.mark.parametrize("body", [b"{}", b"[]", b"no json", b'{"api_version": "v2", "x": "' + b"x" * 70_000 + b'"}'])
async def test_an_app_proxy_that_talks_nonsense_is_not_available(world: World, body: bytes) -> None:
    async with proxy(body) as address:
        assert (await version(world, address)).status_code == 503


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "nonsense", "ftp://x", "http://[", "http://x:99999"])
async def test_an_app_proxy_that_is_not_there_is_not_available(world: World, address: str) -> None:
    answer = await version(world, address)
    assert (answer.status_code, answer.json()["retryable"]) == (503, True)


async def test_a_resource_group_without_an_app_proxy_and_one_that_one_may_not_use_are_told_apart(world: World) -> None:
    await directed(world, CreateResourceGroup(at=now(), name="private", spec=ResourceGroupSpec(public=False)))
    assert (await version(world, None)).json()["type"].endswith("/wsproxy-not-found")
    async with world.client() as ada:
        for name in ("private", "neverwas"):
            answer = await ada.get(f"/scaling-groups/{name}/wsproxy-version")
            assert (answer.status_code, answer.json()["field"]) == (404, "name")


async def test_no_watcher_stands_beside_an_agent(world: World) -> None:
    async with world.whole.agent(PROFILE), world.client("admin") as admin, world.client() as ada:
        await until_known(world)
        async with asyncio.timeout(5):
            while (answer := await admin.request("GET", "/resource/watcher", json={"agent_id": AGENT})).is_error:
                await asyncio.sleep(0.01)
        assert answer.json() == {"agent-status": "alive", "watcher-status": "none"}
        for operation in ("start", "stop", "restart"):
            body = {"agent_id": AGENT}
            done = await admin.post(f"/resource/watcher/agent/{operation}", json=body)
            assert done.json()["type"].endswith("/watcher-not-found")
            assert (await ada.post(f"/resource/watcher/agent/{operation}", json=body)).status_code == 403
        assert (await admin.post("/resource/watcher/agent/feed", json=body)).status_code == 400
        unknown = await admin.request("GET", "/resource/watcher", json={"agent_id": "nobody"})
        assert (unknown.status_code, unknown.json()["field"]) == (404, "agent_id")
