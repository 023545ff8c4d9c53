"""Images and registries in GraphQL: how they are shown, who sees which, and how they are changed."""

from collections.abc import AsyncIterator, Sequence
from typing import Any, Final

import pytest
import pytest_asyncio

from domain.directory.images import OWNER_LABEL
from domain.directory.messages.images import (
    LOCAL,
    ForgetImage,
    ImageFacts,
    LocalImage,
    RegisterImage,
    ReportAgentImages,
)
from domain.directory.messages.tasks import PreloadImages, ScanRegistries, UnloadImages
from domain.directory.state import Directory
from domain.directory.tasks import Task
from domain.messages import AgentId, Cell
from domain.scheduling.messages import RegisterAgent
from tests.api.admin import AWAY, HOME, AdminWorld, user_id
from tests.api.gallery import DIGEST, LABELS, OURS, PIPELINE, PYTHON, REGISTRY, SECRET, VAULT
from tests.whole import AGENT, PROFILE, now

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module")]

DONE: Final = {"ok": True, "msg": "success"}
DISTANT: Final = AgentId("agent-2")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(admin: AdminWorld) -> AsyncIterator[AdminWorld]:
    """With another agent in the resource group `special`, which has ours, and what is nobody's."""
    special = PROFILE.model_copy(update={"resource_group": "special"})
    register = RegisterAgent(at=now(), agent_id=DISTANT, cell=Cell("default"), incarnation=1, profile=special)
    await admin.whole.give("scheduling", register)
    has = tuple(LocalImage(reference=each, architecture="x86_64") for each in (SECRET, OURS))
    await admin.whole.give("directory", ReportAgentImages(at=now(), agent_id=DISTANT, come=has))
    await admin.settled()
    yield admin


def directory(world: AdminWorld) -> Directory:
    known: Directory = world.services.tail.directory
    return known


async def names(world: AdminWorld, who: str, arguments: str = "") -> Sequence[str]:
    query = "{ images%s { registry name tag architecture } }" % (arguments and f"({arguments})")
    found = (await world.ask(who, query))["images"]
    return [f"{each['registry']}/{each['name']}:{each['tag']}" for each in found if each["architecture"] == "x86_64"]


async def change(world: AdminWorld, mutation: str, more: str = "", who: str = "root") -> dict[str, Any]:
    answer = await world.ask(who, f"mutation {{ {mutation} {{ ok msg {more} }} }}")
    told: dict[str, Any] = next(iter(answer.values()))
    return told


# -- how they are shown ------------------------------------------------------------------------------------------------


async def test_an_image_is_shown_with_what_was_found_and_where_it_is(world: AdminWorld) -> None:
    query = """query($reference: String!) { image(reference: $reference) {
        name humanized_name tag registry architecture is_local digest aliases size_bytes installed installed_agents
        labels { key value } supported_accelerators resource_limits { key min max } } }"""
    python = (await world.ask("root", query, {"reference": PYTHON}))["image"]
    assert {each["key"]: each["value"] for each in python.pop("labels")} == LABELS
    assert python == {
        "name": "stable/python",
        "humanized_name": "stable/python",
        "tag": "3.11",
        "registry": REGISTRY,
        "architecture": "x86_64",
        "is_local": False,
        "digest": DIGEST,
        "aliases": ["py"],
        "size_bytes": 2**32,
        "installed": True,
        "installed_agents": [AGENT],
        "supported_accelerators": ["cuda", "rocm"],
        "resource_limits": [
            {"key": "cpu", "min": "1", "max": "8"},
            {"key": "mem", "min": str(2**28), "max": "Infinity"},
        ],
    }
    ours = (await world.ask("root", query, {"reference": OURS}))["image"]
    assert (ours["registry"], ours["is_local"]) == ("docker.io", True)
    assert (ours["supported_accelerators"], ours["resource_limits"]) == (["*"], [])


async def test_which_agents_have_an_image_is_for_superadmins(world: AdminWorld) -> None:
    query = '{ image(reference: "py") { installed installed_agents } }'
    for who in ("boss", "ada", "watch"):
        assert (await world.ask(who, query))["image"] == {"installed": True, "installed_agents": None}


async def test_agents_are_shown_with_the_images_they_have(world: AdminWorld) -> None:
    query = "{ agent_list(limit: 10, offset: 0) { items { id installed_images } } }"
    listed = (await world.ask("root", query))["agent_list"]["items"]
    has = {each["id"]: each["installed_images"] for each in listed}
    assert has == {AGENT: [PYTHON, "docker.io/library/other:1", OURS], DISTANT: [OURS, SECRET]}


async def test_an_image_is_found_by_its_alias_a_short_name_and_its_architecture(world: AdminWorld) -> None:
    async def found(reference: str, architecture: str | None = None) -> str | None:
        query = """query($reference: String!, $architecture: String) {
            image(reference: $reference, architecture: $architecture) { name architecture } }"""
        image = (await world.ask("ada", query, {"reference": reference, "architecture": architecture}))["image"]
        return image and f"{image['name']} {image['architecture']}"

    assert await found("py") == await found("stable/python:3.11") == "stable/python x86_64"
    assert await found(PYTHON, "aarch64") == "stable/python aarch64"
    assert await found("py", "aarch64") is None
    assert await found("ours:1") == "library/ours x86_64"
    assert await found("stable/python") is None  # that would be `latest`


# -- who sees which ----------------------------------------------------------------------------------------------------


async def test_what_was_made_of_a_session_is_seen_by_its_user_and_superadmins_alone(world: AdminWorld) -> None:
    made = "localhost/customized/python:3.11-customized_c0ffee"
    labels = {OWNER_LABEL: f"user:{user_id('ada')}"}
    facts = ImageFacts(registry=LOCAL, labels=labels)
    await world.whole.give("directory", RegisterImage(at=now(), reference=made, facts=facts))
    await world.settled()
    query = "query($reference: String!) { image(reference: $reference) { name } }"
    for who in ("root", "ada"):
        assert made in await names(world, who)
        assert (await world.ask(who, query, {"reference": made}))["image"] == {"name": "customized/python"}
    for who in ("boss", "kim", "watch"):
        assert made not in await names(world, who)
        assert (await world.ask(who, query, {"reference": made}))["image"] is None
    await world.whole.give("directory", ForgetImage(at=now(), reference=made))
    await world.settled()


async def test_an_image_of_a_registry_that_the_domain_may_not_use_is_not_there(world: AdminWorld) -> None:
    query = "query($reference: String!) { image(reference: $reference) { name } }"
    assert (await world.ask("root", query, {"reference": SECRET}))["image"] == {"name": "hidden/secret"}
    for who in ("boss", "ada", "lord"):
        assert (await world.ask(who, query, {"reference": SECRET}))["image"] is None
    assert SECRET in await names(world, "root")
    assert SECRET not in await names(world, "boss")


async def test_images_are_listed_by_whether_they_are_installed_or_for_operation(world: AdminWorld) -> None:
    assert await names(world, "ada", "is_installed: true") == [PYTHON, OURS]
    assert await names(world, "ada", "is_installed: false") == [PIPELINE]
    assert await names(world, "ada", "is_operation: true") == [PIPELINE]
    assert await names(world, "ada", "is_operation: false") == [PYTHON, OURS]


async def test_another_domains_images_are_for_superadmins(world: AdminWorld) -> None:
    assert await names(world, "root", 'domain: "away"') == [OURS]
    assert await names(world, "root", 'domain: "nowhere"') == []
    assert await names(world, "boss", 'domain: "away"') == []
    assert await names(world, "boss", 'domain: "home"') == await names(world, "boss")


@pytest.mark.parametrize("project", ["home-project", HOME])
async def test_a_projects_images_are_those_that_its_agents_have(world: AdminWorld, project: str) -> None:
    assert await names(world, "ada", f'group: "{project}"') == [PYTHON, OURS]
    assert await names(world, "ada", f'group: "{project}", scaling_group: "default"') == [PYTHON, OURS]
    assert await names(world, "ada", f'group: "{project}", scaling_group: "special"') == []
    assert await names(world, "kim", f'group: "{project}"') == []
    assert await names(world, "root", f'group: "{AWAY}"') == [OURS]
    assert await names(world, "root", f'domain: "home", group: "{AWAY}"') == []


async def test_a_project_that_he_is_not_in_has_no_images_for_a_user(world: AdminWorld) -> None:
    closed = await change(world, 'create_group(name: "closed", props: {domain_name: "home"})', "group { id }", "boss")
    for project in ("closed", closed["group"]["id"]):
        assert await names(world, "boss", f'group: "{project}"') == [PYTHON, OURS]
        assert await names(world, "ada", f'group: "{project}"') == []


async def test_a_resource_groups_images_are_those_that_its_agents_have(world: AdminWorld) -> None:
    assert await names(world, "root", 'scaling_group: "special"') == [OURS, SECRET]
    assert await names(world, "root", 'scaling_group: "default"') == [PYTHON, OURS]
    assert await names(world, "ada", 'scaling_group: "special"') == []  # not granted to her
    assert await names(world, "kim", 'scaling_group: "default"') == [OURS]


async def test_who_may_not_change_images_learns_nothing_about_them(world: AdminWorld) -> None:
    for mutation in ('forget_image(reference: "%s")', 'preload_image(reference: "%s", target_agents: "*")'):
        told = [await change(world, mutation % name, who="ada") for name in (SECRET, "none")]
        assert told[0] == told[1]
        assert told[0]["msg"] == "changing images is for superadmins"


# -- aliases and rules -------------------------------------------------------------------------------------------------


async def test_an_alias_is_given_moved_and_taken_away(world: AdminWorld) -> None:
    async def meant() -> str | None:
        image = (await world.ask("root", '{ image(reference: "best") { name } }'))["image"]
        return image and str(image["name"])

    assert await change(world, f'alias_image(alias: "best", target: "{PYTHON}")') == DONE
    assert await meant() == "stable/python"
    assert await change(world, f'alias_image(alias: "best", target: "{PIPELINE}")') == DONE
    assert await meant() == "ops/pipeline"
    assert await change(world, 'dealias_image(alias: "best")') == DONE
    assert await meant() is None
    assert "no alias best" in (await change(world, 'dealias_image(alias: "best")'))["msg"]
    assert "no image nothing" in (await change(world, 'alias_image(alias: "best", target: "nothing")'))["msg"]


async def test_an_alias_without_an_architecture_is_of_the_one_that_there_is(world: AdminWorld) -> None:
    facts = ImageFacts(registry=REGISTRY)
    reference = f"{REGISTRY}/stable/arm:1"
    register = RegisterImage(at=now(), reference=reference, architecture="aarch64", facts=facts)
    await world.whole.give("directory", register)
    await world.settled()
    assert await change(world, f'alias_image(alias: "arm", target: "{reference}")') == DONE
    assert dict(directory(world).alias("arm")) == {"aarch64": reference}
    assert await change(world, f'forget_image(reference: "{reference}")') == DONE
    assert not directory(world).alias("arm")


async def test_what_an_administrator_says_counts_before_the_labels_until_he_takes_it_back(world: AdminWorld) -> None:
    async def told(props: str) -> Any:
        assert await change(world, f'modify_image(target: "py", props: {props})') == DONE
        query = '{ image(reference: "py") { supported_accelerators resource_limits { key min max } } }'
        return (await world.ask("ada", query))["image"]

    labelled = await told("{}")
    limits = '[{key: "cpu", min: "2", max: "4"}, {key: "mem", min: "1g", max: "Infinity"}, {key: "cuda.device"}]'
    assert await told(f'{{supported_accelerators: ["cuda"], resource_limits: {limits}}}') == {
        "supported_accelerators": ["cuda"],
        "resource_limits": [
            {"key": "cpu", "min": "2", "max": "4"},
            {"key": "cuda.device", "min": "0", "max": "Infinity"},
            {"key": "mem", "min": str(2**30), "max": "Infinity"},
        ],
    }
    assert await told("{supported_accelerators: null, resource_limits: null}") == labelled


@pytest.mark.parametrize(
    ("props", "reason"),
    [
        ('{resource_limits: [{key: "cpu", min: "4", max: "2"}]}', "the maximum of cpu is less than its minimum"),
        ('{resource_limits: [{key: "cpu", min: "many"}]}', "'many' is no amount of cpu"),
        ('{resource_limits: [{key: "C P U", min: "1"}]}', "'C P U' is no slot name"),
        ('{resource_limits: [{min: "1"}]}', "each of resource_limits needs a key"),
        ('{supported_accelerators: ["a b"]}', "accelerators"),
        ('{digest: "sha256:00"}', "digest is what was found, and cannot be changed"),
        ('{labels: [{key: "a", value: "b"}]}', "labels is what was found, and cannot be changed"),
    ],
)
async def test_what_an_image_cannot_be_told_is_refused(world: AdminWorld, props: str, reason: str) -> None:
    told = await change(world, f'modify_image(target: "py", props: {props})')
    assert not told["ok"]
    assert reason in told["msg"]


# -- registries --------------------------------------------------------------------------------------------------------


async def test_a_registry_is_created_shown_changed_and_deleted_with_its_images(world: AdminWorld) -> None:
    config = "container_registry { hostname config { url type project username password ssl_verify } }"
    props = (
        '{url: "https://harbor.example.org", type: "harbor2", project: ["stable", "stable", "community"],'
        ' username: "robot", password: "of harbor", ssl_verify: false}'
    )
    mutation = f'create_container_registry(hostname: "harbor.example.org", props: {props})'
    shown = {
        "url": "https://harbor.example.org",
        "type": "harbor2",
        "project": ["stable", "community"],
        "username": "robot",
        "password": "*****",
        "ssl_verify": False,
    }
    about = {"hostname": "harbor.example.org", "config": shown}
    assert await change(world, mutation, config) == DONE | {"container_registry": about}
    sealed = directory(world).registries["harbor.example.org"].password
    assert sealed is not None
    assert await world.services.keyring.reveal(sealed, "registry/harbor.example.org") == "of harbor"

    modify = 'modify_container_registry(hostname: "harbor.example.org", props: {%s})'
    shown |= {"project": [], "username": None, "password": None}
    cleared = await change(world, modify % "project: [], username: null, password: null", config)
    assert cleared == DONE | {"container_registry": about}
    reference = "harbor.example.org/stable/thing:1"
    facts = ImageFacts(registry="harbor.example.org")
    await world.whole.give("directory", RegisterImage(at=now(), reference=reference, facts=facts))
    await world.settled()
    assert reference in await names(world, "root")
    deleted = await change(world, 'delete_container_registry(hostname: "harbor.example.org")', config)
    assert deleted == DONE | {"container_registry": None}
    assert reference not in await names(world, "root")


@pytest.mark.parametrize(
    ("mutation", "reason"),
    [
        ('create_container_registry(hostname: "x", props: {url: "ftp://x", type: "docker"})', "url: "),
        ('create_container_registry(hostname: "x", props: {url: "http://x", type: "quay"})', "type must be one of"),
        ('create_container_registry(hostname: "x y", props: {url: "http://x", type: "docker"})', "name: "),
        ('modify_container_registry(hostname: "none", props: {ssl_verify: false})', "no registry none"),
        ('delete_container_registry(hostname: "local")', "is always there"),
    ],
)
async def test_what_is_no_registry_is_refused(world: AdminWorld, mutation: str, reason: str) -> None:
    told = await change(world, mutation)
    assert not told["ok"]
    assert reason in told["msg"]


async def test_rest_tells_superadmins_where_the_registries_are(world: AdminWorld) -> None:
    async with world.client("root") as root, world.client("boss") as boss:
        told = await root.get("/config/docker-registries")
        assert told.json() == {name: f"https://{name}" for name in (REGISTRY, VAULT)}
        assert (await boss.get("/config/docker-registries")).status_code == 403


# -- what goes on in the background ------------------------------------------------------------------------------------


def started(world: AdminWorld, told: dict[str, Any]) -> Task:
    assert told["ok"], told["msg"]
    return directory(world).tasks[told["task_id"]]


async def test_a_scan_without_a_registry_is_of_all_of_them(world: AdminWorld) -> None:
    everything = await change(world, "rescan_images", "task_id")
    assert started(world, everything).work == ScanRegistries(registries=(REGISTRY, LOCAL, VAULT))
    one = await change(world, f'rescan_images(registry: "{VAULT}")', "task_id")
    assert started(world, one).work == ScanRegistries(registries=(VAULT,))
    refused = await change(world, 'rescan_images(registry: "none")', "task_id")
    assert refused == {"ok": False, "msg": "no registry none", "task_id": None}


async def test_a_scan_that_is_asked_for_again_under_its_key_is_the_same(world: AdminWorld) -> None:
    async with world.client("root", **{"Idempotency-Key": "the one scan"}) as root:
        body = {"query": "mutation { rescan_images { ok task_id } }"}
        first, again = [(await root.post("/admin/gql", json=body)).json() for _ in range(2)]
    assert first == again
    assert first["data"]["rescan_images"]["ok"]


@pytest.mark.parametrize(
    ("targets", "agents"),
    [
        ("*", (AGENT, DISTANT)),
        ("agent-2", (DISTANT,)),
        ("agent-2, agent-1,agent-2", (DISTANT, AGENT)),
        ("scaling_group:special", (DISTANT,)),
        ("agent-1,scaling_group:special", (AGENT, DISTANT)),
    ],
)
async def test_images_are_loaded_to_the_agents_that_are_meant(
    world: AdminWorld, targets: str, agents: tuple[AgentId, ...]
) -> None:
    loading = await change(world, f'preload_image(reference: "py", target_agents: "{targets}")', "task_id")
    assert started(world, loading).work == PreloadImages(references=(PYTHON,), agents=agents)
    removing = await change(world, f'unload_image(reference: "{OURS}", target_agents: "{targets}")', "task_id")
    assert started(world, removing).work == UnloadImages(references=(OURS,), agents=agents)


async def test_an_image_that_is_not_registered_is_loaded_by_its_whole_reference(world: AdminWorld) -> None:
    told = await change(world, 'preload_image(reference: "quay.io/a/b:1", target_agents: "*")', "task_id")
    assert started(world, told).work == PreloadImages(references=("quay.io/a/b:1",), agents=(AGENT, DISTANT))


@pytest.mark.parametrize(
    ("reference", "targets", "reason"),
    [
        ("nothing", "*", "no image nothing is registered"),
        ("py", "agent-9", "no living agent is meant by agent-9"),
        ("py", "agent-1,scaling_group:none", "no living agent is meant by scaling_group:none"),
        ("py", " , ", "no agents are named"),
    ],
)
async def test_nothing_is_loaded_where_an_image_or_an_agent_is_not_there(
    world: AdminWorld, reference: str, targets: str, reason: str
) -> None:
    told = await change(world, f'preload_image(reference: "{reference}", target_agents: "{targets}")', "task_id")
    assert (told["ok"], told["task_id"]) == (False, None)
    assert reason in told["msg"]


# -- forgetting --------------------------------------------------------------------------------------------------------


async def test_all_images_of_a_registry_are_forgotten_at_once(world: AdminWorld) -> None:
    for number in range(250):
        facts = ImageFacts(registry=VAULT)
        await world.whole.give("directory", RegisterImage(at=now(), reference=f"{VAULT}/many/of:{number}", facts=facts))
    await world.settled()
    assert len(await names(world, "root")) > 250
    assert await change(world, f'clear_images(registry: "{VAULT}")') == DONE
    assert await names(world, "root") == [PIPELINE, PYTHON, OURS]
    assert "no registry none" in (await change(world, 'clear_images(registry: "none")'))["msg"]


async def test_a_forgotten_image_is_not_there_any_more(world: AdminWorld) -> None:
    assert await change(world, f'forget_image(reference: "{OURS}")') == DONE
    assert OURS not in await names(world, "root")
    assert "no image" in (await change(world, f'forget_image(reference: "{OURS}")'))["msg"]
