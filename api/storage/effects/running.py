"""All of it, as one thing that is started and stopped."""

import asyncio
from typing import Self

from api.storage.disks.figures import Usage
from api.storage.effects.doing import Doer
from api.storage.effects.following import Following
from api.storage.effects.keeping import Keeper
from api.storage.effects.places import FolderPlaces
from api.storage.effects.quotas import Quotas
from api.storage.effects.telling import Teller
from api.storage.effects.wanted import Wanted
from api.storage.volumes import Volumes
from domain.vfolder.state import Folder
from infra.log import Log
from infra.sending import Sender
from infra.settings import Settings


class Effects:
    """`async with` it. `places`: what the doors of the service need to know of folders."""

    def __init__(self, settings: Settings, log: Log, volumes: Volumes) -> None:
        self._wanted = Wanted([volume.host for volume in volumes])
        self._following = Following(settings, log, self._wanted)
        self._quotas = Quotas(self._wanted, self._measure)
        teller = Teller(Sender(settings, log, "refold/storage"), settings.storage_name)
        self._doers = {volume.host: Doer(volume, volumes, self._quotas, teller) for volume in volumes}
        self._keepers = [
            Keeper(
                volume,
                self._wanted,
                self._following,
                self._quotas,
                teller,
                self._doers[volume.host],
                settings.storage_scan_seconds,
            )
            for volume in volumes
        ]
        self._volumes = volumes
        self.places = FolderPlaces(volumes, self._wanted, self._following.whole, self._quotas)
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def ready(self) -> bool:
        return not self.why_not

    @property
    def why_not(self) -> str:
        """Why something is not done that should be; empty while all is well."""
        if not self._following.healthy:
            return "the log cannot be read"
        return "; ".join(keeper.why_not for keeper in self._keepers if keeper.why_not)

    async def __aenter__(self) -> Self:
        runs = [self._following.run(), *(keeper.run() for keeper in self._keepers)]
        self._tasks = [asyncio.create_task(run) for run in runs]
        return self

    async def __aexit__(self, *_: object) -> None:
        """The locks of the volumes are held until nothing is done to them any more."""
        for doer in self._doers.values():
            await asyncio.to_thread(doer.threads.stop)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _measure(self, folder: Folder) -> Usage:
        volume = self._volumes.at(folder.host)
        threads = self._doers[folder.host].threads
        return await threads.measuring(lambda: volume.measure(folder.folder_id, threads.go_on))
