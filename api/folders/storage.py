"""The storage services, as the api reaches them: what lies in a folder, and passes for those who fetch and bring files.

Bytes go between clients and the service itself. What the api asks by itself it asks with a pass of a minute, for one
folder and in the name of whoever asked the api.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeVar

import httpx
from pydantic import Field, TypeAdapter, ValidationError

from api.folders.storage_problems import away, broken, no_host, refusal
from api.http.problems import Problem
from domain.messages import Value
from domain.vfolder.mounts import FolderRef, Host
from infra.settings import Settings
from infra.storage_passes import (
    DOWNLOAD_SECONDS,
    MANAGE_SECONDS,
    UPLOAD_SECONDS,
    DownloadPass,
    ManagePass,
    StoragePass,
    UploadPass,
    VolumesPass,
    make_pass,
)

_ASK_SECONDS: Final = 5.0
_WORK_SECONDS: Final = 600.0  # to delete many files takes its time, and the public client waits for ever
_ANSWER_BYTES_MAX: Final = 64 * 2**20  # a page of 100,000 names is about 20 MB

T = TypeVar("T")


class Volume(Value):
    """One volume of a service, as that tells of it. `capabilities`: `quota`, `fast-clone` and what else it can."""

    name: str
    backend: str
    capabilities: tuple[str, ...] = ()
    capacity_bytes: int = 0
    used_bytes: int = 0

    @property
    def used_percentage(self) -> float:
        return 100 * self.used_bytes / self.capacity_bytes if self.capacity_bytes else 0.0


class File(Value):
    """What lies in a folder. Times are seconds since 1970; `target`: where a symbolic link points."""

    name: str
    type: Literal["FILE", "DIRECTORY", "SYMBOLIC_LINK"]
    size: int
    mode: int
    created: float
    modified: float
    accessed: float
    target: str | None = None


class Files(Value):
    """A page of them by name; `next`: after which one the next page begins, None where there is none."""

    files: tuple[File, ...]
    next: str | None = None


class Usage(Value):
    used_bytes: int = Field(ge=0)
    files: int = Field(ge=0)


class _Volumes(Value):
    volumes: tuple[Volume, ...]


@dataclass(frozen=True, slots=True)
class Ticket:
    """With this `token`, for some time, at this `url`."""

    token: str
    url: str


class Storage:
    """All storage services of the settings. Every method raises `Problem`: what a service refuses, or that it is away.

    `actor`: who asked for it, as the log names him.
    """

    def __init__(self, settings: Settings, http: httpx.AsyncClient) -> None:
        self._settings = settings
        self._http = http

    # -- for clients -------------------------------------------------------------------------------------------------

    async def upload(self, folder: FolderRef, actor: str, path: str, size: int) -> Ticket:
        """To bring one file of `size` bytes. An empty one is made here: clients have nothing to bring then."""
        if size == 0:
            await self._change(folder, actor, "touch", {"path": path})
        what = UploadPass(folder=folder, actor=actor, path=path, size=size)
        return self._ticket(folder.host, "upload", what, UPLOAD_SECONDS)

    def download(self, folder: FolderRef, actor: str, path: str, *, archive: bool) -> Ticket:
        """To fetch one file; with `archive`, what is below `path` as one file."""
        what = DownloadPass(folder=folder, actor=actor, path=path, archive=archive)
        return self._ticket(folder.host, "download", what, DOWNLOAD_SECONDS)

    def _ticket(self, host: Host, place: str, what: StoragePass, seconds: float) -> Ticket:
        service, _, _ = host.partition(":")
        token = make_pass(self._settings, service, what, seconds)
        return Ticket(token, f"{self._address(service, 'client')}/{place}")

    # -- volumes -----------------------------------------------------------------------------------------------------

    @property
    def services(self) -> Sequence[str]:
        return sorted(self._settings.storage)

    async def volumes_of(self, service: str) -> Mapping[Host, Volume]:
        """By host."""
        told = await self._asked(service, VolumesPass(), "GET", "volumes", TypeAdapter(_Volumes))
        return {f"{service}:{volume.name}": volume for volume in told.volumes}

    async def volumes(self) -> Mapping[Host, Volume]:
        """Of all services that answer, by host."""
        asked = await asyncio.gather(*map(self.volumes_of, self.services), return_exceptions=True)
        found: dict[Host, Volume] = {}
        for told in asked:
            if isinstance(told, Problem):
                continue  # it is away; the others are not
            if isinstance(told, BaseException):
                raise told
            found |= told
        return found

    async def volume(self, host: Host) -> Volume:
        service, _, name = host.partition(":")
        volume = (await self.volumes_of(service)).get(host)
        if volume is None:
            raise no_host(host, f"the storage service {service} has no volume {name}")
        return volume

    # -- what lies in a folder ---------------------------------------------------------------------------------------

    async def files(self, folder: FolderRef, actor: str, path: str, limit: int, after: str | None = None) -> Files:
        """What lies directly below `path`, by name: `limit` of them, those after the name `after`."""
        params = {"path": path, "limit": str(limit)} | ({} if after is None else {"after": after})
        return await self._look(folder, actor, "files", TypeAdapter(Files), params)

    async def usage(self, folder: FolderRef, actor: str) -> Usage:
        return await self._look(folder, actor, "usage", TypeAdapter(Usage))

    async def content(self, folder: FolderRef, actor: str, path: str, bytes_max: int) -> bytes:
        """Of a small file, such as a model's card. 413: it is larger than that."""
        what = ManagePass(folder=folder, actor=actor)
        params = {"path": path, "max_bytes": str(bytes_max)}
        async with self._answered(_service(folder), what, "GET", "content", params=params) as answer:
            return await _whole(answer)

    async def mkdir(
        self, folder: FolderRef, actor: str, paths: Sequence[str], *, parents: bool, exist_ok: bool
    ) -> None:
        await self._change(folder, actor, "mkdir", {"paths": list(paths), "parents": parents, "exist_ok": exist_ok})

    async def rename(self, folder: FolderRef, actor: str, path: str, new_name: str, *, is_dir: bool | None) -> None:
        """Stays where it is. `is_dir` None: whatever it is."""
        told = {"path": path, "new_name": new_name} | ({} if is_dir is None else {"is_dir": is_dir})
        await self._change(folder, actor, "rename", told)

    async def move(self, folder: FolderRef, actor: str, src: str, dst: str) -> None:
        await self._change(folder, actor, "move", {"src": src, "dst": dst})

    async def delete(self, folder: FolderRef, actor: str, files: Sequence[str], *, recursive: bool) -> None:
        await self._change(folder, actor, "delete", {"files": list(files), "recursive": recursive})

    # -- on the wire -------------------------------------------------------------------------------------------------

    async def _look(
        self, folder: FolderRef, actor: str, place: str, form: TypeAdapter[T], params: Mapping[str, str] | None = None
    ) -> T:
        what = ManagePass(folder=folder, actor=actor)
        return await self._asked(_service(folder), what, "GET", place, form, params=params)

    async def _change(self, folder: FolderRef, actor: str, place: str, told: Mapping[str, Any]) -> None:
        what = ManagePass(folder=folder, actor=actor, writes=True)
        async with self._answered(_service(folder), what, "POST", place, json=told, timeout=_WORK_SECONDS) as answer:
            await _whole(answer)

    async def _asked(
        self, service: str, what: StoragePass, method: str, place: str, form: TypeAdapter[T], **request: Any
    ) -> T:
        async with self._answered(service, what, method, place, **request) as answer:
            content = await _whole(answer)
        try:
            return form.validate_json(content)
        except ValidationError as error:
            raise broken(service) from error

    @asynccontextmanager
    async def _answered(
        self, service: str, what: StoragePass, method: str, place: str, timeout: float = _ASK_SECONDS, **request: Any
    ) -> AsyncIterator[httpx.Response]:
        """The answer, if it is no error. Raises `Problem`."""
        address = self._address(service, "internal")
        token = make_pass(self._settings, service, what, MANAGE_SECONDS)
        headers = {"Authorization": f"Bearer {token}"}
        limits = httpx.Timeout(timeout, connect=_ASK_SECONDS)
        try:
            async with self._http.stream(
                method, f"{address}/{place}", headers=headers, timeout=limits, **request
            ) as answer:
                if not answer.is_success:
                    raise refusal(service, answer.status_code, await _whole(answer))
                yield answer
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise away(service) from error

    def _address(self, service: str, side: Literal["client", "internal"]) -> str:
        address = self._settings.storage.get(service, {}).get(side)
        if not address:
            raise no_host(service, f"no storage service {service} is known here")
        return address.rstrip("/")


def _service(folder: FolderRef) -> str:
    return folder.host.partition(":")[0]


async def _whole(answer: httpx.Response) -> bytes:
    pieces, size = [], 0
    async for piece in answer.aiter_bytes():
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            raise Problem(502, "storage-broken", "The storage service answers too much", "its answer is too long")
        pieces.append(piece)
    return b"".join(pieces)
