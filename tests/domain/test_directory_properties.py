"""What holds of the directory whatever is asked of it, in whatever order: one property a promise."""

from typing import Any

from hypothesis import given

from domain.directory.consequences import DIRECTORY
from domain.directory.folder_limits import folder_limits
from domain.directory.messages import COMMANDS, EVENTS
from domain.directory.messages.groups import GranteeKind
from domain.directory.messages.personal import DotfileScope
from domain.directory.messages.users import Role
from domain.directory.state import Directory
from tests.domain.lives import ASKED, Life, choices, many

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
    for access_key, limits in life.limits.items():
        assert limits == life.state.limits(access_key), access_key
    assert not [key for key in life.state.keypairs if key not in life.limits and life.state.limits(key)]


@many
@given(lives)
def test_owners_of_folders_know_what_they_may_have_and_that_those_who_are_gone_may_have_nothing(life: Life) -> None:
    allowed = folder_limits(life.state, life.state.users, life.state.projects)
    assert {scope: limits for scope, limits in life.folder_limits.items() if limits is not None} == allowed


@many
@given(lives)
def test_what_is_folded_again_from_the_log_is_the_same(life: Life) -> None:
    state = Directory()
    for event in life.events:
        state = DIRECTORY.evolve(state, EVENTS.validate_json(event.model_dump_json()))
    assert state == life.state
