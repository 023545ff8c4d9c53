"""What the doors of a storage service are told of folders (`api.storage.places.Places`)."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from api.storage.effects.quotas import Quotas
from api.storage.effects.wanted import Wanted
from api.storage.places import NoSuchFolder, Place
from api.storage.volumes import NoVolume, Volume, Volumes
from domain.vfolder.mounts import FolderRef


class FolderPlaces:
    """`whole`: set once it is known which folders there are."""

    def __init__(self, volumes: Volumes, wanted: Wanted, whole: asyncio.Event, quotas: Quotas) -> None:
        self._volumes = volumes
        self._wanted = wanted
        self._whole = whole
        self._quotas = quotas

    def place(self, folder: FolderRef) -> Place:
        """Both directories of it are there. Raises `NoSuchFolder`. Blocks.

        Only the disk is asked: who has a pass may know of something that is still to be read here.
        """
        try:
            volume = self._volumes.at(folder.host)
            root = volume.folder(folder.folder_id)
            if root.is_dir():
                return Place(root, volume.uploads(folder.folder_id))
        except (NoVolume, OSError) as error:
            raise NoSuchFolder(str(error)) from error
        raise NoSuchFolder(f"the folder {folder.folder_id} is not on {folder.host}")

    def uploads(self) -> Sequence[Path]:
        return [path for volume in self._volumes for path in volume.all_uploads()]

    async def admit(self, folder: FolderRef, more: int) -> None:
        """Raises `NoRoom`, `NoSuchFolder`."""
        await self._whole.wait()
        await self._quotas.claim(folder.folder_id, more)

    def changed(self, folder: FolderRef) -> None:
        self._quotas.touched(folder.folder_id)

    async def describe(self) -> list[dict[str, Any]]:
        return list(await asyncio.gather(*(asyncio.to_thread(_described, volume) for volume in self._volumes)))

    async def usage(self, folder: FolderRef) -> tuple[int, int]:
        """Raises `NoSuchFolder`."""
        await asyncio.to_thread(self.place, folder)
        await self._whole.wait()
        found = self._wanted.folder(folder.folder_id)
        if found is None:
            raise NoSuchFolder(f"there is no folder {folder.folder_id}")
        return await self._quotas.measure(found[1])


def _described(volume: Volume) -> dict[str, Any]:
    """A volume that is not there has no bytes."""
    total, used = volume.backend.capacity() if volume.is_there else (0, 0)
    return {
        "name": volume.name,
        "backend": volume.backend.kind,
        "capabilities": list(volume.backend.capabilities),
        "capacity_bytes": total,
        "used_bytes": used,
    }
