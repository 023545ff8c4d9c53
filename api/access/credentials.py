"""How somebody comes by a keypair who has none at hand: with his password, or as a new user. Neither is signed."""

from typing import Final, Literal
from uuid import uuid4

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.access.making import new_keypair
from api.access.passwords import check_password, hashed
from api.access.ratelimit import Kind
from api.access.secrets import revealed
from api.access.signin import NotSignedIn, Somebody
from api.access.visitors import counted_as
from api.http.answers import json
from api.http.deps import All, Client, Services
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import Problem, refused
from api.writing import accepted, now
from domain.directory.consequences import DIRECTORY
from domain.directory.messages.common import Name, Text
from domain.directory.messages.keypairs import KeypairSpec
from domain.directory.messages.users import CreateUser, Email, FullName, Username, UserSpec
from domain.directory.state import Directory
from domain.messages import ProjectId, UserId

router = APIRouter(prefix="/auth", tags=["auth"])

_TEXT_MAX: Final = 512
_FIRST_PROJECT: Final = "default"
_KEYS: Final = {"access_key": "AKIAIOSFODNN7EXAMPLE", "secret_key": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"}


class Credentials(Parameters):
    """User names and emails are unique in the cluster, so the domain that clients send is not asked for."""

    type: Literal["keypair"] = Field("keypair", description="What is wanted for them.")
    username: str = Field(min_length=1, max_length=_TEXT_MAX, description="Or the email.")
    password: str = Field(max_length=_TEXT_MAX)
    otp: str | None = Field(None, max_length=16, description="Of who uses one-time passwords.")


class NewUser(Parameters):
    """Without a user name, the email is one."""

    domain: Name = "default"
    email: Email
    password: str = Field(max_length=_TEXT_MAX)
    username: Username | None = None
    full_name: FullName = ""
    description: Text = ""


@router.post(
    "/authorize",
    openapi_extra=in_body(Credentials, type="keypair", username="ada@example.org", password="correct horse"),
    responses=answers({"data": _KEYS | {"role": "user", "status": "active"}}),
)
async def authorize(request: Request, client: Client, all_: All) -> Response:
    """A user's keypair for his password, under the rules by which browsers sign in."""
    all_.admitted()
    asked = Credentials.of(request)
    identity = await all_.sign_ins.identify(asked.username, asked.password, asked.otp, client)
    if isinstance(identity, NotSignedIn):
        raise Problem(401, identity.kind, identity.title, identity.details, data=identity.data)
    keypair, user = identity.keypair, identity.user
    data = {
        "access_key": keypair.access_key,
        "secret_key": await revealed(all_, keypair.secret_sealed, keypair.access_key),
        "role": user.spec.role,
        "status": user.spec.status,
    }
    return json({"data": data})


@router.post(
    "/signup",
    status_code=201,
    openapi_extra=in_body(NewUser, email="ada@example.org", password="correct horse", full_name="Ada"),
    responses=answers(_KEYS, "He is a user now, and this is his keypair: the secret key is told this once.", 201),
)
async def sign_up(request: Request, client: Client, all_: All) -> Response:
    """Make oneself a user of a domain and of its project `default`, if there is one. Off, unless a setting allows it.

    Policies are those called `default`.
    """
    if not all_.settings.signup:
        raise Problem(403, "signup-disabled", "Signing up is not offered", "ask an administrator to make you a user")
    all_.admitted()
    all_.limiter.hit(Kind.SIGN_IN, counted_as(client.address), all_.settings.sign_ins_max).check()
    asked = NewUser.of(request)
    username = asked.username or asked.email
    check_password(asked.password, (asked.email, username), "password")
    domain, projects = _where(asked.domain, all_.tail.directory)
    spec = UserSpec(username=username, full_name=asked.full_name, description=asked.description, domain=domain)
    user_id, command_id = UserId(str(uuid4())), str(uuid4())
    keypair, secret_key = await new_keypair(all_, user_id, command_id, KeypairSpec())
    command = CreateUser(
        at=now(),
        user_id=user_id,
        email=asked.email,
        spec=spec,
        password_hash=await hashed(asked.password),
        projects=projects,
        keypair=keypair,
    )
    position = await _decided(command, command_id, all_)
    return json({"access_key": keypair.access_key, "secret_key": secret_key}, 201, position)


def _where(domain: str, directory: Directory) -> tuple[str, tuple[ProjectId, ...]]:
    """An active domain, and its first project if that is active. Raises `Problem` (404)."""
    known = directory.domains.get(domain)
    if known is None or not known.spec.active:
        raise refused("unknown_domain", f"no domain {domain}", "domain")
    project = directory.project(domain, _FIRST_PROJECT)
    return domain, () if project is None or not project.spec.active else (project.project_id,)


async def _decided(command: CreateUser, command_id: str, all_: Services) -> str:
    """Where it stands in the log. Raises `Problem` where it is refused, or not decided in time (503)."""
    written = await all_.writing.send(DIRECTORY.name, command, command_id, Somebody(f"user:{command.user_id}"), None)
    result = await all_.writing.result(written)
    if result is None:
        raise Problem(
            503,
            "sign-up-undecided",
            "Not decided in time",
            "nobody has decided about this yet: if you are a user in a moment, ask for your keypair with the password",
            retryable=True,
            retry_after=1,
        )
    return accepted(result).position
