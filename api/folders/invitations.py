"""Invitations to users' folders: sent, changed, taken back, accepted and rejected."""

from collections.abc import Sequence
from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.folders.doing import Doing, Done, Step
from api.folders.finding import Folders, Mine, id_in
from api.folders.live import Awaited
from api.folders.people import users_of
from api.folders.requests import (
    NewInvitations,
    NewPermission,
    OfInvitation,
)
from api.folders.shapes import received, sent
from api.http.answers import json
from api.http.deps import All, Services
from api.http.parameters import answers, in_body
from api.http.problems import Problem, invalid, refused
from api.writing import now
from domain.vfolder.messages.common import InvitationId
from domain.vfolder.messages.requests import (
    AcceptInvitation,
    CancelInvitation,
    ChangeInvitation,
    InviteToFolder,
    RejectInvitation,
)
from projections.folders.rows import ReceivedRow
from projections.folders.seen import SentInvitation

router = APIRouter(prefix="/folders", tags=["shared folders"])

_ID: Final = "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e"
_INVITATION: Final = {"id": _ID, "inviter": "ada@example.org", "perm": "ro", "state": "pending", "vfolder_name": "data"}


@router.post(
    "/{reference}/invite",
    openapi_extra=in_body(NewInvitations, perm="ro", emails=["eve@example.org"]),
    responses=answers({"invited_ids": ["eve@example.org"]}),
)
async def invite(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Invite users to one's own folder. Who is invited already, or has it, stays what he is."""
    new = NewInvitations.of(request)
    found = await folders.owned(reference, "invite-others")
    if found.of_project:
        raise invalid("name", "project_folder", "a project's folder is shared with its members: see /share")
    invitees = [user for user in users_of(new.emails, folders.directory) if user.user_id != found.row.user_id]
    if not invitees:
        raise invalid("emails", "nobody", "none of them is a user who can be invited to this folder")
    doing = Doing(request, folders.caller, all_)
    steps = []
    for user in invitees:
        invitation_id = InvitationId(doing.new_id(f"invitation of {user.user_id}"))
        command = InviteToFolder(
            at=now(),
            scope=found.row.scope,
            folder_id=found.id,
            invitation_id=invitation_id,
            inviter=folders.user.user_id,
            invitee=user.user_id,
            permission=new.perm,
        )
        steps.append(Step(command, [Awaited(f"user:{user.user_id}", "InvitationReceived", invitation_id)]))

    async def answer(done: Sequence[Done], position: str) -> Response:
        invited = [user.email for user, each in zip(invitees, done, strict=True) if each.happened]
        return json({"invited_ids": invited}, 200, position)

    return await doing.do(steps, answer)


@router.get("/invitations/list", responses=answers({"invitations": [_INVITATION]}))
async def invitations(folders: Mine, all_: All) -> Response:
    """Those one has received, and not decided about."""
    rows = await all_.known.folders.received(folders.user.user_id)
    return json({"invitations": received(rows, folders.user.user_id, folders.directory)})


@router.get("/invitations/list-sent", responses=answers({"invitations": [_INVITATION]}))
@router.get("/invitations/list_sent", include_in_schema=False)
async def sent_invitations(folders: Mine, all_: All) -> Response:
    """Those one has sent, and nobody has decided about."""
    rows = await all_.known.folders.sent(folders.user.user_id)
    return json({"invitations": sent(rows, folders.directory)})


@router.post(
    "/invitations/update/{inv_id}",
    openapi_extra=in_body(NewPermission, perm="rw"),
    responses=answers({"msg": "the invitation was changed"}),
)
async def update_invitation(inv_id: str, request: Request, folders: Mine, all_: All) -> Response:
    """Another permission, as long as it is undecided. For whoever sent it."""
    permission = NewPermission.of(request).perm
    row = await _sent(inv_id, folders, all_)
    command = ChangeInvitation(
        at=now(), scope=row.scope, invitation_id=InvitationId(row.invitation_id), permission=permission
    )
    return await Doing(request, folders.caller, all_).done(command, {"msg": "the invitation was changed"})


@router.post(
    "/invitations/accept",
    openapi_extra=in_body(OfInvitation, inv_id=_ID),
    responses=answers({"msg": "you have the folder data now"}),
)
async def accept(request: Request, folders: Mine, all_: All) -> Response:
    """From now on one has the folder. 400: one has another of that name."""
    row = await _received(OfInvitation.of(request).inv_id, folders, all_)
    invitation_id = InvitationId(row.invitation_id)
    command = AcceptInvitation(at=now(), scope=folders.scope, invitation_id=invitation_id)
    until = [
        Awaited(folders.scope, "FolderJoined", row.folder_id),
        Awaited(folders.scope, "InvitationWithdrawn", invitation_id),
    ]

    async def answer(done: Sequence[Done], position: str) -> Response:
        if done[0].last is not None and done[0].last.kind == "InvitationWithdrawn":
            raise _no_invitation(invitation_id)
        return json({"msg": f"you have the folder {row.name} now"}, 200, position)

    return await Doing(request, folders.caller, all_).do([Step(command, until)], answer)


@router.delete(
    "/invitations/delete",
    openapi_extra=in_body(OfInvitation, inv_id=_ID),
    responses=answers({"msg": "the invitation was rejected"}),
)
@router.post("/invitations/delete", include_in_schema=False)
async def delete_invitation(request: Request, folders: Mine, all_: All) -> Response:
    """Reject one that one has received, or take back one that one has sent."""
    inv_id = OfInvitation.of(request).inv_id
    doing = Doing(request, folders.caller, all_)
    try:
        received_one = await _received(inv_id, folders, all_)
    except Problem:
        sent_one = await _sent(inv_id, folders, all_)
        cancel = CancelInvitation(at=now(), scope=sent_one.scope, invitation_id=InvitationId(sent_one.invitation_id))
        return await doing.done(cancel, {"msg": "the invitation was taken back"})
    reject = RejectInvitation(at=now(), scope=folders.scope, invitation_id=InvitationId(received_one.invitation_id))
    return await doing.done(reject, {"msg": "the invitation was rejected"})


async def _received(inv_id: str, folders: Folders, all_: Services) -> ReceivedRow:
    """Raises `Problem` (404)."""
    invitation_id = id_in(inv_id)
    for row in await all_.known.folders.received(folders.user.user_id):
        if row.invitation_id == invitation_id:
            return row
    raise _no_invitation(inv_id)


async def _sent(inv_id: str, folders: Folders, all_: Services) -> SentInvitation:
    """To a folder of one's own. Raises `Problem` (404)."""
    row = await all_.known.folders.invitation(id_in(inv_id) or "")
    if row is None or row.scope != folders.scope:
        raise _no_invitation(inv_id)
    return row


def _no_invitation(inv_id: str) -> Problem:
    return refused("unknown_invitation", f"no invitation {inv_id}", "inv_id")
