"""What is done for one job, in threads of its own; and the command that says what became of it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Final, TypeVar

import structlog

from api.storage.disks.figures import Usage
from api.storage.disks.walking import Tell
from api.storage.effects.quotas import Quotas
from api.storage.effects.telling import Teller
from api.storage.effects.wanted import Job
from api.storage.places import NoRoom, NoSuchFolder
from api.storage.volumes import NotThere, NoVolume, Volume, Volumes
from domain.directory.messages.tasks import ReportTaskProgress, TaskId
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.reports import ReportFolderFailed, ReportFolderPurged, ReportFolderReady
from domain.vfolder.state import Folder

_log = structlog.get_logger(__name__)

Report = ReportFolderReady | ReportFolderPurged | ReportFolderFailed
T = TypeVar("T")

_QUICK_AT_ONCE: Final = 2
_LONG_AT_ONCE: Final = 2
_MESSAGE_MAX: Final = 1000
_PROGRESS_SECONDS: Final = 1.0
_SIGN_OF_LIFE_SECONDS: Final = 60.0  # a task of which nothing is heard for ten minutes has failed


class Stopped(Exception):
    """The process ends; what is half done is done by the next one."""


class Threads:
    """For one volume. What is quick never waits for what is long."""

    def __init__(self) -> None:
        self._quick = ThreadPoolExecutor(_QUICK_AT_ONCE, "folders")
        self._long = ThreadPoolExecutor(_LONG_AT_ONCE, "copies")
        self._measuring = ThreadPoolExecutor(1, "measuring")
        self.stopped = False

    def stop(self) -> None:
        """Returns once nothing is under way any more."""
        self.stopped = True
        for each in (self._quick, self._long, self._measuring):
            each.shutdown(wait=True, cancel_futures=True)

    def go_on(self, _: int = 0) -> None:
        """Called from the threads, often. Raises `Stopped`."""
        if self.stopped:
            raise Stopped

    async def quick(self, work: Callable[[], T]) -> T:
        return await self._in(self._quick, work)

    async def long(self, work: Callable[[], T]) -> T:
        return await self._in(self._long, work)

    async def measuring(self, work: Callable[[], T]) -> T:
        return await self._in(self._measuring, work)

    async def _in(self, threads: ThreadPoolExecutor, work: Callable[[], T]) -> T:
        self.go_on()
        return await asyncio.get_running_loop().run_in_executor(threads, work)


class Doer:
    """For one volume."""

    def __init__(self, volume: Volume, volumes: Volumes, quotas: Quotas, teller: Teller) -> None:
        self._volume = volume
        self._volumes = volumes
        self._quotas = quotas
        self._teller = teller
        self.threads = Threads()

    async def do(self, job: Job) -> Report:
        """What became of it. Raises `NotThere`: to be tried again when the volume is back."""
        try:
            return await self._done(job)
        except NotThere:
            raise
        except (NoRoom, NoSuchFolder, NoVolume) as error:
            message = str(error)
        except OSError as error:
            await self._be_there(self._volume)  # else it is no failure of this folder
            _log.warning("a folder cannot be worked on", work=job.work, folder=job.folder.folder_id, reason=str(error))
            message = error.strerror or str(error)
        if job.work is not Work.PURGE:
            await self._give_up(job.folder)
        return ReportFolderFailed(
            at=_now(),
            scope=job.scope,
            folder_id=job.folder.folder_id,
            work=job.work,
            message=message[:_MESSAGE_MAX],
        )

    async def _done(self, job: Job) -> Report:
        folder = job.folder
        usage = Usage(0, 0)
        await self._be_there(self._volume)
        match job.work:
            case Work.PURGE:
                async with self._telling(job, folder.files) as tell:
                    await self.threads.long(lambda: self._volume.purge(folder.folder_id, tell))
                self._quotas.forget(folder.folder_id)
                return ReportFolderPurged(at=_now(), scope=job.scope, folder_id=folder.folder_id)
            case Work.CREATE:
                await self.threads.quick(lambda: self._volume.create(folder.folder_id))
            case Work.CLONE:
                usage = await self._clone(job)
        await self.limit(job.scope, folder)
        return ReportFolderReady(
            at=_now(), scope=job.scope, folder_id=folder.folder_id, used_bytes=usage.used_bytes, files=usage.files
        )

    async def _be_there(self, volume: Volume) -> None:
        """Raises `NotThere`."""
        if not await self.threads.quick(lambda: volume.is_there):
            raise NotThere(f"{volume.host} is not there")

    async def _give_up(self, folder: Folder) -> None:
        """Free what was used up to here; what cannot be freed now is when the folder is purged."""
        self._quotas.forget(folder.folder_id)
        try:
            await self.threads.long(lambda: self._volume.give_up(folder.folder_id, self.threads.go_on))
        except OSError as error:
            _log.warning("what is made of it stays for now", folder=folder.folder_id, reason=str(error))

    async def limit(self, scope: str, folder: Folder) -> None:
        """Have the file system keep the folder's quota, where it can. Raises `OSError`."""
        if "quota" in self._volume.backend.capabilities:
            most = self._quotas.most(scope, folder)
            await self.threads.quick(lambda: self._volume.limit(folder.folder_id, most))

    async def _clone(self, job: Job) -> Usage:
        folder_id = job.folder.folder_id
        source = job.folder.source
        assert source is not None, "nothing else is copied"
        volume = self._volumes.at(source.host)
        await self._be_there(volume)
        place = volume.folder(source.folder_id)
        if not await self.threads.quick(place.is_dir):
            raise NoSuchFolder("its source is not on the disk")
        there = await self.threads.long(lambda: volume.backend.measure(place, self.threads.go_on))
        self._quotas.forget(folder_id)  # of an attempt before
        await self._quotas.claim(folder_id, there.used_bytes)
        async with self._telling(job, there.used_bytes) as tell:
            await self.threads.long(lambda: self._volume.clone(folder_id, place, tell))
        return await self._quotas.measure(job.folder)

    @asynccontextmanager
    async def _telling(self, job: Job, total: int) -> AsyncIterator[Tell]:
        """Whoever asked for the job hears how far it is. Called with how much more is done of it, from its thread."""
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            self.threads.go_on()

        telling = asyncio.create_task(self._tell_progress(job.folder.task_id, lambda: done, total))
        try:
            yield tell
        finally:
            telling.cancel()

    async def _tell_progress(self, task_id: TaskId | None, progress: Callable[[], int], total: int) -> None:
        """There may be more to do than was counted; what is said is never more than that."""
        if task_id is None:
            return
        clock = asyncio.get_running_loop().time
        said, at = 0, clock()
        while True:
            await asyncio.sleep(_PROGRESS_SECONDS)
            done = progress()
            if done != said or clock() - at > _SIGN_OF_LIFE_SECONDS:
                said, at = done, clock()
                command = ReportTaskProgress(at=_now(), task_id=task_id, done=min(done, total), total=total)
                await self._teller.tell("directory", command)


def _now() -> datetime:
    return datetime.now(UTC)
