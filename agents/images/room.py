"""Room for images: what has not been used for the longest goes when they take too much of it.

Only what a registry had as well is deleted: whatever was built or committed here would be lost. What a kernel runs
from, or is about to, stays.
"""

from contextlib import suppress

import structlog
from prometheus_client import Counter

from agents.docker.references import canonical
from agents.journal import Journal, JournalUnavailable
from agents.runtime import ImageHere, ImageInUse, Runtime
from infra.settings import Settings

_log = structlog.get_logger("agents")

_DELETED = Counter("refold_agent_images_deleted", "Images deleted to make room.")


class ImageRoom:
    def __init__(self, settings: Settings, runtime: Runtime, journal: Journal) -> None:
        self._runtime = runtime
        self._journal = journal
        self._bytes_max = settings.agent_images_bytes_max
        self._free_min = settings.agent_disk_free_min
        if settings.agent_auto_pull == "none":  # what is deleted would not come back
            self._bytes_max, self._free_min = 0, 0.0

    async def make(self) -> int:
        """Delete as many as are too many, and can go; how many that was. Raises RuntimeUnavailable."""
        deleted = 0
        if not await self._is_short():
            return deleted
        for image in await self._candidates():
            if await self._delete(image):
                deleted += 1
                if not await self._is_short():
                    return deleted
        _log.warning("images take too much room, and no more of them can go", deleted=deleted)
        return deleted

    async def _is_short(self) -> bool:
        if not self._bytes_max and not self._free_min:
            return False
        space = await self._runtime.image_space()
        if space is None:
            return False
        if self._bytes_max and space.images > self._bytes_max:
            return True
        return space.disk > 0 and space.free < self._free_min * space.disk

    async def _candidates(self) -> list[ImageHere]:
        """The longest unused first; of what was never used nobody knows since when it is here, so it counts as old."""
        uses = self._journal.image_uses()
        here = [image for image in await self._runtime.images() if image.has_origin]
        return sorted(here, key=lambda image: (uses.get(image.reference, 0), image.reference))

    async def _delete(self, image: ImageHere) -> bool:
        if image.reference in {canonical(kept.order.image) for kept in self._journal.kernels()}:
            return False
        try:
            await self._runtime.remove_image(image.reference)
        except ImageInUse:
            return False
        with suppress(JournalUnavailable), self._journal.changes():
            self._journal.forget_image(image.reference)
        _DELETED.inc()
        _log.info("image deleted to make room", image=image.reference, bytes=image.size_bytes)
        return True
