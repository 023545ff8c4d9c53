"""The directory: who may be created, what is refused, and what the sessions of a keypair are told."""

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from domain.context import Send
from domain.directory.consequences import DIRECTORY
from domain.directory.messages import (
    CreateDomain,
    CreateKeypair,
    CreateProject,
    CreateResourceGroup,
    CreateUser,
    DomainCreated,
    JoinProject,
    KeypairCreated,
    KeypairModified,
    KeypairPolicyPut,
    ModifyKeypair,
    ModifyUser,
    ProjectCreated,
    ProjectId,
    ProjectJoined,
    PutKeypairPolicy,
    ResourceGroupCreated,
    Role,
    SetUserPassword,
    UserCreated,
    UserId,
    UserModified,
    UserPasswordSet,
)
from domain.directory.state import Directory
from domain.messages import AccessKey, Cell, Command
from domain.session.messages import Limits, SetSessionLimits
from tests.domain.spec import Given, given

NOW = datetime(2026, 1, 1, tzinfo=UTC)
KEY, ADA, TEAM = AccessKey("AKIA"), UserId("u-ada"), ProjectId("p-team")
HASH, OTHER_HASH = "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=8,t=1,p=1$c2FsdA$b3RoZXI"
LIMITS = Limits(max_concurrent_sessions=5, max_kernels_per_session=2)
TIGHTER = Limits(max_concurrent_sessions=1, max_kernels_per_session=1)

create_domain = CreateDomain(at=NOW, name="default")
create_project = CreateProject(at=NOW, project_id=TEAM, name="team", domain="default")
create_user = CreateUser(
    at=NOW, user_id=ADA, email="Ada@example.com", username="ada", role=Role.ADMIN, domain="default", password_hash=HASH
)
put_policy = PutKeypairPolicy(at=NOW, name="basic", limits=LIMITS)
create_keypair = CreateKeypair(at=NOW, access_key=KEY, user_id=ADA, secret_sealed="c2VjcmV0", policy="basic")
create_group = CreateResourceGroup(at=NOW, name="gpus", cell=Cell("default"))
join = JoinProject(at=NOW, user_id=ADA, project_id=TEAM)

domain_created = DomainCreated(at=NOW, name="default")
project_created = ProjectCreated(at=NOW, project_id=TEAM, name="team", domain="default")
user_created = UserCreated(
    at=NOW,
    user_id=ADA,
    email="Ada@example.com",
    username="ada",
    full_name="",
    role=Role.ADMIN,
    domain="default",
    password_hash=HASH,
)
policy_put = KeypairPolicyPut(at=NOW, name="basic", limits=LIMITS)
keypair_created = KeypairCreated(
    at=NOW,
    access_key=KEY,
    user_id=ADA,
    secret_sealed="c2VjcmV0",
    policy="basic",
    is_admin=False,
    rate_limit=30000,
)
group_created = ResourceGroupCreated(at=NOW, name="gpus", cell=Cell("default"), is_public=True)
joined = ProjectJoined(at=NOW, user_id=ADA, project_id=TEAM)

nobody = given(DIRECTORY)
beginning = (domain_created, project_created, user_created, policy_put, keypair_created, group_created, joined)
everybody = given(DIRECTORY, *beginning)
changes: tuple[Command, ...] = (
    SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH),
    PutKeypairPolicy(at=NOW, name="small", limits=TIGHTER),
    ModifyKeypair(at=NOW, access_key=KEY, policy="small"),
    ModifyUser(at=NOW, user_id=ADA, active=False),
)
"""What may come after the beginning: one of everything that changes what is there."""


def limits_sent(limits: Limits | None) -> Send:
    return Send("session", SetSessionLimits(at=NOW, owner=KEY, limits=limits))


@pytest.mark.parametrize(
    ("before", "command", "event"),
    [
        (given(DIRECTORY), create_domain, domain_created),
        (given(DIRECTORY, domain_created), create_project, project_created),
        (given(DIRECTORY, domain_created), create_user, user_created),
        (given(DIRECTORY, domain_created, project_created, user_created), join, joined),
        (given(DIRECTORY), put_policy, policy_put),
        (given(DIRECTORY, domain_created, user_created, policy_put), create_keypair, keypair_created),
        (given(DIRECTORY), create_group, group_created),
    ],
)
def test_what_is_asked_for_comes_to_be_and_asking_again_changes_nothing(
    before: Given, command: Command, event: DomainCreated
) -> None:
    before.when(command).then(event)
    before.and_when(command).when(command).then_nothing()
    everybody.when(command).then_nothing()


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (create_project, "unknown_domain"),
        (create_user, "unknown_domain"),
        (ModifyUser(at=NOW, user_id=ADA, active=False), "unknown_user"),
        (SetUserPassword(at=NOW, user_id=ADA, password_hash=HASH), "unknown_user"),
        (join, "unknown_user"),
        (create_keypair, "unknown_user"),
        (ModifyKeypair(at=NOW, access_key=KEY, active=False), "unknown_keypair"),
    ],
)
def test_nothing_is_built_on_what_is_not_there(command: Command, code: str) -> None:
    nobody.when(command).then_refused(code)


def test_a_keypair_needs_a_policy_there_is() -> None:
    given(DIRECTORY, domain_created, user_created).when(create_keypair).then_refused("unknown_policy")
    everybody.when(ModifyKeypair(at=NOW, access_key=KEY, policy="gold")).then_refused("unknown_policy")


def test_a_project_must_be_there_and_of_the_users_domain() -> None:
    everybody.when(join.model_copy(update={"project_id": "p-none"})).then_refused("unknown_project")
    elsewhere = everybody.and_when(
        CreateDomain(at=NOW, name="other"),
        CreateProject(at=NOW, project_id=ProjectId("p-2"), name="team", domain="other"),
    )
    elsewhere.when(JoinProject(at=NOW, user_id=ADA, project_id=ProjectId("p-2"))).then_refused("other_domain")


@pytest.mark.parametrize(
    ("command", "change", "code"),
    [
        (create_project, {"name": "crew"}, "project_id_taken"),
        (create_project, {"project_id": "p-2"}, "project_name_taken"),
        (create_user, {"full_name": "Ada L."}, "user_id_taken"),
        (create_user, {"password_hash": OTHER_HASH}, "user_id_taken"),
        (create_user, {"user_id": "u-2", "username": "ada2", "email": "ADA@example.COM"}, "email_taken"),
        (create_user, {"user_id": "u-2", "email": "eve@example.com"}, "username_taken"),
        (create_keypair, {"is_admin": True}, "access_key_taken"),
        (create_group, {"is_public": False}, "resource_group_exists"),
    ],
)
def test_what_is_taken_is_refused(command: Command, change: dict[str, object], code: str) -> None:
    everybody.when(command.model_copy(update=change)).then_refused(code)


def test_no_password_and_no_secret_is_accepted_in_the_clear() -> None:
    with pytest.raises(ValidationError):
        SetUserPassword(at=NOW, user_id=ADA, password_hash="hunter2")
    with pytest.raises(ValidationError):
        CreateKeypair(at=NOW, access_key=KEY, user_id=ADA, secret_sealed="wJalrXUtnFEMI!", policy="basic")


def test_a_password_is_replaced_once() -> None:
    replace = SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH)
    everybody.when(replace).then(UserPasswordSet(at=NOW, user_id=ADA, password_hash=OTHER_HASH))
    everybody.and_when(replace).when(replace).then_nothing()


def test_a_new_keypair_may_start_what_its_policy_allows() -> None:
    sends = given(DIRECTORY, domain_created, user_created, policy_put).when(create_keypair).sends
    assert sends == [limits_sent(LIMITS)]


def test_a_keypair_of_an_inactive_user_may_start_nothing() -> None:
    inactive = given(DIRECTORY, domain_created, user_created, policy_put).and_when(
        ModifyUser(at=NOW, user_id=ADA, active=False)
    )
    assert inactive.when(create_keypair).sends == []


def test_taking_a_keypair_away_and_giving_it_back_is_told_to_its_sessions() -> None:
    off = ModifyKeypair(at=NOW, access_key=KEY, active=False)
    everybody.when(off).then(KeypairModified(at=NOW, access_key=KEY, active=False, policy="basic"))
    assert everybody.when(off).sends == [limits_sent(None)]
    without = everybody.and_when(off)
    without.when(off).then_nothing()
    assert without.when(ModifyKeypair(at=NOW, access_key=KEY, active=True)).sends == [limits_sent(LIMITS)]


def test_an_inactive_user_is_told_to_all_his_keypairs() -> None:
    off = ModifyUser(at=NOW, user_id=ADA, active=False)
    everybody.when(off).then(UserModified(at=NOW, user_id=ADA, active=False))
    assert everybody.when(off).sends == [limits_sent(None)]
    everybody.and_when(off).when(off).then_nothing()


def test_a_changed_policy_is_told_to_every_keypair_that_has_it() -> None:
    tighten = PutKeypairPolicy(at=NOW, name="basic", limits=TIGHTER)
    assert everybody.when(tighten).sends == [limits_sent(TIGHTER)]
    everybody.and_when(tighten).when(tighten).then_nothing()
    assert everybody.when(PutKeypairPolicy(at=NOW, name="unused", limits=TIGHTER)).sends == []


def test_a_keypair_moves_to_another_policy() -> None:
    both = everybody.and_when(PutKeypairPolicy(at=NOW, name="small", limits=TIGHTER))
    move = ModifyKeypair(at=NOW, access_key=KEY, policy="small")
    both.when(move).then(KeypairModified(at=NOW, access_key=KEY, active=True, policy="small"))
    assert both.when(move).sends == [limits_sent(TIGHTER)]


def test_an_access_key_leads_to_its_user() -> None:
    directory: Directory = everybody.state
    identity = directory.identity("AKIA")
    assert identity is not None
    assert identity.active
    assert (identity.user.role, identity.user.domain, identity.user.projects) == (Role.ADMIN, "default", (TEAM,))
    assert directory.identity("AKIB") is None
    revoked = everybody.and_when(ModifyUser(at=NOW, user_id=ADA, active=False)).state.identity("AKIA")
    assert not revoked.active


def test_an_email_is_found_in_any_case() -> None:
    directory: Directory = everybody.state
    assert directory.user_by_email("ADA@EXAMPLE.COM") == directory.users[ADA]
    assert directory.user_by_email("eve@example.com") is None
    assert directory.project("default", "team") == directory.projects[TEAM]
