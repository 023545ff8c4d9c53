"""`/server/…`: signing in and out with a password, for browsers and the public client's session mode.

What needs somebody to be signed in is under `/func/…`, where the same routes stand as for signed requests. That
somebody may not sign in is an answer like any other (200, `authenticated: false`); only limits are problems.
"""

from datetime import UTC
from typing import Final

from fastapi import APIRouter
from pydantic import Field, model_validator
from starlette.responses import Response

from api.access.signin import COOKIE, SignedIn, set_cookie
from api.http.answers import json
from api.http.deps import All, Body, Client
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import Problem
from api.sessions.requests import refuse_nul
from domain.directory.state import Identity

router = APIRouter(prefix="/server", tags=["sign-in"])

_TEXT_MAX: Final = 512


class Login(Parameters):
    """A user name or an email, and the password. `otp`: of who uses one-time passwords."""

    username: str = Field("", max_length=_TEXT_MAX)
    email: str = Field("", max_length=_TEXT_MAX)
    password: str = Field(max_length=_TEXT_MAX)
    otp: str | None = Field(None, max_length=16)

    @model_validator(mode="after")
    def _names_somebody(self) -> "Login":
        if not (self.username or self.email):
            raise ValueError("username or email must be given")
        return self


class PasswordChange(Parameters):
    """Of somebody who cannot sign in until he has changed it."""

    username: str = Field(min_length=1, max_length=_TEXT_MAX)
    current_password: str = Field(max_length=_TEXT_MAX)
    new_password: str = Field(max_length=_TEXT_MAX)


_ADA: Final = {"access_key": "AKIAIOSFODNN7EXAMPLE", "role": "user", "status": "active"}


@router.post(
    "/login",
    openapi_extra=in_body(Login, username="ada@example.org", password="correct horse"),
    responses=answers({"authenticated": True, "data": _ADA}),
)
async def login(body: Body, client: Client, all_: All) -> Response:
    """Sign in. `authenticated` says whether that went well, `data.details` why not; then there is no cookie."""
    asked = Login.model_validate_json(refuse_nul(body))
    answer = await all_.sign_ins.sign_in(asked.username or asked.email, asked.password, asked.otp, client)
    if not isinstance(answer, SignedIn):
        return json({"authenticated": False, "data": answer.data})
    response = json({"authenticated": True, "data": _shown(answer.identity)})
    set_cookie(response, answer, all_.settings, is_secure=client.is_secure)
    return response


@router.post("/login-check", responses=answers({"authenticated": True, "data": _ADA}))
async def login_check(client: Client, all_: All) -> Response:
    """Whether the cookie still counts, and whose it is."""
    try:
        caller = await all_.sign_ins.caller(client.cookies)
    except Problem as problem:
        if problem.status != 401:
            raise
        return json({"authenticated": False, "data": None})
    return json({"authenticated": True, "data": _shown(caller.identity)})


@router.post("/extend-login-session", status_code=201)
async def extend(client: Client, all_: All) -> Response:
    """Another cookie for the one that is held, valid anew for the whole time."""
    signed_in = await all_.sign_ins.extend(client)
    response = json({"status": 201, "expires": signed_in.expires_at.astimezone(UTC).isoformat()}, 201)
    set_cookie(response, signed_in, all_.settings, is_secure=client.is_secure)
    return response


@router.post("/logout")
async def logout(client: Client, all_: All) -> Response:
    """Sign out: once this is answered, no process takes the cookie any more but for the moment until it has heard."""
    await all_.sign_ins.sign_out(client)
    response = json({"authenticated": False})
    response.delete_cookie(COOKIE, httponly=True, samesite="lax", secure=client.is_secure)
    return response


@router.post(
    "/update-password-no-auth",
    openapi_extra=in_body(
        PasswordChange, username="ada@example.org", current_password="correct horse", new_password="battery staple"
    ),
)
async def update_password(body: Body, client: Client, all_: All) -> Response:
    """Change a password that must be changed before its user can sign in."""
    asked = PasswordChange.model_validate_json(refuse_nul(body))
    await all_.sign_ins.change_password(asked.username, asked.current_password, asked.new_password, client)
    return json({})


def _shown(identity: Identity) -> dict[str, str]:
    return {
        "access_key": identity.keypair.access_key,
        "role": identity.user.spec.role.value,
        "status": identity.user.spec.status.value,
    }
