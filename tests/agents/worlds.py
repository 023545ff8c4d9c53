"""The worlds the contract is tried in: what lets a test open one runtime, lose it, and open another on the
same host."""

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import aiodocker

from agents.docker.runtime import DockerRuntime
from agents.fake.runtime import FakeRuntime
from agents.given.folders import Folders
from agents.process.runtime import ProcessRuntime
from agents.runtime import ImageHere, Runtime, Task
from domain.messages import AgentId, KernelId
from domain.placements import Peer

LOG_BYTES_MAX = 8192


class World(ABC):
    """One host. What runs on it does not depend on any runtime object."""

    image = "any"
    images = True
    """Whether there is such a thing as an image."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def open(self) -> Runtime:
        """A runtime as a starting agent opens it."""

    @abstractmethod
    def broken(self, task: Task) -> Task:
        """The same task, but it cannot start."""

    @abstractmethod
    async def spare_image(self) -> str:
        """The canonical name of an image that is here, and that a test may delete. Only where there are images."""

    def image_name(self) -> str:
        """A canonical name under which a test may make an image."""
        return "docker.io/refold/made:1"

    def task(self, script: str | None = None, *, incarnation: int = 1, kernel_id: str | None = None) -> Task:
        """A kernel that runs a shell script, or waits to be stopped."""
        return Task(
            kernel_id=kernel_id or str(uuid4()),
            incarnation=incarnation,
            session_id=str(uuid4()),
            image=self.image,
            command=None if script is None else ["sh", "-c", script],
            environ={"GREETING": "hello"},
            hostname="main1",
            cpu_millis=500,
            mem_bytes=256 << 20,
            pids_max=64,
        )


def cluster(task: Task, *names: str, hosts: Sequence[str] = ("127.0.0.1",)) -> Sequence[Task]:
    """One task for each name, all of one session; the hosts take turns."""
    session_id, ids = str(uuid4()), [KernelId(str(uuid4())) for _ in names]
    on = [hosts[at % len(hosts)] for at in range(len(names))]
    peers = tuple(
        Peer(hostname=name, kernel_id=kernel_id, agent_id=AgentId(f"agent on {host}"), host=host)
        for name, kernel_id, host in zip(names, ids, on, strict=True)
    )
    return [
        replace(task, session_id=session_id, kernel_id=kernel_id, hostname=name, peers=peers)
        for kernel_id, name in zip(ids, names, strict=True)
    ]


SPARE = ImageHere("docker.io/fake/spare:1", "amd64", labels={"ai.backend.role": "COMPUTE"})


class FakeWorld(World):
    def open(self) -> FakeRuntime:
        return FakeRuntime(self.folder, images=[SPARE], log_bytes_max=LOG_BYTES_MAX)

    def broken(self, task: Task) -> Task:
        return replace(task, image="fake/fail-start")

    async def spare_image(self) -> str:
        return SPARE.reference


class ProcessWorld(World):
    images = False

    def open(self) -> ProcessRuntime:
        return ProcessRuntime(self.folder, log_bytes_max=LOG_BYTES_MAX)

    def broken(self, task: Task) -> Task:
        return replace(task, environ={"GREETING": "\0"})  # no program can be given that

    async def spare_image(self) -> str:
        raise LookupError("there are no images")


DOCKER_SOCKET = os.environ.get("REFOLD_TEST_DOCKER", "")
DOCKER_IMAGE = os.environ.get("REFOLD_TEST_DOCKER_IMAGE", "refold/base:1")


class DockerWorld(World):
    image = DOCKER_IMAGE
    broken_image = DOCKER_IMAGE

    def __init__(self, folder: Path, stock: Path | None = None) -> None:
        """`stock`: where worlds leave for each other what an agent makes once and finds out once."""
        super().__init__(folder)
        self.deployment = f"test-{uuid4().hex[:8]}"
        self._stock = stock
        if stock is not None:
            _copy_stock(stock, folder)

    def open(
        self, cluster_network: str = "", scratch_bytes_max: int = 0, folders: Folders | None = None
    ) -> DockerRuntime:
        return DockerRuntime(
            DOCKER_SOCKET,
            self.folder,
            deployment=self.deployment,
            log_bytes_max=LOG_BYTES_MAX,
            scratch_bytes_max=scratch_bytes_max,
            cluster_network=cluster_network,
            folders=folders,
        )

    def broken(self, task: Task) -> Task:
        return replace(task, cpu_millis=10**9)  # more processors than any host has

    def image_name(self) -> str:
        return f"docker.io/refold/{self.deployment}:made"

    async def spare_image(self) -> str:
        """An image of its own, not only another name for one that is here."""
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            container = await docker.containers.create({"Image": self.image, "Labels": {"ai.backend.role": "COMPUTE"}})
            await container.commit(repository=f"refold/{self.deployment}", tag="1")
            await container.delete()
        return f"docker.io/refold/{self.deployment}:1"

    async def clear(self) -> None:
        """Deletes what Docker has of this world, and its image."""
        if self._stock is not None:
            _copy_stock(self.folder, self._stock)
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            await clear_deployment(docker, self.deployment)
            for tag in ("1", "made"):
                with suppress(aiodocker.DockerError):
                    await docker.images.delete(f"refold/{self.deployment}:{tag}", force=True)


async def clear_deployment(docker: aiodocker.Docker, deployment: str) -> None:
    """Deletes every container of it and its networks."""
    label = {"label": [f"ai.refold.deployment={deployment}"]}
    for container in await docker.containers.list(all=True, filters=json.dumps(label)):
        await container.delete(force=True, v=True)
    for network in await docker.networks.list(filters=label):
        await (await docker.networks.get(network["Id"])).delete()


def _copy_stock(source: Path, target: Path) -> None:
    """The runner's code, the kits, and what is known of images: as links, since nobody writes to them."""
    for name in ("code", "looks"):
        if (source / name).exists() and not (target / name).exists():
            shutil.copytree(source / name, target / name, copy_function=os.link)
