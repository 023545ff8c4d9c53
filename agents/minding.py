"""The life of one kernel on this host: from its order to the report of its end.

Each step is journalled with the report about it, so an agent that dies anywhere goes on from there: starting
what runs already, or waiting for what has ended, is done at once.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import NAMESPACE_URL, uuid5

import structlog

from agents.given.outfits import FolderRefused, OutfitFailure, OutfitRefused, Outfits, OutfitUnavailable, as_account
from agents.images.pulling import Pulling
from agents.journal import Journal, JournalUnavailable, Kept, Stage
from agents.runtime import (
    AlreadyEnded,
    Ended,
    ImageUnavailable,
    MountRefused,
    Runtime,
    RuntimeUnavailable,
    StartFailed,
    Task,
)
from domain.outfits import Outfit
from domain.placements import KernelOrder, StartKernel
from domain.session.messages import (
    KernelReport,
    ReportKernelExited,
    ReportKernelFailed,
    ReportKernelGone,
    ReportKernelProgress,
    ReportKernelStarted,
)
from domain.session.status import KernelStatus, Reason

_log = structlog.get_logger("agents")

_RETRY_SECONDS = 1.0
"""Pause before a runtime that did not answer is asked again."""
_LOOK_SECONDS = 0.05
"""Between two looks whether a bootstrap script is through."""


class Minder:
    """Looks after one incarnation of one kernel. `run` returns when it has ended and its report is
    journalled."""

    def __init__(
        self,
        runtime: Runtime,
        outfits: Outfits,
        pulling: Pulling,
        journal: Journal,
        kept: Kept,
        wake: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._outfits = outfits
        self._pulling = pulling
        self._journal = journal
        self._order = kept.order
        self._stage = kept.stage
        self._wake = wake
        self._stop_asked = asyncio.Event()
        self._grace = timedelta(0)
        self.fence_after = kept.order.fence_after_seconds
        self.is_fenced = kept.fenced
        if kept.grace is not None:
            self.stop(kept.grace)

    def stop(self, grace: float) -> None:
        """End it; the order to do so is journalled already."""
        self._grace = timedelta(seconds=grace)
        self._stop_asked.set()

    def fence(self, grace: float) -> None:
        """End it, and say that this was the agent's own decision; which is journalled already."""
        self.is_fenced = True
        self.stop(grace)

    async def run(self, after: "asyncio.Task[None] | None") -> None:
        """`after` looks after an earlier incarnation, which has to be gone first."""
        if after is not None:
            await asyncio.wait([after])
        while True:
            try:
                if self._stage is Stage.STARTED or await self._start():
                    await self._until_ended()
                return
            except (RuntimeUnavailable, JournalUnavailable) as error:
                _log.warning("cannot go on", kernel=self._order.kernel_id, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
            except OutfitUnavailable as error:
                _log.warning("what it is given is not told yet", kernel=self._order.kernel_id, reason=str(error))
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._stop_asked.wait(), _RETRY_SECONDS)

    async def _start(self) -> bool:
        """Bring it up; False when that came to nothing and has been reported."""
        order = self._order
        if self._stop_asked.is_set() and not await self._is_running():
            self._gone()
            return False
        if datetime.now(UTC) > order.not_after and not await self._is_running():
            self._failed(Reason.START_EXPIRED, f"the order was to be carried out before {order.not_after.isoformat()}")
            return False
        try:
            outfit = await self._outfit()
            if await self._pulling.is_needed(order.image):
                self._progress(KernelStatus.PULLING)
                await self._pulling.pull(order, as_account(outfit.account))
                self._progress(KernelStatus.PREPARED)
            self._pulling.used(order.image)
            self._progress(KernelStatus.CREATING)
            running = await self._runtime.start(_task(order, outfit))
            if order.sealed_bootstrap is not None and (why := await self._bootstrap()) is not None:
                self._failed(Reason.START_FAILED, why)
                await self._runtime.remove(order.kernel_id, order.incarnation)
                return False
        except AlreadyEnded as already:
            await self._ended(already.ended)
            return False
        except ImageUnavailable as error:
            self._failed(Reason.IMAGE_UNAVAILABLE, str(error))
            return False
        except (MountRefused, FolderRefused) as error:
            self._failed(Reason.MOUNT_REFUSED, str(error))
            return False
        except (StartFailed, OutfitRefused) as error:
            self._failed(Reason.START_FAILED, str(error))
            return False
        with self._journal.changes():
            self._journal.started(order.kernel_id, order.incarnation)
            self._tell(ReportKernelStarted, at=running.started_at, runtime_id=running.runtime_id)
        self._stage = Stage.STARTED
        self._wake()
        return True

    async def _outfit(self) -> Outfit:
        """What the kernel is given. Raises `OutfitFailure`."""
        try:
            return await self._outfits.of(self._order)
        except OutfitFailure:
            if not await self._has_run():
                raise
            return Outfit()  # starting it again only tells how it is, or how it ended

    async def _bootstrap(self) -> str | None:
        """Returns once the owner's script is through, which is when the kernel's runner listens. What the script said
        last where it has ended the kernel."""
        kernel_id = self._order.kernel_id
        ending = asyncio.create_task(self._runtime.wait(kernel_id, self._order.incarnation))
        try:
            while not ending.done() and not self._stop_asked.is_set():
                socket = self._runtime.runner(kernel_id)
                if socket is None or socket.exists():
                    return None
                await asyncio.wait([ending], timeout=_LOOK_SECONDS)
            if not ending.done() or (await ending).reason == "killed":
                return None
            lines = (await self._runtime.output(kernel_id)).decode(errors="replace").splitlines()
            return "\n".join(lines[-2:]) or "the bootstrap script failed"
        finally:
            ending.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await ending

    async def _until_ended(self) -> None:
        order = self._order
        waiting = asyncio.create_task(self._runtime.wait(order.kernel_id, order.incarnation))
        asked = asyncio.create_task(self._stop_asked.wait())
        try:
            await asyncio.wait([waiting, asked], return_when=asyncio.FIRST_COMPLETED)
            if not waiting.done():
                await self._runtime.stop(order.kernel_id, order.incarnation, self._grace)
            await self._ended(await waiting)
        finally:
            for task in (waiting, asked):
                task.cancel()
                with suppress(asyncio.CancelledError, Exception):
                    await task

    async def _ended(self, ended: Ended) -> None:
        if ended.reason == "gone":
            self._gone()
        else:
            with self._journal.changes():
                how = "fenced" if self.is_fenced and ended.reason == "killed" else ended.reason
                self._tell(ReportKernelExited, at=ended.at, exit_code=ended.exit_code, how=how)
                self._journal.forget(self._order.kernel_id, self._order.incarnation)
            self._wake()
        await self._runtime.remove(self._order.kernel_id, self._order.incarnation)

    async def _is_running(self) -> bool:
        here = (self._order.kernel_id, self._order.incarnation)
        return any((kernel.kernel_id, kernel.incarnation) == here for kernel in await self._runtime.list())

    async def _has_run(self) -> bool:
        """Whether it runs, or did: an agent that died may have begun it already."""
        if await self._is_running():
            return True
        return (await self._runtime.wait(self._order.kernel_id, self._order.incarnation)).reason != "gone"

    def _gone(self) -> None:
        with self._journal.changes():
            self._tell(ReportKernelGone)
            self._journal.forget(self._order.kernel_id, self._order.incarnation)
        self._wake()

    def _failed(self, reason: Reason, message: str) -> None:
        with self._journal.changes():
            self._tell(ReportKernelFailed, reason=reason, message=message[:2000])
            self._journal.forget(self._order.kernel_id, self._order.incarnation)
        self._wake()

    def _progress(self, status: KernelStatus) -> None:
        with self._journal.changes():
            self._tell(ReportKernelProgress, name=status.value, status=status)
        self._wake()

    def _tell(self, report: type[KernelReport], name: str = "", at: datetime | None = None, **values: Any) -> None:
        tell(self._journal, self._order, report, name, at, **values)


def tell(
    journal: Journal,
    order: KernelOrder,
    report: type[KernelReport],
    name: str = "",
    at: datetime | None = None,
    **values: Any,
) -> None:
    """Journal a report about the kernel of an order. One incarnation gives each report once, so its id says
    which."""
    command = report(
        at=at or datetime.now(UTC),
        owner=order.owner,
        session_id=order.session_id,
        kernel_id=order.kernel_id,
        incarnation=order.incarnation,
        agent_id=order.agent_id,
        **values,
    )
    said = f"{order.agent_id}/{order.kernel_id}/{order.incarnation}/{report.__name__}/{name}"
    journal.report("session", str(uuid5(NAMESPACE_URL, said)), command.model_dump_json())


def _task(order: StartKernel, outfit: Outfit) -> Task:
    return Task(
        kernel_id=order.kernel_id,
        incarnation=order.incarnation,
        session_id=order.session_id,
        image=order.image,
        command=order.command,
        environ={name: value.get_secret_value() for name, value in outfit.environ.items()} | order.environ,
        hostname=order.hostname,
        cpu_millis=order.slots.get("cpu", 0),
        mem_bytes=order.slots.get("mem", 0),
        devices=order.devices,
        runtime_class=order.runtime_class,
        shm_bytes=order.shm_bytes,
        peers=order.peers,
        preopen_ports=order.preopen_ports,
        outfit=outfit,
    )
