"""What holds of the directory whatever is asked of it, in whatever order: one property a promise."""

from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from domain.directory.consequences import DIRECTORY
from domain.directory.messages import COMMANDS, EVENTS, DirectoryEvents
from domain.directory.messages.groups import GranteeKind
from domain.directory.messages.personal import DotfileScope
from domain.directory.messages.users import Role
from domain.directory.state import Directory
from domain.messages import AccessKey, Refused
from domain.session.messages import Limits, SetSessionLimits
from tests.domain.people import HASH, OTHER_HASH, SEALED, after, beginning

many = settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
choices = st.lists(st.integers(0, 2**32), min_size=50, max_size=200)
"""Each is the seed of one command: lists of numbers are quickly made, and well shrunk."""

Pool = Sequence[Any] | Mapping[str, Any]
"""Values of which one is taken; or fields, each of which is taken of its own pool."""

# Few names, so that they meet.
DOMAINS, PROJECTS, POLICIES = ("default", "other"), ("p-team", "p-elsewhere", "p-3"), ("basic", "default")
PEOPLE, KEYS, NAMES = ("u-root", "u-ada", "u-eve"), ("AKIA", "AKIB", "AKIC"), ("root", "ada", "eve")
EMAILS = ("root@x.org", "Ada@x.org", "ADA@X.ORG", "ada@example.com")
GROUPS, PRESETS, TEMPLATES, COOKIES = ("gpus", "cpus"), ("small", "big"), ("t-1", "t-2"), ("a" * 64, "b" * 64)
STATUSES, TRUTH = ("active", "active", "inactive"), (True, False)
MEMBERSHIPS = ((), ("p-team",), ("p-elsewhere",), ("p-team", "p-3"))
GRANTEES = tuple(
    {"kind": kind, "id": each}
    for kind, pool in (("domain", DOMAINS), ("project", PROJECTS), ("keypair", KEYS))
    for each in pool
)
OWNERS = tuple({"scope": each["kind"], "id": each["id"]} for each in GRANTEES)
COUNTED: Sequence[Mapping[str, int]] = ({}, {"max_vfolder_count": 1}, {"max_vfolder_count": 2})
SLOTS = ({"resource_slots": {"cpu": 1000}}, {"resource_slots": {"cpu": 2000}})
USER = {"username": NAMES, "role": ("superadmin", "user"), "domain": DOMAINS}
USER_CHANGES = (
    {"role": ("superadmin", "user")},
    {"status": STATUSES},
    {"domain": DOMAINS},
    {"domain": DOMAINS},
    {"username": NAMES},
    {"main_access_key": (*KEYS, None)},
    {"resource_policy": POLICIES},
)
TEMPLATE = {
    "kind": ("task",),
    "name": ("t",),
    "domain": DOMAINS,
    "project_id": PROJECTS,
    "owner": PEOPLE,
    "body": ({},),
}
DOTFILE = {"owner": OWNERS, "path": (".a", ".b")}
CONTENT = {**DOTFILE, "mode": ("600", "644"), "content": (SEALED,), "size": (1,)}

ASKED: Mapping[str, Mapping[str, Pool]] = {
    "CreateDomain": {"name": DOMAINS},
    "ModifyDomain": {"name": DOMAINS, "rename": (None, *DOMAINS, "third"), "changes": {"active": TRUTH}},
    "PurgeDomain": {"name": DOMAINS},
    "CreateProject": {"project_id": PROJECTS, "name": NAMES, "domain": DOMAINS},
    "ModifyProject": {"project_id": PROJECTS, "rename": NAMES, "changes": {"resource_policy": POLICIES}},
    "PurgeProject": {"project_id": PROJECTS},
    "CreateUser": {
        "user_id": PEOPLE,
        "email": EMAILS,
        "spec": USER,
        "password_hash": (HASH,),
        "projects": MEMBERSHIPS,
    },
    "ModifyUser": {"user_id": PEOPLE, "changes": USER_CHANGES, "projects": (None, *MEMBERSHIPS)},
    "SetUserPassword": {"user_id": PEOPLE, "password_hash": (HASH, OTHER_HASH), "by_himself": TRUTH},
    "SetUserTotp": {"user_id": PEOPLE, "secret": (None, SEALED)},
    "PurgeUser": {"user_id": PEOPLE},
    "JoinProject": {"user_id": PEOPLE, "project_id": PROJECTS},
    "LeaveProject": {"user_id": PEOPLE, "project_id": PROJECTS},
    "SignIn": {
        "user_id": PEOPLE,
        "sign_in_id": COOKIES,
        "replaces": (None, *COOKIES),
        "expires_at": (after(60), after(3600)),
    },
    "NoteFailedSignIn": {"user_id": PEOPLE},
    "SignOut": {"user_id": PEOPLE, "sign_in_id": (None, *COOKIES)},
    "CreateKeypair": {
        "access_key": KEYS,
        "user_id": PEOPLE,
        "secret_sealed": (SEALED,),
        "spec": {"resource_policy": POLICIES},
    },
    "ModifyKeypair": {"access_key": KEYS, "changes": {"active": TRUTH, "resource_policy": POLICIES}},
    "SetSshKeypair": {"access_key": KEYS, "ssh": ({"public_key": "ssh", "private_key": SEALED},)},
    "SetBootstrapScript": {"access_key": KEYS, "script": (None, SEALED)},
    "DeleteKeypair": {"access_key": KEYS},
    "CreateKeypairPolicy": {"name": POLICIES, "spec": {"max_concurrent_sessions": (1, 2)}},
    "ModifyKeypairPolicy": {"name": POLICIES, "changes": {"max_concurrent_sessions": (1, 2)}},
    "DeleteKeypairPolicy": {"name": POLICIES},
    "CreateUserPolicy": {"name": POLICIES},
    "ModifyUserPolicy": {"name": POLICIES, "changes": COUNTED},
    "DeleteUserPolicy": {"name": POLICIES},
    "CreateProjectPolicy": {"name": POLICIES},
    "ModifyProjectPolicy": {"name": POLICIES, "changes": COUNTED},
    "DeleteProjectPolicy": {"name": POLICIES},
    "CreateResourceGroup": {"name": GROUPS},
    "ModifyResourceGroup": {"name": GROUPS, "changes": {"active": TRUTH, "public": TRUTH}},
    "DeleteResourceGroup": {"name": GROUPS},
    "GrantResourceGroup": {"name": GROUPS, "to": GRANTEES},
    "RevokeResourceGroup": {"name": GROUPS, "to": GRANTEES},
    "RevokeAllResourceGroups": {"to": GRANTEES},
    "CreatePreset": {"name": PRESETS, "resource_group": (None, *GROUPS), "spec": SLOTS},
    "ModifyPreset": {"name": PRESETS, "resource_group": (None, *GROUPS), "changes": SLOTS},
    "DeletePreset": {"name": PRESETS, "resource_group": (None, *GROUPS)},
    "CreateTemplate": {"template_id": TEMPLATES, "template": TEMPLATE},
    "ModifyTemplate": {"template_id": TEMPLATES, "name": ("t", "u")},
    "DeleteTemplate": {"template_id": TEMPLATES},
    "CreateDotfile": CONTENT,
    "ModifyDotfile": CONTENT,
    "DeleteDotfile": DOTFILE,
    "SetAnnouncement": {"enabled": TRUTH},
    "SetManagerStatus": {"status": ("running", "frozen")},
}
_OFTEN = (
    "CreateKeypair",
    "CreateUser",
    "ModifyUser",
    "ModifyUser",
    "CreateProject",
    "GrantResourceGroup",
    "CreateDotfile",
    "CreateTemplate",
    "SignIn",
)
_KINDS = (*ASKED, *(_OFTEN * 4))
"""Things have to be there before they can go wrong, and users have most rules."""


def command(seed: int, number: int) -> Any:
    """The command that a number stands for."""
    random = Random(seed)

    def taken(pool: Pool) -> Any:
        if isinstance(pool, Mapping):
            return {name: taken(each) for name, each in pool.items()}
        value = random.choice(pool)
        return taken(value) if isinstance(value, Mapping) and _is_pool(value) else value

    kind = random.choice(_KINDS)
    return COMMANDS.validate_python({"type": kind, "at": after(number), **taken(ASKED[kind])})


def _is_pool(value: Mapping[str, Any]) -> bool:
    return bool(value) and all(isinstance(each, tuple) for each in value.values())


class Life:
    """What came of the commands: the state, the events in the log, and the limits that sessions have been told."""

    def __init__(self, seeds: list[int]) -> None:
        self.state = Directory()
        self.events: list[DirectoryEvents] = []
        self.told: dict[AccessKey, Limits | None] = {}
        for first in beginning:
            self.give(first)
        for number, seed in enumerate(seeds):
            self.give(command(seed, number))

    def give(self, asked: Any) -> None:
        try:
            events = DIRECTORY.decide(asked, self.state)
        except Refused:
            return
        for event in events:
            for sent in DIRECTORY.consequences(event, self.state):
                assert isinstance(sent.message, SetSessionLimits)
                self.told[sent.message.owner] = sent.message.limits
            self.state = DIRECTORY.evolve(self.state, event)
        self.events += events


lives = choices.map(Life)


def test_every_command_there_is_is_asked() -> None:
    assert set(COMMANDS.json_schema()["discriminator"]["mapping"]) == set(ASKED)


@many
@given(lives)
def test_no_name_stands_for_two_things(life: Life) -> None:
    state = life.state
    assert dict(state.projects_by_name) == {(p.domain, p.name): p.project_id for p in state.projects.values()}
    assert dict(state.users_by_email) == {user.email.lower(): user.user_id for user in state.users.values()}
    assert dict(state.users_by_name) == {user.spec.username: user.user_id for user in state.users.values()}
    assert len(state.projects_by_name) == len(state.projects)
    assert len(state.users_by_email) == len(state.users_by_name) == len(state.users)
    sign_ins = [(cookie, user.user_id) for user in state.users.values() for cookie in user.sign_ins]
    assert dict(state.users_by_sign_in) == dict(sign_ins)
    assert len(state.users_by_sign_in) == len(sign_ins)


@many
@given(lives)
def test_nobody_is_in_a_project_that_is_missing_or_of_another_domain(life: Life) -> None:
    for user in life.state.users.values():
        assert {life.state.projects[each].domain for each in user.projects} <= {user.spec.domain}
        assert len(set(user.projects)) == len(user.projects)


@many
@given(lives)
def test_every_keypair_has_its_user_and_every_user_with_keypairs_a_main_one(life: Life) -> None:
    state = life.state
    assert {each.access_key: each.user_id for each in state.keypairs.values()} == {
        key: user.user_id for user in state.users.values() for key in user.keypairs
    }
    for user in state.users.values():
        main = user.spec.main_access_key
        assert main in user.keypairs if user.keypairs else main is None


@many
@given(lives)
def test_everything_named_is_there(life: Life) -> None:
    state = life.state
    assert {each.spec.resource_policy for each in state.keypairs.values()} <= set(state.keypair_policies)
    assert {each.spec.resource_policy for each in state.users.values()} <= set(state.user_policies)
    assert {each.spec.resource_policy for each in state.projects.values()} <= set(state.project_policies)
    assert {each.spec.domain for each in state.users.values()} <= set(state.domains)
    assert {each.domain for each in state.projects.values()} <= set(state.domains)
    there: dict[str, Any] = {"domain": state.domains, "project": state.projects, "keypair": state.keypairs}
    for kind, grantee in (each for group in state.groups.values() for each in group.grantees):
        assert grantee in there[GranteeKind(kind)]
    for scope, owner in state.dotfiles:
        assert owner in there[DotfileScope(scope)]
    assert {group for group, _ in state.presets} <= {*state.groups, None}
    for template in state.templates.values():
        assert template.owner in state.users
        assert state.projects[template.project_id].domain == template.domain


@many
@given(lives)
def test_there_is_always_somebody_who_may_do_everything(life: Life) -> None:
    assert any(user.active and user.spec.role is Role.SUPERADMIN for user in life.state.users.values())


@many
@given(lives)
def test_nobody_who_is_not_active_is_signed_in(life: Life) -> None:
    assert not any(user.sign_ins for user in life.state.users.values() if not user.active)


@many
@given(lives)
def test_sessions_know_what_each_keypair_may_do_and_that_those_that_are_gone_may_nothing(life: Life) -> None:
    for access_key, limits in life.told.items():
        assert limits == life.state.limits(access_key), access_key
    assert not [key for key in life.state.keypairs if key not in life.told and life.state.limits(key)]


@many
@given(lives)
def test_what_is_folded_again_from_the_log_is_the_same(life: Life) -> None:
    state = Directory()
    for event in life.events:
        state = DIRECTORY.evolve(state, EVENTS.validate_json(event.model_dump_json()))
    assert state == life.state
