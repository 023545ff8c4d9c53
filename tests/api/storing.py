"""Folders behind an api in memory: the real storage service beside it, with a volume in a folder of the test's."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from api.storage.app import serving
from api.storage.effects.running import Effects
from api.storage.volumes import Volumes
from domain.directory.deciding.references import HOST_PERMISSIONS
from domain.vfolder.mounts import FolderId, folder_path
from domain.vfolder.operations import FileOperation
from infra.log import Log
from infra.settings import Settings

HOST: Final = "local:volume1"
EVERYTHING: Final = {HOST: tuple(sorted(HOST_PERMISSIONS))}
"""What a policy says by which all may be done there."""


@dataclass
class Storing:
    """`told`: the changes of files that the service tells of."""

    root: Path
    told: list[FileOperation] = field(default_factory=list)

    def folder(self, folder_id: str) -> Path:
        """Where it lies. Ids may come without dashes."""
        return self.root / folder_path(FolderId(folder_id))


@asynccontextmanager
async def storing(settings: Settings, log: Log, folder: Path) -> AsyncIterator[Storing]:
    """The service `local` runs, and the api of these settings knows where."""
    storage = Storing(folder / "volume1")
    storage.root.mkdir()
    owner = (os.getuid(), os.getgid())
    own = settings.model_copy(
        update={
            "storage_volumes": {"volume1": str(storage.root)},
            "storage_owner": f"{owner[0]}:{owner[1]}",
            "storage_scan_seconds": 3600.0,
            "storage_port": 0,
            "storage_internal_port": 0,
        }
    )

    volumes = Volumes.from_settings(own)
    volumes.at(HOST).open(new=True)  # what the log has of it already is a test's

    async def ready() -> str | None:
        return None

    async with (
        Effects(own, log, volumes) as effects,
        serving(own, effects.places, owner, storage.told.append, ready) as ports,
    ):
        settings.storage["local"] = {
            "client": f"http://127.0.0.1:{ports.client}",
            "internal": f"http://127.0.0.1:{ports.internal}",
        }
        yield storage
