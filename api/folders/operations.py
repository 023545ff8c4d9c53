"""What was changed in a folder through storage services, and by whom. Sessions change files unseen."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.folders.finding import Mine, forbidden
from api.folders.shapes import hex_of
from api.http.answers import json
from api.http.deps import All
from api.http.parameters import Parameters, answers, in_query
from api.http.problems import invalid
from domain.directory.state import Directory
from domain.messages import AccessKey
from infra import file_operations
from infra.file_operations import Place, Row

router = APIRouter(prefix="/refold/folders", tags=["refold"])

_PAGE_MAX: Final = 1000
_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_OPERATION: Final = {
    "id": "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e",
    "at": "2026-11-21T09:00:00Z",
    "actor": "keypair:AKIAIOSFODNN7EXAMPLE",
    "user_email": "ada@example.org",
    "operation": "rename",
    "path": "a.txt",
    "target": "b.txt",
    "size_bytes": None,
}


class OperationsSought(Parameters):
    limit: int = Field(100, ge=1, le=_PAGE_MAX)
    after: str | None = Field(None, max_length=64, description="What the page before said was `next`.")


@router.get(
    "/{reference}/operations",
    openapi_extra=in_query(OperationsSought),
    responses=answers({"folder_id": "7f8c5e9e6d6e4b0e9b390f6f0c1c2d3e", "operations": [_OPERATION], "next": None}),
)
async def operations(reference: str, request: Request, folders: Mine, all_: All) -> Response:
    """Files uploaded, made, renamed, moved and deleted in a folder, the youngest first, as long as they are remembered.

    For its owner, a project's admins, and superadmins. `next`: what to send as `after` for those before; null where
    there are none. A change is here soon after it was made.
    """
    asked = OperationsSought.of(request)
    before = None if asked.after is None else _place(asked.after)
    found = await folders.found(reference)
    if found.permission is None:
        raise forbidden("what lies in this folder is its owner's alone")
    if not found.is_owner:
        raise forbidden(f"the folder {found.row.name} is not yours")
    async with all_.known.connection() as db:
        rows = await file_operations.page(db, found.id, before, asked.limit + 1)
    page = rows[: asked.limit]
    following = _text(page[-1].place) if len(rows) > asked.limit else None
    return json(
        {
            "folder_id": hex_of(found.id),
            "operations": [_shown(row, folders.directory) for row in page],
            "next": following,
        }
    )


def _shown(row: Row, directory: Directory) -> dict[str, Any]:
    return {
        "id": row.operation_id,
        "at": row.at,
        "actor": row.actor,
        "user_email": _email(row.actor, directory),
        "operation": row.operation,
        "path": row.path,
        "target": row.target,
        "size_bytes": row.size_bytes,
    }


def _email(actor: str, directory: Directory) -> str | None:
    """Whose keypair it is, while there is one."""
    kind, _, access_key = actor.partition(":")
    identity = directory.identity(AccessKey(access_key)) if kind == "keypair" else None
    return None if identity is None else identity.user.email


def _text(place: Place) -> str:
    """The moment in microseconds since 1970, and the id."""
    microseconds = (place.at - _EPOCH) // timedelta(microseconds=1)
    return f"{microseconds}-{place.operation_id.hex}"


def _place(text: str) -> Place:
    """Raises `Problem`."""
    microseconds, _, operation_id = text.partition("-")
    try:
        at = _EPOCH + timedelta(microseconds=int(microseconds))
        return Place(at, UUID(hex=operation_id))
    except (ValueError, OverflowError):
        raise invalid("after", "place", "this is no `next` of a page") from None
