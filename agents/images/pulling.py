"""How the image of a kernel comes to its host, just before it starts."""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from typing import Final, Literal

import structlog

from agents.docker.references import canonical
from agents.journal import Journal, JournalUnavailable
from agents.runtime import Account, ImageUnavailable, Progress, Runtime
from domain.placements import StartKernel
from domain.telemetry import PullProgress
from infra.log import LogError

_log = structlog.get_logger("agents")

AutoPull = Literal["tag", "digest", "none"]

Tell = Callable[[PullProgress], Awaitable[None]]
"""Raises `LogError` where it was not told."""

_TELL_SECONDS: Final = 1.0


class Pulling:
    """`auto_pull`: `tag`: what is missing is fetched; `digest`: also what is another by now, if its registry can be
    asked; `none`: nothing is."""

    def __init__(self, runtime: Runtime, journal: Journal, auto_pull: AutoPull, tell: Tell) -> None:
        self._runtime = runtime
        self._journal = journal
        self._auto_pull = auto_pull
        self._tell = tell

    async def is_needed(self, image: str) -> bool:
        """Whether `pull` has something to do. Raises RuntimeUnavailable."""
        if self._auto_pull == "digest":
            return True
        return not await self._runtime.has_image(image)

    async def pull(self, order: StartKernel, account: Account | None) -> None:
        """Raises ImageUnavailable and RuntimeUnavailable."""
        image = order.image
        if self._auto_pull == "none":
            raise ImageUnavailable(f"{image} is not here, and this agent fetches none (REFOLD_AGENT_AUTO_PULL)")
        is_here = self._auto_pull == "digest" and await self._runtime.has_image(image)
        async with self._told(order) as progress:
            try:
                await self._runtime.pull(image, progress, account, afresh=is_here)
            except ImageUnavailable as error:
                if not is_here:
                    raise
                _log.warning("the image that is here is used, its registry does not tell of another", reason=str(error))

    def used(self, image: str) -> None:
        """A kernel is about to start from it."""
        with suppress(JournalUnavailable), self._journal.changes():
            self._journal.image_used(canonical(image), int(time.time()))

    @asynccontextmanager
    async def _told(self, order: StartKernel) -> AsyncIterator[Progress]:
        """What is said of the progress is told now and then, for the block."""
        latest: tuple[int, int] | None = None

        def progress(done: int, total: int) -> None:
            nonlocal latest
            latest = done, total

        telling = asyncio.create_task(self._keep_telling(order, lambda: latest))
        try:
            yield progress
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)

    async def _keep_telling(self, order: StartKernel, latest: Callable[[], tuple[int, int] | None]) -> None:
        told: tuple[int, int] | None = None
        while True:
            if (now := latest()) is not None and now != told:
                told = now
                try:
                    await self._tell(_progress_of(order, *now))
                except LogError as error:
                    _log.debug("progress not sent", reason=str(error))
            await asyncio.sleep(_TELL_SECONDS)


def _progress_of(order: StartKernel, done: int, total: int) -> PullProgress:
    return PullProgress(
        at=datetime.now(UTC),
        agent_id=order.agent_id,
        kernel_id=order.kernel_id,
        incarnation=order.incarnation,
        done=done,
        total=total,
    )
