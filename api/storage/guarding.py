"""Who may do what: each request shows a pass of the api, and every "no" is a problem, whichever listener it came to."""

import asyncio
import errno
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from functools import wraps
from typing import Any, Final, TypeVar
from uuid import UUID

import orjson
import structlog
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError
from pydantic import ValidationError

from api.http.problems import MEDIA_TYPE, Problem, internal, invalid, not_valid, of_status
from api.storage.paths import BadPath
from api.storage.places import NoRoom, NoSuchFolder, Place, Places
from api.storage.trees import Owner, Refused
from domain.vfolder.mounts import FolderRef
from domain.vfolder.operations import FileOperation, Operation
from infra.secrets import BadToken
from infra.settings import Settings
from infra.storage_passes import StoragePass, read_pass

Audit = Callable[[FileOperation], None]
"""Told of each change of files. Neither waits nor raises."""

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

T = TypeVar("T")

_log = structlog.get_logger("api.storage")


class Doors:
    """What all doors of one storage service share."""

    def __init__(self, settings: Settings, places: Places, owner: Owner, audit: Audit) -> None:
        self.settings = settings
        self.places = places
        self.owner = owner
        self._audit = audit

    def pass_of(self, token: str) -> StoragePass:
        """What the bearer may do. Raises `Problem` (401)."""
        try:
            given = read_pass(self.settings, self.settings.storage_name, token)
            if given.may != "volumes":
                UUID(given.pass_id)
                UUID(given.folder.folder_id)  # both become names of files
        except (BadToken, ValueError) as error:
            raise Problem(
                401, "storage-pass", "No valid pass", str(error), field="token", headers={"WWW-Authenticate": "Bearer"}
            ) from None
        return given

    async def place(self, folder: FolderRef) -> Place:
        """Raises `Problem` (404)."""
        return await asyncio.to_thread(self.places.place, folder)

    def note(
        self,
        given: Any,
        operation: Operation,
        path: str,
        target: str | None = None,
        size_bytes: int | None = None,
    ) -> None:
        """Something was changed by who has this pass."""
        self.places.changed(given.folder)
        self._audit(
            FileOperation(
                at=datetime.now(UTC),
                folder=given.folder,
                actor=given.actor,
                operation=operation,
                path=path,
                target=target,
                size_bytes=size_bytes,
            )
        )


def wrong_pass(needed: str) -> Problem:
    return Problem(403, "storage-pass", "Not what the pass is for", f"this needs a pass to {needed}", field="token")


def too_much(what: str) -> Problem:
    detail = f"too many {what} at once: later"
    return Problem(503, "overloaded", "Too much at once", detail, retryable=True, retry_after=5)


async def unbroken(work: Awaitable[T]) -> T:
    """Its result. If this is cancelled meanwhile, then only when the work has ended."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


def answering(handler: Handler) -> Handler:
    """The same, with problems as answers."""

    @wraps(handler)
    async def answer(request: web.Request) -> web.StreamResponse:
        try:
            return await handler(request)
        except (web.HTTPException, ConnectionResetError, HttpProcessingError):
            raise
        except Exception as error:
            problem = problem_of(error)
            if problem is None:
                _log.exception("a request failed", path=request.path)
                problem = internal()
            return _response(problem, request)

    return answer


@web.middleware
async def problems(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Also what the server says by itself is a problem."""
    try:
        return await answering(handler)(request)
    except web.HTTPException as error:
        headers = {name: value for name, value in error.headers.items() if name == "Allow"}
        return _response(of_status(error.status, headers=headers), request)


def _response(problem: Problem, request: web.Request) -> web.Response:
    body = orjson.dumps(problem.body(request.path), default=str)
    return web.Response(body=body, status=problem.status, headers=problem.headers, content_type=MEDIA_TYPE)


_NOT_FOUND: Final = "not-found"
_OF_SYSTEM: Final = {
    errno.ENOENT: (404, _NOT_FOUND, "there is nothing there"),
    errno.ENOTDIR: (404, _NOT_FOUND, "what should be a directory on the way is none"),
    errno.ESTALE: (404, _NOT_FOUND, "it is not there any more"),
    errno.EISDIR: (400, "is-a-directory", "it is a directory"),
    errno.EEXIST: (409, "exists", "something of that name is there"),
    errno.ENOTEMPTY: (409, "exists", "a directory that is not empty is there"),
    errno.ELOOP: (400, "symbolic-link", "a symbolic link that is not followed"),
    errno.EXDEV: (400, "symbolic-link", "a symbolic link that leads out of the folder"),
    errno.ENAMETOOLONG: (400, "invalid-api-params", "the path is too long"),
    errno.ENXIO: (400, "not-a-file", "it is no file"),
    errno.EACCES: (409, "files-forbid-it", "the files of this folder do not let the storage service do that"),
    errno.EPERM: (409, "files-forbid-it", "the files of this folder do not let the storage service do that"),
    errno.EROFS: (409, "files-forbid-it", "the volume is read-only"),
    errno.EBUSY: (409, "busy", "it is in use"),
    errno.ENOSPC: (507, "no-room", "the volume is full"),
    errno.EDQUOT: (507, "no-room", "the quota is used up"),
    errno.EMFILE: (503, "overloaded", "too much at once"),
    errno.ENFILE: (503, "overloaded", "too much at once"),
    errno.EIO: (503, "volume-unavailable", "the volume does not answer"),
}
_OF_REFUSED: Final = {"too-large": 413}


def problem_of(error: Exception) -> Problem | None:
    """None for a defect of ours."""
    match error:
        case Problem():
            return error
        case BadPath():
            return invalid(error.field, error.rule, str(error))
        case ValidationError():
            return not_valid(error.errors(include_url=False, include_input=False, include_context=False))
        case Refused():
            return Problem(_OF_REFUSED.get(error.kind, 400), error.kind, "Not for that", str(error), field="path")
        case NoSuchFolder():
            return Problem(404, "folder-not-found", "No such folder", "the folder is not here", field="folder")
        case NoRoom():
            return Problem(
                507, "no-room", "No room", str(error), field="size", rule=error.rule, limit_bytes=error.limit_bytes
            )
        case OSError() if error.errno in _OF_SYSTEM:
            status, kind, detail = _OF_SYSTEM[error.errno]
            later = status == 503
            return Problem(
                status,
                kind,
                detail.capitalize(),
                detail,
                retryable=later,
                retry_after=5 if later else None,
                field="path",
            )
        case _:
            return None
