"""`/auth/…`: what somebody may see and change of himself."""

import asyncio
from typing import Any, Final, Literal

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.authority import is_superadmin, sight
from api.access.making import new_ssh_keys
from api.access.passwords import check_password, hashed
from api.access.secrets import sealed
from api.access.tenancy import project_seen
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Client, Directory, Services
from api.http.parameters import Parameters, answers, in_body, in_query
from api.http.problems import invalid
from api.writing import now
from domain.directory.messages.keypairs import SetSshKeypair, SshKeypair
from domain.directory.messages.users import FullName, ModifyUser, SetUserPassword, UserChanges, UserStatus
from domain.directory.state import Directory as State
from domain.directory.state import User
from infra.secrets import is_salted_with, salt_for
from infra.ssh_keys import NotAKey, SshKeys, public_of

router = APIRouter(prefix="/auth", tags=["auth"])

_TEXT_MAX: Final = 512
_KEY_MAX: Final = 16384


class Echo(Parameters):
    echo: str | None = Field(None, max_length=4096)


class OfProject(Parameters):
    group: str | None = Field(None, max_length=128, description="A project's name or id.")


class NewPassword(Parameters):
    old_password: str = Field(max_length=_TEXT_MAX)
    new_password: str = Field(max_length=_TEXT_MAX)
    new_password2: str = Field(max_length=_TEXT_MAX, description="Once more.")


class ExpiredPassword(Parameters):
    """User names and emails are unique in the cluster, so the domain is not asked for."""

    username: str = Field(min_length=1, max_length=_TEXT_MAX)
    current_password: str = Field(max_length=_TEXT_MAX)
    new_password: str = Field(max_length=_TEXT_MAX)


class NewName(Parameters):
    email: str = Field(max_length=_TEXT_MAX, description="One's own.")
    full_name: FullName


class Leaving(Parameters):
    email: str = Field(max_length=_TEXT_MAX, validation_alias=AliasChoices("email", "username"))
    password: str = Field(max_length=_TEXT_MAX)


class UploadedSshKeys(Parameters):
    """Both in the forms of OpenSSH."""

    pubkey: str = Field(min_length=1, max_length=_KEY_MAX)
    privkey: str = Field(min_length=1, max_length=_KEY_MAX)


@router.get("", openapi_extra=in_query(Echo))
@router.post("", openapi_extra=in_body(Echo, echo="hello"))
@router.get("/test", openapi_extra=in_query(Echo), responses=answers({"authorized": "yes", "echo": "hello"}))
@router.post("/test", openapi_extra=in_body(Echo, echo="hello"))
async def test(request: Request, caller: Caller) -> Response:
    """That the signature is right."""
    del caller
    echo = Echo.of(request).echo
    return json({"authorized": "yes"} | ({} if echo is None else {"echo": echo}))


@router.get(
    "/role",
    openapi_extra=in_query(OfProject),
    responses=answers({"global_role": "user", "domain_role": "user", "group_role": None}),
)
async def role(request: Request, caller: Caller, directory: Directory) -> Response:
    """What the caller is in the cluster, in his domain, and in a project."""
    group = OfProject.of(request).group
    if group is not None:
        project_seen(group, None, caller, directory)
    is_admin = not sight(caller.identity).own_only and caller.identity.user.spec.role != "monitor"
    told: dict[str, Literal["superadmin", "admin", "user"] | None] = {
        "global_role": "superadmin" if is_superadmin(caller.identity) else "user",
        "domain_role": "admin" if is_admin else "user",
        "group_role": None if group is None else "admin" if is_admin else "user",
    }
    return json(told)


@router.get(
    "/keypair",
    responses=answers({"accessKey": "AKIAIOSFODNN7EXAMPLE", "isActive": True, "created": "2026-11-21T09:00:00Z"}),
)
async def keypair(caller: Caller, directory: Directory) -> Response:
    """The keypair that the caller signs with, or acts for. Its secret key is not told."""
    identity = directory.identity(caller.owner) or caller.identity
    known, spec = identity.keypair, identity.keypair.spec
    return json(
        {
            "accessKey": known.access_key,
            "isActive": spec.active,
            "isAdmin": spec.is_admin,
            "resourcePolicy": spec.resource_policy,
            "rateLimit": spec.rate_limit,
            "created": known.created_at,
        }
    )


@router.post(
    "/update-full-name",
    openapi_extra=in_body(NewName, email="ada@example.org", full_name="Ada Lovelace"),
    responses=answers({}),
)
async def update_full_name(request: Request, caller: Caller, all_: All) -> Response:
    """One's own."""
    asked = NewName.of(request)
    user = caller.identity.user
    _refuse_others(asked.email, user)
    command = ModifyUser(at=now(), user_id=user.user_id, changes=UserChanges(full_name=asked.full_name))
    return await Giving(request, caller, all_).give_vouched(command, {})


# -- passwords ---------------------------------------------------------------------------------------------------------


@router.post(
    "/update-password",
    openapi_extra=in_body(NewPassword, old_password="one", new_password="another", new_password2="another"),
    responses=answers({}),
)
async def update_password(request: Request, caller: Caller, client: Client, all_: All) -> Response:
    """One's own. Whoever is signed in with the old one has to sign in again."""
    asked = NewPassword.of(request)
    if asked.new_password != asked.new_password2:
        raise invalid("new_password2", "mismatch", "the new password and its repetition are not the same")
    user = caller.identity.user
    giving = Giving(request, caller, all_)
    salt = salt_for(all_.settings, giving.command_id)
    is_repeated = is_salted_with(user.password_hash, salt)  # then the new one is his password by now
    password = asked.new_password if is_repeated else asked.old_password
    await all_.sign_ins.prove(user, password, client, "old_password")
    check_password(asked.new_password, (user.email, user.spec.username), "new_password")
    if asked.new_password == asked.old_password:
        raise invalid("new_password", "password_unchanged", "the new password is the old one")
    password_hash = await hashed(asked.new_password, salt)
    command = SetUserPassword(at=now(), user_id=user.user_id, password_hash=password_hash, by_himself=True)
    return await giving.give_vouched(command, {})


@router.post(
    "/update-password-no-auth",
    openapi_extra=in_body(ExpiredPassword, username="ada@example.org", current_password="one", new_password="another"),
    responses=answers({}),
)
async def update_expired_password(request: Request, client: Client, all_: All) -> Response:
    """For who must change it before he can sign in; not signed."""
    all_.admitted()
    asked = ExpiredPassword.of(request)
    await all_.sign_ins.change_password(asked.username, asked.current_password, asked.new_password, client)
    return json({})


@router.post(
    "/signout",
    openapi_extra=in_body(Leaving, email="ada@example.org", password="one"),
    responses=answers({}),
)
async def leave(request: Request, caller: Caller, client: Client, all_: All) -> Response:
    """Switch one's own account off: nothing is let in with it any more. An administrator can make it active again."""
    asked = Leaving.of(request)
    user = caller.identity.user
    _refuse_others(asked.email, user)
    await all_.sign_ins.prove(user, asked.password, client, "password")
    command = ModifyUser(at=now(), user_id=user.user_id, changes=UserChanges(status=UserStatus.INACTIVE))
    return await Giving(request, caller, all_).give_vouched(command, {})


def _refuse_others(email: str, user: User) -> None:
    if email.lower() not in {user.email.lower(), user.spec.username.lower()}:
        raise invalid("email", "not_yours", "this can only be done to one's own account")


# -- ssh keypairs ------------------------------------------------------------------------------------------------------


@router.get("/ssh-keypair", responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
async def ssh_keypair(caller: Caller, directory: Directory) -> Response:
    """The public key; empty if there is none. The private one is told once, to whom it was made for."""
    ssh = directory.keypairs[caller.owner].ssh
    return json({"ssh_public_key": "" if ssh is None else ssh.public_key})


@router.patch("/ssh-keypair", responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…", "ssh_private_key": "-----…"}))
async def new_ssh_keypair(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Make new ones. The private key is told this once, and again to a repetition with the same `Idempotency-Key`."""
    giving = Giving(request, caller, all_)
    keys = await new_ssh_keys(all_, directory.keypairs[caller.owner].user_id, giving.command_id)
    return await _set_ssh(keys, giving, caller, all_, directory)


_UPLOAD: Final[dict[str, Any]] = in_body(
    UploadedSshKeys, pubkey="ssh-ed25519 AAAA…", privkey="-----BEGIN OPENSSH PRIVATE KEY…"
)


@router.post("/ssh-keypair", openapi_extra=_UPLOAD, responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
@router.put("/ssh-keypair", openapi_extra=_UPLOAD, responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
async def upload_ssh_keypair(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Use these."""
    keys = UploadedSshKeys.of(request)
    private = keys.privkey.strip() + "\n"
    try:
        public = await asyncio.to_thread(public_of, private)
    except NotAKey as error:
        raise invalid("privkey", "private_key", str(error)) from error
    if keys.pubkey.split()[:2] != public.split():
        raise invalid("pubkey", "other_key", "this is not the public key of privkey")
    given = SshKeys(keys.pubkey.strip(), private)
    return await _set_ssh(given, Giving(request, caller, all_), caller, all_, directory)


async def _set_ssh(keys: SshKeys, giving: Giving, caller: Signer, all_: Services, directory: State) -> Response:
    subject = directory.keypairs[caller.owner].user_id
    text = await sealed(all_, subject, keys.private, f"ssh-keypair/{caller.owner}", giving.command_id)
    ssh = SshKeypair(public_key=keys.public, private_key=text)
    command = SetSshKeypair(at=now(), access_key=caller.owner, ssh=ssh)
    return await giving.give(command, {"ssh_public_key": keys.public, "ssh_private_key": keys.private})
