"""What only a log can offer: the whole history of a session, and the state of things in a line."""

from dataclasses import asdict
from typing import Annotated

from fastapi import APIRouter, Query
from starlette.responses import Response

from api.http.answers import json
from api.http.deps import All, Caller, Known
from api.known import HISTORY_PAGE
from api.sessions.routes import found
from infra.postgres import Unavailable

router = APIRouter(prefix="/refold", tags=["refold"])


@router.get("/sessions/{reference}/history")
async def history(
    reference: str,
    caller: Caller,
    all_: All,
    known: Known,
    start: Annotated[int | None, Query(ge=0, le=2**62, description="Offset to go on from.")] = None,
) -> Response:
    """Everything that happened to a session and its kernels, in the order of the log, failed attempts included.

    `next` is where the next page starts; null on the last one.
    """
    session = await found(reference, caller, all_)
    rows = await known.history(session, session.first_offset if start is None else start)
    entries = [
        {name: value for name, value in asdict(row).items() if name not in {"owner", "session_id"}} for row in rows
    ]
    following = rows[-1].log_offset + 1 if len(rows) == HISTORY_PAGE else None
    return json(
        {
            "session_id": session.session_id,
            "session_name": session.name,
            "owner_access_key": session.owner,
            "status": session.status,
            "entries": entries,
            "next": following,
        }
    )


@router.get("/status")
async def status(all_: All) -> Response:
    """Living sessions and agents by status, and how far this process is behind. Unsigned only from the same machine."""
    try:
        counts = dict(await all_.known.counts())
    except Unavailable:
        counts = {}
    return json(
        {
            **counts,
            "projections": "available" if counts else "unavailable",
            "tail": "current" if all_.tail.healthy else "unavailable",
            "appends_in_flight": all_.sender.in_flight,
            "event_streams": all_.tail.live.listening,
        }
    )
