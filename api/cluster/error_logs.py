"""`/logs/error`: what went wrong in people's clients, reported by these and read by who looks after them."""

from typing import Annotated, Any, Final, Literal
from uuid import UUID

import orjson
from fastapi import APIRouter, Request
from pydantic import BeforeValidator, Field
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.access.authority import sight
from api.http.answers import json
from api.http.deps import Caller, Directory, Known
from api.http.parameters import Parameters, answers, in_body, in_query
from api.http.problems import Problem
from domain.directory.state import Directory as State
from infra import error_logs
from infra.error_logs import ErrorLog

router = APIRouter(prefix="/logs/error", tags=["error logs"])

_LINE_MAX: Final = 2048
_TEXT_MAX: Final = 65536


def _parsed(value: Any) -> Any:
    """JSON may come as text."""
    if isinstance(value, str):
        try:
            return orjson.loads(value)
        except orjson.JSONDecodeError as error:
            raise ValueError("this is no JSON") from error
    return value


class Report(Parameters):
    severity: Annotated[
        Literal["critical", "error", "warning", "info", "debug"],
        BeforeValidator(lambda value: value.lower() if isinstance(value, str) else value),
    ]
    source: str = Field(max_length=_LINE_MAX)
    message: str = Field(max_length=_TEXT_MAX)
    context_lang: str = Field(max_length=_LINE_MAX)
    context_env: Annotated[dict[str, Any], BeforeValidator(_parsed)]
    request_url: str | None = Field(None, max_length=_LINE_MAX)
    request_status: int | None = Field(None, ge=0, le=999)
    traceback: str | None = Field(None, max_length=_TEXT_MAX)


class Page(Parameters):
    mark_read: bool = False
    page_size: int = Field(20, ge=1, le=100)
    page_no: int = Field(1, ge=1, le=10**6)


@router.post(
    "",
    openapi_extra=in_body(
        Report, severity="error", source="webui", message="it broke", context_lang="javascript", context_env={}
    ),
    responses=answers({"success": True}),
)
async def report(request: Request, caller: Caller, known: Known) -> Response:
    """Keep one. The last 500 of each user are kept, for 90 days."""
    new = Report.of(request)
    async with known.connection() as db:
        await error_logs.add(db, user_id=caller.identity.user.user_id, **new.model_dump())
    return json({"success": True})


@router.get("", openapi_extra=in_query(Page), responses=answers({"logs": [], "count": 0}))
async def list_logs(request: Request, caller: Caller, directory: Directory, known: Known) -> Response:
    """One's own that are not cleared, the youngest first; an admin sees all of his users'."""
    asked = Page.of(request)
    users = _users(caller, directory)
    is_admin = not sight(caller.identity).own_only
    async with known.connection() as db:
        skip = (asked.page_no - 1) * asked.page_size
        found, count = await error_logs.page(db, users, cleared=is_admin, skip=skip, limit=asked.page_size)
        if asked.mark_read:
            await error_logs.mark_read(db, found)
    return json({"logs": [_shown(log, is_admin=is_admin) for log in found], "count": count})


@router.post("/{log_id}/clear", responses=answers({"success": True}))
async def clear(log_id: str, caller: Caller, directory: Directory, known: Known) -> Response:
    """Take it off the list of whoever reported it."""
    async with known.connection() as db:
        if not await error_logs.clear(db, _id(log_id), _users(caller, directory)):
            raise _missing(log_id)
    return json({"success": True})


def _users(caller: Signer, directory: State) -> list[str] | None:
    """Whose reports he sees; None: everybody's."""
    seen = sight(caller.identity)
    if seen.everything:
        return None
    return [user.user_id for user in directory.users.values() if seen.user(user)]


def _id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _missing(text) from None


def _missing(log_id: str) -> Problem:
    return Problem(404, "error-log-not-found", "No such error log", f"no error log {log_id[:80]}", field="log_id")


def _shown(log: ErrorLog, *, is_admin: bool) -> dict[str, Any]:
    told = {
        "log_id": str(log.log_id),
        "created_at": log.created_at.timestamp(),
        "severity": log.severity,
        "source": log.source,
        "user": log.user_id,
        "is_read": log.is_read,
        "message": log.message,
        "context_lang": log.context_lang,
        "context_env": log.context_env,
        "request_url": log.request_url,
        "request_status": log.request_status,
        "traceback": log.traceback,
    }
    return told | {"is_cleared": log.is_cleared} if is_admin else told
