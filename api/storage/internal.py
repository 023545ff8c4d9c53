"""What the api asks, for somebody whose rights it has looked up: the pass says for which folder, and whether things may
be changed there."""

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path as FilePath
from typing import Annotated, Final, TypeVar

import orjson
import structlog
from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from api.http.problems import Problem, invalid, not_valid
from api.storage import trees
from api.storage.guarding import Doors, answering, too_much, unbroken, wrong_pass
from api.storage.listing import listed
from api.storage.paths import opened_root
from api.storage.places import Place
from domain.vfolder.operations import Operation
from infra.storage_passes import ManagePass, VolumesPass

LISTED_MAX: Final = 10_000
_CONTENT_BYTES_MAX: Final = 16 * 1024 * 1024
_BODY_BYTES_MAX: Final = 16 * 1024 * 1024  # a list of many files to delete
_PATHS_MAX: Final = 10_000
_AT_ONCE: Final = 200
_STOP_SECONDS: Final = 5.0

Path = Annotated[str, Field(max_length=4096)]
_log = structlog.get_logger("api.storage")

T = TypeVar("T")
B = TypeVar("B", bound="_Body")


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Mkdir(_Body):
    path: Path | None = None
    paths: list[Path] = Field(default=[], max_length=_PATHS_MAX)
    parents: bool = False
    exist_ok: bool = False


class _Touch(_Body):
    path: Path


class _Rename(_Body):
    path: Path
    new_name: Path
    is_dir: bool | None = None


class _Move(_Body):
    src: Path
    dst: Path


class _Delete(_Body):
    files: list[Path] = Field(min_length=1, max_length=_PATHS_MAX)
    recursive: bool = False


class Internal:
    """The routes of the internal listener."""

    def __init__(self, doors: Doors) -> None:
        self._doors = doors
        self._at_work = 0
        self._removing: set[asyncio.Task[None]] = set()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/volumes", answering(self._volumes)),
            web.get("/usage", answering(self._usage)),
            web.get("/files", answering(self._files)),
            web.get("/content", answering(self._content)),
            web.post("/mkdir", answering(self._mkdir)),
            web.post("/touch", answering(self._touch)),
            web.post("/rename", answering(self._rename)),
            web.post("/move", answering(self._move)),
            web.post("/delete", answering(self._delete)),
        ]

    async def close(self) -> None:
        """What was taken away is deleted as far as it goes; the rest at the next start."""
        if self._removing:
            await asyncio.wait(self._removing, timeout=_STOP_SECONDS)

    async def _volumes(self, request: web.Request) -> web.StreamResponse:
        if not isinstance(self._doors.pass_of(_token(request)), VolumesPass):
            raise wrong_pass("ask for volumes")
        return _json({"volumes": await self._doors.places.describe()})

    async def _usage(self, request: web.Request) -> web.StreamResponse:
        given = self._given(request)
        used_bytes, files = await self._doors.places.usage(given.folder)
        return _json({"used_bytes": used_bytes, "files": files})

    async def _files(self, request: web.Request) -> web.StreamResponse:
        given = self._given(request)
        limit = _number(request, "limit", LISTED_MAX, LISTED_MAX)
        path, after = request.query.get("path", ""), request.query.get("after")
        files, more = await self._in(given, lambda _, root: listed(root, path, limit, after))
        return _json({"files": files, "next": more})

    async def _content(self, request: web.Request) -> web.StreamResponse:
        given = self._given(request)
        max_bytes = _number(request, "max_bytes", 1024 * 1024, _CONTENT_BYTES_MAX)
        path = request.query.get("path", "")
        data = await self._in(given, lambda _, root: trees.content(root, path, max_bytes))
        return web.Response(body=data, content_type="application/octet-stream")

    async def _mkdir(self, request: web.Request) -> web.StreamResponse:
        given, asked = self._given(request, writes=True), await _body(request, _Mkdir)
        paths = asked.paths if asked.path is None else [asked.path, *asked.paths]
        if not paths:
            raise invalid("path", "missing", "path or paths says what to make")
        for path in paths:
            if await self._in(given, self._making(path, asked)):
                self._doors.note(given, Operation.MKDIR, path)
        return _json({})

    def _making(self, path: str, asked: _Mkdir) -> Callable[[Place, int], bool]:
        def make(_: Place, root: int) -> bool:
            return trees.make_directory(root, path, self._doors.owner, parents=asked.parents, exist_ok=asked.exist_ok)

        return make

    async def _touch(self, request: web.Request) -> web.StreamResponse:
        given, asked = self._given(request, writes=True), await _body(request, _Touch)
        owner = self._doors.owner
        await self._in(given, lambda place, root: trees.make_empty(root, asked.path, place.uploads, owner))
        self._doors.note(given, Operation.UPLOAD, asked.path, size_bytes=0)
        return _json({})

    async def _rename(self, request: web.Request) -> web.StreamResponse:
        given, asked = self._given(request, writes=True), await _body(request, _Rename)
        now = await self._in(given, lambda _, root: trees.rename(root, asked.path, asked.new_name, is_dir=asked.is_dir))
        self._doors.note(given, Operation.RENAME, asked.path, now)
        return _json({"path": now})

    async def _move(self, request: web.Request) -> web.StreamResponse:
        given, asked = self._given(request, writes=True), await _body(request, _Move)
        now = await self._in(given, lambda _, root: trees.move(root, asked.src, asked.dst, self._doors.owner))
        self._doors.note(given, Operation.MOVE, asked.src, now)
        return _json({"path": now})

    async def _delete(self, request: web.Request) -> web.StreamResponse:
        """They are gone at once; the space of directories is free when all in them is deleted."""
        given, asked = self._given(request, writes=True), await _body(request, _Delete)
        away = await self._in(
            given, lambda place, root: trees.take_away(root, asked.files, place.uploads, recursive=asked.recursive)
        )
        for path in asked.files:
            self._doors.note(given, Operation.DELETE, path)
        if away:
            task = asyncio.create_task(_removed(away))
            self._removing.add(task)
            task.add_done_callback(self._removing.discard)
        return _json({})

    def _given(self, request: web.Request, *, writes: bool = False) -> ManagePass:
        given = self._doors.pass_of(_token(request))
        if not isinstance(given, ManagePass) or (writes and not given.writes):
            raise wrong_pass("change the folder" if writes else "look into the folder")
        return given

    async def _in(self, given: ManagePass, work: Callable[[Place, int], T]) -> T:
        """In a thread, with the folder open."""
        if self._at_work >= _AT_ONCE:
            raise too_much("operations")
        place = await self._doors.place(given.folder)

        def at_work() -> T:
            with opened_root(place.root) as root:
                return work(place, root)

        self._at_work += 1
        try:
            return await unbroken(asyncio.to_thread(at_work))
        finally:
            self._at_work -= 1


async def _removed(away: Sequence[FilePath]) -> None:
    try:
        await asyncio.to_thread(trees.remove, away)
    except OSError as error:
        _log.warning("could not be deleted before the next start", what=str(away), error=str(error))


def _token(request: web.Request) -> str:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def _number(request: web.Request, name: str, default: int, largest: int) -> int:
    text = request.query.get(name, str(default))
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 0 < int(text) <= largest):
        raise invalid(name, "out_of_range", f"{name} is a number from 1 to {largest}")
    return int(text)


async def _body(request: web.Request, model: type[B]) -> B:
    raw = bytearray()
    async for piece in request.content.iter_any():
        raw += piece
        if len(raw) > _BODY_BYTES_MAX:
            raise Problem(413, "too-large", "Too large", "the body is too large")
    try:
        return model.model_validate(orjson.loads(bytes(raw)))
    except orjson.JSONDecodeError:
        raise invalid("body", "json_invalid", "the body is no JSON") from None
    except ValidationError as error:
        raise not_valid(error.errors(include_url=False, include_input=False, include_context=False)) from None


def _json(value: object) -> web.Response:
    return web.Response(body=orjson.dumps(value), content_type="application/json")
