"""The images of this host: what there is is reported, and orders to bring or delete some are carried out beside the
kernels.

All of it is told when the agent starts, and after that what has come and gone: the control plane forgets the images of
an agent that was removed, and learns them again when it is back. An order stays in the journal until its end is
reported, so an agent that restarts begins it anew: what was done is done already. (An agent that lost its journal does
not know of the order any more; its part of the task fails by its silence.)
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import NAMESPACE_URL, uuid4, uuid5

import structlog
from pydantic import ValidationError

from agents.journal import Journal
from agents.runtime import ImageHere, Runtime, RuntimeFailure, RuntimeUnavailable
from domain.directory import found
from domain.directory.images import ImageKey
from domain.directory.messages.images import LocalImage, ReportAgentImages
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, TaskEnd, TaskId
from domain.messages import AgentId
from domain.placements import ImageOrder, PullImages, StopImageTask

_log = structlog.get_logger("agents")

_LOOK_SECONDS: Final = 10.0
"""How often the runtime is asked what it has: for what kernels have pulled, and what others did behind our back."""

_RETRY_SECONDS: Final = 1.0
_TELL_SECONDS: Final = 5.0
"""How often at most it is told how far an order is."""

_COME_MAX: Final = 100
_COME_BYTES_MAX: Final = 2**19
_GONE_MAX: Final = 1000
"""What one report holds; a record of the log has room for a megabyte."""

_MESSAGE_MAX: Final = 2000


class Images:
    """`run` it for as long as the agent lives. `wake`: there is something new in the journal to be sent."""

    def __init__(self, runtime: Runtime, journal: Journal, agent_id: AgentId, wake: Callable[[], None]) -> None:
        self._runtime = runtime
        self._journal = journal
        self._agent_id = agent_id
        self._wake = wake
        self._told: dict[ImageKey, LocalImage] | None = None
        self._changed = asyncio.Event()
        self._work: dict[str, asyncio.Task[None]] = {}

    async def run(self) -> None:
        try:
            for order in self._journal.image_orders():
                self._begin(order)
            while True:
                await self._look()
                try:
                    async with asyncio.timeout(_LOOK_SECONDS):
                        await self._changed.wait()
                except TimeoutError:
                    continue
        finally:
            for work in self._work.values():
                work.cancel()
            await asyncio.gather(*self._work.values(), return_exceptions=True)

    # -- what there is -------------------------------------------------------------------------------------------------

    async def _look(self) -> None:
        """Report what is different from what was reported last."""
        self._changed.clear()
        try:
            here = {(image.reference, image.architecture): image for image in _readable(await self._runtime.images())}
        except RuntimeUnavailable as error:
            _log.warning("images are not known", reason=str(error))
            return
        told = self._told or {}
        come = [image for key, image in sorted(here.items()) if told.get(key) != image]
        gone = sorted(told.keys() - here.keys())
        reports = list(self._reports(come, gone, afresh=self._told is None))
        if reports:
            with self._journal.changes():
                for report in reports:
                    self._journal.report("directory", str(uuid4()), report.model_dump_json())
            self._wake()
        self._told = here

    def _reports(
        self, come: Sequence[LocalImage], gone: Sequence[ImageKey], *, afresh: bool
    ) -> Iterator[ReportAgentImages]:
        now = datetime.now(UTC)
        for first in range(0, len(gone), _GONE_MAX):
            yield ReportAgentImages(at=now, agent_id=self._agent_id, gone=tuple(gone[first : first + _GONE_MAX]))
        for index, some in enumerate(_portions(come)):
            yield ReportAgentImages(at=now, agent_id=self._agent_id, come=some, afresh=afresh and index == 0)
        if afresh and not come:
            yield ReportAgentImages(at=now, agent_id=self._agent_id, afresh=True)

    # -- orders --------------------------------------------------------------------------------------------------------

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

    async def _carry_out(self, order: ImageOrder) -> None:
        """One image after the other; one that fails does not keep the others from being done."""
        progress = _Progress(self._tell_progress, order)
        failures: list[str] = []
        try:
            for number, reference in enumerate(order.references):
                progress.tell(number, reference)
                try:
                    await self._see_to(order, reference, progress)
                except RuntimeFailure as error:
                    _log.warning("image order failed", task=order.task_id, image=reference, reason=str(error))
                    failures.append(str(error))
                self._changed.set()
        except Exception as error:
            _log.exception("image order failed", task=order.task_id)
            failures.append(f"a defect: {type(error).__name__}")
        self._tell_end(order, failures)

    async def _see_to(self, order: ImageOrder, reference: str, progress: "_Progress") -> None:
        while True:
            try:
                if isinstance(order, PullImages):
                    await self._runtime.pull(reference, progress.pulling)
                else:
                    await self._runtime.remove_image(reference)
                return
            except RuntimeUnavailable as error:
                _log.warning("runtime does not answer", task=order.task_id, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)

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
        with self._journal.changes():
            self._journal.report("directory", str(uuid4()), report.model_dump_json())
        self._wake()

    def _tell_end(self, order: ImageOrder, failures: Sequence[str]) -> None:
        report = ReportTaskEnd(
            at=datetime.now(UTC),
            task_id=TaskId(order.task_id),
            end=TaskEnd.FAILED if failures else TaskEnd.DONE,
            message=_plain("; ".join(failures)),
            agent_id=self._agent_id,
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

    def pulling(self, done: int, total: int) -> None:
        self._say(f"{self._doing}: {done} of {total} bytes")

    def _say(self, message: str) -> None:
        now = time.monotonic()
        if now - self._last >= _TELL_SECONDS:
            self._last = now
            self._tell(self._order, self._done, message)


def _readable(images: Iterable[ImageHere]) -> Iterator[LocalImage]:
    """Those whose names the control plane can use. Whoever built an image or named it here may have been careless."""
    for image in images:
        try:
            yield LocalImage(
                reference=image.reference,
                architecture=found.architecture(image.architecture),
                digest=image.digest,
                size_bytes=image.size_bytes,
                labels=found.labels(image.labels),
            )
        except ValidationError as error:
            _log.debug("an image is not reported", image=image.reference, reason=str(error))


def _portions(images: Iterable[LocalImage]) -> Iterator[tuple[LocalImage, ...]]:
    """As many at a time as a report holds."""
    portion: list[LocalImage] = []
    size = 0
    for image in images:
        length = len(image.model_dump_json())
        if portion and (len(portion) == _COME_MAX or size + length > _COME_BYTES_MAX):
            yield tuple(portion)
            portion, size = [], 0
        portion.append(image)
        size += length
    if portion:
        yield tuple(portion)


def _plain(text: str) -> str:
    """On one line: some of it was written by a registry."""
    return "".join(each if each.isprintable() else " " for each in text)[:_MESSAGE_MAX]
