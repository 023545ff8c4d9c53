"""Where folders may lie, how full that is, and how much their owners may have there."""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.access.tenancy import project_seen
from api.folders.doing import Doing
from api.folders.finding import Found, Mine, forbidden
from api.folders.requests import Fstab, NewQuota, OfFolderOnHost, OfHost, OfProject
from api.folders.storage import Volume
from api.http.answers import json
from api.http.deps import All
from api.http.parameters import answers, in_body, in_query
from api.http.problems import Problem, invalid
from api.writing import now
from domain.vfolder.messages.requests import SetQuota
from domain.vfolder.mounts import project_scope

router = APIRouter(prefix="/folders/_", tags=["storage hosts"])

_HOST: Final = "local:volume1"
_ID: Final = "7f8c5e9e6d6e4b0e9b390f6f0c1c2d3e"
_HOSTS: Final = {"default": _HOST, "allowed": [_HOST], "volume_info": {_HOST: {"backend": "directory"}}}
_MOUNTED: Final = {"success": True, "mounts": [_HOST], "message": ""}


@router.get("/hosts", openapi_extra=in_query(OfProject), responses=answers(_HOSTS))
async def hosts(request: Request, folders: Mine, all_: All) -> Response:
    """Those one may use by one's policies, and what is known of them."""
    allowed = dict(folders.hosts())
    if group := OfProject.of(request).group_id:
        project = project_seen(group, None, folders.caller, folders.directory, "group_id")
        allowed |= folders.hosts(project_scope(project.project_id))
    names = sorted(host for host, permissions in allowed.items() if permissions)
    default = all_.settings.vfolder_host
    volumes = await folders.storage.volumes() if names else {}
    return json(
        {
            "default": default if default in names else next(iter(names), None),
            "allowed": names,
            "volume_info": {host: _volume(volumes[host]) for host in names if host in volumes},
        }
    )


@router.get("/all_hosts", responses=answers(_HOSTS))
@router.get("/all-hosts", include_in_schema=False)
async def all_hosts(folders: Mine, all_: All) -> Response:
    """Those there are. For superadmins."""
    only_superadmins(folders.caller.identity)
    volumes = await folders.storage.volumes()
    return json(
        {
            "default": all_.settings.vfolder_host,
            "allowed": sorted(volumes),
            "volume_info": {host: _volume(volume) for host, volume in sorted(volumes.items())},
        }
    )


def _volume(volume: Volume) -> dict[str, object]:
    return {
        "backend": volume.backend,
        "capabilities": volume.capabilities,
        "usage": {"percentage": volume.used_percentage},
        "sftp_scaling_groups": [],
    }


@router.get("/allowed_types", responses=answers(["user", "group"]))
@router.get("/allowed-types", include_in_schema=False)
async def allowed_types(folders: Mine) -> Response:
    """Who may own a folder."""
    del folders
    return json(["user", "group"])


@router.get(
    "/perf-metric",
    openapi_extra=in_query(OfHost),
    responses=answers({"metric": {"capacity_bytes": 10**12, "used_bytes": 10**9, "used_percentage": 0.1}}),
)
async def perf_metric(request: Request, folders: Mine) -> Response:
    """How full a host is. For superadmins."""
    only_superadmins(folders.caller.identity)
    volume = await folders.storage.volume(OfHost.of(request).folder_host)
    return json(
        {
            "metric": {
                "capacity_bytes": volume.capacity_bytes,
                "used_bytes": volume.used_bytes,
                "used_percentage": volume.used_percentage,
            }
        }
    )


@router.get("/mounts", responses=answers({"manager": _MOUNTED, "storage_proxy": _MOUNTED, "agents": {}}))
async def mounts(folders: Mine) -> Response:
    """What the storage services have. The api has no volumes, and hosts of agents are not mounted to from here.

    For superadmins.
    """
    only_superadmins(folders.caller.identity)
    volumes = sorted(await folders.storage.volumes())
    return json(
        {
            "manager": {"success": True, "mounts": [], "message": "volumes are mounted by storage services"},
            "storage_proxy": {"success": True, "mounts": volumes, "message": ""},
            "agents": {},
        }
    )


@router.post("/mounts", responses={403: {"description": "Always."}})
@router.delete("/mounts", responses={403: {"description": "Always."}})
async def mount(folders: Mine) -> Response:
    """Refused: volumes are named in the settings of a storage service, and mounted by who runs it."""
    only_superadmins(folders.caller.identity)
    raise Problem(
        403,
        "mounting-not-allowed",
        "File systems are not mounted from here",
        "mount it where the storage service runs, and name it in REFOLD_STORAGE_VOLUMES there",
    )


@router.get(
    "/fstab",
    openapi_extra=in_query(Fstab),
    responses=answers({"content": "", "node": "manager", "node_id": "manager"}),
)
async def fstab(request: Request, folders: Mine) -> Response:
    """Empty: no file system is mounted from here, nor on hosts of agents. For superadmins."""
    only_superadmins(folders.caller.identity)
    agent_id = Fstab.of(request).agent_id
    node, node_id = ("agent", agent_id) if agent_id else ("manager", "manager")
    return json({"content": "", "node": node, "node_id": node_id})


# -- how much ----------------------------------------------------------------------------------------------------------


@router.get(
    "/quota",
    openapi_extra=in_query(OfFolderOnHost),
    responses=answers({"data": {"used_bytes": 4096, "size_bytes": 10**9}}),
)
async def quota(request: Request, folders: Mine, all_: All) -> Response:
    """What the owner of a folder has on its host, and may have there (`size_bytes`; 0: no limit)."""
    found = _on_host(await folders.found(OfFolderOnHost.of(request).id), request)
    if not found.is_owner:
        raise forbidden(f"the folder {found.row.name} is not yours")
    owner = await all_.known.folders.owner(found.row.scope)
    used = (await all_.known.folders.usage(found.row.scope)).get(found.row.host)
    limit = owner.quotas.get(found.row.host, (owner.limits or {}).get("max_bytes", 0))
    told = {
        "quota_scope_id": found.row.scope,
        "used_bytes": used.used_bytes if used is not None else 0,
        "limit_bytes": limit,
        "size_bytes": limit,
    }
    return json({"data": told})


@router.post(
    "/quota",
    openapi_extra=in_body(NewQuota, folder_host=_HOST, id=_ID, input={"size_bytes": 10**9}),
    responses=answers({"size_bytes": 10**9}),
)
async def set_quota(request: Request, folders: Mine, all_: All) -> Response:
    """How many bytes the owner of this folder may have on its host, over all his folders there. For superadmins."""
    new = NewQuota.of(request)
    only_superadmins(folders.caller.identity)
    found = _on_host(await folders.found(new.id), request)
    command = SetQuota(at=now(), scope=found.row.scope, host=found.row.host, max_bytes=new.input.size_bytes)
    return await Doing(request, folders.caller, all_).done(command, {"size_bytes": new.input.size_bytes})


@router.get("/usage", openapi_extra=in_query(OfFolderOnHost), responses=answers({"used_bytes": 4096, "file_count": 3}))
async def usage(request: Request, folders: Mine) -> Response:
    """What a folder has, measured now."""
    found = _on_host(await folders.readable(OfFolderOnHost.of(request).id), request)
    told = await folders.storage.usage(found.ref, folders.caller.actor)
    return json({"used_bytes": told.used_bytes, "file_count": told.files})


@router.get("/used-bytes", openapi_extra=in_query(OfFolderOnHost), responses=answers({"used_bytes": 4096}))
async def used_bytes(request: Request, folders: Mine) -> Response:
    """What it had when it was measured last."""
    found = _on_host(await folders.found(OfFolderOnHost.of(request).id), request)
    return json({"used_bytes": found.row.used_bytes})


def _on_host(found: Found, request: Request) -> Found:
    host = OfFolderOnHost.of(request).folder_host
    if host is not None and host != found.row.host:
        raise invalid("folder_host", "other_host", f"the folder {found.row.name} lies on {found.row.host}")
    return found
