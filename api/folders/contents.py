"""What lies in folders: listed, made, renamed, moved and deleted through the api; brought and fetched with a pass.

The bytes themselves go between clients and the storage service, which also says what was wrong with a path.
"""

from typing import Final

from fastapi import APIRouter, Request
from starlette.responses import Response

from api.folders.finding import Folders, Found, Mine
from api.folders.requests import Doomed, Move, NewDirectories, NewDownload, NewFileName, NewUpload, Place
from api.folders.shapes import listing
from api.folders.storage import File, Files
from api.http.answers import json
from api.http.parameters import answers, in_body, in_query

router = APIRouter(prefix="/folders", tags=["files in folders"])

_PAGE: Final = 10_000
_LISTED_MAX: Final = 100_000  # in one answer, some 40 MB; larger directories are listed page by page
_FILE: Final = {"name": "a.txt", "type": "FILE", "size": 6, "mode": "644", "modified": "2026-11-21T09:00:00+00:00"}
_TICKET: Final = {"token": "eyJhbGciOiJIUzI1NiJ9", "url": "http://127.0.0.1:8083/upload"}


@router.get(
    "/{reference}/files",
    openapi_extra=in_query(Place),
    responses=answers({"items": [_FILE], "files": "[]", "next": None}),
)
async def list_files(reference: str, request: Request, folders: Mine) -> Response:
    """What is in a directory, by name. `next`: what to send as `after` for the rest, if there is any.

    Symbolic links are shown, with where they point; none leads out of the folder.
    """
    place = Place.of(request)
    found = await folders.readable(reference)
    files, following = await _listed(found, place, folders)
    return json(listing(files) | {"next": following})


async def _listed(found: Found, place: Place, folders: Folders) -> tuple[list[File], str | None]:
    wanted = place.limit or _LISTED_MAX
    files: list[File] = []
    after = place.after
    while True:
        limit = min(_PAGE, wanted - len(files))
        page: Files = await folders.storage.files(found.ref, folders.caller.actor, place.path, limit, after)
        files += page.files
        after = page.next
        if after is None or len(files) >= wanted:
            return files, after


@router.post(
    "/{reference}/request-upload", openapi_extra=in_body(NewUpload, path="a.txt", size=6), responses=answers(_TICKET)
)
async def request_upload(reference: str, request: Request, folders: Mine) -> Response:
    """Where to bring a file of that size, by TUS 1.0. What has its name is replaced once all of it is there."""
    new = NewUpload.of(request)
    found = await folders.writable(reference, "upload-file")
    ticket = await folders.storage.upload(found.ref, folders.caller.actor, new.path, new.size)
    return json({"token": ticket.token, "url": ticket.url})


@router.post(
    "/{reference}/request-download",
    openapi_extra=in_body(NewDownload, path="a.txt", archive=False),
    responses=answers(_TICKET),
)
async def request_download(reference: str, request: Request, folders: Mine) -> Response:
    """Where to fetch a file, or with `archive` a directory as a zip file."""
    asked = NewDownload.of(request)
    found = await folders.readable(reference, "download-file")
    ticket = folders.storage.download(found.ref, folders.caller.actor, asked.path, archive=asked.archive)
    return json({"token": ticket.token, "url": ticket.url})


@router.post(
    "/{reference}/mkdir",
    status_code=201,
    openapi_extra=in_body(NewDirectories, path="results/first", parents=True, exist_ok=False),
    responses=answers({"success": True}, "They are there.", 201),
)
async def mkdir(reference: str, request: Request, folders: Mine) -> Response:
    """Make a directory, or several; with `parents` also those above it."""
    new = NewDirectories.of(request)
    found = await folders.writable(reference, "upload-file")
    await folders.storage.mkdir(found.ref, folders.caller.actor, new.paths, parents=new.parents, exist_ok=new.exist_ok)
    told = [{"item": path, "msg": None} for path in new.paths]
    return json({"success": True, "results": {"success": told, "failed": []}}, 201)


@router.delete(
    "/{reference}/delete-files",
    openapi_extra=in_body(Doomed, files=["a.txt"], recursive=False),
    responses=answers({"success": True}),
)
@router.post("/{reference}/delete-files", include_in_schema=False)
async def delete_files(reference: str, request: Request, folders: Mine) -> Response:
    """They cannot be taken back. A directory takes `recursive`."""
    doomed = Doomed.of(request)
    found = await folders.writable(reference, "modify-vfolder")
    await folders.storage.delete(found.ref, folders.caller.actor, doomed.files, recursive=doomed.recursive)
    return json({"success": True})


@router.post(
    "/{reference}/rename-file",
    openapi_extra=in_body(NewFileName, target_path="a.txt", new_name="b.txt"),
    responses=answers({"success": True}),
)
async def rename_file(reference: str, request: Request, folders: Mine) -> Response:
    """Give a file or a directory another name, where it is."""
    new = NewFileName.of(request)
    found = await folders.writable(reference, "modify-vfolder")
    await folders.storage.rename(found.ref, folders.caller.actor, new.target_path, new.new_name, is_dir=new.is_dir)
    return json({"success": True})


@router.post(
    "/{reference}/move-file",
    openapi_extra=in_body(Move, src="a.txt", dst="results/a.txt"),
    responses=answers({"success": True}),
)
async def move_file(reference: str, request: Request, folders: Mine) -> Response:
    """To another place in the same folder: into `dst` if that is a directory, else to be called so."""
    move = Move.of(request)
    found = await folders.writable(reference, "modify-vfolder")
    await folders.storage.move(found.ref, folders.caller.actor, move.src, move.dst)
    return json({"success": True})
