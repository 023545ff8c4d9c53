"""Folders that are thrown away, and may be taken back for some days."""

from collections.abc import Sequence
from typing import Any, Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.folders.doing import Doing, Done, Step, is_task
from api.folders.finding import Folders, Found, Mine
from api.folders.requests import OfId, Restored
from api.http.deps import All, Services
from api.http.parameters import answers, in_body
from api.writing import POSITION, now
from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey
from domain.vfolder.messages.common import PurgeTask
from domain.vfolder.messages.requests import PurgeFolder, RestoreFolder, TrashFolder
from domain.vfolder.phases import Phase

router = APIRouter(prefix="/folders", tags=["folders"])

TASK: Final = "X-Refold-Task"
"""Of the background task that was begun, where an answer has no body to say it in."""
_BEGUN: Final[dict[int | str, dict[str, Any]]] = {
    204: {
        "description": "It has begun.",
        "headers": {
            TASK: {"description": "The background task that says how far it is.", "schema": {"type": "string"}}
        },
    }
}
_DAY_SECONDS: Final = 86400
_ID: Final = "7f8c5e9e6d6e4b0e9b390f6f0c1c2d3e"


@router.delete("/{reference}", status_code=204)
async def delete(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Move it to the trash, from where it can be taken back for some days. Refused while a session has it."""
    return await _delete(await folders.owned(reference, "delete-vfolder"), request, folders, all_)


@router.delete("", status_code=204, openapi_extra=in_body(OfId, id=_ID))
async def delete_by_id(request: Request, folders: Mine, all_: All) -> Response:
    """The same, with the id in the body."""
    return await _delete(await folders.owned(OfId.of(request).id, "delete-vfolder"), request, folders, all_)


async def _delete(found: Found, request: Request, folders: Folders, all_: Services) -> Response:
    if found.row.phase == Phase.BROKEN:  # nothing is in it that could be taken back
        return await _purge(found, request, folders, all_)
    retention = all_.settings.vfolder_trash_days * _DAY_SECONDS
    return await Doing(request, folders.caller, all_).done(
        TrashFolder(at=now(), scope=found.row.scope, folder_id=found.id, retention_seconds=retention)
    )


@router.post(
    "/restore-from-trash-bin",
    openapi_extra=in_body(Restored, id=_ID),
    responses=answers({"success": True}, "It is back."),
)
async def restore(request: Request, folders: Mine, all_: All) -> Response:
    """Take it out of the trash, under its name, or under `new_name` where that is taken by now."""
    asked = Restored.of(request)
    found = await folders.owned(asked.id, "delete-vfolder", in_trash=True)
    command = RestoreFolder(at=now(), scope=found.row.scope, folder_id=found.id, name=asked.new_name)
    return await Doing(request, folders.caller, all_).done(command, {"success": True})


@router.post("/delete-from-trash-bin", status_code=204, openapi_extra=in_body(OfId, id=_ID), responses=_BEGUN)
@router.post("/purge", status_code=204, openapi_extra=in_body(OfId, id=_ID), responses=_BEGUN)
async def purge(request: Request, folders: Mine, all_: All) -> Response:
    """Delete what is in the trash for good. It cannot be undone. Where that failed before, it is tried again.

    `X-Refold-Task`: the background task that says how far it is (`/events/background-task`); none where it was under
    way already.
    """
    found = await folders.owned(OfId.of(request).id, "delete-vfolder", in_trash=True)
    return await _purge(found, request, folders, all_)


async def _purge(found: Found, request: Request, folders: Folders, all_: Services) -> Response:
    doing = Doing(request, folders.caller, all_)
    task = PurgeTask(asker=AccessKey(folders.caller.owner), task_id=TaskId(doing.new_id("purge")))
    command = PurgeFolder(at=now(), scope=found.row.scope, folder_id=found.id, task=task)

    async def answer(done: Sequence[Done], position: str) -> Response:
        begun = any(event["type"] == "FolderPurging" for event in done[0].result.events)
        told = {TASK: task.task_id} if begun and await is_task(task.task_id, all_) else {}
        return Response(None, 204, {POSITION: position} | told)

    return await doing.do([Step(command)], answer)
