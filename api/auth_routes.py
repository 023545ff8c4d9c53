"""`/auth/…`: what somebody may see and change of himself."""

import asyncio
from typing import Any, Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.answers import json
from api.auth import Caller as Signer
from api.authority import is_superadmin, sight
from api.deps import All, Caller, Client, Directory, Services
from api.directory_writes import Giving
from api.parameters import Parameters, answers, in_body, in_query
from api.passwords import check_password, hashed
from api.problems import Problem, invalid
from api.secrets import sealed
from api.tenancy import project_seen
from api.writing import now
from domain.directory.messages.keypairs import SetSshKeypair, SshKeypair
from domain.directory.messages.users import ModifyUser, SetUserPassword, UserChanges, UserStatus

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


class Leaving(Parameters):
    email: str = Field(max_length=_TEXT_MAX, validation_alias=AliasChoices("email", "username"))
    password: str = Field(max_length=_TEXT_MAX)


class SshKeys(Parameters):
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
    await all_.sign_ins.prove(user, asked.old_password, client, "old_password")
    check_password(asked.new_password, (user.email, user.spec.username), "new_password")
    if asked.new_password == asked.old_password:
        raise invalid("new_password", "password_unchanged", "the new password is the old one")
    command = SetUserPassword(
        at=now(), user_id=user.user_id, password_hash=await hashed(asked.new_password), by_himself=True
    )
    return await Giving(request, caller, all_).give_vouched(command, {})


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


@router.post("/signup")
async def signup() -> Response:
    """Nobody makes himself a user here: administrators do."""
    raise Problem(403, "signup-disabled", "Signing up is not offered", "ask an administrator to make you a user")


@router.post(
    "/signout",
    openapi_extra=in_body(Leaving, email="ada@example.org", password="one"),
    responses=answers({}),
)
async def leave(request: Request, caller: Caller, client: Client, all_: All) -> Response:
    """Switch one's own account off: nothing is let in with it any more. An administrator can make it active again."""
    asked = Leaving.of(request)
    user = caller.identity.user
    if asked.email.lower() not in {user.email.lower(), user.spec.username.lower()}:
        raise invalid("email", "not_yours", "only one's own account can be left")
    await all_.sign_ins.prove(user, asked.password, client, "password")
    command = ModifyUser(at=now(), user_id=user.user_id, changes=UserChanges(status=UserStatus.INACTIVE))
    return await Giving(request, caller, all_).give_vouched(command, {})


# -- ssh keypairs ------------------------------------------------------------------------------------------------------


@router.get("/ssh-keypair", responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
async def ssh_keypair(caller: Caller, directory: Directory) -> Response:
    """The public key; empty if there is none. The private one is told once, to whom it was made for."""
    ssh = directory.keypairs[caller.owner].ssh
    return json({"ssh_public_key": "" if ssh is None else ssh.public_key})


@router.patch("/ssh-keypair", responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…", "ssh_private_key": "-----…"}))
async def new_ssh_keypair(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Make new ones. The private key is told this once: a repetition with the same `Idempotency-Key` is refused."""
    public, private = await asyncio.to_thread(_made)
    return await _set_ssh(public, private, request, caller, all_, directory)


_UPLOAD: Final[dict[str, Any]] = in_body(SshKeys, pubkey="ssh-ed25519 AAAA…", privkey="-----BEGIN OPENSSH PRIVATE KEY…")


@router.post("/ssh-keypair", openapi_extra=_UPLOAD, responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
@router.put("/ssh-keypair", openapi_extra=_UPLOAD, responses=answers({"ssh_public_key": "ssh-ed25519 AAAA…"}))
async def upload_ssh_keypair(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Use these."""
    keys = SshKeys.of(request)
    private = keys.privkey.strip() + "\n"
    public = await asyncio.to_thread(_public_of, private)
    if keys.pubkey.split()[:2] != public.split():
        raise invalid("pubkey", "other_key", "this is not the public key of privkey")
    return await _set_ssh(keys.pubkey.strip(), private, request, caller, all_, directory)


async def _set_ssh(
    public: str, private: str, request: Request, caller: Signer, all_: Services, directory: Any
) -> Response:
    giving = Giving(request, caller, all_)
    subject = directory.keypairs[caller.owner].user_id
    text = await sealed(all_, subject, private, f"ssh-keypair/{caller.owner}", giving.command_id)
    command = SetSshKeypair(at=now(), access_key=caller.owner, ssh=SshKeypair(public_key=public, private_key=text))
    return await giving.give(command, {"ssh_public_key": public, "ssh_private_key": private})


def _made() -> tuple[str, str]:
    key = Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()
    return _public_of(private), private


def _public_of(private: str) -> str:
    """Raises `Problem` for what is no private key, or takes a passphrase."""
    load = serialization.load_ssh_private_key if "OPENSSH" in private[:64] else serialization.load_pem_private_key
    try:
        key = load(private.encode(), None)
        public = key.public_key()
        return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise invalid("privkey", "private_key", "this is no private key, or it has a passphrase") from error
