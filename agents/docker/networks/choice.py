"""Which network a kernel is on, and when one is made and deleted."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from importlib.metadata import entry_points
from typing import Any

import aiodocker
import structlog

from agents.devices.plugin import Misconfigured
from agents.docker.networks.bridges import Bridges
from agents.docker.networks.host import HostNetwork
from agents.docker.networks.overlay import Overlay
from agents.docker.networks.plugin import Attachment, ClusterNetwork
from agents.runtime import StartFailed, Task

ENTRY_POINTS = "refold.cluster_networks"

_log = structlog.get_logger("agents")


class Networks:
    """Those that the containers of one deployment are on. `spanning`: the name of the plugin for sessions on several
    hosts; empty where this host has no part in such sessions."""

    def __init__(self, docker: aiodocker.Docker, deployment: str, spanning: str) -> None:
        """Raises Misconfigured where there is no such plugin."""
        self._bridges = Bridges(docker, deployment)
        self._spanning = _plugin(spanning)(docker) if spanning else None
        self._changing = asyncio.Lock()  # the daemon makes two networks of one name if it is asked twice at once
        self._attaching = Counter[str]()
        """By the name of a network: how many containers are being started on it, which nobody else sees yet."""

    async def capabilities(self) -> Sequence[str]:
        """Which kinds of cluster sessions this host can have part in."""
        if self._spanning is None:
            return ("cluster:single-node",)
        if (why := await self._spanning.impossible()) is not None:
            _log.warning("this host has no part in sessions on several hosts", reason=why)
            return ("cluster:single-node",)
        return ("cluster:single-node", "cluster:multi-node")

    @asynccontextmanager
    async def attached(self, task: Task) -> AsyncIterator[Attachment]:
        """What a kernel is connected to: there as long as the block runs, and then as long as a container is on it.

        Raises StartFailed.
        """
        network = self._of(task)
        async with self._changing:
            attachment = await network.attach(task)
            self._attaching[attachment.network] += 1
        try:
            yield attachment
        except BaseException:
            self._bridges.doubt()
            self._done(attachment.network)
            with suppress(aiodocker.DockerError, OSError):  # or it is left over until the next time
                await self._drop(network, attachment.network)
            raise
        self._done(attachment.network)

    async def left(self, container: Mapping[str, Any]) -> None:
        """The container is deleted; and so is its session's network with the last one on it."""
        if (network := self._at(container)) is not None:
            await self._drop(network, container["HostConfig"]["NetworkMode"])

    async def address(self, container: Mapping[str, Any]) -> str | None:
        """Where a running container's ports are reached from this host."""
        network = self._at(container)
        return None if network is None else await network.address(container)

    async def tidy(self) -> None:
        """Deletes what an agent that died may have left over."""
        networks: list[Bridges | ClusterNetwork] = [self._bridges]
        if self._spanning is not None:
            networks.append(self._spanning)
        for network in networks:
            for name in await network.leftovers():
                await self._drop(network, name)

    def _of(self, task: Task) -> Bridges | ClusterNetwork:
        if len({peer.agent_id for peer in task.peers}) <= 1:
            return self._bridges
        if self._spanning is None:
            raise StartFailed("this agent has no REFOLD_AGENT_CLUSTER_NETWORK for a session on several hosts")
        return self._spanning

    def _at(self, container: Mapping[str, Any]) -> Bridges | ClusterNetwork | None:
        return self._bridges if self._bridges.is_theirs(container["HostConfig"]["NetworkMode"]) else self._spanning

    def _done(self, name: str) -> None:
        self._attaching[name] -= 1
        if not self._attaching[name]:
            del self._attaching[name]

    async def _drop(self, network: Bridges | ClusterNetwork, name: str) -> None:
        async with self._changing:
            if name not in self._attaching:
                await network.drop(name)


def _plugin(name: str) -> Callable[[aiodocker.Docker], ClusterNetwork]:
    makers: dict[str, Callable[[aiodocker.Docker], ClusterNetwork]] = {"overlay": Overlay, "host": HostNetwork}
    if name in makers:
        return makers[name]
    for point in entry_points(group=ENTRY_POINTS, name=name):
        maker: Callable[[aiodocker.Docker], ClusterNetwork] = point.load()
        return maker
    raise Misconfigured(f"REFOLD_AGENT_CLUSTER_NETWORK: no cluster network {name} is installed")
