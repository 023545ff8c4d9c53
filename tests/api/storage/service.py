"""A storage service in this process: real listeners, a real folder, no log."""

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from pydantic import SecretStr

from api.storage.app import serving
from api.storage.places import NoRoom, NoSuchFolder, Place
from domain.vfolder.mounts import FolderId, FolderRef, folder_path
from domain.vfolder.operations import FileOperation
from infra.settings import Settings
from infra.storage_passes import DownloadPass, ManagePass, StoragePass, UploadPass, make_pass

ACTOR = "user:ada"
TUS = {"Tus-Resumable": "1.0.0", "Content-Type": "application/offset+octet-stream"}


class OneVolume:
    """Its folders, as `api.storage.effects.places` has them. `room`: bytes that may still be written."""

    def __init__(self, volume: Path) -> None:
        self.volume = volume
        self.room = 2**62
        self.changes = 0

    def make(self) -> FolderRef:
        made = FolderRef(scope=f"user:{uuid4()}", folder_id=FolderId(str(uuid4())), host="local:volume1")
        self.root(made).mkdir(parents=True)
        self._uploads(made).mkdir(parents=True)
        return made

    def root(self, folder: FolderRef) -> Path:
        return self.volume / folder_path(folder.folder_id)

    def _uploads(self, folder: FolderRef) -> Path:
        return self.volume / ".refold" / "uploads" / folder.folder_id

    def place(self, folder: FolderRef) -> Place:
        if not self.root(folder).is_dir():
            raise NoSuchFolder(folder.folder_id)
        return Place(self.root(folder), self._uploads(folder))

    def uploads(self) -> Sequence[Path]:
        return list((self.volume / ".refold" / "uploads").glob("*"))

    async def admit(self, folder: FolderRef, more: int) -> None:  # noqa: ARG002
        if more > self.room:
            raise NoRoom("quota_scope", 1000)
        self.room -= more

    def changed(self, folder: FolderRef) -> None:  # noqa: ARG002
        self.changes += 1

    async def describe(self) -> list[dict[str, Any]]:
        return [{"name": "volume1", "backend": "vfs", "capabilities": [], "capacity_bytes": 1, "used_bytes": 0}]

    async def usage(self, folder: FolderRef) -> tuple[int, int]:  # noqa: ARG002
        return 3, 1


@dataclass
class Service:
    settings: Settings
    volume: OneVolume
    folder: FolderRef
    client: httpx.AsyncClient
    internal: httpx.AsyncClient
    audited: list[FileOperation] = field(default_factory=list)

    @property
    def root(self) -> Path:
        return self.volume.root(self.folder)

    @property
    def parts(self) -> list[Path]:
        """What lies beside the folder."""
        return sorted(path for uploads in self.volume.uploads() for path in uploads.iterdir())

    def token(self, what: StoragePass, seconds: float = 60.0) -> str:
        return make_pass(self.settings, "local", what, seconds)

    def upload(self, path: str, size: int) -> str:
        return self.token(UploadPass(folder=self.folder, actor=ACTOR, path=path, size=size))

    def download(self, path: str, *, archive: bool = False) -> str:
        return self.token(DownloadPass(folder=self.folder, actor=ACTOR, path=path, archive=archive))

    def managing(self, *, writes: bool = True) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(ManagePass(folder=self.folder, actor=ACTOR, writes=writes))}"}

    async def patch(self, token: str, offset: int, data: bytes, **query: str) -> httpx.Response:
        headers = TUS | {"Upload-Offset": str(offset)}
        return await self.client.patch("/upload", params={"token": token} | query, content=data, headers=headers)

    async def get(self, path: str, **headers: str) -> httpx.Response:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        return await self.client.get("/download", params={"token": self.download(path)}, headers=sent)

    async def do(self, operation: str, **body: Any) -> httpx.Response:
        return await self.internal.post(f"/{operation}", json=body, headers=self.managing())

    async def files(self, path: str = "", **query: str) -> httpx.Response:
        return await self.internal.get("/files", params={"path": path} | query, headers=self.managing(writes=False))


@asynccontextmanager
async def service(volume: OneVolume) -> AsyncIterator[Service]:
    settings = Settings(
        internal_key=SecretStr("storage-tests-internal-key-0123456789"),
        storage_port=0,
        storage_internal_port=0,
    )

    async def ready() -> str | None:
        return None

    audited: list[FileOperation] = []
    owner = (os.getuid(), os.getgid())
    async with (
        serving(settings, volume, owner, audited.append, ready) as ports,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.client}", timeout=20) as client,
        httpx.AsyncClient(base_url=f"http://127.0.0.1:{ports.internal}", timeout=20) as internal,
    ):
        yield Service(settings, volume, volume.make(), client, internal, audited)


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Its status, and what it is about."""
    assert answer.headers["Content-Type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].rpartition("/")[2]
