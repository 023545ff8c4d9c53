"""The images of this host: what there is is reported, orders about them are carried out (`agents.images.orders`), and
room is made for more (`agents.images.room`), all of it beside the kernels.

All of it is told when the agent starts, and after that what has come and gone: the control plane forgets the images of
an agent that was removed, and learns them again when it is back.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

import structlog
from pydantic import ValidationError

from agents.images.orders import Accounts, ImageOrders, as_reported
from agents.images.room import ImageRoom
from agents.journal import Journal, JournalUnavailable
from agents.runtime import ImageHere, Runtime, RuntimeUnavailable
from domain.directory.images import ImageKey
from domain.directory.messages.images import LocalImage, ReportAgentImages
from domain.messages import AgentId
from infra.settings import Settings

_log = structlog.get_logger("agents")

_LOOK_SECONDS: Final = 10.0
"""How often the runtime is asked what it has: for what kernels have pulled, and what others did behind our back."""

_ROOM_SECONDS: Final = 60.0
"""How often it is looked whether there is room: the runtime adds up all that it has for it."""

_COME_MAX: Final = 100
_COME_BYTES_MAX: Final = 2**19
_GONE_MAX: Final = 1000
"""What one report holds; a record of the log has room for a megabyte."""


class Images:
    """`run` it for as long as the agent lives. `wake`: there is something new in the journal to be sent."""

    def __init__(
        self,
        settings: Settings,
        runtime: Runtime,
        journal: Journal,
        agent_id: AgentId,
        accounts: Accounts,
        wake: Callable[[], None],
    ) -> None:
        self._runtime = runtime
        self._journal = journal
        self._agent_id = agent_id
        self._wake = wake
        self._told: dict[ImageKey, LocalImage] | None = None
        self._changed = asyncio.Event()
        self._room = ImageRoom(settings, runtime, journal)
        self.orders = ImageOrders(runtime, journal, agent_id, accounts, wake, self._changed.set)

    async def run(self) -> None:
        async with self.orders.carried_out(), asyncio.TaskGroup() as loops:
            loops.create_task(self._keep_looking())
            loops.create_task(self._keep_room())

    async def _keep_looking(self) -> None:
        while True:
            try:
                await self._look()
            except JournalUnavailable as error:
                _log.warning("images are not reported", reason=str(error))
            try:
                async with asyncio.timeout(_LOOK_SECONDS):
                    await self._changed.wait()
            except TimeoutError:
                continue

    async def _keep_room(self) -> None:
        while True:
            try:
                if await self._room.make():
                    self._changed.set()
            except (RuntimeUnavailable, JournalUnavailable) as error:
                _log.warning("no room is made for images", reason=str(error))
            await asyncio.sleep(_ROOM_SECONDS)

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


def _readable(images: Iterable[ImageHere]) -> Iterator[LocalImage]:
    """Those whose names the control plane can use. Whoever built an image or named it here may have been careless."""
    for image in images:
        try:
            yield as_reported(image)
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
