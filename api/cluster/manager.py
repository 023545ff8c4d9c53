"""The cluster as a whole: whether it takes new sessions, and what is said to everybody who uses it."""

from typing import Annotated, Literal
from uuid import UUID, uuid5

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.giving import Giving
from api.http.answers import json
from api.http.deps import All, Caller, Directory, Known
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import invalid, refused, unsupported
from api.system import MANAGER
from api.writing import now
from domain.directory.messages.cluster import ManagerStatus, SetAnnouncement, SetManagerStatus
from domain.messages import AgentId, Cell, Command
from domain.scheduling.messages import ExcludeAgent, IncludeAgent
from infra.signing import API_VERSION

router = APIRouter(prefix="/manager", tags=["manager"])

_WAITING = "PENDING"


class NewStatus(Parameters):
    status: ManagerStatus
    force_kill: bool = Field(False, description="End all sessions too; not supported yet.")


class SchedulerOperation(Parameters):
    """`args`: ids of agents."""

    op: Literal["include-agents", "exclude-agents"]
    args: list[Annotated[str, Field(min_length=1, max_length=128)]] = Field(min_length=1, max_length=1000)


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


@router.post(
    "/scheduler/operation",
    status_code=204,
    openapi_extra=in_body(SchedulerOperation, op="exclude-agents", args=["i-001"]),
)
async def operate_scheduler(request: Request, caller: Caller, all_: All, known: Known) -> Response:
    """Which agents get new kernels: those that are excluded get none until they are included again. For superadmins."""
    only_superadmins(caller.identity)
    asked = SchedulerOperation.of(request)
    giving = Giving(request, caller, all_)
    kind = ExcludeAgent if asked.op == "exclude-agents" else IncludeAgent
    commands: list[tuple[str, Command]] = []
    for agent_id in dict.fromkeys(asked.args):
        agent = await known.agent(agent_id)
        if agent is None:
            raise refused("unknown_agent", f"no agent {agent_id}", "args")
        command_id = giving.command_id if not commands else str(uuid5(UUID(giving.command_id), agent_id))
        commands.append((command_id, kind(at=now(), cell=Cell(agent.cell), agent_id=AgentId(agent_id))))
    return await giving.give_all(commands)


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
