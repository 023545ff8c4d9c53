"""Dotfiles, which every kernel of a keypair, project or domain gets, and the bootstrap script it begins with."""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Request
from pydantic import AfterValidator, AliasChoices, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.secrets import revealed, sealed
from api.access.tenancy import domain_seen, project_seen
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Directory, Services
from api.http.parameters import Parameters, answers, in_body, in_query
from api.http.problems import invalid, refused
from api.sessions.environ import Script, about_keypairs_script, script_of_keypair
from api.writing import now
from domain.directory.messages.keypairs import SetBootstrapScript
from domain.directory.messages.personal import (
    CreateDotfile,
    DeleteDotfile,
    DotfileMode,
    DotfileOwner,
    DotfilePath,
    DotfileScope,
    ModifyDotfile,
)
from domain.directory.state import Directory as State
from domain.directory.state import Dotfile

router = APIRouter(tags=["dotfiles"])

_BYTES_MAX: Final = 65536

_EXAMPLE: Final[dict[str, Any]] = {"path": ".bashrc", "permission": "644", "data": "export EDITOR=vi\n"}


def _small(text: str) -> str:
    if len(text.encode()) > _BYTES_MAX:
        raise ValueError(f"at most {_BYTES_MAX} bytes")
    return text


Content = Annotated[str, AfterValidator(_small)]


class Owner(Parameters):
    """Whose: of a keypair; in the calls about groups, of a project; in those about domains, of a domain."""

    # The public client writes its own parameter wrongly when it lists.
    owner_access_key: str | None = Field(
        None, max_length=64, validation_alias=AliasChoices("owner_access_key", "onwer_access_key")
    )
    group: str | None = Field(
        None, max_length=128, validation_alias=AliasChoices("group", "groupId", "group_id"), description="Name or id."
    )
    domain: str | None = Field(None, max_length=64)


class Sought(Owner):
    path: DotfilePath | None = None


class Named(Owner):
    path: DotfilePath


class Written(Named):
    data: Content
    permission: DotfileMode


class NewScript(Parameters):
    script: Script


_PLACES: Final = {
    "/user-config/dotfiles": DotfileScope.KEYPAIR,
    "/group-config/dotfiles": DotfileScope.PROJECT,
    "/domain-config/dotfiles": DotfileScope.DOMAIN,
}


@router.get("/user-config/dotfiles", openapi_extra=in_query(Sought), responses=answers([_EXAMPLE]))
@router.get("/group-config/dotfiles", openapi_extra=in_query(Sought), responses=answers([_EXAMPLE]))
@router.get("/domain-config/dotfiles", openapi_extra=in_query(Sought), responses=answers([_EXAMPLE]))
async def show(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """All of an owner, or the one with that path. Projects and domains show theirs to whoever is in them."""
    sought = Sought.of(request)
    owner = _owner(sought, request, caller, all_, directory)
    files = directory.dotfiles_of(owner.scope, owner.id)
    if sought.path is None:
        return json([await _shown(files[path], owner, all_) for path in sorted(files)])
    if sought.path not in files:
        raise refused("unknown_dotfile", f"no dotfile {sought.path}", "path")
    return json(await _shown(files[sought.path], owner, all_))


@router.post("/user-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
@router.post("/group-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
@router.post("/domain-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
async def create(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """A new one. All of an owner together have at most 64 KiB."""
    return await _write(CreateDotfile, request, caller, all_, directory)


@router.patch("/user-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
@router.patch("/group-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
@router.patch("/domain-config/dotfiles", openapi_extra=in_body(Written, **_EXAMPLE), responses=answers({}))
async def update(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Other content for one that is there."""
    return await _write(ModifyDotfile, request, caller, all_, directory)


@router.delete("/user-config/dotfiles", openapi_extra=in_query(Named), responses=answers({"success": True}))
@router.delete("/group-config/dotfiles", openapi_extra=in_query(Named), responses=answers({"success": True}))
@router.delete("/domain-config/dotfiles", openapi_extra=in_query(Named), responses=answers({"success": True}))
async def delete(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Kernels that run keep theirs."""
    named = Named.of(request)
    owner = _owner(named, request, caller, all_, directory)
    command = DeleteDotfile(at=now(), owner=owner, path=named.path)
    return await Giving(request, caller, all_).give(command, {"success": True})


@router.get("/user-config/bootstrap-script", responses=answers("pip install numpy\n"))
async def bootstrap_script(caller: Caller, all_: All) -> Response:
    """What each new session of the keypair runs first, unless it is given another; empty if there is none."""
    return json(await script_of_keypair(caller.owner, all_))


@router.post(
    "/user-config/bootstrap-script",
    openapi_extra=in_body(NewScript, script="pip install numpy\n"),
    responses=answers({}),
)
async def set_bootstrap_script(request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """An empty one takes it away."""
    script = NewScript.of(request).script
    giving = Giving(request, caller, all_)
    user_id = directory.keypairs[caller.owner].user_id
    text = (
        await sealed(all_, user_id, script, about_keypairs_script(caller.owner), giving.command_id)
        if script.strip()
        else None
    )
    return await giving.give(SetBootstrapScript(at=now(), access_key=caller.owner, script=text), {})


async def _write(
    kind: type[CreateDotfile] | type[ModifyDotfile],
    request: Request,
    caller: Signer,
    all_: Services,
    directory: State,
) -> Response:
    file = Written.of(request)
    owner = _owner(file, request, caller, all_, directory)
    giving = Giving(request, caller, all_)
    content = await sealed(
        all_, _subject(owner, directory), file.data, about_dotfile(owner, file.path), giving.command_id
    )
    command = kind(
        at=now(),
        owner=owner,
        path=file.path,
        mode=file.permission,
        content=content,
        size=len(file.data.encode()),
    )
    return await giving.give(command, {})


def _owner(named: Owner, request: Request, caller: Signer, all_: Services, directory: State) -> DotfileOwner:
    """Raises `Problem` where there is none that the caller sees."""
    scope = _PLACES[request.scope["path"]]
    match scope:
        case DotfileScope.KEYPAIR:
            acting = all_.gate.acting_for(caller, named.owner_access_key)
            return DotfileOwner(scope=scope, id=acting.owner)
        case DotfileScope.PROJECT:
            if named.group is None:
                raise invalid("group", "missing", "which project is meant? Its name, with its domain, or its id")
            return DotfileOwner(scope=scope, id=project_seen(named.group, named.domain, caller, directory).project_id)
        case DotfileScope.DOMAIN:
            if named.domain is None:
                raise invalid("domain", "missing", "which domain is meant?")
            return DotfileOwner(scope=scope, id=domain_seen(named.domain, caller, directory).name)


async def _shown(file: Dotfile, owner: DotfileOwner, all_: Services) -> dict[str, str]:
    """The reference calls the mode `perm` where one file is asked for, else `permission`; both are there."""
    data = await revealed(all_, file.content, about_dotfile(owner, file.path))
    return {"path": file.path, "permission": file.mode, "perm": file.mode, "data": data}


def _subject(owner: DotfileOwner, directory: State) -> str:
    """Whose secret it is: a user's, by his id, so that he can be forgotten; else the project's or the domains'."""
    match owner.scope:
        case DotfileScope.KEYPAIR:
            identity = directory.identity(owner.id)
            return owner.id if identity is None else identity.user.user_id
        case DotfileScope.PROJECT:
            return owner.id
        case DotfileScope.DOMAIN:
            return owner.scope


def about_dotfile(owner: DotfileOwner, path: str) -> str:
    """As what it is sealed. A domain may get another name, its dotfiles stay."""
    whose = owner.scope if owner.scope is DotfileScope.DOMAIN else owner.id
    return f"dotfile/{whose}/{path}"
