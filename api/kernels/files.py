"""Files of a running session: put some there, look what is there, get some.

Paths are from the session's home folder, or absolute with `/home/work` for it, and never lead out of it. Nothing is
held here but the piece that is on its way and the next one: who is slow, on either side, slows down the other.
"""

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Annotated, Any, Final
from urllib.parse import quote

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, BeforeValidator, Field, ValidationError
from starlette.responses import Response, StreamingResponse

from api.http.deps import All, Caller
from api.http.multipart import files_in
from api.http.parameters import Parameters, answers, in_query
from api.kernels.failures import broken
from api.kernels.reaching import place_of
from api.kernels.runner import Runner, runner_of, to_json

router = APIRouter(tags=["files of sessions"])

UPLOADS_MAX: Final = 20
UPLOAD_BYTES_MAX: Final = 1024 * 1024
DOWNLOADS_MAX: Final = 5
_PIECE_BYTES: Final = 256 * 1024
_HOME: Final = "/home/work"


def _from_home(path: str) -> str:
    """As the runner knows it, whose home folder may lie elsewhere."""
    if path == _HOME or path.startswith(_HOME + "/"):
        return "." + path.removeprefix(_HOME)
    return path


def _as_list(told: Any) -> Any:
    return [told] if isinstance(told, str) else told


Path = Annotated[str, Field(min_length=1, max_length=4096)]


class Where(Parameters):
    path: Path = _HOME


class Wanted(Parameters):
    files: Annotated[list[Path], Field(min_length=1, max_length=DOWNLOADS_MAX), BeforeValidator(_as_list)]


class WantedOne(Parameters):
    file: Path


class Entry(BaseModel):
    """Of a folder, as the runner tells it. Times: seconds since 1970."""

    name: str
    bytes: int
    mode: str
    mtime: float
    ctime: float
    atime: float

    def shown(self) -> dict[str, Any]:
        """With the names that clients know."""
        told = self.model_dump()
        return {"filename": told.pop("name"), "size": told.pop("bytes"), **told}


class Listing(BaseModel):
    folder: str
    entries: list[Entry]
    left_out: int


async def _where(request: Request) -> Where:
    return Where.of(request)


async def _wanted(request: Request) -> Wanted:
    files = request.query_params.getlist("files")  # as often as it is there; else it is in the body
    return Wanted.model_validate({"files": files}) if files else Wanted.of(request)


async def _wanted_one(request: Request) -> WantedOne:
    return WantedOne.of(request)


async def _inside(reference: str, caller: Caller, all_: All) -> AsyncIterator[Runner]:
    """Held until the answer is sent, or nobody wants it any more."""
    place = await place_of(reference, caller, all_)
    async with runner_of(place, caller, all_) as runner:
        yield runner


Inside = Annotated[Runner, Depends(_inside)]

_UPLOAD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["src"],
                    "properties": {
                        "src": {
                            "type": "array",
                            "items": {"type": "string", "format": "binary"},
                            "minItems": 1,
                            "maxItems": UPLOADS_MAX,
                        }
                    },
                }
            }
        },
    }
}
_FILES: Final = {
    "files": '[{"filename": "main.py", "size": 12, "mode": "-rw-r--r--", "mtime": 1767225600.0}]',
    "folder_path": _HOME,
    "errors": "",
}
_CONTENT: Final = {"content": {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}}


@router.post("/session/{reference}/upload", status_code=204, openapi_extra=_UPLOAD)
async def upload(request: Request, runner: Inside) -> Response:
    """Put files there: at most 20, of at most 1 MiB each. Their names may have folders, which are made.

    Each is there whole or not at all; if one is refused, those before it are there. The signature of the request leaves
    its body out, unless all bodies must be signed; the body may have 256 KiB then.
    """
    async with aclosing(files_in(request, files_max=UPLOADS_MAX, file_bytes_max=UPLOAD_BYTES_MAX)) as files:
        async for file in files:
            await runner.request("files-upload", bytes(file.content), path=_from_home(file.name))
    return Response(None, 204)


@router.get(
    "/session/{reference}/files",
    openapi_extra=in_query(Where),
    responses=answers(_FILES, "`files` is JSON in itself. `left_out`: how many more there are than are named."),
)
async def list_files(asked: Annotated[Where, Depends(_where)], runner: Inside) -> Response:
    """What is in a folder, by name."""
    told, _ = await runner.request("files-list", path=_from_home(asked.path))
    try:
        listing = Listing.model_validate(told)
    except ValidationError as error:
        raise broken("its runner tells of files in words that are not agreed") from error
    body = {
        "files": to_json([entry.shown() for entry in listing.entries]).decode(),
        "folder_path": listing.folder,
        "errors": "",
        "left_out": listing.left_out,
    }
    return Response(to_json(body), media_type="application/json")


@router.get(
    "/session/{reference}/download",
    openapi_extra=in_query(Wanted),
    responses={200: {"description": "A tar archive for each, as parts of a multipart body.", **_CONTENT}},
)
@router.post("/session/{reference}/download", include_in_schema=False)
async def download(asked: Annotated[Wanted, Depends(_wanted)], runner: Inside) -> Response:
    """At most 5 files or folders. Names in the archives are from the home folder; links stay links."""
    downloads = [(await _opened(runner, path, single=False))[0] for path in asked.files]
    boundary = secrets.token_hex(16)
    return StreamingResponse(_parts(runner, downloads, boundary), media_type=f"multipart/mixed; boundary={boundary}")


async def _parts(runner: Runner, downloads: Sequence[str], boundary: str) -> AsyncGenerator[bytes, None]:
    for download in downloads:
        yield f"--{boundary}\r\nContent-Type: application/x-tar\r\nContent-Encoding: identity\r\n\r\n".encode()
        async for piece in _pieces(runner, download):
            yield piece
        yield b"\r\n"
    yield f"--{boundary}--\r\n".encode()


@router.get(
    "/session/{reference}/download_single",
    openapi_extra=in_query(WantedOne),
    responses={200: {"description": "Its content.", **_CONTENT}},
)
@router.post("/session/{reference}/download_single", include_in_schema=False)
async def download_single(asked: Annotated[WantedOne, Depends(_wanted_one)], runner: Inside) -> Response:
    """One file as it is."""
    opened, size = await _opened(runner, asked.file, single=True)
    headers = {
        "Content-Disposition": f"attachment; filename*=UTF-8''{quote(_last_name(asked.file), safe='')}",
        "X-Content-Type-Options": "nosniff",  # the session's user made it, and it is no page of ours
    }
    if size is not None:
        headers["Content-Length"] = str(size)
    return StreamingResponse(_pieces(runner, opened), 200, headers, "application/octet-stream")


def _last_name(path: str) -> str:
    return path.rstrip("/").rpartition("/")[2]


async def _opened(runner: Runner, path: str, *, single: bool) -> tuple[str, int | None]:
    """What the runner calls it, and how many bytes it will be, if that is known. Raises `Problem`."""
    told, _ = await runner.request("download-open", paths=[_from_home(path)], single=single)
    name, size = told.get("download"), told.get("bytes")
    if not isinstance(name, str) or not (size is None or (isinstance(size, int) and size >= 0)):
        raise broken("its runner opens a download in words that are not agreed")
    return name, size


async def _pieces(runner: Runner, download: str) -> AsyncGenerator[bytes, None]:
    """While one is on its way, the next is fetched."""
    fetching = asyncio.create_task(_piece(runner, download))
    try:
        is_last = False
        while not is_last:
            piece, is_last = await fetching
            if not is_last:
                fetching = asyncio.create_task(_piece(runner, download))
            yield piece
    finally:
        fetching.cancel()
        await asyncio.gather(fetching, return_exceptions=True)


async def _piece(runner: Runner, download: str) -> tuple[bytes, bool]:
    """And whether it is the last one. Raises `Problem`."""
    told, piece = await runner.request("download-read", download=download, bytes_max=_PIECE_BYTES)
    is_last = told.get("last") is True
    if not piece and not is_last:
        raise broken("its runner gives nothing of a download, and says that there is more")
    return piece, is_last
