"""How a kernel's container comes to be: its devices, its files, its network, then created and started.

A container of that name that exists already decides what is left to do.
"""

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import aiodocker
from aiodocker.containers import DockerContainer

from agents.devices.plugin import Granting, NoSuchDevice
from agents.docker.answers import CALL_SECONDS_MAX, UNREACHABLE, unless_missing
from agents.docker.container import LABEL, container_config, container_name
from agents.docker.containers import DockerContainers, running_of
from agents.docker.injection import DockerInjection
from agents.docker.networks.choice import Networks
from agents.runtime import AlreadyEnded, ImageUnavailable, Running, StartFailed, Task

_MAKING_SECONDS = 0.05


class DockerStarts:
    """Those of one deployment."""

    def __init__(
        self,
        docker: aiodocker.Docker,
        containers: DockerContainers,
        injection: DockerInjection,
        networks: Networks,
        grant: Granting,
        log_bytes_max: int,
    ) -> None:
        self._docker = docker
        self._containers = containers
        self._injection = injection
        self._networks = networks
        self._grant = grant
        self._log_bytes_max = log_bytes_max

    async def start(self, task: Task) -> Running:
        """What a runtime says of it (`agents.runtime.Runtime`)."""
        name = container_name(task.kernel_id, task.incarnation)
        try:
            granted = self._grant(task.devices)
        except NoSuchDevice as error:
            if (settled := await self._as_it_is(task, name)) is not None:
                return settled
            with unless_missing():  # created by an agent that died before it could start it
                await self._docker.containers.container(name).delete(force=True, v=True)
            raise StartFailed(str(error)) from error
        try:
            injected = await self._injection.of(task)
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            if (settled := await self._as_it_is(task, name)) is not None:
                return settled  # its image lost the name since
            raise ImageUnavailable(f"{task.image}: {error.message}") from error
        async with self._networks.attached(task) as attachment:
            deployment, log_bytes_max = self._containers.deployment, self._log_bytes_max
            config = container_config(task, deployment, log_bytes_max, granted, injected, attachment)
            created = await self._created(task, name, config)
            return created if isinstance(created, Running) else await self._started(task, created)

    async def _created(self, task: Task, name: str, config: dict[str, Any]) -> DockerContainer | Running:
        """Not yet started; or what already runs under the name."""
        try:
            return await self._docker.containers.create(config, name=name)
        except aiodocker.DockerError as error:
            match error.status:
                case 409:
                    info = await self._made_by_another(name)
                    return self._settled(task, info) or self._docker.containers.container(name)
                case 404:
                    await self._release(task)
                    raise ImageUnavailable(f"{task.image}: {error.message}") from error
                case 400:
                    await self._release(task)
                    raise StartFailed(error.message) from error
                case _:
                    raise

    async def _started(self, task: Task, created: DockerContainer) -> Running:
        try:
            await created.start()
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                raise
            with suppress(aiodocker.DockerError):
                await created.delete(force=True, v=True)
            await self._release(task)
            raise StartFailed(error.message) from error
        return running_of(await created.show())

    async def _release(self, task: Task) -> None:
        """There is no container that could have what was made for it."""
        await asyncio.to_thread(self._injection.release, task.kernel_id, task.incarnation)

    async def _made_by_another(self, name: str) -> Mapping[str, Any]:
        """The daemon gives a name away some time before there is a container under it."""
        async with asyncio.timeout(CALL_SECONDS_MAX):
            while True:
                if (info := await self._containers.inspect(name)) is not None:
                    return info
                await asyncio.sleep(_MAKING_SECONDS)

    async def _as_it_is(self, task: Task, name: str) -> Running | None:
        """What an earlier start made of it; None if nothing that runs or ran."""
        info = await self._containers.inspect(name)
        return None if info is None else self._settled(task, info)

    def _settled(self, task: Task, info: Mapping[str, Any]) -> Running | None:
        """The answer to a start that finds its container there; None if that was only created."""
        if not self._containers.is_ours(info) or info["Config"]["Labels"].get(LABEL + "kernel") != task.kernel_id:
            raise StartFailed(f"a container of another deployment has the name {info['Name']}")
        if info["State"]["Running"]:
            return running_of(info)
        if ended := self._containers.ended(info):
            raise AlreadyEnded(ended)
        return None
