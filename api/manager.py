"""The cluster as a whole: whether it takes new sessions, and what is said to everybody who uses it."""

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.answers import json
from api.deps import All, Caller, Directory, Known
from api.directory_writes import Giving
from api.parameters import Parameters, answers, in_body
from api.problems import invalid, unsupported
from api.system import MANAGER
from api.writing import now
from domain.directory.messages.cluster import ManagerStatus, SetAnnouncement, SetManagerStatus
from infra.signing import API_VERSION

router = APIRouter(prefix="/manager", tags=["manager"])

_WAITING = "PENDING"


class NewStatus(Parameters):
    status: ManagerStatus
    force_kill: bool = Field(False, description="End all sessions too; not supported yet.")


class NewAnnouncement(Parameters):
    enabled: bool = False
    message: str | None = Field(None, max_length=65536, description="Markdown.")


@router.get("/status", responses=answers({"nodes": [], "status": "running", "active_sessions": 3}))
async def status(all_: All, caller: Caller, directory: Directory, known: Known) -> Response:
    """Whether new sessions are taken, and how many have been placed and not ended."""
    del caller
    sessions = (await known.counts()).get("sessions", {})
    active = sum(count for name, count in sessions.items() if name != _WAITING)
    settings = all_.settings
    node = {
        "id": settings.deployment,
        "num_proc": 1,
        "service_addr": f"{settings.api_host}:{settings.api_port}",
        "heartbeat_timeout": settings.agent_lost_after,
        "ssl_enabled": False,
        "active_sessions": active,
        "status": directory.manager_status,
        "version": MANAGER,
        "api_version": API_VERSION,
    }
    return json({"nodes": [node], "status": directory.manager_status, "active_sessions": active})


@router.put("/status", status_code=204, openapi_extra=in_body(NewStatus, status="frozen", force_kill=False))
async def set_status(request: Request, caller: Caller, all_: All) -> Response:
    """`frozen`: new sessions are refused until it is `running` again. For superadmins."""
    new = NewStatus.of(request)
    if new.force_kill:
        raise unsupported("force_kill")
    return await Giving(request, caller, all_).give(SetManagerStatus(at=now(), status=new.status))


@router.get("/announcement", responses=answers({"enabled": True, "message": "Maintenance on **Sunday**."}))
async def announcement(caller: Caller, directory: Directory) -> Response:
    """What the administrators say to everybody."""
    del caller
    told = directory.announcement
    return json({"enabled": told.enabled, "message": told.message})


@router.post(
    "/announcement", status_code=204, openapi_extra=in_body(NewAnnouncement, enabled=True, message="Maintenance soon.")
)
async def set_announcement(request: Request, caller: Caller, all_: All) -> Response:
    """Say something to everybody, or, not `enabled`, nothing any more. For superadmins."""
    new = NewAnnouncement.of(request)
    if new.enabled and not (new.message or "").strip():
        raise invalid("message", "empty", "an announcement needs a message")
    message = (new.message or "") if new.enabled else ""
    return await Giving(request, caller, all_).give(SetAnnouncement(at=now(), enabled=new.enabled, message=message))
