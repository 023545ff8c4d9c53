"""The images of a host on which nothing runs. What a runtime says of them is said here (`agents.runtime.Runtime`)."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final

from agents.docker.references import canonical
from agents.runtime import ImageHere, ImageSpace, ImageUnavailable, Progress, PushFailed

IMAGE_BYTES: Final = 100
"""Of each that was pulled or committed."""

DISK_BYTES: Final = 10 * IMAGE_BYTES


class FakeImages:
    """`pull_seconds` for each pull; each `fail_pull_every`th fails, 0: none. `fake/pull-fail` and `fake/push-fail` do
    always."""

    def __init__(self, images: Collection[ImageHere], pull_seconds: float, fail_pull_every: int) -> None:
        self._here = {canonical(image.reference): image for image in images}
        self._pull_seconds = pull_seconds
        self._fail_pull_every = fail_pull_every
        self._pulls = 0

    def has(self, image: str) -> bool:
        return canonical(image) in self._here

    def all(self) -> Sequence[ImageHere]:
        return list(self._here.values())

    async def pull(self, image: str, progress: Progress, *, afresh: bool) -> None:
        """In ten steps."""
        if self.has(image) and not afresh:
            return
        self._pulls += 1
        is_nth = self._fail_pull_every > 0 and self._pulls % self._fail_pull_every == 0
        if "fake/pull-fail" in image or is_nth:
            raise ImageUnavailable(f"the fake runtime was told not to have {image}")
        for step in range(11):
            progress(step * IMAGE_BYTES // 10, IMAGE_BYTES)
            if self._pull_seconds and step < 10:
                await asyncio.sleep(self._pull_seconds / 10)
        self._put(ImageHere(canonical(image), "amd64", size_bytes=IMAGE_BYTES, has_origin=True))

    def remove(self, image: str) -> None:
        self._here.pop(canonical(image), None)

    def commit(self, base: str, reference: str, labels: Mapping[str, str]) -> ImageHere:
        """It has nothing but labels."""
        below = self._here.get(base)
        kept = {**(below.labels if below else {}), **labels}
        return self._put(ImageHere(reference, "amd64", size_bytes=IMAGE_BYTES, labels=kept))

    def push(self, image: str, progress: Progress) -> None:
        """It has an origin then."""
        here = self._here.get(canonical(image))
        if here is None:
            raise ImageUnavailable(f"{image} is not here")
        if "fake/push-fail" in image:
            raise PushFailed(f"the fake runtime was told not to push {image}")
        progress(here.size_bytes, here.size_bytes)
        self._put(replace(here, has_origin=True))

    def space(self) -> ImageSpace:
        """Images share nothing, and there is nothing else on the disk."""
        taken = sum(image.size_bytes for image in self._here.values())
        return ImageSpace(taken, DISK_BYTES, max(0, DISK_BYTES - taken))

    def _put(self, image: ImageHere) -> ImageHere:
        self._here[image.reference] = image
        return image
