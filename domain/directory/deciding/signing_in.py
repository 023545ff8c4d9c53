"""Sign-ins: who may, for how long, and what too many wrong passwords lead to."""

from datetime import datetime
from typing import Final

from domain.directory.deciding.references import Events, known_user
from domain.directory.deciding.users import ended_sign_ins
from domain.directory.messages.users import NoteFailedSignIn, SignedIn, SignIn, SignInCommands, SignInFailed, SignOut
from domain.directory.state import Directory, User
from domain.messages import Refused, later

FAILURES_MAX: Final = 10
LOCKED_SECONDS: Final = 1200
"""As many wrong passwords in a row lock a user out for so long; both as the reference's sample configuration has it."""

SIGN_INS_MAX: Final = 20
"""Browsers a user is signed in with; with one more, he is signed out where that ends first."""


def decide(command: SignInCommands, state: Directory) -> Events:
    user = known_user(command.user_id, state)
    match command:
        case SignIn():
            return _sign_in(command, user, state)
        case NoteFailedSignIn():
            return _note_failure(command, user)
        case SignOut():
            gone = user.sign_ins if command.sign_in_id is None else {command.sign_in_id} & set(user.sign_ins)
            return ended_sign_ins(user, gone, command.at)


def _sign_in(command: SignIn, user: User, state: Directory) -> Events:
    holder = state.users_by_sign_in.get(command.sign_in_id)
    if holder == user.user_id:
        return []
    if holder is not None:
        raise Refused("sign_in_id_taken", "it stands for another sign-in", "sign_in_id")
    if not user.active:
        raise Refused("user_inactive", "the user is not active", "user_id")
    if command.replaces is None:
        if user.locked(command.at):
            raise Refused("locked_out", "there were too many wrong passwords", "user_id")
    elif user.sign_ins.get(command.replaces, command.at) <= command.at:
        # Signed out meanwhile, or taken over by whoever came first: a cookie that ended leads to no other.
        raise Refused("unknown_sign_in", "what it is to replace has ended", "replaces")
    if command.otp_step is not None and user.otp_step is not None and command.otp_step <= user.otp_step:
        raise Refused("otp_used", "this one-time password has been used already", "otp_step")
    if command.expires_at <= command.at:
        raise Refused("already_expired", "a sign-in ends after it began", "expires_at")
    return [
        *ended_sign_ins(user, _surplus(command, user, command.at), command.at),
        SignedIn(
            at=command.at,
            user_id=command.user_id,
            sign_in_id=command.sign_in_id,
            replaces=command.replaces,
            otp_step=command.otp_step,
            client=command.client,
            expires_at=command.expires_at,
        ),
    ]


def _surplus(command: SignIn, user: User, at: datetime) -> list[str]:
    """What has expired, and what is too many."""
    others = sorted((ends, each) for each, ends in user.sign_ins.items() if each != command.replaces)
    expired = [each for ends, each in others if ends <= at]
    living = [each for ends, each in others if ends > at]
    return expired + living[: max(0, len(living) + 1 - SIGN_INS_MAX)]


def _note_failure(command: NoteFailedSignIn, user: User) -> Events:
    """While he is locked out nothing is tried, so nothing fails; when that is over he starts anew."""
    if user.locked(command.at):
        return []
    failures = 1 if user.locked_until is not None else user.failures + 1
    locked_until = later(command.at, LOCKED_SECONDS) if failures >= FAILURES_MAX else None
    return [
        SignInFailed(
            at=command.at,
            user_id=command.user_id,
            client=command.client,
            failures=failures,
            locked_until=locked_until,
        )
    ]
