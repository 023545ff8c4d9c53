"""`/resource/watcher`: in other installations a process beside each agent, which starts and stops it.

Refold has none: an agent is a service of its host, which starts it again by itself. So only questions are answered.
"""

from typing import Annotated, Literal

from fastapi import APIRouter, Path, Request
from pydantic import Field
from starlette.responses import Response

from api.access.authority import only_superadmins
from api.http.answers import json
from api.http.deps import Caller, Known
from api.http.parameters import Parameters, answers, in_body, in_query
from api.http.problems import Problem, refused
from projections.agents import AgentRow

router = APIRouter(prefix="/resource/watcher", tags=["resources"])


class OfAgent(Parameters):
    agent_id: str = Field(min_length=1, max_length=128)


@router.get("", openapi_extra=in_query(OfAgent), responses=answers({"agent-status": "alive", "watcher-status": "none"}))
async def status(request: Request, caller: Caller, known: Known) -> Response:
    """Whether the agent is there: `alive`, `lost`, `retired` or `removed`. For superadmins."""
    only_superadmins(caller.identity)
    agent = await _agent(request, known)
    return json({"agent-status": agent.status.lower(), "watcher-status": "none"})


@router.post("/agent/{operation}", openapi_extra=in_body(OfAgent, agent_id="i-001"))
async def operate(
    operation: Annotated[Literal["start", "stop", "restart"], Path()], request: Request, caller: Caller, known: Known
) -> Response:
    """There is no watcher to do it (404): it is up to the host's own services. For superadmins."""
    only_superadmins(caller.identity)
    agent = await _agent(request, known)
    raise Problem(
        404,
        "watcher-not-found",
        "No such watcher",
        f"no watcher stands beside {agent.agent_id}: {operation} it as the service that it is on its host",
    )


async def _agent(request: Request, known: Known) -> AgentRow:
    agent_id = OfAgent.of(request).agent_id
    agent = await known.agent(agent_id)
    if agent is None:
        raise refused("unknown_agent", f"no agent {agent_id}", "agent_id")
    return agent
