"""Folders on real disks: the shards of their context and a storage service without its doors, on the log in memory."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from api.storage.effects.running import Effects
from api.storage.volumes import Volume, Volumes
from domain.contexts import CONTEXTS
from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey
from domain.vfolder.folding import evolve
from domain.vfolder.messages.common import FolderSpec, PurgeTask, ScopeLimits
from domain.vfolder.messages.reports import SetScopeLimits
from domain.vfolder.messages.requests import CloneFolder, CreateFolder, PurgeFolder, TrashFolder
from domain.vfolder.mounts import FolderId, FolderRef, folder_path, user_scope
from domain.vfolder.state import Folder, Folders
from tests.whole import Whole, an_id, now

ADA = user_scope(an_id("ada"))
EVE = user_scope(an_id("eve"))
HOSTS = ("local:one", "local:two")


def tree(folder: Path) -> dict[str, str | bytes | None]:
    """What is in it: files with their bytes, links with what they lead to, folders with nothing."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in sorted(folder.rglob("*"))
    }


class Disks:
    """A service `local` with the volumes `one` and `two`. Ada and Eve may make folders there."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.roots = {name: folder / name for name in ("one", "two")}
        for root in self.roots.values():
            root.mkdir(parents=True, exist_ok=True)
        volumes = {name: str(root) for name, root in self.roots.items()}
        chosen = {"storage_volumes": volumes, "storage_owner": "1000:1000", "storage_scan_seconds": 3600.0}
        self.whole = Whole(folder, **(chosen | settings))
        self.effects: Effects

    @property
    def volumes(self) -> Volumes:
        return Volumes.from_settings(self.whole.settings)

    def volume(self, host: str = "local:one") -> Volume:
        return self.volumes.at(host)

    @asynccontextmanager
    async def deciding(self) -> AsyncIterator["Disks"]:
        """The shards; what they decide is not done yet."""
        contexts = {name: CONTEXTS[name] for name in ("vfolder", "directory")}
        async with self.whole.shards(contexts):
            for scope in (ADA, EVE):
                await self.may(scope)
            yield self

    @asynccontextmanager
    async def doing(self) -> AsyncIterator[Effects]:
        async with Effects(self.whole.settings, self.whole.log, self.volumes) as self.effects:
            yield self.effects

    async def may(self, scope: str, **limits: Any) -> None:
        hosts = dict.fromkeys(HOSTS, ("create-vfolder",))
        allowed = ScopeLimits.model_validate({"hosts": hosts} | limits)
        await self.whole.give("vfolder", SetScopeLimits(at=now(), scope=scope, limits=allowed))

    async def create(self, name: str, scope: str = ADA, host: str = HOSTS[0], **spec: Any) -> FolderRef:
        folder_id = FolderId(an_id(f"folder {name}"))
        wanted = FolderSpec.model_validate({"host": host, "cloneable": True} | spec)
        command = CreateFolder(at=now(), scope=scope, folder_id=folder_id, name=name, spec=wanted)
        await self.whole.give("vfolder", command)
        return FolderRef(scope=scope, folder_id=folder_id, host=host)

    async def clone(
        self, source: FolderRef, name: str, scope: str = ADA, host: str = HOSTS[0], **spec: Any
    ) -> FolderRef:
        folder_id = FolderId(an_id(f"folder {name}"))
        wanted = FolderSpec.model_validate({"host": host} | spec)
        command = CloneFolder(
            at=now(),
            scope=scope,
            folder_id=folder_id,
            name=name,
            spec=wanted,
            source=source,
            asker=AccessKey("AKADA"),
        )
        await self.whole.give("vfolder", command)
        return FolderRef(scope=scope, folder_id=folder_id, host=host)

    async def purge(self, folder: FolderRef, task_id: TaskId | None = None) -> None:
        """With a task of that id, if any."""
        trash = TrashFolder(at=now(), scope=folder.scope, folder_id=folder.folder_id, retention_seconds=1000)
        await self.whole.give("vfolder", trash)
        task = PurgeTask(asker=AccessKey("AKADA"), task_id=task_id) if task_id else None
        purge = PurgeFolder(at=now(), scope=folder.scope, folder_id=folder.folder_id, task=task)
        await self.whole.give("vfolder", purge)

    async def state(self, scope: str = ADA) -> Folders:
        """As the log has it."""
        state = Folders()
        for told in await self.whole.told("vfolder"):
            if told.key == scope and type(told.event).__name__ not in ("CommandRefused", "ShardOpened"):
                state = evolve(state, told.event)  # type: ignore[arg-type]
        return state

    async def folder(self, ref: FolderRef) -> Folder:
        return (await self.state(ref.scope)).folders[ref.folder_id]

    async def until(self, of: FolderRef | TaskId, kind: str, times: int = 1, context: str = "vfolder") -> Any:
        """The folder's event of that type, or the task's, the `times`th."""
        subject = of.folder_id if isinstance(of, FolderRef) else of
        async with asyncio.timeout(10):
            while True:
                told = await self.whole.told(context, subject)
                found = [each.event for each in told if type(each.event).__name__ == kind]
                if len(found) >= times:
                    return found[times - 1]
                await asyncio.sleep(0.01)

    def path(self, ref: FolderRef) -> Path:
        return self.roots[ref.host.partition(":")[2]] / folder_path(ref.folder_id)
