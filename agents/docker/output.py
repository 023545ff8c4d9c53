"""What containers printed.

A running container's output is the daemon's (`json-file`, bounded); it is copied to the agent's folder once the kernel
has ended, so that there is neither a gap nor a repetition to look after. (What a kernel prints while there is no daemon
is lost if it also ends before the daemon is back; the time and the exit code are not.)
"""

import asyncio

from agents.docker.answers import answering
from agents.docker.container import LABEL
from agents.docker.containers import DockerContainers
from agents.output import OutputStore
from agents.runtime import RuntimeUnavailable


class DockerOutput:
    """The daemon's logs of the containers that are there, ours of those that were."""

    def __init__(self, containers: DockerContainers, kept: OutputStore) -> None:
        self._containers = containers
        self._kept = kept

    async def read(self, kernel_id: str) -> bytes:
        """Of all incarnations; what is kept here if the daemon is away."""
        live = dict[int, bytes]()
        try:
            async with answering():
                for info in await self._containers.of(kernel_id):
                    live[int(info["Config"]["Labels"][LABEL + "incarnation"])] = await self._containers.logs(info["Id"])
        except RuntimeUnavailable:
            if kept := await asyncio.to_thread(self._kept.read, kernel_id):
                return kept
            raise
        return await asyncio.to_thread(self._kept.read, kernel_id, live)

    async def keep(self, kernel_id: str, incarnation: int, name: str) -> None:
        """Also where it is empty: that tells when the kernel ended, and so for how long its files are kept."""
        printed = await self._containers.logs(name)
        if printed or not await asyncio.to_thread(self._kept.has, kernel_id, incarnation):
            await asyncio.to_thread(self._kept.put, kernel_id, incarnation, printed)
