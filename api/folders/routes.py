"""Folders: make one, look at it, change, copy, throw away and take back.

A folder is named by its id or by what its user calls it. Whatever is answered can be read at once: a request waits
until the folder is there on its disk, and known.
"""

from collections.abc import Sequence
from typing import Final

import orjson
from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access.tenancy import project_seen
from api.folders.doing import Doing, Done, Step, is_task
from api.folders.finding import Folders, Mine
from api.folders.live import Awaited
from api.folders.requests import Listed, Named, NewClone, NewFolder, NewName, Options
from api.folders.shapes import detail, entry, hex_of, made
from api.http.answers import json
from api.http.deps import All, Services
from api.http.parameters import answers, in_body, in_query
from api.http.problems import Problem, invalid
from api.writing import POSITION, now
from domain.directory.messages.tasks import TaskId
from domain.directory.messages.tenants import ProjectType
from domain.messages import AccessKey
from domain.vfolder.messages.common import FolderSpec
from domain.vfolder.messages.requests import CloneFolder, CreateFolder, RenameFolder, SetFolderOptions
from domain.vfolder.mounts import FolderId, Host, Scope, UsageMode, project_scope

router = APIRouter(prefix="/folders", tags=["folders"])

_ID: Final = "7f8c5e9e6d6e4b0e9b390f6f0c1c2d3e"
_FOLDER: Final = {"id": _ID, "name": "data", "host": "local:volume1", "status": "ready", "permission": "wd"}


# -- lists -------------------------------------------------------------------------------------------------------------


@router.get("", openapi_extra=in_query(Listed), responses=answers([_FOLDER]))
async def list_folders(request: Request, folders: Mine) -> Response:
    """One's own, those of one's projects, those one was invited to, and models that are for everybody.

    `group_id`: of projects only that one's.
    """
    asked = Listed.of(request)
    found = await (folders.everywhere() if asked.all else folders.mine())
    if asked.group_id:
        project = project_seen(asked.group_id, None, folders.caller, folders.directory, "group_id")
        found = [each for each in found if each.row.project_id in (None, project.project_id)]
    return json([entry(each, folders.directory) for each in found])


@router.get("/_/id", openapi_extra=in_query(Named), responses=answers({"id": _ID}))
async def id_of(request: Request, folders: Mine) -> Response:
    """Of the folder that one calls so."""
    found = await folders.found(Named.of(request).name)
    return json({"id": hex_of(found.id), "name": found.row.name})


# -- new ones ----------------------------------------------------------------------------------------------------------


@router.post(
    "",
    status_code=201,
    openapi_extra=in_body(NewFolder, name="data", host="local:volume1", usage_mode="general", permission="rw"),
    responses=answers(_FOLDER, "It is there.", 201),
)
async def create(request: Request, folders: Mine, all_: All) -> Response:
    """Make a folder: one's own, or a project's (`group`), for which one must be an admin.

    Its name is the only such one among all that its owner has, on any host. 406: there are as many as policy allows.
    """
    new = NewFolder.of(request)
    doing = Doing(request, folders.caller, all_)
    scope, spec = _scope_and_spec(new, folders, all_)
    command = CreateFolder(at=now(), scope=scope, folder_id=FolderId(doing.new_id()), name=new.name, spec=spec)
    doing.authorize(command)
    folders.allowed(spec.host, "create-vfolder", scope)

    async def answer(done: Sequence[Done], position: str) -> Response:
        status = await _status(done[0], command.folder_id, all_)
        return json(made(command, status), 201, position)

    return await doing.do([Step(command, _until_made(scope, command.folder_id))], answer)


def _scope_and_spec(new: NewFolder, folders: Folders, all_: Services) -> tuple[Scope, FolderSpec]:
    host = new.host or all_.settings.vfolder_host
    _check_host(host, "host", all_)
    spec = FolderSpec(
        host=host,
        usage_mode=new.usage_mode,
        permission=new.permission,
        cloneable=new.cloneable,
        quota_bytes=new.quota or None,
        unmanaged_path=new.unmanaged_path,
        creator=folders.caller.identity.user.email,
    )
    if not new.group:
        return folders.scope, spec
    project = project_seen(new.group, None, folders.caller, folders.directory)
    if project.project_type is ProjectType.MODEL_STORE:
        if new.usage_mode is not UsageMode.MODEL:
            raise invalid("usage_mode", "model_store", f"in {project.name}, a model store, there are only models")
        spec = spec.model_copy(update={"cloneable": True})  # that is what it is for
    return project_scope(project.project_id), spec


def _check_host(host: Host, field: str, all_: Services) -> None:
    if host.partition(":")[0] not in all_.settings.storage:
        raise invalid(field, "unknown_host", f"there is no storage host {host}")


def _until_made(scope: Scope, folder_id: FolderId) -> list[Awaited]:
    return [Awaited(scope, kind, folder_id) for kind in ("FolderReady", "FolderFailed")]


async def _status(done: Done, folder_id: FolderId, all_: Services) -> str:
    """Of a new folder. Raises `Problem` where it could not be made."""
    row = await all_.known.folders.by_id(folder_id)
    _check_failed(done)
    return "performing" if row is None else row.status


def _check_failed(done: Done) -> None:
    if done.last is None or done.last.kind != "FolderFailed":
        return
    raise Problem(
        409,
        "folder-not-made",
        "The folder could not be made",
        orjson.loads(done.last.record.value)["message"] or "the storage service could not make it",
        position=str(done.position),
        headers={POSITION: str(done.position)},
    )


@router.post(
    "/{reference}/clone",
    openapi_extra=in_body(NewClone, target_name="copy", target_host="local:volume1", permission="rw"),
    responses=answers(_FOLDER | {"bgtask_id": "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e"}, "It has begun."),
)
async def clone(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Make a folder of one's own of a copy of this one. 403: it may not be cloned.

    `bgtask_id`: of the background task that says how far it is (`/events/background-task`).
    """
    new = NewClone.of(request)
    source = await folders.readable(reference)
    if not source.row.cloneable:
        raise Problem(
            403, "folder-not-cloneable", "The folder may not be cloned", f"{source.row.name} is not cloneable"
        )
    host = new.target_host or source.row.host
    _check_host(host, "target_host", all_)
    if host.partition(":")[0] != source.row.host.partition(":")[0]:
        raise invalid("target_host", "same_service", "a copy is made by the storage service that has the folder")
    folders.allowed(host, "create-vfolder")
    doing = Doing(request, folders.caller, all_)
    folder_id = FolderId(doing.new_id())
    spec = FolderSpec(
        host=host,
        usage_mode=new.usage_mode,
        permission=new.permission,
        cloneable=new.cloneable,
        creator=folders.caller.identity.user.email,
    )
    command = CloneFolder(
        at=now(),
        scope=folders.scope,
        folder_id=folder_id,
        name=new.target_name,
        spec=spec,
        source=source.ref,
        asker=AccessKey(folders.caller.owner),
    )

    async def answer(done: Sequence[Done], position: str) -> Response:
        status = await _status(done[0], folder_id, all_)
        task = folder_id if await is_task(TaskId(folder_id), all_) else None
        return json(made(command, status) | {"bgtask_id": task}, 200, position)

    begun = Awaited(folders.scope, "FolderCloneBegun", folder_id)
    return await doing.do([Step(command, [begun, *_until_made(folders.scope, folder_id)])], answer)


# -- one of them -------------------------------------------------------------------------------------------------------


@router.get("/{reference}", responses=answers(_FOLDER | {"num_files": 3, "used_bytes": 4096}))
async def show(reference: str, folders: Mine) -> Response:
    """How it stands. What it has was measured a moment ago."""
    return json(detail(await folders.found(reference), folders.directory))


@router.post(
    "/{reference}/rename",
    status_code=201,
    openapi_extra=in_body(NewName, new_name="results"),
    responses=answers({"success": True}, "It is called so now.", 201),
)
async def rename(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Give it another name. Who was invited to it calls it so too, unless he has one of that name."""
    new = NewName.of(request)
    found = await folders.owned(reference, "modify-vfolder")
    command = RenameFolder(at=now(), scope=found.row.scope, folder_id=found.id, name=new.new_name)
    return await Doing(request, folders.caller, all_).done(command, {"success": True}, 201)


@router.post(
    "/{reference}/update-options",
    status_code=201,
    openapi_extra=in_body(Options, cloneable=True, permission="ro"),
    responses=answers({"success": True}, "So it is now.", 201),
)
async def update_options(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Whether it may be cloned, and what the members of its project may do there."""
    options = Options.of(request)
    if options.permission is None and options.cloneable is None:
        raise invalid("permission", "missing", "which option is to change: permission, cloneable or both?")
    found = await folders.owned(reference, "modify-vfolder")
    command = SetFolderOptions(
        at=now(),
        scope=found.row.scope,
        folder_id=found.id,
        permission=options.permission,
        cloneable=options.cloneable,
    )
    return await Doing(request, folders.caller, all_).done(command, {"success": True}, 201)
