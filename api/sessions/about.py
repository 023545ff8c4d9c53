"""What else clients ask about sessions: which are meant, when they entered their statuses, and what they depend on."""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.http.answers import json
from api.http.deps import All, Caller, Known
from api.http.parameters import Parameters, answers, in_query
from api.sessions.routes import found
from projections.session_list import SessionRow

router = APIRouter(tags=["sessions"])

_ID: Final = "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e"
_CHANGED: Final = "2026-11-21 12:00:00.123456+00:00"


class Sought(Parameters):
    beginning: str = Field(alias="id", min_length=1, max_length=128, description="Of a session's id or name.")


@router.get(
    "/session/_/match",
    openapi_extra=in_query(Sought),
    responses=answers({"matches": [{"id": _ID, "name": "training", "status": "RUNNING"}]}),
)
async def match(request: Request, caller: Caller, known: Known) -> Response:
    """Living sessions whose id or name begins so, the youngest first, ten at most."""
    rows = await known.beginning(caller.owner, Sought.of(request).beginning)
    return json({"matches": [{"id": row.session_id, "name": row.name, "status": row.status} for row in rows]})


@router.get("/session/{reference}/status-history", responses=answers({"result": {"preparing": "2026-11-21T12:00:00Z"}}))
async def status_history(reference: str, caller: Caller, all_: All, known: Known) -> Response:
    """When it entered each status, the last time it did."""
    session = await found(reference, caller, all_)
    entered: dict[str, Any] = {}
    for row in await known.history(session, session.first_offset):
        if row.kernel_id is None:
            entered[row.status.lower()] = row.at
    return json({"result": entered})


@router.get(
    "/session/{reference}/dependency-graph",
    responses=answers(
        {
            "session_id": _ID,
            "session_name": "training-7",
            "status": "KernelStatus.RUNNING",
            "status_changed": _CHANGED,
            "depends_on": [],
        }
    ),
)
async def dependency_graph(reference: str, caller: Caller, all_: All) -> Response:
    """The session, and in the same form those it depends on: sessions cannot depend on others yet."""
    return json(_node(await found(reference, caller, all_)))


def _node(session: SessionRow) -> dict[str, Any]:
    """Status and time are spelled as the public client takes them apart."""
    return {
        "session_id": session.session_id,
        "session_name": session.name,
        "status": f"KernelStatus.{session.status}",
        "status_changed": str(session.status_changed_at),
        "depends_on": [],
    }


@router.get(
    "/session/{reference}/direct-access-info",
    responses=answers(
        {"kernel_role": "INTERACTIVE", "session_type": "INTERACTIVE", "public_host": None, "sshd_ports": []}
    ),
)
async def direct_access_info(reference: str, caller: Caller, all_: All) -> Response:
    """Where it is reached past us: nowhere. Its services, ssh among them, are reached through tunnels and the proxy."""
    kind = (await found(reference, caller, all_)).session_type.upper()
    return json({"kernel_role": kind, "session_type": kind, "public_host": None, "sshd_ports": []})


@router.get("/session/{reference}/abusing-report", responses=answers({"kernel": _ID, "abuse_report": None}))
async def abusing_report(reference: str, caller: Caller, all_: All) -> Response:
    """What a watcher of the host has against its main kernel: we have none, so nothing."""
    return json({"kernel": (await found(reference, caller, all_)).kernels[0], "abuse_report": None})
