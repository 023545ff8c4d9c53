"""Who has a folder besides its owner, and what he may do there; and another owner for it."""

from collections.abc import Sequence
from typing import Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.folders.doing import Doing, Done, Step
from api.folders.finding import Folders, Found, Mine, forbidden
from api.folders.live import Awaited
from api.folders.people import user_of, users_of
from api.folders.requests import (
    Leaving,
    NewOwner,
    SharedChange,
    SharedSought,
    Sharing,
    Unsharing,
)
from api.folders.shapes import shared
from api.http.answers import json
from api.http.deps import All
from api.http.parameters import answers, in_body, in_query
from api.http.problems import Problem, invalid, refused
from api.writing import now
from domain.directory.state import User
from domain.vfolder.messages.requests import LeaveFolder, RemoveMember, SetMember, TransferFolder

router = APIRouter(prefix="/folders", tags=["shared folders"])

_ID: Final = "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e"
_SHARED: Final = {"vfolder_id": _ID, "vfolder_name": "data", "shared_to": {"uuid": _ID, "email": "eve@x"}, "perm": "ro"}

_LEAVING: Final = in_body(Leaving)["requestBody"] | {"required": False}


def _check_owned(found: Found) -> Found:
    if not found.is_owner:
        raise forbidden(f"the folder {found.row.name} is not yours")
    return found


@router.post(
    "/{reference}/leave",
    openapi_extra={"requestBody": _LEAVING},
    responses=answers({"msg": "you left the folder data"}),
)
async def leave(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Have a folder no more to which one was invited. Its owner may name another (`shared_user_uuid`) who has it."""
    other = Leaving.of(request).shared_user_uuid
    found = await folders.found(reference)
    doing = Doing(request, folders.caller, all_)
    if other and other != folders.user.user_id:
        _check_owned(found)
        member = user_of(other, folders.directory)
        remove = RemoveMember(at=now(), scope=found.row.scope, folder_id=found.id, user_id=member.user_id)
        return await doing.done(remove, {"msg": f"{member.email} has the folder {found.row.name} no more"})
    if found.of_project:
        raise invalid("name", "project_folder", "the members of a project cannot leave its folders")
    if found.is_owner:
        raise invalid("name", "own_folder", "a folder cannot be left by its owner")
    command = LeaveFolder(at=now(), scope=folders.scope, folder_id=found.id)

    async def answer(_: Sequence[Done], position: str) -> Response:
        return json({"msg": f"you left the folder {found.row.name}"}, 200, position)

    return await doing.do([Step(command, [Awaited(found.row.scope, "MemberRemoved", found.id)])], answer)


@router.post(
    "/{reference}/share",
    status_code=201,
    openapi_extra=in_body(Sharing, permission="ro", emails=["eve@example.org"]),
    responses=answers({"shared_emails": ["eve@example.org"]}, "So it is now.", 201),
)
async def share(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """In a project's folder: what some of its members may do there, other than the rest. For admins."""
    asked = Sharing.of(request)
    found = await _of_project(reference, folders)
    users = _members(asked.emails, found, folders)
    steps = [
        Step(
            SetMember(
                at=now(),
                scope=found.row.scope,
                folder_id=found.id,
                user_id=user.user_id,
                permission=asked.permission,
            )
        )
        for user in users
    ]

    async def answer(_: Sequence[Done], position: str) -> Response:
        return json({"shared_emails": [user.email for user in users]}, 201, position)

    return await Doing(request, folders.caller, all_).do(steps, answer)


@router.delete(
    "/{reference}/unshare",
    openapi_extra=in_body(Unsharing, emails=["eve@example.org"]),
    responses=answers({"unshared_emails": ["eve@example.org"]}),
)
@router.post("/{reference}/unshare", include_in_schema=False)
async def unshare(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """They may do there again what all members of the project may. For admins."""
    asked = Unsharing.of(request)
    found = await _of_project(reference, folders)
    users = _members(asked.emails, found, folders)
    steps = [
        Step(RemoveMember(at=now(), scope=found.row.scope, folder_id=found.id, user_id=user.user_id)) for user in users
    ]

    async def answer(done: Sequence[Done], position: str) -> Response:
        told = [user.email for user, each in zip(users, done, strict=True) if each.happened]
        return json({"unshared_emails": told}, 200, position)

    return await Doing(request, folders.caller, all_).do(steps, answer)


async def _of_project(reference: str, folders: Folders) -> Found:
    found = await folders.owned(reference, "set-user-specific-permission")
    if not found.of_project:
        raise invalid("name", "user_folder", "only a project's folder is shared so: see /invite")
    return found


def _members(emails: Sequence[str], found: Found, folders: Folders) -> list[User]:
    """Those of the project whose folder it is."""
    users = [user for user in users_of(emails, folders.directory) if found.row.project_id in user.projects]
    if not users:
        raise invalid("emails", "nobody", "none of them is a member of the project whose folder it is")
    return users


@router.get("/_/shared", openapi_extra=in_query(SharedSought), responses=answers({"shared": [_SHARED]}))
async def list_shared(request: Request, folders: Mine, all_: All) -> Response:
    """Who has one's folders, or that one folder, besides oneself, and what they may do there."""
    vfolder_id = SharedSought.of(request).vfolder_id
    if vfolder_id is None:
        own = [found for found in await folders.mine() if found.is_owner]
    else:
        own = [_check_owned(await folders.found(vfolder_id))]
    rows = {found.id: found.row for found in own}
    members = await all_.known.folders.members(list(rows))
    return json({"shared": shared(members, rows, folders.directory)})


@router.post(
    "/_/shared",
    openapi_extra=in_body(SharedChange, vfolder=_ID, user=_ID, perm="ro"),
    responses=answers({"msg": "eve@example.org may ro in data"}),
)
async def update_shared(request: Request, folders: Mine, all_: All) -> Response:
    """What one of those may do from now on; without `perm`, he has it no more."""
    change = SharedChange.of(request)
    found = await folders.owned(change.vfolder, "set-user-specific-permission" if change.perm else "invite-others")
    user = user_of(change.user, folders.directory)
    command: SetMember | RemoveMember
    if change.perm is None:
        command = RemoveMember(at=now(), scope=found.row.scope, folder_id=found.id, user_id=user.user_id)
        message = f"{user.email} has no rights of his own in {found.row.name} any more"
    else:
        if found.of_project:
            _members([user.email], found, folders)
        command = SetMember(
            at=now(), scope=found.row.scope, folder_id=found.id, user_id=user.user_id, permission=change.perm
        )
        message = f"{user.email} may {change.perm} in {found.row.name}"
    return await Doing(request, folders.caller, all_).done(command, {"msg": message})


# -- another owner -----------------------------------------------------------------------------------------------------


@router.post(
    "/_/change-ownership",
    openapi_extra=in_body(NewOwner, vfolder=_ID, user_email="eve@example.org"),
    responses=answers({"success": True}),
)
async def change_ownership(request: Request, folders: Mine, all_: All) -> Response:
    """Give a user's folder to another user, whose quota it counts to then. For admins."""
    asked = NewOwner.of(request)
    found = await folders.found(asked.vfolder)
    _check_owned(found)
    doing = Doing(request, folders.caller, all_)
    user = folders.directory.user_by_email(asked.user_email)
    if user is None:
        raise refused("unknown_user", f"no user {asked.user_email}", "user_email")
    command = TransferFolder(at=now(), scope=found.row.scope, folder_id=found.id, to=f"user:{user.user_id}")
    until = [Awaited(found.row.scope, kind, found.id) for kind in ("FolderGiven", "TransferAborted")]

    async def answer(done: Sequence[Done], position: str) -> Response:
        last = done[0].last
        if last is not None and last.kind == "TransferAborted":
            raise Problem(
                409,
                "folder-not-taken",
                "The folder cannot be given to this user",
                str(orjson.loads(last.record.value)["message"]),
                position=position,
            )
        return json({"success": True}, 200, position)

    return await doing.do([Step(command, until)], answer)
