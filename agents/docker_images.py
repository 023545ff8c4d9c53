"""The images that a Docker daemon has."""

import asyncio
from collections.abc import Callable, Sequence

import aiodocker

from agents.docker_answers import UNREACHABLE, answering, unless_missing
from agents.references import canonical
from agents.runtime import ImageHere, ImageInUse, ImageUnavailable

_STALL_SECONDS_MAX = 300.0
"""Without a word from the daemon, a pull has failed."""

_NAMELESS = ":<none>"
"""How the daemon writes that an image lost its name to another one."""


class DockerImages:
    """What a runtime says of them is said here (`agents.runtime.Runtime`)."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker
        self._architectures: dict[str, str] = {}  # by the image's id: it never changes

    async def has(self, image: str) -> bool:
        """As the daemon has it."""
        async with answering():
            try:
                await self._docker.images.inspect(image)
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return False
                raise
        return True

    async def pull(self, image: str, progress: Callable[[int, int], None]) -> None:
        """Sums over the layers; an image that is here needs no registry."""
        if await self.has(image):
            return
        layers = dict[str, tuple[int, int]]()
        async with answering():
            try:
                events = aiter(self._docker.images.pull(image, stream=True))
                while True:
                    async with asyncio.timeout(_STALL_SECONDS_MAX):
                        event = await anext(events, None)
                    if event is None:
                        return
                    detail = event.get("progressDetail") or {}
                    if event.get("status") == "Downloading" and "total" in detail:
                        layers[event["id"]] = detail["current"], detail["total"]
                        progress(sum(done for done, _ in layers.values()), sum(size for _, size in layers.values()))
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
                raise ImageUnavailable(f"{image}: {error.message}") from error

    async def all(self) -> Sequence[ImageHere]:
        """As the daemon lists them; it is asked about each image once."""
        async with answering():
            listed = await self._docker.images.list()
            ids = {image["Id"] for image in listed}
            for gone in self._architectures.keys() - ids:
                del self._architectures[gone]
            for image_id in ids - self._architectures.keys():
                with unless_missing():  # it may be deleted just now
                    self._architectures[image_id] = (await self._docker.images.inspect(image_id))["Architecture"]
        return [
            ImageHere(
                canonical(name), self._architectures[image["Id"]], image["Id"], image["Size"], image["Labels"] or {}
            )
            for image in listed
            for name in image["RepoTags"] or ()
            if image["Id"] in self._architectures and not name.endswith(_NAMELESS)
        ]

    async def remove(self, image: str) -> None:
        """The daemon keeps an image that a container was made from, also one that ended."""
        async with answering():
            try:
                await self._docker.images.delete(image)
            except aiodocker.DockerError as error:
                match error.status:
                    case 404:
                        return
                    case 409:
                        raise ImageInUse(error.message) from error
                    case _:
                        raise
