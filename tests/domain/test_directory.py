"""The directory as a whole: what every command has in common, and what the sessions of a keypair are told."""

import typing
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from domain.context import Send
from domain.directory.messages import groups, images, keypairs, policies, tenants, users
from domain.directory.messages.cluster import SetAnnouncement
from domain.directory.messages.keypairs import CreateKeypair, DeleteKeypair
from domain.directory.messages.policies import CreateKeypairPolicy, ModifyKeypairPolicy
from domain.directory.messages.tenants import DomainSpec, ModifyDomain
from domain.directory.messages.users import PurgeUser, Role, SetUserPassword
from domain.directory.state import Directory
from domain.messages import Command
from domain.session.messages import Limits, SetSessionLimits
from tests.domain.people import (
    ADA,
    EVE,
    KEY,
    LIMITS,
    NOW,
    SPARE,
    TEAM,
    beginning,
    everybody,
    keypair,
    life,
    modify_keypair,
    modify_user,
    nobody,
    user,
)

TIGHTER = Limits(max_concurrent_sessions=1, max_kernels_per_session=2, idle_timeout_seconds=1800)


def limits_sent(limits: Limits | None, access_key: str = KEY) -> Send:
    return Send("session", SetSessionLimits(at=NOW, owner=access_key, limits=limits))


# -- what all commands have in common ----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", range(len(beginning)))
def test_what_is_asked_for_comes_to_be_and_asking_again_changes_nothing(number: int) -> None:
    before, command = nobody.and_when(*beginning[:number]), beginning[number]
    assert before.when(command).events
    before.and_when(command).when(command).then_nothing()
    everybody.when(command).then_nothing()


@pytest.mark.parametrize("command", [each for each in life if type(each).__name__.startswith(("Modify", "Set"))])
def test_what_is_changed_already_is_not_changed_again(command: Command) -> None:
    before = nobody.and_when(*life[: life.index(command)])
    after = before.and_when(command)
    assert after.state != before.state
    if getattr(command, "rename", None) is None or "project_id" in type(command).model_fields:
        after.when(command).then_nothing()


@pytest.mark.parametrize(
    "module",
    [tenants, users, keypairs, policies, groups, images],
    ids=lambda module: module.__name__.rpartition(".")[2],
)
def test_changes_name_exactly_the_fields_of_their_spec_with_the_same_types(module: Any) -> None:
    specs = {name: each for name, each in vars(module).items() if name.endswith("Spec") and issubclass(each, BaseModel)}
    assert specs
    for name, spec in specs.items():
        if spec.__module__ == module.__name__:
            changes = vars(module)[name.removesuffix("Spec") + "Changes"]
            assert typing.get_type_hints(changes, include_extras=True).keys() == spec.model_fields.keys()
            for field in spec.model_fields:
                assert _rules(changes, field) == _rules(spec, field), f"{name}.{field}"


def _rules(model: Any, field: str) -> Any:
    """What may stand in the field, without what stands there by default."""
    rules = TypeAdapter(model).json_schema()["properties"][field]
    return {name: rule for name, rule in rules.items() if name not in {"default", "title"}}


def test_a_nul_character_gets_nowhere() -> None:
    everybody.when(SetAnnouncement(at=NOW, enabled=True, message="a\0b")).then_refused("nul_character")
    hosts = DomainSpec(allowed_docker_registries=("a\0",)).allowed_docker_registries
    command = ModifyDomain(at=NOW, name="default", changes={"allowed_docker_registries": hosts})
    everybody.when(command).then_refused("nul_character")
    written_out = SetAnnouncement(at=NOW, enabled=True, message=r"a\u0000b")
    assert everybody.when(written_out).events


def test_no_password_and_no_secret_is_accepted_in_the_clear() -> None:
    with pytest.raises(ValidationError):
        SetUserPassword(at=NOW, user_id=ADA, password_hash="hunter2")
    with pytest.raises(ValidationError):
        CreateKeypair(at=NOW, access_key=KEY, user_id=ADA, secret_sealed="wJalrXUtnFEMI!")


# -- what sessions are told --------------------------------------------------------------------------------------------


def test_a_new_keypair_may_start_what_its_policy_allows() -> None:
    assert everybody.when(keypair(SPARE)).told("session") == [limits_sent(LIMITS, SPARE)]


def test_a_keypair_of_an_inactive_user_may_start_nothing() -> None:
    assert everybody.and_when(modify_user(status="inactive")).when(keypair(SPARE)).told("session") == []


def test_taking_a_keypair_away_and_giving_it_back_is_told_to_its_sessions() -> None:
    off, on = modify_keypair(active=False), modify_keypair(active=True)
    assert everybody.when(off).told("session") == [limits_sent(None)]
    assert everybody.and_when(off).when(on).told("session") == [limits_sent(LIMITS)]
    assert everybody.when(DeleteKeypair(at=NOW, access_key=KEY)).told("session") == [limits_sent(None)]


def test_a_user_who_is_let_in_no_more_is_told_to_all_his_keypairs() -> None:
    both = everybody.and_when(keypair(SPARE))
    told = [limits_sent(None), limits_sent(None, SPARE)]
    for gone in (modify_user(status="inactive"), modify_user(status="deleted"), PurgeUser(at=NOW, user_id=ADA)):
        assert both.when(gone).told("session") == told
    assert everybody.when(modify_user(full_name="Ada L.")).told("session") == []


def test_a_changed_policy_is_told_to_every_keypair_that_has_it() -> None:
    tighten = ModifyKeypairPolicy(at=NOW, name="basic", changes={"max_concurrent_sessions": 1})
    assert everybody.when(tighten).told("session") == [limits_sent(TIGHTER)]
    assert everybody.when(CreateKeypairPolicy(at=NOW, name="unused")).told("session") == []
    assert (
        everybody.when(ModifyKeypairPolicy(at=NOW, name="basic", changes={"max_vfolder_count": 1})).told("session")
        == []
    )


def test_a_keypair_that_moves_to_another_policy_may_start_what_that_allows() -> None:
    small = CreateKeypairPolicy(at=NOW, name="s", spec={"max_concurrent_sessions": 1, "max_containers_per_session": 2})
    assert everybody.and_when(small).when(modify_keypair(resource_policy="s")).told("session") == [limits_sent(TIGHTER)]


def test_nobody_in_an_inactive_domain_starts_anything() -> None:
    off = ModifyDomain(at=NOW, name="default", changes={"active": False})
    assert everybody.when(off).told("session") == [limits_sent(None)]
    inactive = everybody.and_when(off)
    assert inactive.state.identity(KEY).active
    on = ModifyDomain(at=NOW, name="default", changes={"active": True})
    assert inactive.when(on).told("session") == [limits_sent(LIMITS)]
    assert inactive.when(modify_user(domain="other")).told("session") == [limits_sent(LIMITS)]


# -- what may be asked -------------------------------------------------------------------------------------------------


def test_an_access_key_leads_to_its_user() -> None:
    directory: Directory = everybody.state
    identity = directory.identity("AKIA")
    assert identity is not None
    assert identity.active
    assert (identity.user.spec.role, identity.user.spec.domain, identity.user.projects) == (
        Role.USER,
        "default",
        (TEAM,),
    )
    assert directory.identity("AKIB") is None
    assert not everybody.and_when(modify_user(status="inactive")).state.identity("AKIA").active
    assert not everybody.and_when(modify_keypair(active=False)).state.identity("AKIA").active


def test_an_email_is_found_in_any_case() -> None:
    directory: Directory = everybody.state
    assert directory.user_by_email("ADA@EXAMPLE.COM") == directory.users[ADA]
    assert directory.user_by_email("eve@example.com") is None
    assert directory.user_by_name("ada") == directory.users[ADA]
    assert directory.project("default", "team") == directory.projects[TEAM]


def test_the_members_of_a_project_are_those_who_joined() -> None:
    with_eve = everybody.and_when(user(EVE, "eve", projects=(TEAM,)))
    assert [each.user_id for each in with_eve.state.members(TEAM)] == [ADA, EVE]
