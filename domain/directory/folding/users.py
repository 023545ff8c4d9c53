"""Users, their projects, and where they are signed in."""

from collections.abc import Iterable
from dataclasses import replace

from domain.directory.messages.users import (
    ProjectJoined,
    ProjectLeft,
    SignedIn,
    SignedOut,
    SignInFailed,
    UserCreated,
    UserEvents,
    UserModified,
    UserPasswordSet,
    UserPurged,
    UserTotpSet,
)
from domain.directory.state import Directory, User


def evolve(state: Directory, event: UserEvents) -> Directory:
    if isinstance(event, UserCreated):
        return _created(state, event)
    user = state.users[event.user_id]
    match event:
        case UserModified():
            return _modified(state, user, event)
        case UserPasswordSet():
            spec = user.spec.model_copy(update={"need_password_change": event.need_change})
            user = replace(user, spec=spec, password_hash=event.password_hash, modified_at=event.at)
            return with_user(state, replace(user, failures=0, locked_until=None))
        case UserTotpSet():
            return with_user(state, replace(user, totp_secret=event.secret, otp_step=None, modified_at=event.at))
        case UserPurged():
            return _purged(state, user)
        case ProjectJoined():
            return with_user(state, replace(user, projects=(*user.projects, event.project_id)))
        case ProjectLeft():
            projects = tuple(each for each in user.projects if each != event.project_id)
            return with_user(state, replace(user, projects=projects))
        case SignedIn():
            return _signed_in(state, user, event)
        case SignInFailed():
            return with_user(state, replace(user, failures=event.failures, locked_until=event.locked_until))
        case SignedOut():
            return _signed_out(state, user, event.sign_in_ids)


def with_user(state: Directory, user: User) -> Directory:
    return replace(state, users=state.users.set(user.user_id, user))


def _created(state: Directory, event: UserCreated) -> Directory:
    user = User(event.user_id, event.email, event.spec, event.password_hash, created_at=event.at, modified_at=event.at)
    return replace(
        with_user(state, user),
        users_by_email=state.users_by_email.set(event.email.lower(), event.user_id),
        users_by_name=state.users_by_name.set(event.spec.username, event.user_id),
    )


def _modified(state: Directory, user: User, event: UserModified) -> Directory:
    names = state.users_by_name.delete(user.spec.username).set(event.spec.username, user.user_id)
    user = replace(user, spec=event.spec, modified_at=event.at)
    return replace(with_user(state, user), users_by_name=names)


def _purged(state: Directory, user: User) -> Directory:
    return replace(
        _signed_out(state, user, user.sign_ins),
        users=state.users.delete(user.user_id),
        users_by_email=state.users_by_email.delete(user.email.lower()),
        users_by_name=state.users_by_name.delete(user.spec.username),
    )


def _signed_in(state: Directory, user: User, event: SignedIn) -> Directory:
    if event.replaces is None:  # by the password: whatever was guessed before is forgotten
        user = replace(user, failures=0, locked_until=None)
    else:
        state = _signed_out(state, user, [event.replaces])
        user = state.users[user.user_id]
    sign_ins = user.sign_ins.set(event.sign_in_id, event.expires_at)
    otp_step = user.otp_step if event.otp_step is None else event.otp_step
    return replace(
        with_user(state, replace(user, sign_ins=sign_ins, otp_step=otp_step)),
        users_by_sign_in=state.users_by_sign_in.set(event.sign_in_id, user.user_id),
    )


def _signed_out(state: Directory, user: User, sign_in_ids: Iterable[str]) -> Directory:
    sign_ins, known = user.sign_ins, state.users_by_sign_in
    for sign_in_id in sign_in_ids:
        sign_ins, known = sign_ins.delete(sign_in_id), known.delete(sign_in_id)
    return replace(with_user(state, replace(user, sign_ins=sign_ins)), users_by_sign_in=known)
