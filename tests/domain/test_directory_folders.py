"""What the owners of folders are told that they may have."""

from typing import Any

import pytest

from domain.directory.messages.keypairs import DeleteKeypair
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    KeypairPolicySpec,
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
)
from domain.directory.messages.tenants import CreateProject, ModifyDomain, ModifyProject, PurgeProject
from domain.directory.messages.users import JoinProject, LeaveProject, PurgeUser
from domain.messages import Command, ProjectId
from domain.vfolder.messages.common import ScopeLimits
from domain.vfolder.messages.reports import CloseScope, SetScopeLimits
from tests.domain.people import (
    ADA,
    EVE,
    KEY,
    NOW,
    SPARE,
    TEAM,
    everybody,
    keypair,
    modify_keypair,
    modify_user,
    user,
)
from tests.domain.spec import Given

HERE, THERE, ELSEWHERE = "local:here", "local:there", "local:elsewhere"
MAY, MOUNT = ("create-vfolder", "upload-file"), ("mount-in-session",)
ADAS, TEAMS = f"user:{ADA}", f"project:{TEAM}"


def told(given: Given, command: Command) -> dict[str, ScopeLimits | None]:
    """By owner, what he is told in consequence at last."""
    messages = [send.message for send in given.when(command).told("vfolder")]
    return {each.scope: each.limits for each in messages if isinstance(each, SetScopeLimits)}


def domain(**changes: Any) -> ModifyDomain:
    return ModifyDomain.model_validate({"at": NOW, "name": "default", "changes": changes})


def project(**changes: Any) -> ModifyProject:
    return ModifyProject.model_validate({"at": NOW, "project_id": TEAM, "changes": changes})


def user_policy(**changes: Any) -> ModifyUserPolicy:
    return ModifyUserPolicy.model_validate({"at": NOW, "name": "default", "changes": changes})


def test_an_owner_may_use_the_hosts_that_anything_he_belongs_to_allows() -> None:
    of_domain = domain(allowed_vfolder_hosts={HERE: MAY})
    hosts = {HERE: tuple(sorted(MAY))}
    assert told(everybody, of_domain) == {
        ADAS: ScopeLimits(max_folders=10, hosts=hosts),
        TEAMS: ScopeLimits(hosts=hosts),
    }
    of_project = project(allowed_vfolder_hosts={HERE: MOUNT, THERE: MOUNT})
    more = {HERE: tuple(sorted((*MAY, *MOUNT))), THERE: MOUNT}
    assert told(everybody.and_when(of_domain), of_project) == {
        ADAS: ScopeLimits(max_folders=10, hosts=more),
        TEAMS: ScopeLimits(hosts=more),
    }
    of_keypair = ModifyKeypairPolicy(at=NOW, name="basic", changes={"allowed_vfolder_hosts": {ELSEWHERE: MAY}})
    both = everybody.and_when(of_domain, of_project)
    assert told(both, of_keypair) == {
        ADAS: ScopeLimits(max_folders=10, hosts={**more, ELSEWHERE: tuple(sorted(MAY))}),
    }


def test_hosts_of_a_project_come_and_go_with_being_in_it_and_with_the_project() -> None:
    allowed = everybody.and_when(project(allowed_vfolder_hosts={HERE: MAY}))
    without, with_it = ScopeLimits(max_folders=10), ScopeLimits(max_folders=10, hosts={HERE: tuple(sorted(MAY))})
    leave = LeaveProject(at=NOW, user_id=ADA, project_id=TEAM)
    assert told(allowed, leave) == {ADAS: without}
    assert told(allowed.and_when(leave), JoinProject(at=NOW, user_id=ADA, project_id=TEAM)) == {ADAS: with_it}
    assert told(allowed, project(active=False)) == {ADAS: without, TEAMS: None}


def test_a_user_has_as_many_folders_as_his_policy_says_or_else_the_best_of_his_keypairs() -> None:
    assert told(everybody, user_policy(max_vfolder_count=3)) == {ADAS: ScopeLimits(max_folders=3)}
    big = CreateKeypairPolicy(at=NOW, name="big", spec=KeypairPolicySpec(max_vfolder_count=40))
    no_limit = CreateKeypairPolicy(at=NOW, name="none", spec=KeypairPolicySpec(max_vfolder_count=0))
    many = everybody.and_when(big, no_limit)
    assert told(many, keypair(SPARE, policy="big")) == {ADAS: ScopeLimits(max_folders=40)}
    assert told(many, keypair(SPARE, policy="none")) == {ADAS: ScopeLimits(max_folders=0)}
    assert told(many, modify_keypair(resource_policy="big")) == {ADAS: ScopeLimits(max_folders=40)}
    assert told(many.and_when(keypair(SPARE, policy="big")), DeleteKeypair(at=NOW, access_key=SPARE)) == {
        ADAS: ScopeLimits(max_folders=10)
    }


def test_an_owners_folders_have_the_size_that_his_policy_says() -> None:
    assert told(everybody, user_policy(max_quota_scope_size=9)) == {ADAS: ScopeLimits(max_folders=10, max_bytes=9)}
    of_projects = ModifyProjectPolicy.model_validate(
        {"at": NOW, "name": "default", "changes": {"max_quota_scope_size": 9, "max_vfolder_count": 2}}
    )
    assert told(everybody, of_projects)[TEAMS] == ScopeLimits(max_folders=2, max_bytes=9)


@pytest.mark.parametrize(
    "off", [modify_user(status="inactive"), domain(active=False), DeleteKeypair(at=NOW, access_key=KEY)]
)
def test_who_is_let_in_no_more_may_make_no_folders(off: Command) -> None:
    assert told(everybody, off)[ADAS] is None


def test_a_new_owner_hears_what_he_may_have() -> None:
    eve = user(
        EVE, "eve", keypair={"access_key": SPARE, "secret_sealed": "c2VjcmV0", "spec": {"resource_policy": "basic"}}
    )
    assert told(everybody, eve) == {f"user:{EVE}": ScopeLimits(max_folders=10)}
    assert told(everybody, user(EVE, "eve")) == {}
    crew = CreateProject(at=NOW, project_id=ProjectId("p-crew"), name="crew", domain="default")
    assert told(everybody, crew) == {"project:p-crew": ScopeLimits()}


def test_with_an_owner_go_his_folders() -> None:
    for gone, scope in (
        (PurgeUser(at=NOW, user_id=ADA), ADAS),
        (PurgeProject(at=NOW, project_id=TEAM), TEAMS),
    ):
        assert everybody.when(gone).told("vfolder")[-1].message == CloseScope(at=NOW, scope=scope)


def test_what_concerns_no_folder_is_not_told() -> None:
    for quiet in (
        modify_user(full_name="Ada L."),
        modify_keypair(rate_limit=3),
        domain(description="ours"),
        ModifyKeypairPolicy(at=NOW, name="basic", changes={"idle_timeout": 5}),
    ):
        assert told(everybody, quiet) == {}
