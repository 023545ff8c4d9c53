"""Users, their keypairs, and how they sign in."""

from typing import Any

import pytest

from domain.directory.deciding.signing_in import FAILURES_MAX, LOCKED_SECONDS, SIGN_INS_MAX
from domain.directory.messages.groups import GranteeKind, ResourceGroupRevoked
from domain.directory.messages.keypairs import (
    BootstrapScriptSet,
    DeleteKeypair,
    KeypairCreated,
    KeypairDeleted,
    KeypairModified,
    KeypairSpec,
    NewKeypair,
    SetBootstrapScript,
)
from domain.directory.messages.personal import DotfileDeleted, TemplateDeleted
from domain.directory.messages.users import (
    JoinProject,
    LeaveProject,
    ProjectJoined,
    ProjectLeft,
    PurgeUser,
    Role,
    SetUserPassword,
    SetUserTotp,
    SignedIn,
    SignedOut,
    SignInFailed,
    SignOut,
    UserCreated,
    UserModified,
    UserPasswordSet,
    UserPurged,
    UserSpec,
)
from domain.messages import ProjectId
from domain.session.messages import SetSessionLimits
from tests.domain.people import (
    ADA,
    COOKIE,
    ELSEWHERE,
    EVE,
    HASH,
    KEY,
    LIMITS,
    NEXT_COOKIE,
    NOW,
    OTHER_HASH,
    ROOT,
    SEALED,
    SPARE,
    TEAM,
    after,
    dotfile,
    everybody,
    grant,
    keypair,
    modify_keypair,
    modify_user,
    nobody,
    sign_in,
    template,
    user,
    wrong_password,
)
from tests.domain.spec import Given

purge_ada = PurgeUser(at=NOW, user_id=ADA)
delete_key = DeleteKeypair(at=NOW, access_key=KEY)

# -- who there is ------------------------------------------------------------------------------------------------------


def test_a_user_is_in_the_projects_he_is_created_with() -> None:
    everybody.when(user(EVE, "eve", projects=(TEAM, TEAM))).then(
        UserCreated(
            at=NOW,
            user_id=EVE,
            email="eve@example.com",
            spec=UserSpec(username="eve", domain="default"),
            password_hash=HASH,
        ),
        ProjectJoined(at=NOW, user_id=EVE, project_id=TEAM),
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"user_id": ADA}, "user_id_taken"),
        ({"user_id": ""}, "bad_id"),
        ({"email": "ADA@example.COM"}, "email_taken"),
        ({"spec": UserSpec(username="ada", domain="default")}, "username_taken"),
        ({"spec": UserSpec(username="eve", domain="none")}, "unknown_domain"),
        ({"spec": UserSpec(username="eve", domain="default", resource_policy="gold")}, "unknown_policy"),
        ({"spec": UserSpec(username="eve", domain="default", main_access_key=KEY)}, "unknown_keypair"),
        ({"spec": UserSpec(username="eve", domain="default", allowed_client_ip=("10.0.0.300",))}, "bad_network"),
        ({"projects": (ProjectId("p-none"),)}, "unknown_project"),
        ({"projects": (ELSEWHERE,)}, "other_domain"),
    ],
)
def test_a_user_needs_names_of_his_own_and_what_he_names(change: dict[str, Any], code: str) -> None:
    everybody.when(user(EVE, "eve").model_copy(update=change)).then_refused(code)


def test_a_user_comes_with_his_first_keypair_as_his_main_one_all_or_nothing() -> None:
    spec = KeypairSpec(resource_policy="basic")
    eve = user(EVE, "eve", keypair=NewKeypair(access_key=SPARE, secret_sealed=SEALED, spec=spec))
    everybody.when(eve).then(
        UserCreated(
            at=NOW,
            user_id=EVE,
            email="eve@example.com",
            spec=UserSpec(username="eve", domain="default", main_access_key=SPARE),
            password_hash=HASH,
        ),
        KeypairCreated(at=NOW, access_key=SPARE, user_id=EVE, secret_sealed=SEALED, spec=spec),
    )
    told = SetSessionLimits(at=NOW, owner=SPARE, limits=LIMITS)
    assert [sent.message for sent in everybody.when(eve).told("session")] == [told]
    everybody.and_when(eve).when(eve).then_nothing()
    everybody.and_when(eve, keypair("AKIC", EVE), modify_user(EVE, main_access_key="AKIC")).when(eve).then_nothing()


@pytest.mark.parametrize(
    ("change", "code", "field"),
    [
        ({"access_key": KEY}, "access_key_taken", "keypair.access_key"),
        ({"access_key": "AK IB"}, "bad_id", "keypair.access_key"),
        ({"spec": KeypairSpec(resource_policy="gold")}, "unknown_policy", "keypair.resource_policy"),
    ],
)
def test_a_user_whose_first_keypair_cannot_be_is_not_created_either(
    change: dict[str, Any], code: str, field: str
) -> None:
    new = NewKeypair(access_key=SPARE, secret_sealed=SEALED, spec=KeypairSpec(resource_policy="basic"))
    outcome = everybody.when(user(EVE, "eve", keypair=new.model_copy(update=change)))
    outcome.then_refused(code)
    assert outcome.refused is not None
    assert outcome.refused.field == field
    another_main = user(EVE, "eve", keypair=new)
    spec = another_main.spec.model_copy(update={"main_access_key": KEY})
    everybody.when(another_main.model_copy(update={"spec": spec})).then_refused("unknown_keypair")


def test_a_user_created_with_another_keypair_than_he_has_is_another_user() -> None:
    new = NewKeypair(access_key=KEY, secret_sealed=SEALED, spec=KeypairSpec(resource_policy="basic"))
    everybody.when(user(ADA, "ada", projects=(TEAM,), keypair=new)).then_nothing()
    other = new.model_copy(update={"access_key": SPARE})
    everybody.when(user(ADA, "ada", projects=(TEAM,), keypair=other)).then_refused("user_id_taken")


def test_creating_a_user_again_is_quiet_even_when_he_has_a_keypair_by_now() -> None:
    everybody.when(user(ADA, "ada", projects=(TEAM,))).then_nothing()
    everybody.when(user(ADA, "ada", role=Role.ADMIN)).then_refused("user_id_taken")


def test_a_user_is_changed_where_he_is_named() -> None:
    spec = UserSpec(username="ada", full_name="Ada L.", domain="default", main_access_key=KEY)
    everybody.when(modify_user(full_name="Ada L.")).then(UserModified(at=NOW, user_id=ADA, spec=spec))
    everybody.when(modify_user(username="root")).then_refused("username_taken")
    everybody.when(modify_user(allowed_client_ip=["10.0.0.0/8", "::1"])).then_types(UserModified)
    everybody.when(modify_user(EVE)).then_refused("unknown_user")


def test_a_name_somebody_gave_up_is_free() -> None:
    renamed = everybody.and_when(modify_user(username="lovelace"))
    renamed.when(user(EVE, "eve", domain="default")).then_types(UserCreated)
    assert renamed.state.user_by_name("ada") is None
    assert renamed.and_when(modify_user(ROOT, username="ada")).state.user_by_name("ada").user_id == ROOT


def test_with_another_domain_he_leaves_the_projects_of_the_old_one() -> None:
    everybody.when(modify_user(domain="other")).then_types(ProjectLeft, UserModified)
    everybody.when(modify_user(domain="other", projects=(ELSEWHERE,))).then_types(
        ProjectLeft, UserModified, ProjectJoined
    )
    everybody.when(modify_user(domain="other", projects=(TEAM,))).then_refused("other_domain")
    everybody.when(modify_user(domain="none")).then_refused("unknown_domain")


def test_he_is_in_those_projects_that_are_given() -> None:
    everybody.when(modify_user(projects=())).then(ProjectLeft(at=NOW, user_id=ADA, project_id=TEAM))
    everybody.when(modify_user(projects=(TEAM,))).then_nothing()


def test_a_project_must_be_there_and_of_the_users_domain() -> None:
    join = JoinProject(at=NOW, user_id=ROOT, project_id=TEAM)
    everybody.when(join).then(ProjectJoined(at=NOW, user_id=ROOT, project_id=TEAM))
    everybody.and_when(join).when(join).then_nothing()
    everybody.when(join.model_copy(update={"project_id": "p-none"})).then_refused("unknown_project")
    everybody.when(join.model_copy(update={"project_id": ELSEWHERE})).then_refused("other_domain")
    nobody.when(join).then_refused("unknown_user")


def test_who_is_not_in_a_project_has_left_it() -> None:
    leave = LeaveProject(at=NOW, user_id=ADA, project_id=TEAM)
    everybody.when(leave).then(ProjectLeft(at=NOW, user_id=ADA, project_id=TEAM))
    everybody.and_when(leave).when(leave).then_nothing()
    everybody.when(leave.model_copy(update={"project_id": "p-none"})).then_refused("unknown_project")


@pytest.mark.parametrize(
    "command",
    [
        modify_user(ROOT, status="inactive"),
        modify_user(ROOT, status="deleted"),
        modify_user(ROOT, role="admin"),
        PurgeUser(at=NOW, user_id=ROOT),
    ],
)
def test_somebody_must_be_left_who_may_do_everything(command: Any) -> None:
    everybody.when(command).then_refused("last_superadmin")
    inactive = everybody.and_when(modify_user(role="superadmin"), modify_user(status="inactive"))
    inactive.when(command).then_refused("last_superadmin")
    assert everybody.and_when(modify_user(role="superadmin")).when(command).events


def test_what_a_purged_user_had_goes_with_him_and_his_names_are_free() -> None:
    loaded = everybody.and_when(
        keypair(SPARE), grant(GranteeKind.KEYPAIR, SPARE), dotfile(), template(), sign_in(lasts=1e6)
    )
    loaded.when(purge_ada).then_types(
        SignedOut,
        DotfileDeleted,
        KeypairDeleted,
        ResourceGroupRevoked,
        KeypairDeleted,
        TemplateDeleted,
        ProjectLeft,
        UserPurged,
    )
    after_him = loaded.and_when(purge_ada)
    assert after_him.state.identity(KEY) is None
    assert not after_him.state.users_by_sign_in
    after_him.when(purge_ada).then_refused("unknown_user")
    after_him.when(user(EVE, "ada")).then_types(UserCreated)


# -- keypairs ----------------------------------------------------------------------------------------------------------


def test_the_first_keypair_becomes_the_main_one() -> None:
    assert everybody.state.users[ADA].spec.main_access_key == KEY
    everybody.when(keypair(SPARE)).then(
        KeypairCreated(
            at=NOW,
            access_key=SPARE,
            user_id=ADA,
            secret_sealed=SEALED,
            spec=KeypairSpec(resource_policy="basic"),
        )
    )


def test_the_main_keypair_is_one_of_his() -> None:
    both = everybody.and_when(keypair(SPARE), keypair("AKROOT", ROOT))
    both.when(modify_user(main_access_key=SPARE)).then_types(UserModified)
    both.when(modify_user(main_access_key="AKROOT")).then_refused("unknown_keypair")
    both.when(modify_user(main_access_key=None)).then_refused("main_keypair")


def test_the_main_keypair_stays_while_he_has_others() -> None:
    both = everybody.and_when(keypair(SPARE))
    both.when(delete_key).then_refused("main_keypair")
    both.and_when(modify_user(main_access_key=SPARE)).when(delete_key).then_types(KeypairDeleted)
    alone = both.and_when(DeleteKeypair(at=NOW, access_key=SPARE))
    alone.when(delete_key).then_types(KeypairDeleted, UserModified)
    without = alone.and_when(delete_key)
    assert without.state.users[ADA].spec.main_access_key is None
    without.when(delete_key).then_refused("unknown_keypair")
    without.when(keypair(SPARE)).then_types(KeypairCreated, UserModified)


def test_a_keypair_needs_a_user_and_a_name_of_its_own() -> None:
    everybody.when(keypair(SPARE, EVE)).then_refused("unknown_user")
    everybody.when(keypair(KEY, ROOT)).then_refused("access_key_taken")
    for bad in ("", "a:b", "a,b", "a b", "k" * 65):
        everybody.when(keypair(bad)).then_refused("bad_id")


def test_a_keypair_is_changed_where_it_is_named() -> None:
    spec = KeypairSpec(resource_policy="basic", rate_limit=7)
    everybody.when(modify_keypair(rate_limit=7)).then(KeypairModified(at=NOW, access_key=KEY, spec=spec))
    everybody.when(modify_keypair(resource_policy="gold")).then_refused("unknown_policy")
    everybody.when(modify_keypair(SPARE)).then_refused("unknown_keypair")


def test_a_bootstrap_script_is_set_and_taken_away() -> None:
    script = SetBootstrapScript(at=NOW, access_key=KEY, script=SEALED)
    everybody.when(script).then(BootstrapScriptSet(at=NOW, access_key=KEY, script=SEALED))
    none = script.model_copy(update={"script": None})
    everybody.when(none).then_nothing()
    assert everybody.and_when(script, none).state == everybody.state


# -- signing in --------------------------------------------------------------------------------------------------------


def failed(times: int, given: Given = everybody, at: float = 0) -> Given:
    return given.and_when(*[wrong_password(at)] * times)


def test_who_signs_in_is_known_by_his_cookie_until_it_expires() -> None:
    event = everybody.when(sign_in()).only(SignedIn)
    assert (event.sign_in_id, event.client, event.expires_at) == (COOKIE, "::1", after(3600))
    signed_in = everybody.and_when(sign_in())
    signed_in.when(sign_in()).then_nothing()
    assert signed_in.state.user_by_sign_in(COOKIE, after(3599)).user_id == ADA
    assert signed_in.state.user_by_sign_in(COOKIE, after(3600)) is None
    assert signed_in.state.user_by_sign_in(NEXT_COOKIE, NOW) is None


def test_only_an_active_user_signs_in() -> None:
    for status in ("inactive", "deleted", "before-verification"):
        everybody.and_when(modify_user(status=status)).when(sign_in()).then_refused("user_inactive")
    nobody.when(sign_in()).then_refused("unknown_user")
    everybody.when(sign_in(lasts=0)).then_refused("already_expired")


def test_nobody_signs_in_with_the_cookie_of_another() -> None:
    other = sign_in().model_copy(update={"user_id": ROOT})
    everybody.and_when(other).when(sign_in()).then_refused("sign_in_id_taken")


def test_too_many_wrong_passwords_lock_him_out_for_a_while() -> None:
    last = failed(FAILURES_MAX - 1).when(wrong_password())
    last.then(
        SignInFailed(at=NOW, user_id=ADA, client="::1", failures=FAILURES_MAX, locked_until=after(LOCKED_SECONDS))
    )
    assert failed(FAILURES_MAX - 1).when(sign_in()).events
    locked = failed(FAILURES_MAX)
    locked.when(sign_in(at=LOCKED_SECONDS - 1)).then_refused("locked_out")
    locked.when(wrong_password(LOCKED_SECONDS - 1)).then_nothing()
    locked.when(sign_in(at=LOCKED_SECONDS)).then_types(SignedIn)


def test_when_the_lock_is_over_he_starts_anew() -> None:
    again = failed(FAILURES_MAX).when(wrong_password(LOCKED_SECONDS))
    assert again.only(SignInFailed).failures == 1
    assert again.only(SignInFailed).locked_until is None


def test_a_right_password_and_a_new_one_forget_the_wrong_ones() -> None:
    assert failed(3).and_when(sign_in()).when(wrong_password()).only(SignInFailed).failures == 1
    reset = SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH)
    assert failed(FAILURES_MAX).and_when(reset).when(sign_in()).events


def test_another_cookie_follows_upon_one_that_still_counts() -> None:
    rotate = sign_in(NEXT_COOKIE, at=60, replaces=COOKIE)
    signed_in = everybody.and_when(sign_in())
    rotated = signed_in.and_when(rotate)
    assert sorted(rotated.state.users_by_sign_in) == [NEXT_COOKIE]
    assert failed(FAILURES_MAX, signed_in).when(rotate).events, "strangers who guess do not throw him out"
    assert failed(3, signed_in).and_when(rotate).state.users[ADA].failures == 3
    everybody.when(rotate).then_refused("unknown_sign_in")
    rotated.when(sign_in("c" * 64, at=61, replaces=COOKIE)).then_refused("unknown_sign_in")
    signed_in.when(sign_in(NEXT_COOKIE, at=3600, replaces=COOKIE)).then_refused("unknown_sign_in")


def test_a_one_time_password_serves_once() -> None:
    first, same, later = (
        sign_in(name * 64).model_copy(update={"otp_step": n}) for name, n in (("a", 7), ("b", 7), ("c", 8))
    )
    used = everybody.and_when(first)
    used.when(same).then_refused("otp_used")
    assert used.when(later).events
    used.and_when(sign_in(NEXT_COOKIE)).when(same.model_copy(update={"sign_in_id": "d" * 64})).then_refused("otp_used")
    another_secret = SetUserTotp(at=NOW, user_id=ADA, secret=SEALED)
    assert used.and_when(another_secret).when(same).events


def test_what_has_expired_is_forgotten_at_the_next_sign_in() -> None:
    everybody.and_when(sign_in()).when(sign_in(NEXT_COOKIE, at=3600)).then_types(SignedOut, SignedIn)


def test_he_is_signed_in_with_so_many_browsers_at_most() -> None:
    cookies = [f"{number:064x}" for number in range(SIGN_INS_MAX)]
    full = everybody.and_when(*(sign_in(cookie, lasts=3600 + n) for n, cookie in enumerate(cookies)))
    assert len(full.state.users[ADA].sign_ins) == SIGN_INS_MAX
    assert full.when(sign_in()).only(SignedOut).sign_in_ids == (cookies[0],)
    full.when(sign_in(replaces=cookies[5])).then_types(SignedIn)


def test_he_signs_out_here_or_everywhere() -> None:
    twice = everybody.and_when(sign_in(), sign_in(NEXT_COOKIE))
    here = SignOut(at=NOW, user_id=ADA, sign_in_id=COOKIE)
    twice.when(here).then(SignedOut(at=NOW, user_id=ADA, sign_in_ids=(COOKIE,)))
    twice.and_when(here).when(here).then_nothing()
    everywhere = SignOut(at=NOW, user_id=ADA)
    twice.when(everywhere).then(SignedOut(at=NOW, user_id=ADA, sign_in_ids=(COOKIE, NEXT_COOKIE)))
    everybody.when(everywhere).then_nothing()


@pytest.mark.parametrize(
    "command", [modify_user(status="inactive"), SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH)]
)
def test_another_password_and_not_being_active_end_his_sign_ins(command: Any) -> None:
    signed_in = everybody.and_when(sign_in())
    assert signed_in.when(command).only(SignedOut).sign_in_ids == (COOKIE,)
    assert not signed_in.and_when(command).state.users_by_sign_in


def test_whoever_sets_his_own_password_need_not_change_it_again() -> None:
    told = everybody.and_when(modify_user(need_password_change=True))
    by_admin = SetUserPassword(at=NOW, user_id=ADA, password_hash=OTHER_HASH)
    by_him = by_admin.model_copy(update={"by_himself": True})
    told.when(by_admin).then(UserPasswordSet(at=NOW, user_id=ADA, password_hash=OTHER_HASH, need_change=True))
    told.when(by_him).then(UserPasswordSet(at=NOW, user_id=ADA, password_hash=OTHER_HASH, need_change=False))
    assert not told.and_when(by_him).state.users[ADA].spec.need_password_change
    told.and_when(by_him).when(by_admin).then_nothing()
    nobody.when(by_admin).then_refused("unknown_user")


def test_one_time_passwords_are_switched_on_and_off() -> None:
    on, off = (SetUserTotp(at=NOW, user_id=ADA, secret=secret) for secret in (SEALED, None))
    assert everybody.and_when(on).state.users[ADA].totp_secret == SEALED
    everybody.and_when(on).when(on).then_nothing()
    everybody.when(off).then_nothing()
    assert everybody.and_when(on, off).state.users[ADA].totp_secret is None
