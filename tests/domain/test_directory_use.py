"""What people use and prepare: resource groups and presets, templates and dotfiles; and what all of them are told."""

from typing import Any

import pytest

from domain.directory.deciding.personal import DOTFILE_BYTES_MAX, DOTFILES_MAX, TEMPLATES_MAX
from domain.directory.messages.cluster import (
    AnnouncementSet,
    ManagerStatus,
    ManagerStatusSet,
    SetAnnouncement,
    SetManagerStatus,
)
from domain.directory.messages.groups import (
    CreatePreset,
    DeletePreset,
    DeleteResourceGroup,
    Grantee,
    GranteeKind,
    ModifyPreset,
    ModifyResourceGroup,
    PresetDeleted,
    PresetPut,
    PresetSpec,
    ResourceGroupDeleted,
    ResourceGroupGranted,
    ResourceGroupModified,
    ResourceGroupRevoked,
    ResourceGroupSpec,
    RevokeAllResourceGroups,
    RevokeResourceGroup,
)
from domain.directory.messages.personal import (
    DeleteDotfile,
    DeleteTemplate,
    DotfileDeleted,
    DotfilePut,
    DotfileScope,
    ModifyDotfile,
    ModifyTemplate,
    TemplateDeleted,
    TemplatePut,
)
from domain.directory.messages.users import LeaveProject
from domain.directory.state import Directory
from tests.domain.people import (
    ADA,
    ELSEWHERE,
    EVE,
    KEY,
    NOW,
    SEALED,
    T1,
    TEAM,
    create_group,
    create_preset,
    dotfile,
    everybody,
    grant,
    template,
)

K = GranteeKind
private = ModifyResourceGroup(at=NOW, name="gpus", changes={"public": False})
delete_group = DeleteResourceGroup(at=NOW, name="gpus")


# -- resource groups ---------------------------------------------------------------------------------------------------


def test_a_resource_group_is_changed_where_it_is_named() -> None:
    everybody.when(private).then(ResourceGroupModified(at=NOW, name="gpus", spec=ResourceGroupSpec(public=False)))
    everybody.and_when(private).when(create_group).then_refused("resource_group_exists")
    everybody.when(create_group.model_copy(update={"cell": "west"})).then_refused("resource_group_exists")
    everybody.when(private.model_copy(update={"name": "none"})).then_refused("unknown_resource_group")


@pytest.mark.parametrize(
    ("kind", "grantee", "code"),
    [
        (K.DOMAIN, "default", "unknown_domain"),
        (K.PROJECT, TEAM, "unknown_project"),
        (K.KEYPAIR, KEY, "unknown_keypair"),
    ],
)
def test_a_resource_group_is_granted_to_what_is_there(kind: GranteeKind, grantee: str, code: str) -> None:
    give, to = grant(kind, grantee), Grantee(kind=kind, id=grantee)
    everybody.when(give).then(ResourceGroupGranted(at=NOW, name="gpus", to=to))
    everybody.and_when(give).when(give).then_nothing()
    everybody.when(grant(kind, "none")).then_refused(code)
    everybody.when(grant(kind, grantee, "none")).then_refused("unknown_resource_group")
    take = RevokeResourceGroup(at=NOW, name="gpus", to=to)
    everybody.and_when(give).when(take).then(ResourceGroupRevoked(at=NOW, name="gpus", to=to))
    everybody.when(take).then_nothing()
    everybody.when(take.model_copy(update={"name": "none"})).then_refused("unknown_resource_group")


def test_all_grants_to_somebody_are_taken_back_at_once() -> None:
    second = create_group.model_copy(update={"name": "cpus"})
    granted = everybody.and_when(
        second, grant(K.KEYPAIR, KEY), grant(K.KEYPAIR, KEY, "cpus"), grant(K.PROJECT, TEAM, "cpus")
    )
    take = RevokeAllResourceGroups(at=NOW, to=Grantee(kind=K.KEYPAIR, id=KEY))
    assert [event.name for event in granted.when(take).events if isinstance(event, ResourceGroupRevoked)] == [
        "cpus",
        "gpus",
    ]
    assert granted.and_when(take).state.groups["cpus"].grantees == {(K.PROJECT, TEAM)}
    everybody.when(take).then_nothing()


def test_what_a_deleted_resource_group_had_goes_with_it() -> None:
    loaded = everybody.and_when(grant(K.DOMAIN, "default"), create_preset)
    loaded.when(delete_group).then_types(ResourceGroupRevoked, PresetDeleted, ResourceGroupDeleted)
    again = loaded.and_when(delete_group, create_group)
    assert not again.state.groups["gpus"].grantees
    assert not again.state.presets
    loaded.and_when(delete_group).when(delete_group).then_refused("unknown_resource_group")


def test_a_resource_group_is_used_by_everybody_or_by_those_it_is_granted_to() -> None:
    def may_use(state: Directory) -> list[bool]:
        callers: list[tuple[str, Any, str]] = [("default", TEAM, KEY), ("other", ELSEWHERE, "AKOTHER")]
        return [state.groups_for(*caller) == ["gpus"] for caller in callers]

    assert may_use(everybody.state) == [True, True]
    hidden = everybody.and_when(private)
    assert may_use(hidden.state) == [False, False]
    for give in (grant(K.DOMAIN, "default"), grant(K.PROJECT, TEAM), grant(K.KEYPAIR, KEY)):
        assert may_use(hidden.and_when(give).state) == [True, False]
    off = ModifyResourceGroup(at=NOW, name="gpus", changes={"active": False})
    assert may_use(everybody.and_when(off).state) == [False, False]


# -- presets -----------------------------------------------------------------------------------------------------------


def test_a_preset_may_stand_once_in_each_resource_group() -> None:
    with_one = everybody.and_when(create_preset)
    bigger = PresetSpec(resource_slots={"cpu": 2000})
    with_one.when(create_preset.model_copy(update={"spec": bigger})).then_refused("preset_exists")
    everywhere = CreatePreset(at=NOW, name="one", spec=bigger)
    with_one.when(everywhere).then(PresetPut(at=NOW, name="one", spec=bigger))
    both = with_one.and_when(everywhere)
    assert sorted(both.state.presets, key=str) == [("gpus", "one"), (None, "one")]
    lost = create_preset.model_copy(update={"resource_group": "none"})
    everybody.when(lost).then_refused("unknown_resource_group")


def test_a_preset_is_changed_and_deleted_by_name_and_group() -> None:
    with_one = everybody.and_when(create_preset)
    change = ModifyPreset(at=NOW, name="one", resource_group="gpus", changes={"resource_slots": {"cpu": 2000}})
    bigger = PresetSpec(resource_slots={"cpu": 2000})
    with_one.when(change).then(PresetPut(at=NOW, name="one", resource_group="gpus", spec=bigger))
    with_one.when(ModifyPreset(at=NOW, name="one")).then_refused("unknown_preset")
    with_one.when(DeletePreset(at=NOW, name="one")).then_refused("unknown_preset")
    with_one.when(DeletePreset(at=NOW, name="one", resource_group="gpus")).then(
        PresetDeleted(at=NOW, name="one", resource_group="gpus")
    )


def test_shared_memory_is_part_of_the_memory() -> None:
    spec = PresetSpec(resource_slots={"mem": 1024}, shared_memory=1025)
    everybody.when(CreatePreset(at=NOW, name="one", spec=spec)).then_refused("shared_memory_too_large")


# -- templates ---------------------------------------------------------------------------------------------------------


def test_a_template_has_an_owner_and_a_project() -> None:
    put = everybody.when(template()).only(TemplatePut)
    assert put.template.owner == ADA
    everybody.and_when(template()).when(template()).then_nothing()
    everybody.when(template(owner=EVE)).then_refused("unknown_user")
    everybody.when(template(project_id="p-none")).then_refused("unknown_project")
    everybody.when(template(project_id=ELSEWHERE)).then_refused("other_domain")
    everybody.and_when(template()).when(template(owner="u-root")).then_refused("template_id_taken")
    everybody.when(template("../x")).then_refused("bad_id")


def test_a_template_stays_when_its_owner_leaves_the_project() -> None:
    left = everybody.and_when(template(), LeaveProject(at=NOW, user_id=ADA, project_id=TEAM))
    assert T1 in left.state.templates


def test_a_template_is_changed_and_deleted_by_its_id() -> None:
    with_one = everybody.and_when(template())
    change = ModifyTemplate(at=NOW, template_id=T1, body="b3RoZXI=")
    put = with_one.when(change).only(TemplatePut)
    assert (put.template.name, put.template.body) == ("t", "b3RoZXI=")
    with_one.and_when(change).when(change).then_nothing()
    with_one.when(DeleteTemplate(at=NOW, template_id=T1)).then(TemplateDeleted(at=NOW, template_id=T1))
    everybody.when(change).then_refused("unknown_template")
    everybody.when(DeleteTemplate(at=NOW, template_id=T1)).then_refused("unknown_template")


def test_a_user_has_so_many_templates_at_most() -> None:
    full = everybody.and_when(*(template(f"t-{n}") for n in range(TEMPLATES_MAX)))
    full.when(template("t-more")).then_refused("too_many_templates")
    assert full.when(template("t-more", owner="u-root")).events


# -- dotfiles ----------------------------------------------------------------------------------------------------------


def change(path: str = ".bashrc", size: int = 5) -> ModifyDotfile:
    return ModifyDotfile.model_validate(dotfile(path, size).model_dump() | {"type": "ModifyDotfile", "mode": "600"})


def test_a_dotfile_is_made_changed_and_deleted() -> None:
    owner = dotfile().owner
    everybody.when(dotfile()).then(DotfilePut(at=NOW, owner=owner, path=".bashrc", mode="644", content=SEALED, size=5))
    with_one = everybody.and_when(dotfile())
    with_one.when(dotfile()).then_nothing()
    with_one.when(dotfile(size=6)).then_refused("dotfile_exists")
    assert with_one.when(change()).only(DotfilePut).mode == "600"
    with_one.and_when(change()).when(change()).then_nothing()
    everybody.when(change()).then_refused("unknown_dotfile")
    delete = DeleteDotfile(at=NOW, owner=owner, path=".bashrc")
    with_one.when(delete).then(DotfileDeleted(at=NOW, owner=owner, path=".bashrc"))
    everybody.when(delete).then_refused("unknown_dotfile")
    assert with_one.and_when(delete).state == everybody.state


@pytest.mark.parametrize(
    ("scope", "code"),
    [
        (DotfileScope.KEYPAIR, "unknown_keypair"),
        (DotfileScope.PROJECT, "unknown_project"),
        (DotfileScope.DOMAIN, "unknown_domain"),
    ],
)
def test_a_dotfile_has_an_owner_who_is_there(scope: DotfileScope, code: str) -> None:
    everybody.when(dotfile(scope=scope, owner="none")).then_refused(code)


@pytest.mark.parametrize("path", ["bashrc", "/etc/passwd", "../.x", ".a/../b", ".a//b", ".a/", "./.a", ".", ".a\nb"])
def test_a_dotfile_is_hidden_in_the_home_folder(path: str) -> None:
    everybody.when(dotfile(path)).then_refused("bad_path")


@pytest.mark.parametrize("path", [".ssh/authorized_keys", ".terminfo", ".jupyter/config.py", ".bootstrap.sh"])
def test_what_refold_puts_there_itself_is_no_dotfile(path: str) -> None:
    everybody.when(dotfile(path)).then_refused("reserved_path")


def test_dotfiles_of_projects_may_be_anywhere_but_no_way_around() -> None:
    def of(scope: DotfileScope, owner: str, path: str) -> Any:
        return everybody.when(dotfile(path, scope=scope, owner=owner))

    assert of(DotfileScope.PROJECT, TEAM, "/etc/motd").events
    assert of(DotfileScope.PROJECT, TEAM, ".config/x").events
    of(DotfileScope.PROJECT, TEAM, "/etc/../x").then_refused("bad_path")
    of(DotfileScope.PROJECT, TEAM, "/").then_refused("bad_path")
    of(DotfileScope.DOMAIN, "default", "/etc/motd").then_refused("bad_path")


def test_no_path_is_a_file_and_a_folder() -> None:
    everybody.and_when(dotfile(".a")).when(dotfile(".a/b")).then_refused("dotfile_exists")
    everybody.and_when(dotfile(".a/b")).when(dotfile(".a")).then_refused("dotfile_exists")
    assert everybody.and_when(dotfile(".a/b")).when(dotfile(".a/c")).events


def test_the_dotfiles_of_one_owner_are_few_and_small() -> None:
    half = DOTFILE_BYTES_MAX // 2
    two = everybody.and_when(dotfile(".a", half), dotfile(".b", half))
    two.when(dotfile(".c", 1)).then_refused("dotfiles_too_large")
    two.when(change(".a", half + 1)).then_refused("dotfiles_too_large")
    assert two.when(change(".a", half - 1)).events
    assert two.when(dotfile(".c", 1, TEAM, DotfileScope.PROJECT)).events
    many = everybody.and_when(*(dotfile(f".{n}") for n in range(DOTFILES_MAX)))
    many.when(dotfile(".more")).then_refused("too_many_dotfiles")


# -- the cluster -------------------------------------------------------------------------------------------------------


def test_an_announcement_is_made_and_taken_back() -> None:
    say = SetAnnouncement(at=NOW, enabled=True, message="Hello")
    everybody.when(say).then(AnnouncementSet(at=NOW, enabled=True, message="Hello"))
    everybody.and_when(say).when(say).then_nothing()
    assert not everybody.and_when(say, SetAnnouncement(at=NOW, enabled=False)).state.announcement.enabled


def test_the_cluster_is_frozen_and_runs_again() -> None:
    freeze, run = (SetManagerStatus(at=NOW, status=status) for status in (ManagerStatus.FROZEN, ManagerStatus.RUNNING))
    everybody.when(freeze).then(ManagerStatusSet(at=NOW, status=ManagerStatus.FROZEN))
    everybody.when(run).then_nothing()
    assert everybody.and_when(freeze, run).state == everybody.state
