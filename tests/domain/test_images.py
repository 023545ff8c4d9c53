"""Registries, images and aliases: what is there, what a name means, and what an image lets sessions have."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from pydantic import ValidationError

from domain.directory.images import Image, ServicePort
from domain.directory.messages.images import (
    AgentImagesReported,
    CreateRegistry,
    ImageAliased,
    ImageDealiased,
    ImageFacts,
    ImageForgotten,
    ImageModified,
    ImageRegistered,
    ImageRules,
    Range,
    RegistryDeleted,
    RegistryPut,
    RegistrySpec,
    RegistryType,
)
from domain.directory.state import Directory
from tests.domain.images import (
    A1,
    A2,
    FACTS,
    HOMEMADE,
    HUB,
    NOW,
    OF_AGENTS,
    OTHER_FACTS,
    PYTHON,
    TORCH,
    alias,
    create_registry,
    dealias,
    delete_registry,
    forget,
    forget_agent,
    has,
    local,
    modify_image,
    modify_registry,
    register,
)
from tests.domain.people import nobody

registered = nobody.and_when(create_registry(), register(), register(TORCH))
aliased = registered.and_when(alias(), alias("snake"))


def means(
    name: str, state: Directory, architecture: str = "x86_64", registries: Sequence[str] | None = None
) -> str | None:
    image = state.resolve_image(name, architecture, registries)
    return None if image is None else image.reference


# -- registries --------------------------------------------------------------------------------------------------------


def test_a_registry_is_created_once_and_changed_where_it_is_named() -> None:
    spec = RegistrySpec(url=f"https://{HUB}")
    nobody.when(create_registry()).then(RegistryPut(at=NOW, name=HUB, spec=spec))
    known = nobody.and_when(create_registry())
    known.when(create_registry()).then_nothing()
    known.when(create_registry(ssl_verify=False)).then_refused("registry_exists")
    changed = spec.model_copy(update={"projects": ("stable",)})
    known.when(modify_registry(projects=["stable"])).then(RegistryPut(at=NOW, name=HUB, spec=changed))
    known.when(modify_registry(ssl_verify=True)).then_nothing()
    nobody.when(modify_registry()).then_refused("unknown_registry")


def test_the_registry_of_what_agents_have_is_always_there_and_stays_as_it_is() -> None:
    assert nobody.state.registries["local"].registry_type is RegistryType.LOCAL
    nobody.when(delete_registry("local")).then_refused("local_registry")
    nobody.when(modify_registry("local", ssl_verify=False)).then_refused("local_registry")
    nobody.when(create_registry("local")).then_refused("registry_exists")


def test_no_other_registry_is_of_its_type() -> None:
    nobody.when(create_registry(registry_type=RegistryType.LOCAL)).then_refused("bad_registry_type")
    created = nobody.and_when(create_registry())
    created.when(modify_registry(registry_type="local")).then_refused("bad_registry_type")


def test_the_images_of_a_deleted_registry_are_forgotten_with_it_aliases_first() -> None:
    gone = aliased.when(delete_registry())
    gone.then_types(ImageDealiased, ImageDealiased, ImageForgotten, ImageForgotten, RegistryDeleted)
    assert not any((gone.after.images, gone.after.aliases))
    nobody.when(delete_registry()).then_refused("unknown_registry")


def test_no_password_of_a_registry_is_accepted_in_the_clear() -> None:
    with pytest.raises(ValidationError):
        CreateRegistry.model_validate(
            {"at": NOW, "name": HUB, "spec": {"url": f"https://{HUB}", "password": "hunter2!"}}
        )


# -- images ------------------------------------------------------------------------------------------------------------


def test_an_image_is_registered_in_a_registry_that_is_there() -> None:
    known = nobody.and_when(create_registry())
    known.when(register()).then(ImageRegistered(at=NOW, reference=PYTHON, architecture="x86_64", facts=FACTS))
    known.and_when(register()).when(register()).then_nothing()
    nobody.when(register()).then_refused("unknown_registry")


def test_an_image_is_registered_only_in_the_registry_its_reference_begins_with() -> None:
    known = nobody.and_when(create_registry())
    known.when(register(HOMEMADE)).then_refused("wrong_registry")
    known.when(register(PYTHON, OF_AGENTS)).then_refused("wrong_registry")
    known.when(register(HOMEMADE, OF_AGENTS)).then_types(ImageRegistered)


def test_what_was_said_about_an_image_outlives_its_being_found_anew() -> None:
    said = registered.and_when(modify_image(accelerators=["cuda"]), alias())
    found = said.when(register(facts=OTHER_FACTS))
    found.then(ImageRegistered(at=NOW, reference=PYTHON, architecture="x86_64", facts=OTHER_FACTS))
    image = found.after.images[(PYTHON, "x86_64")]
    assert (image.facts, image.rules.accelerators) == (OTHER_FACTS, ("cuda",))
    assert means("python", found.after) == PYTHON


def test_rules_are_changed_where_they_are_named() -> None:
    limits = modify_image(resources={"cpu": {"min": 1000, "max": 2000}})
    rules = ImageRules(resources={"cpu": Range(min=1000, max=2000)})
    registered.when(limits).then(ImageModified(at=NOW, reference=PYTHON, architecture="x86_64", rules=rules))
    registered.and_when(limits).when(limits).then_nothing()
    both = registered.and_when(limits, modify_image(accelerators=[])).state.images[(PYTHON, "x86_64")].rules
    assert both == ImageRules(resources=rules.resources, accelerators=())
    nobody.when(limits).then_refused("unknown_image")


def test_a_maximum_is_not_less_than_its_minimum() -> None:
    registered.when(modify_image(resources={"cpu": {"min": 2, "max": 1}})).then_refused("bad_range")
    assert registered.when(modify_image(resources={"cpu": {"min": 2, "max": None}})).events


def test_a_forgotten_image_takes_its_aliases_along() -> None:
    forgotten = aliased.when(forget())
    forgotten.then_types(ImageDealiased, ImageDealiased, ImageForgotten)
    assert not forgotten.after.aliases
    nobody.when(forget()).then_refused("unknown_image")


# -- aliases and names -------------------------------------------------------------------------------------------------


def test_an_alias_is_given_to_an_image_that_is_there() -> None:
    event = ImageAliased(at=NOW, reference=PYTHON, architecture="x86_64", alias="python")
    registered.when(alias()).then(event)
    aliased.when(alias()).then_nothing()
    nobody.when(alias()).then_refused("unknown_image")
    registered.when(alias(architecture="aarch64")).then_refused("unknown_image")


def test_an_alias_given_again_means_the_other_image_from_now_on() -> None:
    moved = aliased.and_when(alias(reference=TORCH))
    assert means("python", moved.state) == TORCH
    assert not moved.and_when(forget(PYTHON)).when(forget(TORCH)).after.aliases


def test_an_alias_has_one_meaning_for_each_architecture_and_goes_for_all_of_them() -> None:
    arm = aliased.and_when(register(TORCH, architecture="aarch64"), alias(reference=TORCH, architecture="aarch64"))
    assert [means("python", arm.state, each) for each in ("x86_64", "aarch64")] == [PYTHON, TORCH]
    gone = arm.when(dealias())
    gone.then_types(ImageDealiased, ImageDealiased)
    assert means("python", gone.after) is None
    nobody.when(dealias()).then_refused("unknown_alias")


@pytest.mark.parametrize(
    ("name", "reference"),
    [
        (PYTHON, PYTHON),
        ("stable/python:3.11", PYTHON),
        ("stable/python", f"{HUB}/stable/python:latest"),
        ("homemade", HOMEMADE),
        ("docker.io/library/homemade", HOMEMADE),
        ("python", None),
        ("other.org/stable/python:3.11", None),
        ("", None),
    ],
)
def test_a_name_means_the_reference_it_is_short_for(name: str, reference: str | None) -> None:
    more = register(f"{HUB}/stable/python:latest"), register(HOMEMADE, OF_AGENTS)
    assert means(name, registered.and_when(*more).state) == reference


def test_an_alias_counts_before_what_else_a_name_may_mean() -> None:
    assert means(PYTHON, registered.and_when(alias(PYTHON, TORCH)).state) == TORCH


def test_an_image_of_a_registry_that_does_not_count_is_as_if_it_did_not_exist() -> None:
    state = aliased.and_when(alias("homemade", TORCH), register(HOMEMADE, OF_AGENTS)).state
    assert means("python", state, registries=(HUB,)) == PYTHON
    assert means("python", state, registries=("local",)) is None
    assert means("homemade", state, registries=("local",)) == HOMEMADE


# -- what sessions may have --------------------------------------------------------------------------------------------


def labelled(labels: Mapping[str, str], **rules: Any) -> Image:
    """An image whose labels begin as those of Backend.AI do."""
    facts = ImageFacts(registry=HUB, labels={f"ai.backend.{name}": text for name, text in labels.items()})
    given = nobody.and_when(create_registry(), register(facts=facts), modify_image(**rules))
    image: Image = given.state.images[(PYTHON, "x86_64")]
    return image


def test_labels_say_how_much_a_kernel_needs_and_may_have() -> None:
    image = labelled({"resource.min.cpu": "0.5", "resource.min.mem": "64m", "resource.max.cpu": "4"})
    assert (image.minimum("cpu"), image.minimum("mem"), image.minimum("cuda.device")) == (500, 64 << 20, 0)
    assert (image.maximum("cpu"), image.maximum("mem")) == (4000, None)


def test_a_label_that_is_no_amount_says_nothing() -> None:
    image = labelled({"resource.min.cpu": "plenty", "resource.max.mem": "-1", "resource.min.": "1"})
    assert (image.minimum("cpu"), image.maximum("mem"), dict(image.resources)) == (0, None, {})


def test_each_rule_counts_before_the_labels_of_its_kind() -> None:
    labels = {"resource.min.cpu": "1", "accelerators": "cuda"}
    image = labelled(labels, resources={"mem": {"min": 5}})
    assert (image.minimum("cpu"), image.minimum("mem"), sorted(image.accelerators)) == (0, 5, ["cuda"])
    image = labelled(labels, accelerators=["rocm"])
    assert (image.minimum("cpu"), image.minimum("mem"), sorted(image.accelerators)) == (1000, 0, ["rocm"])


@pytest.mark.parametrize(
    ("label", "supported"),
    [
        (None, {"cuda.device", "cuda.shares", "rocm.device"}),
        ("cuda", {"cuda.device", "cuda.shares"}),
        ("rocm, cuda", {"cuda.device", "cuda.shares", "rocm.device"}),
        ("*", {"cuda.device", "cuda.shares", "rocm.device"}),
        ("", set()),
    ],
)
def test_an_image_takes_the_accelerators_its_label_names_and_any_without_one(
    label: str | None, supported: set[str]
) -> None:
    image = labelled({} if label is None else {"accelerators": label})
    assert {slot for slot in ("cuda.device", "cuda.shares", "rocm.device") if image.supports(slot)} == supported
    assert image.supports("cpu")
    assert image.supports("mem")


def test_a_label_says_which_services_an_image_has() -> None:
    assert labelled({}).services == {}
    services = labelled({"service-ports": "jupyter:http:8080, my-ssh:tcp:22,ipython:pty:3000,jupyter:tcp:1"}).services
    assert services == {
        "jupyter": ServicePort("jupyter", "http", 8080),
        "my-ssh": ServicePort("my-ssh", "tcp", 22),
        "ipython": ServicePort("ipython", "pty", 3000),
    }
    wrong = "a:http:0,b:http:65536,c:ftp:1,-d:tcp:1,e::1,f:tcp,g:tcp:2200,h h:tcp:1,i:tcp:1:2,,\u00e4:tcp:1"
    assert labelled({"service-ports": wrong}).services == {}


# -- what agents have --------------------------------------------------------------------------------------------------


def test_an_agent_reports_what_came_and_what_went() -> None:
    reported = nobody.when(has(local(), local(TORCH)))
    reported.then(AgentImagesReported(at=NOW, agent_id=A1, come=(local(), local(TORCH))))
    both = nobody.and_when(has(local(), local(TORCH)), has(local(), agent_id=A2))
    assert both.state.agents_with(PYTHON, "x86_64") == [A1, A2]
    left = both.and_when(has(gone=(PYTHON,))).state
    assert (left.agents_with(PYTHON, "x86_64"), left.agents_with(TORCH, "x86_64")) == ([A2], [A1])
    assert left.agents_with(PYTHON, "aarch64") == []


def test_only_what_is_different_is_told_again() -> None:
    known = nobody.and_when(has(local()))
    known.when(has(local())).then_nothing()
    known.when(has(gone=(TORCH,))).then_nothing()
    known.when(has(local(), afresh=True)).then_nothing()
    other = local(size_bytes=2)
    known.when(has(other, local(TORCH))).then(
        AgentImagesReported(at=NOW, agent_id=A1, come=(other, local(TORCH))),
    )
    known.when(has(local(TORCH), gone=(PYTHON, HOMEMADE))).then(
        AgentImagesReported(at=NOW, agent_id=A1, come=(local(TORCH),), gone=((PYTHON, "x86_64"),)),
    )


def test_what_an_agent_tells_afresh_is_all_it_has() -> None:
    known = nobody.and_when(has(local()))
    afresh = known.when(has(local(TORCH), afresh=True))
    afresh.then(AgentImagesReported(at=NOW, agent_id=A1, afresh=True, come=(local(TORCH),)))
    assert set(afresh.after.images_of(A1)) == {(TORCH, "x86_64")}
    assert afresh.after.agents_with(PYTHON, "x86_64") == []


def test_an_agent_that_is_gone_has_no_images() -> None:
    gone = nobody.and_when(has(local())).when(forget_agent())
    gone.then(AgentImagesReported(at=NOW, agent_id=A1, afresh=True))
    assert not any((gone.after.agent_images, gone.after.agents_by_image))
    nobody.when(forget_agent()).then_nothing()
