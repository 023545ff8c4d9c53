"""Domains, projects, and the policies that keypairs, users and projects have."""

from typing import Any

import pytest

from domain.directory.messages.groups import GranteeKind, ResourceGroupRevoked
from domain.directory.messages.personal import DotfileDeleted, DotfileScope, TemplateDeleted
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    DeleteKeypairPolicy,
    DeleteProjectPolicy,
    DeleteUserPolicy,
    KeypairPolicyDeleted,
    KeypairPolicyPut,
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
    ProjectPolicyDeleted,
    ProjectPolicyPut,
    UserPolicyDeleted,
    UserPolicyPut,
)
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    DomainModified,
    DomainPurged,
    DomainRenamed,
    DomainSpec,
    ModifyDomain,
    ModifyProject,
    ProjectCreated,
    ProjectModified,
    ProjectPurged,
    ProjectSpec,
    ProjectType,
    PurgeDomain,
    PurgeProject,
)
from domain.directory.messages.users import ProjectLeft, PurgeUser
from domain.directory.state import Directory
from domain.messages import Command, Event
from tests.domain.people import (
    ADA,
    ELSEWHERE,
    NOW,
    SMALL,
    TEAM,
    dotfile,
    everybody,
    grant,
    keypair,
    modify_user,
    nobody,
    template,
    user,
)


def modify_domain(name: str = "default", rename: str | None = None, **changes: Any) -> ModifyDomain:
    return ModifyDomain.model_validate({"at": NOW, "name": name, "changes": changes, "rename": rename})


def modify_project(rename: str | None = None, **changes: Any) -> ModifyProject:
    return ModifyProject.model_validate({"at": NOW, "project_id": TEAM, "changes": changes, "rename": rename})


def create_project(**fields: Any) -> CreateProject:
    return CreateProject.model_validate({"at": NOW, "project_id": "p-new", "name": "new", "domain": "default"} | fields)


# -- domains -----------------------------------------------------------------------------------------------------------


def test_a_domain_is_changed_where_it_is_named_and_stays_as_it_is_elsewhere() -> None:
    described = everybody.and_when(modify_domain(description="ours"))
    spec = DomainSpec(description="ours", total_resource_slots={"cpu": 4000})
    described.when(modify_domain(total_resource_slots={"cpu": 4000})).then(
        DomainModified(at=NOW, name="default", spec=spec)
    )


def test_everything_in_a_renamed_domain_follows() -> None:
    before = everybody.and_when(
        grant(GranteeKind.DOMAIN, "default"), template(), dotfile(owner="default", scope=DotfileScope.DOMAIN)
    )
    rename = modify_domain(rename="home")
    before.when(rename).then(DomainRenamed(at=NOW, name="default", new_name="home"))
    state: Directory = before.and_when(rename).state
    assert sorted(state.domains) == ["home", "other"]
    assert state.users[ADA].spec.domain == "home"
    assert state.project("home", "team") == state.projects[TEAM]
    assert state.project("default", "team") is None
    assert state.groups["gpus"].grantees == {(GranteeKind.DOMAIN, "home")}
    assert [each.domain for each in state.templates.values()] == ["home"]
    assert sorted(state.dotfiles) == [(DotfileScope.DOMAIN, "home")]
    assert state.limits(state.users[ADA].keypairs[0]) is not None


def test_no_domain_has_the_name_of_another() -> None:
    everybody.when(CreateDomain(at=NOW, name="other", spec=DomainSpec(description="x"))).then_refused("domain_exists")
    everybody.when(modify_domain(rename="other")).then_refused("domain_exists")
    everybody.when(modify_domain(rename="default")).then_nothing()


def test_a_domain_with_users_or_projects_is_not_purged() -> None:
    purge = PurgeDomain(at=NOW, name="other")
    everybody.when(purge).then_refused("domain_not_empty")
    without_projects = everybody.and_when(PurgeProject(at=NOW, project_id=ELSEWHERE))
    without_projects.and_when(modify_user(domain="other")).when(purge).then_refused("domain_not_empty")
    without_projects.when(purge).then(DomainPurged(at=NOW, name="other"))


def test_what_a_purged_domain_had_goes_with_it() -> None:
    empty = everybody.and_when(PurgeProject(at=NOW, project_id=ELSEWHERE))
    loaded = empty.and_when(grant(GranteeKind.DOMAIN, "other"), dotfile(owner="other", scope=DotfileScope.DOMAIN))
    loaded.when(PurgeDomain(at=NOW, name="other")).then_types(ResourceGroupRevoked, DotfileDeleted, DomainPurged)


def test_storage_hosts_are_given_only_permissions_there_are() -> None:
    wrong: dict[str, Any] = {"allowed_vfolder_hosts": {"local:v": ["mount-in-session", "destroy"]}}
    for command in (
        modify_domain(**wrong),
        modify_project(**wrong),
        create_project(spec=wrong),
        CreateDomain.model_validate({"at": NOW, "name": "new", "spec": wrong}),
        CreateKeypairPolicy.model_validate({"at": NOW, "name": "new", "spec": wrong}),
        ModifyKeypairPolicy.model_validate({"at": NOW, "name": "basic", "changes": wrong}),
    ):
        everybody.when(command).then_refused("bad_permission")


# -- projects ----------------------------------------------------------------------------------------------------------


def test_a_project_may_be_a_model_store() -> None:
    created = everybody.when(create_project(project_type="model-store")).only(ProjectCreated)
    assert created.project_type is ProjectType.MODEL_STORE


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"domain": "none"}, "unknown_domain"),
        ({"spec": {"resource_policy": "gold"}}, "unknown_policy"),
        ({"project_id": TEAM}, "project_id_taken"),
        ({"project_id": "a b"}, "bad_id"),
        ({"name": "team"}, "project_name_taken"),
    ],
)
def test_a_project_needs_a_name_of_its_own_and_what_it_names(fields: dict[str, Any], code: str) -> None:
    everybody.when(create_project(**fields)).then_refused(code)


def test_a_project_is_renamed_to_what_is_free_in_its_domain() -> None:
    two = everybody.and_when(create_project())
    two.when(modify_project(rename="new")).then_refused("project_name_taken")
    two.when(modify_project(rename="crew", active=False)).then(
        ProjectModified(at=NOW, project_id=TEAM, name="crew", spec=ProjectSpec(active=False))
    )
    renamed = two.and_when(modify_project(rename="crew"))
    assert renamed.when(create_project(project_id="p-3", name="team")).events
    two.when(modify_project(resource_policy="gold")).then_refused("unknown_policy")


def test_what_a_purged_project_had_goes_with_it() -> None:
    loaded = everybody.and_when(
        grant(GranteeKind.PROJECT, TEAM), dotfile(owner=TEAM, scope=DotfileScope.PROJECT), template()
    )
    purge = PurgeProject(at=NOW, project_id=TEAM)
    loaded.when(purge).then_types(ProjectLeft, ResourceGroupRevoked, DotfileDeleted, TemplateDeleted, ProjectPurged)
    after = loaded.and_when(purge)
    assert after.state.users[ADA].projects == ()
    after.when(purge).then_refused("unknown_project")
    assert after.when(create_project(project_id=TEAM, name="team")).events


# -- policies ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("modify", "put"),
    [
        (ModifyKeypairPolicy, KeypairPolicyPut),
        (ModifyUserPolicy, UserPolicyPut),
        (ModifyProjectPolicy, ProjectPolicyPut),
    ],
)
def test_a_policy_is_changed_where_it_is_named(modify: Any, put: type[Event]) -> None:
    name = "basic" if modify is ModifyKeypairPolicy else "default"
    change = modify(at=NOW, name=name, changes={"max_vfolder_count": 77})
    event = everybody.when(change).only(put)
    assert event.spec.max_vfolder_count == 77
    if modify is ModifyKeypairPolicy:
        assert event.spec == SMALL.model_copy(update={"max_vfolder_count": 77})
    everybody.when(modify(at=NOW, name="gold")).then_refused("unknown_policy")


@pytest.mark.parametrize("create", [CreateKeypairPolicy, CreateUserPolicy, CreateProjectPolicy])
def test_no_policy_has_the_name_of_another_of_its_kind(create: Any) -> None:
    name = "basic" if create is CreateKeypairPolicy else "default"
    other = create.model_validate({"at": NOW, "name": name, "spec": {"max_vfolder_count": 77}})
    everybody.when(other).then_refused("policy_exists")
    same_name_of_another_kind = create.model_validate({"at": NOW, "name": "shared"})
    all_kinds = nobody.and_when(*(each(at=NOW, name="shared") for each in (CreateUserPolicy, CreateProjectPolicy)))
    assert all_kinds.when(same_name_of_another_kind).refused is None


@pytest.mark.parametrize(
    ("delete", "name", "gone", "unuse"),
    [
        (DeleteKeypairPolicy, "basic", KeypairPolicyDeleted, [PurgeUser(at=NOW, user_id=ADA)]),
        (DeleteUserPolicy, "default", UserPolicyDeleted, None),
        (
            DeleteProjectPolicy,
            "default",
            ProjectPolicyDeleted,
            [PurgeProject(at=NOW, project_id=TEAM), PurgeProject(at=NOW, project_id=ELSEWHERE)],
        ),
    ],
)
def test_a_policy_goes_only_when_nothing_has_it(delete: Any, name: str, gone: Any, unuse: list[Command] | None) -> None:
    everybody.when(delete(at=NOW, name=name)).then_refused("policy_in_use")
    everybody.when(delete(at=NOW, name="gold")).then_refused("unknown_policy")
    if unuse is not None:
        everybody.and_when(*unuse).when(delete(at=NOW, name=name)).then(gone(at=NOW, name=name))


def test_nobody_gets_a_policy_that_is_not_there() -> None:
    everybody.when(keypair("AKIB", policy="gold")).then_refused("unknown_policy")
    everybody.when(modify_user(resource_policy="gold")).then_refused("unknown_policy")
    given_user = user("u-2", "bob")
    spec = given_user.spec.model_copy(update={"resource_policy": "gold"})
    everybody.when(given_user.model_copy(update={"spec": spec})).then_refused("unknown_policy")
