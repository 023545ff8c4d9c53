"""The image of a session: which one a name means, and what its kernels may have of each resource."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from api.http.problems import Problem
from api.sessions.images import Asked, Fields, chosen
from domain.directory.images import OWNER_LABEL
from domain.directory.messages.images import ImageFacts
from domain.directory.messages.tenants import ModifyDomain
from domain.directory.state import Directory
from domain.messages import UserId
from tests.api.world import World
from tests.domain.images import FACTS, HOMEMADE, HUB, NOW, OF_AGENTS, PYTHON, TORCH, alias, create_registry, register
from tests.domain.people import everybody

FIELDS: Final = Fields("image", "architecture", "config.resources")
DEFAULTS: Final = {"cpu": 1000, "mem": 256 << 20}
LABELS: Final = {
    "ai.backend.resource.min.cpu": "2",
    "ai.backend.resource.max.cpu": "4",
    "ai.backend.resource.min.cuda.device": "1",
    "ai.backend.resource.min.cuda.shares": "0.5",
    "ai.backend.resource.max.mem": "128m",
    "ai.backend.accelerators": "cuda",
}
ALLOWED: Final = ModifyDomain(at=NOW, name="default", changes={"allowed_docker_registries": (HUB,)})
KNOWN: Final[Directory] = everybody.and_when(
    create_registry(),
    create_registry("vault.example.org"),
    ALLOWED,
    register(facts=ImageFacts(registry=HUB, labels=LABELS)),
    register(TORCH, architecture="aarch64"),
    register(HOMEMADE, OF_AGENTS),
    register("vault.example.org/x/y:1", ImageFacts(registry="vault.example.org")),
    alias(),
).state


def choose(image: str, slots: Mapping[str, int] | None = None, **more: Any) -> tuple[str, dict[str, int]]:
    asked = Asked(image, "x86_64", "default", slots or {}, DEFAULTS)
    found = chosen(asked, FIELDS, KNOWN, **({"unregistered": True} | more))
    return found.image, found.slots


def problem_of(image: str, slots: Mapping[str, int] | None = None, **more: Any) -> tuple[int, str, str]:
    """Status, field and rule."""
    with pytest.raises(Problem) as raised:
        choose(image, slots, **more)
    return raised.value.status, raised.value.members["field"], raised.value.members["rule"]


@pytest.mark.parametrize("name", ["python", PYTHON, "stable/python:3.11"])
def test_a_session_starts_from_the_image_its_name_means(name: str) -> None:
    assert choose(name)[0] == PYTHON


def test_an_image_that_is_not_registered_is_used_as_it_is_written_where_that_is_allowed() -> None:
    assert choose("lua:5.4", {"cpu": 500}) == ("lua:5.4", {"cpu": 500, "mem": 256 << 20})
    assert choose("other.org/x/y:1")[0] == "other.org/x/y:1"
    assert problem_of("lua:5.4", unregistered=False) == (404, "image", "unknown")


@pytest.mark.parametrize("name", ["vault.example.org/x/y:1", "x/y:1", "vault.example.org/x/unheard-of", HOMEMADE])
@pytest.mark.parametrize("unregistered", [True, False])
def test_an_image_of_a_registry_that_the_domain_may_not_use_does_not_exist(name: str, unregistered: bool) -> None:
    assert problem_of(name, unregistered=unregistered) == (404, "image", "unknown")


def test_what_was_made_of_a_session_is_an_image_for_its_user_alone_whatever_registry_it_is_of() -> None:
    made = "localhost/customized/python:1"
    facts = ImageFacts(registry="local", labels={OWNER_LABEL: "user:u1"})
    known = everybody.and_when(create_registry(), ALLOWED, register(made, facts)).state

    def image(user_id: str | None) -> str:
        asked = Asked(made, "x86_64", "default", {}, DEFAULTS, None if user_id is None else UserId(user_id))
        return chosen(asked, FIELDS, known, unregistered=True).image

    assert image("u1") == made
    for other in ("u2", None):
        with pytest.raises(Problem) as raised:
            image(other)
        assert (raised.value.status, raised.value.members["rule"]) == (404, "unknown")


def test_an_image_for_another_architecture_is_not_started() -> None:
    assert problem_of(TORCH) == (400, "architecture", "unknown")


def test_what_is_not_asked_for_is_the_minimum_of_the_image_else_the_default_within_its_maximum() -> None:
    assert choose(PYTHON)[1] == {"cpu": 2000, "mem": 128 << 20, "cuda.device": 1000}


def test_who_names_a_kind_of_gpu_is_not_given_another_kind_as_well() -> None:
    assert choose(PYTHON, {"cpu": 3000, "cuda.shares": 700})[1] == {"cpu": 3000, "mem": 128 << 20, "cuda.shares": 700}


@pytest.mark.parametrize(
    ("slots", "field", "rule"),
    [
        ({"cpu": 1999}, "cpu", "under_minimum"),
        ({"cuda.device": 0}, "cuda.device", "under_minimum"),
        ({"cpu": 4001}, "cpu", "over_maximum"),
        ({"mem": 129 << 20}, "mem", "over_maximum"),
        ({"rocm.device": 1000}, "rocm.device", "unsupported"),
    ],
)
def test_a_kernel_has_as_much_as_its_image_needs_and_may_have(slots: dict[str, int], field: str, rule: str) -> None:
    assert problem_of(PYTHON, slots) == (400, f"config.resources.{field}", rule)


def test_none_of_an_accelerator_is_no_accelerator() -> None:
    assert choose(PYTHON, {"rocm.device": 0})[1]["rocm.device"] == 0


# -- over HTTP ---------------------------------------------------------------------------------------------------------


async def _prepare(world: World) -> None:
    facts = FACTS.model_copy(update={"labels": {"ai.backend.resource.min.cpu": "2"}})
    async with world.client("admin") as admin:
        for command in (create_registry(), ALLOWED, register(facts=facts), alias()):
            answer = await admin.post("/refold/commands", json=command.model_dump(mode="json", exclude={"at"}))
            assert answer.status_code == 200, answer.text


async def test_a_session_asked_for_by_an_alias_runs_the_image_with_what_it_needs(world: World) -> None:
    await _prepare(world)
    async with world.client() as ada:
        created = await ada.post("/session", json={"image": "python", "name": "snake", "enqueueOnly": True})
        assert created.status_code == 201, created.text
        position = {"X-Refold-Position": created.headers["X-Refold-Position"]}
        shown = (await ada.get("/session/snake", headers=position)).json()
    assert (shown["image"], shown["occupyingSlots"]) == (PYTHON, {"cpu": "2", "mem": str(256 << 20)})


async def test_a_request_for_too_little_names_the_resource_and_the_rule(world: World) -> None:
    await _prepare(world)
    spec = {"image": "python", "slots": {"cpu": 1000}}
    async with world.client() as ada:
        short = await ada.post("/session", json={"image": "python", "config": {"resources": {"cpu": "1"}}})
        given = await ada.post(
            "/refold/commands", json={"type": "RequestSession", "owner": "AKADA", "name": "s", "spec": spec}
        )
    told = [(answer.status_code, answer.json()["field"], answer.json()["rule"]) for answer in (short, given)]
    assert told == [(400, "config.resources.cpu", "under_minimum"), (400, "spec.slots.cpu", "under_minimum")]


async def test_an_installation_may_allow_registered_images_only(tmp_path: Path) -> None:
    async with World(tmp_path, unregistered_images=False).started() as world:
        await _prepare(world)
        async with world.client() as ada:
            lua = await ada.post("/session", json={"image": "lua:5.4"})
            python = await ada.post("/session", json={"image": "python", "enqueueOnly": True})
    assert (lua.status_code, lua.json()["type"].rpartition("/")[2]) == (404, "image-not-found")
    assert python.status_code == 201, python.text
