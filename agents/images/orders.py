"""What the control plane wants done with the images of this host, one background task each.

An order stays in the journal until its end is reported, so an agent that restarts begins it anew: what was done is done
already. (An agent that lost its journal does not know of the order any more; its part of the task fails by its
silence.)
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid4, uuid5

import structlog

from agents.docker.references import canonical
from agents.given.outfits import OutfitRefused, OutfitUnavailable
from agents.journal import Journal, JournalUnavailable
from agents.runtime import Account, CommitFailed, ImageHere, Runtime, RuntimeFailure, RuntimeUnavailable
from domain.directory import found
from domain.directory.messages.images import LocalImage
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, TaskEnd, TaskId
from domain.messages import AgentId
from domain.placements import CommitKernel, ImageOrder, PullImages, RemoveImages, StopImageTask

_log = structlog.get_logger("agents")

Accounts = Callable[[str, str], Awaitable[Account | None]]
"""Ours at the registry of an image, for a task: `agents.given.outfits.Outfits.account`."""

_RETRY_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 5.0
"""How often at most it is told how far an order is."""

_ALIVE_SECONDS: Final = 60.0
"""How often it is told that work of which nothing can be counted goes on: who is silent for long has failed."""

_MESSAGE_MAX: Final = 2000


class ImageOrders:
    """`wake`: there is something new in the journal to be sent. `changed`: images have come or gone."""

    def __init__(
        self,
        runtime: Runtime,
        journal: Journal,
        agent_id: AgentId,
        accounts: Accounts,
        wake: Callable[[], None],
        changed: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._journal = journal
        self._agent_id = agent_id
        self._accounts = accounts
        self._wake = wake
        self._changed = changed
        self._work: dict[str, asyncio.Task[None]] = {}

    @asynccontextmanager
    async def carried_out(self) -> AsyncIterator[None]:
        """For the block; those that are in the journal first."""
        try:
            for order in self._journal.image_orders():
                self._begin(order)
            yield
        finally:
            for work in self._work.values():
                work.cancel()
            await asyncio.gather(*self._work.values(), return_exceptions=True)

    def journal(self, order: ImageOrder | StopImageTask) -> None:
        """Take an order in. To be called within changes of the journal; `heed` it once they are made."""
        if isinstance(order, ImageOrder):
            self._journal.keep_image_order(order)
        else:
            self._journal.forget_image_order(order.task_id)

    def heed(self, order: ImageOrder | StopImageTask) -> None:
        """Set about an order that is in the journal, or leave off what is not to be done any more."""
        if isinstance(order, ImageOrder):
            self._begin(order)
        elif (work := self._work.get(order.task_id)) is not None:
            work.cancel()

    def _begin(self, order: ImageOrder) -> None:
        if order.task_id not in self._work:
            work = asyncio.create_task(self._carry_out(order), name=f"images {order.task_id}")
            self._work[order.task_id] = work
            work.add_done_callback(lambda _: self._work.pop(order.task_id, None))

    # -- the work ------------------------------------------------------------------------------------------------------

    async def _carry_out(self, order: ImageOrder) -> None:
        """One image after the other; one that fails does not keep the others from being done."""
        progress = _Progress(self._tell_progress, order)
        failures: list[str] = []
        made: ImageHere | None = None
        try:
            for number, reference in enumerate(order.references):
                progress.tell(number, reference)
                try:
                    made = await self._see_to(order, reference, progress)
                except (RuntimeFailure, OutfitRefused) as error:
                    _log.warning("image order failed", task=order.task_id, image=reference, reason=str(error))
                    failures.append(str(error))
                self._changed()
        except Exception as error:
            _log.exception("image order failed", task=order.task_id)
            failures.append(f"a defect: {type(error).__name__}")
        while True:
            try:
                return self._tell_end(order, failures, made)
            except JournalUnavailable as error:
                _log.warning("the end of an image order is told later", task=order.task_id, reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _see_to(self, order: ImageOrder, reference: str, progress: "_Progress") -> ImageHere | None:
        while True:
            try:
                match order:
                    case CommitKernel():
                        return await self._commit(order, reference, progress)
                    case RemoveImages():
                        await self._runtime.remove_image(reference)
                    case PullImages():
                        account = await self._accounts(order.task_id, reference)
                        await self._runtime.pull(reference, progress.counting("fetched"), account)
                        with suppress(JournalUnavailable), self._journal.changes():
                            self._journal.image_used(canonical(reference), int(time.time()))
                return None
            except RuntimeUnavailable as error:
                _log.warning("runtime does not answer", task=order.task_id, reason=str(error))
            except OutfitUnavailable as error:
                _log.warning("an account is not told yet", task=order.task_id, reason=str(error))
            await asyncio.sleep(_RETRY_SECONDS)

    async def _commit(self, order: CommitKernel, reference: str, progress: "_Progress") -> ImageHere:
        """What could not be pushed does not stay: nobody would know of it."""
        if not self._is_of(order):
            raise CommitFailed(f"no kernel {order.kernel_id} of the session {order.session_id} runs here")
        here = {image.reference: image for image in await self._runtime.images()}.get(reference)
        if here is None:  # else an agent that died since has made it
            async with progress.alive("making an image"):
                here = await self._runtime.commit(order.kernel_id, reference, order.labels)
        if order.push:
            account = await self._accounts(order.task_id, reference)
            try:
                await self._runtime.push(reference, progress.counting("pushed"), account)
            except RuntimeUnavailable:
                raise
            except RuntimeFailure:
                await self._runtime.remove_image(reference)
                raise
        return here

    def _is_of(self, order: CommitKernel) -> bool:
        """Whether the kernel is one that this owner was given here: the task is only somebody's word for it."""
        asked = (order.owner, order.session_id, order.kernel_id)
        kernels = [kept.order for kept in self._journal.kernels()]
        return any((each.owner, each.session_id, each.kernel_id) == asked for each in kernels)

    # -- reports -------------------------------------------------------------------------------------------------------

    def _tell_progress(self, order: ImageOrder, done: int, message: str) -> None:
        report = ReportTaskProgress(
            at=datetime.now(UTC),
            task_id=TaskId(order.task_id),
            done=done,
            total=len(order.references),
            message=_plain(message),
            agent_id=self._agent_id,
        )
        with suppress(JournalUnavailable), self._journal.changes():
            self._journal.report("directory", str(uuid4()), report.model_dump_json())
        self._wake()

    def _tell_end(self, order: ImageOrder, failures: Sequence[str], made: ImageHere | None) -> None:
        report = ReportTaskEnd(
            at=datetime.now(UTC),
            task_id=TaskId(order.task_id),
            end=TaskEnd.FAILED if failures else TaskEnd.DONE,
            message=_plain("; ".join(failures)),
            agent_id=self._agent_id,
            image=None if made is None else as_reported(made),
        )
        report_id = str(uuid5(NAMESPACE_URL, f"{self._agent_id}/{order.task_id}/end"))
        with self._journal.changes():
            self._journal.report("directory", report_id, report.model_dump_json())
            self._journal.forget_image_order(order.task_id)
        self._wake()


class _Progress:
    """How far an order is, told now and then."""

    def __init__(self, tell: Callable[[ImageOrder, int, str], None], order: ImageOrder) -> None:
        self._tell = tell
        self._order = order
        self._done = 0
        self._doing = ""
        self._last = -_TELL_SECONDS

    def tell(self, done: int, doing: str) -> None:
        self._done, self._doing = done, doing
        self._say(doing)

    def counting(self, what: str) -> Callable[[int, int], None]:
        """For a runtime that counts bytes; `what` becomes of them."""
        return lambda done, total: self._say(f"{self._doing}: {what} {done} of {total} bytes")

    @asynccontextmanager
    async def alive(self, what: str) -> AsyncIterator[None]:
        """For a block of which nothing can be counted."""

        async def keep_telling() -> None:
            while True:
                self._say(f"{self._doing}: {what}")
                await asyncio.sleep(_ALIVE_SECONDS)

        telling = asyncio.create_task(keep_telling())
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    def _say(self, message: str) -> None:
        now = time.monotonic()
        if now - self._last >= _TELL_SECONDS:
            self._last = now
            self._tell(self._order, self._done, message)


def as_reported(image: ImageHere) -> LocalImage:
    """Raises `ValidationError` for one that the control plane can make nothing of."""
    return LocalImage(
        reference=image.reference,
        architecture=found.architecture(image.architecture),
        digest=image.digest,
        size_bytes=image.size_bytes,
        labels=found.labels(image.labels),
    )


def _plain(text: str) -> str:
    """On one line: some of it was written by a registry."""
    return "".join(each if each.isprintable() else " " for each in text)[:_MESSAGE_MAX]
