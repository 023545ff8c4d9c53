"""Kernels as Docker containers, through aiodocker on the daemon's socket.

What makes a container ours is written on it: the labels `ai.refold.deployment`, `…kernel`, `…incarnation` and
`…session`, and its name. The daemon keeps the state, the exit code and the true times, so an agent that
starts again has nothing to remember but which kernels it was told to stop, and the output of what was
removed:

    <folder>/stopping/<container name>    an empty file: `stop` was called while it ran
    <folder>/output/<kernel id>/          what removed containers printed
    <folder>/scratch, sockets, code, looks, users   see `agents/docker/injection.py`
    <folder>/parts                                  see `agents/docker/folders.py`

What a kernel may do is said in `agents/docker/container.py`; its home, and the runner in it, in
`agents/docker/injection.py`; what becomes of its output in `agents/docker/output.py`.
"""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path

import aiodocker
import aiohttp

from agents.devices.plugin import Granting, grant_nothing
from agents.docker.answers import CALL_SECONDS_MAX, answering, unless_missing
from agents.docker.commits import DockerCommits
from agents.docker.container import container_name
from agents.docker.containers import DockerContainers, running_of
from agents.docker.folders import DockerFolders
from agents.docker.images import DockerImages
from agents.docker.injection import DockerInjection
from agents.docker.networks.choice import Networks
from agents.docker.output import DockerOutput
from agents.docker.starts import DockerStarts
from agents.given.folders import Folders
from agents.output import OutputStore
from agents.runtime import (
    Account,
    Ended,
    ImageHere,
    ImageSpace,
    Progress,
    Running,
    RuntimeUnavailable,
    Task,
    utc_now,
)
from domain.placements import RuntimeClass

RETRY_SECONDS = 1.0


class DockerRuntime:
    """Runs kernels as containers. Make it inside a running event loop."""

    name = "docker"

    def __init__(
        self,
        socket: str | Path,
        folder: Path,
        *,
        deployment: str,
        grant: Granting = grant_nothing,
        log_bytes_max: int = 10 * 1024 * 1024,
        scratch_bytes_max: int = 0,
        cluster_network: str = "",
        folders: Folders | None = None,
    ) -> None:
        """Raises Misconfigured. `scratch_bytes_max`: see `agents.given.homes.Homes`; `cluster_network`:
        `agents.docker.networks.choice.Networks`."""
        self._kept = OutputStore(folder / "output", log_bytes_max)
        # Each kernel that is waited for holds a connection, so their number must not be limited.
        self._connector = aiohttp.UnixConnector(str(socket), limit=0)
        self._docker = aiodocker.Docker(
            url="unix://localhost",
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS_MAX),
        )
        self._containers = DockerContainers(self._docker, deployment, folder / "stopping")
        self._output = DockerOutput(self._containers, self._kept)
        self._images = DockerImages(self._docker)
        self._commits = DockerCommits(self._docker, self._containers, deployment)
        self._injection = DockerInjection(
            self._docker, folder, deployment, scratch_bytes_max, DockerFolders(folder / "parts", folders or Folders())
        )
        self._networks = Networks(self._docker, deployment, cluster_network)
        self._starts = DockerStarts(
            self._docker, self._containers, self._injection, self._networks, grant, log_bytes_max
        )

    async def has_image(self, image: str) -> bool:
        """As the daemon has it."""
        return await self._images.has(image)

    async def pull(
        self, image: str, progress: Progress, account: Account | None = None, *, afresh: bool = False
    ) -> None:
        """An image that is here needs no registry."""
        await self._images.pull(image, progress, account, afresh=afresh)

    async def images(self) -> Sequence[ImageHere]:
        """As the daemon lists them."""
        return await self._images.all()

    async def remove_image(self, image: str) -> None:
        """The daemon keeps an image that a container was made from, also one that ended."""
        await self._images.remove(image)

    async def commit(self, kernel_id: str, reference: str, labels: Mapping[str, str]) -> ImageHere:
        """The daemon pauses the container for it."""
        return await self._commits.commit(kernel_id, reference, labels)

    async def push(self, image: str, progress: Progress, account: Account | None = None) -> None:
        """The daemon signs in with the account."""
        await self._images.push(image, progress, account)

    async def image_space(self) -> ImageSpace | None:
        """As the daemon counts it."""
        return await self._images.space()

    async def start(self, task: Task) -> Running:
        """Create, then start, unless a container of that name exists already."""
        async with answering():
            return await self._starts.start(task)

    async def stop(self, kernel_id: str, incarnation: int, grace: timedelta) -> None:
        """The daemon carries the stop through, whether or not the agent stays."""
        name = container_name(kernel_id, incarnation)
        seconds = math.ceil(grace.total_seconds())
        async with answering():
            with unless_missing():
                container = await self._docker.containers.get(name)
                if (await container.show())["State"]["Running"]:
                    self._containers.stopping(name)
                    patience = aiohttp.ClientTimeout(total=seconds + CALL_SECONDS_MAX)
                    await container.stop(t=seconds, timeout=patience)

    async def list(self) -> Sequence[Running]:
        """By the label of the deployment."""
        async with answering():
            return [running_of(info) for info in await self._containers.running()]

    async def wait(self, kernel_id: str, incarnation: int) -> Ended:
        """Waits at the daemon, and for the daemon."""
        name = container_name(kernel_id, incarnation)
        while True:
            try:
                async with answering():
                    with unless_missing():
                        await self._docker.containers.container(name).wait()
                    info = await self._containers.inspect(name)
                    if info is None:
                        return Ended(None, utc_now(), "gone")
                    if not info["State"]["Running"]:
                        with suppress(OSError):  # a full disk must not hide the end; `remove` tries again
                            await self._output.keep(kernel_id, incarnation, name)
                        if info["State"]["Status"] == "removing":  # by somebody else, who has killed it
                            return Ended(None, utc_now(), "gone")
                        return self._containers.ended(info) or Ended(None, utc_now(), "gone")
            except RuntimeUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def remove(self, kernel_id: str, incarnation: int) -> None:
        """Copies the output, then deletes the container and its anonymous volumes."""
        name = container_name(kernel_id, incarnation)
        async with answering():
            info = await self._containers.inspect(name)
            if info is not None:
                if info["State"]["Running"]:
                    return
                await self._output.keep(kernel_id, incarnation, name)
                with unless_missing():
                    await self._docker.containers.container(name).delete(v=True)
                await self._networks.left(info)
        self._containers.forget(name)
        await asyncio.to_thread(self._injection.release, kernel_id, incarnation)

    async def capabilities(self) -> Sequence[str]:
        """The daemon's OCI runtimes, and the networks there are for cluster sessions."""
        async with answering():
            known = (await self._docker.system.info())["Runtimes"]
            classes = (f"runtime:{each.value}" for each in RuntimeClass if each.value in known)
            return (*classes, *await self._networks.capabilities())

    async def capacity(self) -> Mapping[str, str]:
        """What the daemon says of its host."""
        async with answering():
            info = await self._docker.system.info()
        return {"cpu": str(info["NCPU"]), "mem": str(info["MemTotal"])}

    async def output(self, kernel_id: str) -> bytes:
        """The daemon's or ours."""
        return await self._output.read(kernel_id)

    def runner(self, kernel_id: str) -> Path | None:
        """In the folder that the latest incarnation has for it, if its image has a Python."""
        return self._injection.sockets.find(kernel_id)

    async def address(self, kernel_id: str) -> str | None:
        """As its network says."""
        async with answering():
            for info in await self._containers.running(kernel_id):
                return await self._networks.address(info)
        return None

    async def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:
        """Containers are deleted when they end: their output is left, and the kernel's home."""
        async with answering():
            await self._networks.tidy()
        old = await asyncio.to_thread(self._kept.tidy, before, keep)
        return await asyncio.to_thread(self._injection.tidy, before, {*keep, *self._kept.kernels()}, old)

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._docker.close()
        await self._connector.close()
