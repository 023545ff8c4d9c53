"""One volume: its jobs are done, what its folders hold is measured, as long as no other process does so."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog
from prometheus_client import Counter

from api.storage.effects.doing import Doer, Stopped
from api.storage.effects.following import VFOLDER, Following
from api.storage.effects.quotas import Quotas
from api.storage.effects.telling import Teller
from api.storage.effects.wanted import Job, Wanted, has_to_be_there
from api.storage.volumes import NotThere, Volume
from domain.vfolder.messages.reports import ReportFolderUsage
from domain.vfolder.mounts import FolderId, Scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder

_log = structlog.get_logger(__name__)

_JOBS = Counter("refold_storage_jobs", "Work that was done to folders.", ["work", "report"])

_RETRY_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.5
_REST: Final = 3.0
"""So many times as long as a measurement took, nothing is measured."""


class Keeper:
    """`run` it for as long as the process lives. `why_not`: why nothing is done; empty while all is well."""

    def __init__(
        self,
        volume: Volume,
        wanted: Wanted,
        following: Following,
        quotas: Quotas,
        teller: Teller,
        doer: Doer,
        scan_seconds: float,
    ) -> None:
        self._volume = volume
        self._wanted = wanted
        self._following = following
        self._quotas = quotas
        self._teller = teller
        self._doer = doer
        self._scan_seconds = scan_seconds
        self._jobs: dict[str, asyncio.Task[None]] = {}
        self.why_not = "the log is still being read"

    async def run(self) -> None:
        await self._following.whole.wait()
        while True:
            try:
                new = not any(has_to_be_there(folder) for _, folder in self._wanted.folders(self._volume.host))
                await self._doer.threads.quick(lambda new=new: self._volume.open(new=new))  # type: ignore[misc]
                with self._volume.alone() as mine:
                    if mine:
                        await self._keep()
                    self.why_not = "another process has the volume"
            except OSError as error:
                self.why_not = str(error)
                _log.warning("a volume cannot be kept; trying again", volume=self._volume.host, reason=str(error))
            except Exception:
                if self._doer.threads.stopped:
                    return
                self.why_not = "a defect, which the output tells of"
                _log.exception("a volume cannot be kept; trying again", volume=self._volume.host)
            await asyncio.sleep(_RETRY_SECONDS)

    async def _keep(self) -> None:
        self.why_not = ""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._work())
                group.create_task(self._measure_changed())
                group.create_task(self._measure_all())
        except asyncio.CancelledError:
            for job in self._jobs.values():
                job.cancel()
            raise
        finally:  # the lock is held until nothing is done any more
            await asyncio.gather(*self._jobs.values(), return_exceptions=True)
            self._jobs.clear()

    # -- jobs --------------------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        """One task for each job. One that has told its end stays until that is read, so it is not begun again."""
        while True:
            more = self._following.more
            jobs = {job.asked: job for job in self._wanted.jobs(self._volume.host)}
            for asked in self._jobs.keys() - jobs.keys():
                self._jobs.pop(asked).cancel()
            for asked in jobs.keys() - self._jobs.keys():
                self._jobs[asked] = asyncio.create_task(self._do(jobs[asked]), name=f"folder {asked}")
            await more.wait()

    async def _do(self, job: Job) -> None:
        while True:
            try:
                report = await self._doer.do(job)
                break
            except NotThere as error:
                self.why_not = str(error)
                await asyncio.sleep(_RETRY_SECONDS)
                self.why_not = ""
            except Stopped:
                return
            except Exception:
                _log.exception("a defect; trying again", work=job.work, folder=job.folder.folder_id)
                await asyncio.sleep(_RETRY_SECONDS)
        _log.info("work on a folder", report=report.type, work=job.work, folder=job.folder.folder_id)
        await self._teller.tell(VFOLDER, report, of=job.asked)
        _JOBS.labels(job.work, report.type).inc()

    # -- usage -------------------------------------------------------------------------------------------------------

    async def _measure_changed(self) -> None:
        """What was changed through this process is measured soon, and new limits are set soon."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            for scope in self._wanted.relimited(self._volume.host):
                for folder in self._wanted.together(scope, self._volume.host):
                    await self._limit(scope, folder)
            for folder_id in self._quotas.stale:
                await self._measured(folder_id)

    async def _limit(self, scope: Scope, folder: Folder) -> None:
        if has_to_be_there(folder):
            try:
                await self._doer.limit(scope, folder)
            except OSError as error:
                _log.warning("a folder cannot be limited", folder=folder.folder_id, reason=str(error))

    async def _measure_all(self) -> None:
        """Everything is measured from time to time, for kernels write without a word."""
        clock = asyncio.get_running_loop().time
        while True:
            began = clock()
            for _, folder in list(self._wanted.folders(self._volume.host)):
                await self._measured(folder.folder_id)
            await asyncio.sleep(max(_LOOK_SECONDS, began + self._scan_seconds - clock()))

    async def _measured(self, folder_id: FolderId) -> None:
        found = self._wanted.folder(folder_id)
        if found is None or found[1].host != self._volume.host:
            return
        scope, folder = found
        if folder.phase is not Phase.READY or folder.spec.unmanaged_path is not None:
            return
        clock: Callable[[], float] = asyncio.get_running_loop().time
        began = clock()
        try:
            await self._measure(scope, folder)
        except OSError as error:
            _log.warning("what a folder holds cannot be measured", folder=folder_id, reason=str(error))
        await asyncio.sleep(_REST * (clock() - began))

    async def _measure(self, scope: Scope, folder: Folder) -> None:
        usage = await self._quotas.measure(folder)
        if usage != (folder.used_bytes, folder.files):
            command = ReportFolderUsage(
                at=datetime.now(UTC),
                scope=scope,
                folder_id=folder.folder_id,
                used_bytes=usage.used_bytes,
                files=usage.files,
            )
            await self._teller.tell(VFOLDER, command)
        await self._limit(scope, folder)
