"""Kernels as Docker containers, through aiodocker on the daemon's socket.

What makes a container ours is written on it: the labels `ai.refold.deployment`, `…kernel`, `…incarnation` and
`…session`, and its name. The daemon keeps the state, the exit code and the true times, so an agent that
starts again has nothing to remember but which kernels it was told to stop, and the output of what was
removed:

    <folder>/stopping/<container name>    an empty file: `stop` was called while it ran
    <folder>/output/<kernel id>/          what removed containers printed
    <folder>/scratch, sockets, code, pythons   see `agents/docker_injection.py`

A running container's output is the daemon's (`json-file`, bounded); it is copied here once the kernel has
ended, so that there is neither a gap nor a repetition to look after. (What a kernel prints while there is no
daemon is lost if it also ends before the daemon is back; the time and the exit code are not.)

What a kernel may do is said in `agents/container.py`; its home, and the runner in it, in
`agents/docker_injection.py`.
"""

import asyncio
import json
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiodocker
import aiohttp

from agents.container import LABEL, container_config, network_name
from agents.devices.plugin import Granting, NoSuchDevice, grant_nothing
from agents.docker_answers import UNREACHABLE, answering, unless_missing
from agents.docker_images import DockerImages
from agents.docker_injection import DockerInjection
from agents.output import OutputStore
from agents.runtime import (
    AlreadyEnded,
    Ended,
    ImageHere,
    ImageUnavailable,
    Reason,
    Running,
    RuntimeUnavailable,
    StartFailed,
    Task,
    utc_now,
)

NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""How the daemon says that something has not happened."""
CALL_SECONDS_MAX = 60.0
"""For any one call; a start on a host with busy disks takes many seconds."""
RETRY_SECONDS = 1.0
MAKING_SECONDS = 0.05


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
    ) -> None:
        self._grant = grant
        self._deployment = deployment
        self._log_bytes_max = log_bytes_max
        self._output = OutputStore(folder / "output", log_bytes_max)
        self._stopping = folder / "stopping"
        self._stopping.mkdir(parents=True, exist_ok=True)
        # Each kernel that is waited for holds a connection, so their number must not be limited.
        self._connector = aiohttp.UnixConnector(str(socket), limit=0)
        self._docker = aiodocker.Docker(
            url="unix://localhost",
            connector=self._connector,
            timeout=aiohttp.ClientTimeout(total=CALL_SECONDS_MAX),
        )
        self._networked = False
        self._networking = asyncio.Lock()  # the daemon makes two networks of one name if it is asked twice at once
        self._images = DockerImages(self._docker)
        self._injection = DockerInjection(self._docker, folder, deployment)

    async def has_image(self, image: str) -> bool:
        """As the daemon has it."""
        return await self._images.has(image)

    async def pull(self, image: str, progress: Callable[[int, int], None]) -> None:
        """An image that is here needs no registry."""
        await self._images.pull(image, progress)

    async def images(self) -> Sequence[ImageHere]:
        """As the daemon lists them."""
        return await self._images.all()

    async def remove_image(self, image: str) -> None:
        """The daemon keeps an image that a container was made from, also one that ended."""
        await self._images.remove(image)

    async def start(self, task: Task) -> Running:
        """Create, then start. A container of that name that exists already decides what is left to do."""
        name = _name(task.kernel_id, task.incarnation)
        async with answering():
            try:
                granted = self._grant(task.devices)
            except NoSuchDevice as error:
                info = await self._inspect(name)
                if info is not None:
                    if (settled := self._settled(task, info)) is not None:
                        return settled
                    with unless_missing():  # created by an agent that died before it could start it
                        await self._docker.containers.container(name).delete(force=True, v=True)
                raise StartFailed(str(error)) from error
            try:
                injected = await self._injection.of(task)
            except aiodocker.DockerError as error:
                if error.status != 404:
                    raise
                info = await self._inspect(name)
                if info is not None and (settled := self._settled(task, info)) is not None:
                    return settled  # its image lost the name since
                raise ImageUnavailable(f"{task.image}: {error.message}") from error
            config = container_config(task, self._deployment, self._log_bytes_max, granted, injected)
            async with self._networking:
                await self._have_network()
            try:
                created = await self._docker.containers.create(config, name=name)
            except aiodocker.DockerError as error:
                match error.status:
                    case 409:
                        created = self._docker.containers.container(name)
                        if (settled := self._settled(task, await self._made_by_another(name))) is not None:
                            return settled
                    case 404:
                        raise ImageUnavailable(f"{task.image}: {error.message}") from error
                    case 400:
                        raise StartFailed(error.message) from error
                    case _:
                        raise
            try:
                await created.start()
            except aiodocker.DockerError as error:
                if error.status == UNREACHABLE:
                    raise
                self._networked = False  # perhaps somebody pruned it: looked for again next time
                with suppress(aiodocker.DockerError):
                    await created.delete(force=True, v=True)
                self._injection.sockets.remove(task.kernel_id, task.incarnation)
                raise StartFailed(error.message) from error
            return _running(await created.show())

    async def _made_by_another(self, name: str) -> Mapping[str, Any]:
        """The daemon gives a name away some time before there is a container under it."""
        async with asyncio.timeout(CALL_SECONDS_MAX):
            while True:
                if (info := await self._inspect(name)) is not None:
                    return info
                await asyncio.sleep(MAKING_SECONDS)

    def _settled(self, task: Task, info: Mapping[str, Any]) -> Running | None:
        """The answer to a start that finds its container there; None if that was only created."""
        labels = info["Config"]["Labels"]
        if labels.get(LABEL + "deployment") != self._deployment or labels.get(LABEL + "kernel") != task.kernel_id:
            raise StartFailed(f"a container of another deployment has the name {info['Name']}")
        if info["State"]["Running"]:
            return _running(info)
        if ended := self._ended(info):
            raise AlreadyEnded(ended)
        return None

    async def stop(self, kernel_id: str, incarnation: int, grace: timedelta) -> None:
        """The daemon carries the stop through, whether or not the agent stays."""
        name = _name(kernel_id, incarnation)
        seconds = math.ceil(grace.total_seconds())
        async with answering():
            with unless_missing():
                container = await self._docker.containers.get(name)
                if (await container.show())["State"]["Running"]:
                    (self._stopping / name).touch()
                    patience = aiohttp.ClientTimeout(total=seconds + CALL_SECONDS_MAX)
                    await container.stop(t=seconds, timeout=patience)

    async def list(self) -> Sequence[Running]:
        """By the label of the deployment."""
        async with answering():
            containers = await self._labelled({"deployment": self._deployment}, everything=False)
            found = await asyncio.gather(*(self._inspect(container.id) for container in containers))
        return [_running(info) for info in found if info is not None and info["State"]["Running"]]

    async def wait(self, kernel_id: str, incarnation: int) -> Ended:
        """Waits at the daemon, and for the daemon."""
        name = _name(kernel_id, incarnation)
        while True:
            try:
                async with answering():
                    with unless_missing():
                        await self._docker.containers.container(name).wait()
                    info = await self._inspect(name)
                    if info is None:
                        return Ended(None, utc_now(), "gone")
                    if not info["State"]["Running"]:
                        with suppress(OSError):  # a full disk must not hide the end; `remove` tries again
                            await self._keep_output(kernel_id, incarnation, name)
                        return self._ended(info) or Ended(None, utc_now(), "gone")
            except RuntimeUnavailable:
                await asyncio.sleep(RETRY_SECONDS)

    async def remove(self, kernel_id: str, incarnation: int) -> None:
        """Copies the output, then deletes the container and its anonymous volumes."""
        name = _name(kernel_id, incarnation)
        async with answering():
            info = await self._inspect(name)
            if info is not None:
                if info["State"]["Running"]:
                    return
                await self._keep_output(kernel_id, incarnation, name)
                with unless_missing():
                    await self._docker.containers.container(name).delete(v=True)
        (self._stopping / name).unlink(missing_ok=True)
        self._injection.sockets.remove(kernel_id, incarnation)

    async def capacity(self) -> Mapping[str, str]:
        """What the daemon says of its host."""
        async with answering():
            info = await self._docker.system.info()
        return {"cpu": str(info["NCPU"]), "mem": str(info["MemTotal"])}

    async def output(self, kernel_id: str) -> bytes:
        """The daemon's logs of the containers that are there, ours of those that were. Ours if it is away."""
        live = dict[int, bytes]()
        try:
            async with answering():
                for container in await self._labelled({"deployment": self._deployment, "kernel": kernel_id}):
                    info = await self._inspect(container.id)
                    if info is not None:
                        live[int(info["Config"]["Labels"][LABEL + "incarnation"])] = await self._logs(container.id)
        except RuntimeUnavailable:
            if kept := await asyncio.to_thread(self._output.read, kernel_id):
                return kept
            raise
        return await asyncio.to_thread(self._output.read, kernel_id, live)

    def runner(self, kernel_id: str) -> Path | None:
        """In the folder that the latest incarnation has for it, if its image has a Python."""
        return self._injection.sockets.find(kernel_id)

    async def address(self, kernel_id: str) -> str | None:
        """The container's, on the network of all kernels."""
        async with answering():
            labels = {"deployment": self._deployment, "kernel": kernel_id}
            for container in await self._labelled(labels, everything=False):
                if (info := await self._inspect(container.id)) is not None and info["State"]["Running"]:
                    networks = info["NetworkSettings"]["Networks"]
                    return networks.get(network_name(self._deployment), {}).get("IPAddress") or None
        return None

    async def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:
        """Containers are deleted when they end: their output is left, and the kernel's home."""
        old = await asyncio.to_thread(self._output.tidy, before, keep)
        return await asyncio.to_thread(self._injection.tidy, before, {*keep, *self._output.kernels()}, old)

    async def close(self) -> None:
        """Lets go of the connections."""
        await self._docker.close()
        await self._connector.close()

    def _ended(self, info: Mapping[str, Any]) -> Ended | None:
        """The end of a container that does not run; None if it never did."""
        state = info["State"]
        if _time(state["StartedAt"]) == NEVER:
            return None
        at, code = _time(state["FinishedAt"]), state["ExitCode"]
        reason: Reason = "exited"
        if state["OOMKilled"] and code != 0:  # a child may have been the victim, and the kernel gone on
            reason = "oom"
        elif (self._stopping / info["Name"].removeprefix("/")).exists():
            reason = "killed"
        return Ended(code, utc_now() if at == NEVER else at, reason)

    async def _inspect(self, name: str) -> Mapping[str, Any] | None:
        with unless_missing():
            return await self._docker.containers.container(name).show()
        return None

    async def _labelled(
        self, labels: Mapping[str, str], *, everything: bool = True
    ) -> Sequence[aiodocker.containers.DockerContainer]:
        filters = {"label": [f"{LABEL}{name}={value}" for name, value in labels.items()]}
        return await self._docker.containers.list(all=everything, filters=json.dumps(filters))

    async def _have_network(self) -> None:
        if self._networked:
            return
        name = network_name(self._deployment)
        try:
            await self._docker.networks.get(name)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            options = {"com.docker.network.bridge.enable_icc": "false"}
            with suppress(aiodocker.DockerError):  # made by another start just now; if not, the start will tell
                await self._docker.networks.create(
                    {"Name": name, "CheckDuplicate": True, "Driver": "bridge", "Options": options}
                )
        self._networked = True

    async def _logs(self, name: str) -> bytes:
        """As bytes: aiodocker's own way assumes text."""
        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{name}/logs"
        async with self._docker.session.get(url, params={"stdout": "1", "stderr": "1"}) as response:
            return _unframed(await response.read()) if response.status == 200 else b""

    async def _keep_output(self, kernel_id: str, incarnation: int, name: str) -> None:
        """Also where it is empty: that tells when the kernel ended, and so for how long its files are kept."""
        printed = await self._logs(name)
        if printed or not await asyncio.to_thread(self._output.has, kernel_id, incarnation):
            await asyncio.to_thread(self._output.put, kernel_id, incarnation, printed)


def _name(kernel_id: str, incarnation: int) -> str:
    return f"refold-{kernel_id}-{incarnation}"


def _running(info: Mapping[str, Any]) -> Running:
    """Of what the daemon says about a container that was started."""
    labels = info["Config"]["Labels"]
    return Running(
        kernel_id=labels[LABEL + "kernel"],
        incarnation=int(labels[LABEL + "incarnation"]),
        session_id=labels[LABEL + "session"],
        runtime_id=info["Id"],
        started_at=_time(info["State"]["StartedAt"]),
    )


def _time(text: str) -> datetime:
    """The daemon writes nanoseconds, which `fromisoformat` cuts to the microseconds it knows."""
    return datetime.fromisoformat(text)


def _unframed(data: bytes) -> bytes:
    """Logs without a terminal come in frames: stream, three zeros, length as four bytes big-endian,
    payload."""
    pieces = list[bytes]()
    at = 0
    while at + 8 <= len(data):
        payload = at + 8
        at = payload + int.from_bytes(data[payload - 4 : payload], "big")
        pieces.append(data[payload:at])
    return b"".join(pieces)
