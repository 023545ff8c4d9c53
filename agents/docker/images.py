"""The images that a Docker daemon has."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import aiodocker

from agents.docker.answers import UNREACHABLE, answering, unless_missing
from agents.docker.references import canonical
from agents.runtime import (
    Account,
    ImageHere,
    ImageInUse,
    ImageSpace,
    ImageUnavailable,
    Progress,
    PushFailed,
)

_STALL_SECONDS_MAX: Final = 300.0
"""Without a word from the daemon, a pull or a push has failed."""

_NAMELESS: Final = ("<none>:<none>", "<none>@<none>")
"""How the daemon writes that an image lost its name to another one."""


class DockerImages:
    """What a runtime says of them is said here (`agents.runtime.Runtime`); how one is made of a kernel, in
    `agents/docker/commits.py`."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker
        self._architectures: dict[str, str] = {}  # by the image's id: it never changes

    async def has(self, image: str) -> bool:
        """As the daemon has it."""
        return await self._id(image) is not None

    async def pull(self, image: str, progress: Progress, account: Account | None, *, afresh: bool) -> None:
        """Progress is summed up over the layers. What lost its name to a fresh one is deleted, unless it is used."""
        before = await self._id(image)
        if before is not None and not afresh:
            return
        async with answering():
            try:
                events = self._docker.images.pull(canonical(image), stream=True, auth=_auth(account))
                await _follow(events, ("Downloading",), progress)
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
                raise ImageUnavailable(f"{image}: {error.message}") from error
        if before is not None:
            await self._drop_nameless(before)

    async def push(self, image: str, progress: Progress, account: Account | None) -> None:
        """Progress is summed up over the layers."""
        name, _, tag = canonical(image).rpartition(":")
        if not await self.has(image):
            raise ImageUnavailable(f"{image} is not here")
        async with answering():
            try:
                events = self._docker.images.push(name, tag=tag, stream=True, auth=_auth(account))
                await _follow(events, ("Pushing",), progress)
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
                raise PushFailed(f"{image}: {error.message}") from error

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
        return [here for image in listed if image["Id"] in self._architectures for here in self._named(image)]

    def _named(self, image: Mapping[str, Any]) -> Iterator[ImageHere]:
        origins = {canonical(each).partition("@")[0] for each in image["RepoDigests"] or () if each not in _NAMELESS}
        for name in image["RepoTags"] or ():
            if name not in _NAMELESS:
                reference = canonical(name)
                yield ImageHere(
                    reference,
                    self._architectures[image["Id"]],
                    image["Id"],
                    image["Size"],
                    image["Labels"] or {},
                    has_origin=reference.rpartition(":")[0] in origins,
                )

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

    async def space(self) -> ImageSpace:
        """As the daemon counts it. Where its folder cannot be seen from here, nothing is known of the disk (0)."""
        async with answering():
            root = (await self._docker.system.info())["DockerRootDir"]
            taken = int((await self._asked("system/df", type="image"))["LayersSize"])
        try:
            disk = await asyncio.to_thread(shutil.disk_usage, root)
        except OSError:
            return ImageSpace(taken, 0, 0)
        return ImageSpace(taken, disk.total, disk.free)

    async def _drop_nameless(self, image_id: str) -> None:
        async with answering():
            with unless_missing():
                if (await self._docker.images.inspect(image_id))["RepoTags"]:
                    return
        with suppress(ImageInUse):
            await self.remove(image_id)

    async def _asked(self, path: str, **parameters: str) -> Mapping[str, Any]:
        """What aiodocker has no word for."""
        url = f"{self._docker.docker_host}/{self._docker.api_version}/{path}"
        async with self._docker.session.get(url, params=parameters) as response:
            response.raise_for_status()
            told: Mapping[str, Any] = await response.json()
            return told

    async def _id(self, image: str) -> str | None:
        async with answering():
            try:
                return str((await self._docker.images.inspect(image))["Id"])
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return None
                raise


def _auth(account: Account | None) -> Any:
    return None if account is None else {"username": account.username, "password": account.password}


async def _follow(events: AsyncIterator[Mapping[str, Any]], telling: Collection[str], progress: Progress) -> None:
    """Read what the daemon says of its layers until it is done. Raises TimeoutError when it falls silent."""
    layers = dict[str, tuple[int, int]]()
    while True:
        async with asyncio.timeout(_STALL_SECONDS_MAX):
            event = await anext(events, None)
        if event is None:
            return
        detail = event.get("progressDetail") or {}
        if event.get("status") in telling and "total" in detail:
            layers[event["id"]] = detail["current"], detail["total"]
            progress(sum(done for done, _ in layers.values()), sum(size for _, size in layers.values()))
