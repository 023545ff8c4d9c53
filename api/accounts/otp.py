"""`/totp`: one-time passwords at sign-in, switched on and off by whom they are for.

`POST /totp` offers a secret, `POST /totp/verify` takes it into use with a code made from it, `DELETE /totp` ends it. To
end one's own takes a code too: a cookie left behind on some machine must not be enough. Who has lost his device asks an
admin, who names him with `?email=`.
"""

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request
from pydantic import Field
from starlette.responses import Response

from api.access import otp
from api.access.authority import sight
from api.access.secrets import revealed, sealed
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import Problem, invalid, refused
from api.writing import now
from domain.directory.messages.users import SetUserTotp
from domain.directory.state import User

router = APIRouter(prefix="/totp", tags=["sign-in"])

_EMAIL_MAX: Final = 254
_EXAMPLE: Final = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
_OFF: Final = {"totp_activated": False}


class Code(Parameters):
    """`otp`: the six digits an authenticator app shows."""

    otp: str = Field(pattern=r"^\s*\d{6}\s*$")


@router.post("", responses=answers({"totp_key": _EXAMPLE, "totp_uri": f"otpauth://totp/{otp.ISSUER}:ada…"}))
async def offer(caller: Caller, all_: All) -> Response:
    """A secret for an authenticator app, as such and as the URI for a QR code. It counts once it is verified."""
    user = caller.identity.user
    _refuse_used(user)
    secret = otp.offered(all_.settings, user.user_id, now())
    return json({"totp_key": secret, "totp_uri": otp.uri(secret, user.email)})


@router.post("/verify", openapi_extra=in_body(Code, otp="123456"), responses=answers({"totp_activated": True}))
async def verify(request: Request, caller: Caller, all_: All) -> Response:
    """Take the offered secret into use: from now on a password alone is not enough."""
    user = caller.identity.user
    code = Code.of(request).otp
    _refuse_used(user)
    secret = otp.confirmed(all_.settings, user.user_id, code, now())
    if secret is None:
        raise _wrong_code()
    giving = Giving(request, caller, all_)
    text = await sealed(all_, user.user_id, secret, otp.about(user.user_id), giving.command_id)
    command = SetUserTotp(at=now(), user_id=user.user_id, secret=text)
    return await giving.give_vouched(command, {"totp_activated": True})


@router.delete("", openapi_extra=in_body(Code, otp="123456"), responses=answers({"totp_activated": False}))
async def remove(
    request: Request, caller: Caller, all_: All, email: Annotated[str | None, Query(max_length=_EMAIL_MAX)] = None
) -> Response:
    """A password is enough again. `email`: of somebody else, for admins; that takes no code."""
    giving = Giving(request, caller, all_)
    own = caller.identity.user
    if email is not None and email.lower() != own.email.lower():
        user = all_.tail.directory.user_by_email(email)
        if user is None or not sight(caller.identity).user(user):
            raise refused("unknown_user", f"there is no user {email!r}", "email")
        return await giving.give(SetUserTotp(at=now(), user_id=user.user_id, secret=None), _OFF)
    code = Code.of(request).otp
    if own.totp_secret is not None:
        secret = await revealed(all_, own.totp_secret, otp.about(own.user_id))
        if otp.step_of(secret, code, now()) is None:
            raise _wrong_code()
    return await giving.give_vouched(SetUserTotp(at=now(), user_id=own.user_id, secret=None), _OFF)


def _refuse_used(user: User) -> None:
    if user.totp_secret is not None:
        raise Problem(409, "totp-already-active", "Already in use", "one-time passwords are in use: end them first")


def _wrong_code() -> Problem:
    return invalid("otp", "otp_wrong", "this is not the code of now")
