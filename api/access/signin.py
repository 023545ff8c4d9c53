"""Signing in with a password: what a browser gets for it, what that is worth, and how it ends.

A browser holds a cookie of 256 random bits; the log holds its SHA-256 (`SignedIn`), and every api process knows from
its directory whose it is and until when. Who is locked out is the directory's to decide, so it holds across processes.

An unknown user, a wrong password and a user who is locked out look the same, in text and in time: each has its password
hashed, and each failure is noted in the log, that of an unknown name about nobody.
"""

import hashlib
import re
import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import uuid4

from starlette.requests import cookie_parser
from starlette.responses import Response

from api.access import otp, passwords
from api.access.auth import Caller
from api.access.ratelimit import Kind, Limiter
from api.access.visitors import counted_as, is_allowed
from api.http.problems import BASE, Problem, invalid
from api.tail import Tail
from api.writing import Result, Writing, accepted, now
from domain.directory.messages.common import KEY
from domain.directory.messages.users import NoteFailedSignIn, SetUserPassword, SignIn, SignOut, UserCommand
from domain.directory.state import Directory, Identity, User
from domain.messages import AccessKey, UserId
from infra.log import Position
from infra.settings import Settings
from infra.topics import events, partition_of

COOKIE: Final = "AIOHTTP_SESSION"
"""The name by which the public client and the reference's pages know it."""

_VALUE: Final = re.compile(r"(?P<token>[A-Za-z0-9_-]{43})\.(?P<offset>\d{1,18})")
_TOKEN_BYTES: Final = 32
_CATCH_UP_SECONDS: Final = 2.0
_NOBODY: Final = UserId("nobody")


@dataclass(frozen=True, slots=True)
class Client:
    """Who asks: his address, whether he came by https, and what cookies he brought."""

    address: str
    is_secure: bool
    cookies: str = ""


@dataclass(frozen=True, slots=True)
class Somebody:
    """In whose name the log is written to while he is not let in yet."""

    actor: str


@dataclass(frozen=True, slots=True)
class Held:
    """What a cookie says: the token's hash, and the place in the directory's events from which on that is known."""

    sign_in_id: str
    offset: int


@dataclass(frozen=True, slots=True)
class NotSignedIn:
    """Why not. `details` is what the public client shows, and sometimes compares."""

    kind: str
    title: str
    details: str

    @property
    def data(self) -> dict[str, Any]:
        return {"type": BASE + self.kind, "title": self.title, "details": self.details}


@dataclass(frozen=True, slots=True)
class SignedIn:
    """`cookie`: for the browser, and for nobody else's eyes."""

    identity: Identity
    cookie: str
    expires_at: datetime


_WRONG: Final = NotSignedIn(
    "authorization-failed",
    "Authorization failed",
    "The user name or the password is wrong, or there were too many wrong ones: then wait for 20 minutes",
)
_INACTIVE: Final = NotSignedIn("user-inactive", "Authorization failed", "This user is not active")
_NO_KEYPAIR: Final = NotSignedIn("keypair-inactive", "Authorization failed", "This user has no active keypair")
_ELSEWHERE: Final = NotSignedIn(
    "client-address-not-allowed", "Authorization failed", "This user may not sign in from this address"
)
_OTP_MISSING: Final = NotSignedIn("otp-missing", "Authorization failed", "OTP not provided")  # the client waits for it
_OTP_WRONG: Final = NotSignedIn("otp-wrong", "Authorization failed", "Invalid OTP")
_MUST_CHANGE: Final = NotSignedIn(
    "password-expired", "Password change needed", "The password must be changed before signing in"
)

_REFUSALS: Final[Mapping[str | None, NotSignedIn]] = {"user_inactive": _INACTIVE, "otp_used": _OTP_WRONG}
"""Code of the directory → what is said; to whom is locked out, as to any stranger."""


class SignIns:
    """For one process. `reveal`: reads what is sealed in the log, given what it is about."""

    def __init__(
        self,
        settings: Settings,
        tail: Tail,
        writing: Writing,
        limiter: Limiter,
        reveal: Callable[[str, str], Awaitable[str]],
    ) -> None:
        self._settings = settings
        self._tail = tail
        self._writing = writing
        self._limiter = limiter
        self._reveal = reveal
        self._place = partition_of(settings, events("directory"), KEY)

    # -- who holds this cookie ---------------------------------------------------------------------------------------

    async def caller(self, cookies: str) -> Caller:
        """Who holds it, by his main keypair. Raises `Problem` (401)."""
        held = held_in(cookies)
        if held is None:
            raise _unauthorized("authorization-missing", "sign in first: there is no session cookie")
        user = (await self._directory(held)).user_by_sign_in(held.sign_in_id, now())
        if user is None:
            raise _unauthorized("session-expired", "sign in again: the session has ended")
        identity = main_identity(self._tail.directory, user)
        if identity is None:
            raise _unauthorized("keypair-inactive", "the user has no active keypair")
        access_key = identity.keypair.access_key
        return Caller(access_key, access_key, identity, held.sign_in_id)

    def is_still_in(self, caller: Caller) -> bool:
        """Whether he would be let in again now, with the same rights: for what goes on for long after its request."""
        directory = self._tail.directory
        identity = directory.identity(caller.access_key)
        return (
            identity is not None
            and identity.active
            and _rights(identity) == _rights(caller.identity)
            and (caller.sign_in_id is None or directory.user_by_sign_in(caller.sign_in_id, now()) is not None)
        )

    async def _directory(self, held: Held) -> Directory:
        """With what the cookie stands for, where another process has just given it out."""
        if held.sign_in_id not in self._tail.directory.users_by_sign_in:
            await self._tail.directory_at(Position({self._place: held.offset}), _CATCH_UP_SECONDS)
        return self._tail.directory

    # -- in and out --------------------------------------------------------------------------------------------------

    async def sign_in(self, name: str, password: str, code: str | None, client: Client) -> SignedIn | NotSignedIn:
        """By user name or email. What the browser held before ends. Raises `Problem` (429, 503)."""
        user = await self._proven(name, password, client)
        if isinstance(user, NotSignedIn):
            return user
        identity = main_identity(self._tail.directory, user)
        if not user.active:
            return _INACTIVE
        if identity is None:
            return _NO_KEYPAIR
        if not is_allowed(client.address, user.spec.allowed_client_ip):
            return _ELSEWHERE
        step = None
        if user.totp_secret is not None:
            if code is None:
                return _OTP_MISSING
            step = otp.step_of(await self._reveal(user.totp_secret, otp.about(user.user_id)), code, now())
            if step is None:
                await self._note_failure(user.user_id, client)
                return _OTP_WRONG
        if user.spec.need_password_change:
            return _MUST_CHANGE
        result, cookie, expires_at = await self._give_cookie(user, client, otp_step=step)
        if result.verdict == "refused":
            return _REFUSALS.get(result.code, _WRONG)
        await self.sign_out(client)
        return SignedIn(identity, cookie, expires_at)

    async def identify(self, name: str, password: str, code: str | None, client: Client) -> Identity | NotSignedIn:
        """Who he is, under the same rules, and noted in the log too; but nothing stays open, and nothing ends."""
        signed_in = await self.sign_in(name, password, code, replace(client, cookies=""))
        if isinstance(signed_in, NotSignedIn):
            return signed_in
        await self.sign_out(replace(client, cookies=f"{COOKIE}={signed_in.cookie}"))
        return signed_in.identity

    async def extend(self, client: Client) -> SignedIn:
        """A new cookie for the one that is held, which ends. Raises `Problem` (401, 503)."""
        caller = await self.caller(client.cookies)
        held = held_in(client.cookies)
        assert held is not None
        result, cookie, expires_at = await self._give_cookie(caller.identity.user, client, replaces=held.sign_in_id)
        if result.code == "unknown_sign_in":
            raise _unauthorized("session-expired", "sign in again: the session has ended")
        accepted(result)
        return SignedIn(caller.identity, cookie, expires_at)

    async def sign_out(self, client: Client) -> None:
        """End what the browser holds, in every process. Raises `Problem` (503)."""
        held = held_in(client.cookies)
        if held is None:
            return
        user_id = (await self._directory(held)).users_by_sign_in.get(held.sign_in_id)
        if user_id is not None:
            command = SignOut(at=now(), user_id=user_id, sign_in_id=held.sign_in_id, client=client.address)
            await self._decided(command, user_id)

    async def change_password(self, name: str, password: str, new: str, client: Client) -> None:
        """For who must change it before he can sign in. Raises `Problem` (400, 401, 403, 429, 503)."""
        user = await self._proven(name, password, client)
        if isinstance(user, NotSignedIn):
            raise _unauthorized(user.kind, user.details)
        if not user.active:
            raise _unauthorized(_INACTIVE.kind, _INACTIVE.details)
        if not user.spec.need_password_change:
            raise Problem(403, "generic-forbidden", "Forbidden operation", "sign in to change the password")
        passwords.check_password(new, (user.email, user.spec.username), "new_password")
        if new == password:
            raise invalid("new_password", "password_unchanged", "the new password is the old one")
        new_hash = await passwords.hashed(new)
        command = SetUserPassword(at=now(), user_id=user.user_id, password_hash=new_hash, by_himself=True)
        accepted(await self._decided(command, user.user_id))

    async def prove(self, user: User, password: str, client: Client, field: str) -> None:
        """That somebody who is let in knows his password. Raises `Problem` (400, 429, 503)."""
        if isinstance(await self._proven(user.email, password, client), NotSignedIn):
            raise invalid(field, "password_wrong", "this is not the password, or there were too many wrong ones")

    async def _proven(self, name: str, password: str, client: Client) -> User | NotSignedIn:
        """The user whose password this is. A failure is noted."""
        self._limiter.hit(Kind.SIGN_IN, counted_as(client.address), self._settings.sign_ins_max).check()
        directory = self._tail.directory
        user = directory.user_by_email(name) or directory.user_by_name(name)
        fits = await passwords.fits(None if user is None else user.password_hash, password)
        if user is None or not fits or user.locked(now()):
            await self._note_failure(_NOBODY if user is None else user.user_id, client)
            return _WRONG
        return user

    async def _note_failure(self, user_id: UserId, client: Client) -> None:
        await self._decided(NoteFailedSignIn(at=now(), user_id=user_id, client=client.address), user_id)

    async def _give_cookie(
        self, user: User, client: Client, replaces: str | None = None, otp_step: int | None = None
    ) -> tuple[Result, str, datetime]:
        """The outcome of the sign-in, the cookie's value, and when it ends."""
        token = secrets.token_urlsafe(_TOKEN_BYTES)
        at = now()
        command = SignIn(
            at=at,
            user_id=user.user_id,
            sign_in_id=_id_of(token),
            replaces=replaces,
            otp_step=otp_step,
            client=client.address,
            expires_at=at + timedelta(seconds=self._settings.sign_in_seconds),
        )
        result = await self._decided(command, user.user_id)
        offset = Position.parse(result.position).offsets[self._place]
        return result, f"{token}.{offset}", command.expires_at

    async def _decided(self, command: UserCommand, user_id: UserId) -> Result:
        """What the directory made of it. Raises `Problem` (503) if that is not known in time."""
        actor = Somebody(f"user:{user_id}")
        written = await self._writing.send("directory", command, str(uuid4()), actor, None)
        result = await self._writing.result(written)
        if result is None:
            raise Problem(
                503,
                "sign-in-undecided",
                "Not decided in time",
                "nobody has decided about this yet: try again",
                retryable=True,
                retry_after=1,
            )
        return result


def main_identity(directory: Directory, user: User) -> Identity | None:
    """The keypair that stands for him where none is named: his main one, if it is active, else another that is."""
    main = user.spec.main_access_key
    for access_key in (*([] if main is None else [main]), *user.keypairs):
        identity = directory.identity(AccessKey(access_key))
        if identity is not None and identity.keypair.spec.active:
            return identity
    return None


def _rights(identity: Identity) -> tuple[object, ...]:
    return identity.user.spec.role, identity.user.spec.domain, identity.keypair.spec.is_admin


def held_in(cookies: str) -> Held | None:
    """From the text of the `Cookie` header; None if it has none of ours."""
    match = _VALUE.fullmatch(cookie_parser(cookies).get(COOKIE, ""))
    return None if match is None else Held(_id_of(match["token"]), int(match["offset"]))


def set_cookie(response: Response, signed_in: SignedIn, settings: Settings, *, is_secure: bool) -> None:
    """Out of the reach of scripts and of other sites' pages, and by https only if it came so."""
    response.set_cookie(
        COOKIE, signed_in.cookie, max_age=settings.sign_in_seconds, httponly=True, samesite="lax", secure=is_secure
    )


def _id_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(401, kind, "Unauthorized access", detail)
