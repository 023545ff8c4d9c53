"""Networks that lie on one host: a bridge for all kernels that are alone, and one for each cluster session."""

from collections.abc import Collection, Mapping
from typing import Any

import aiodocker

from agents.docker.container import LABEL, network_name
from agents.docker.networks.made import drop, make
from agents.docker.networks.plugin import Attachment
from agents.runtime import Task


class Bridges:
    """Those of one deployment."""

    def __init__(self, docker: aiodocker.Docker, deployment: str) -> None:
        self._docker = docker
        self._deployment = deployment
        self._shared_is_there = False

    async def attach(self, task: Task) -> Attachment:
        """Make the bridge that a kernel is to be on, if there is none. Raises StartFailed."""
        if task.peers:
            name = f"{self._deployment}-{task.session_id}"
            await self._have(name, {LABEL + "session": task.session_id}, reach_each_other=True)
            return Attachment(name)
        name = network_name(self._deployment)
        if not self._shared_is_there:
            await self._have(name, {}, reach_each_other=False)
            self._shared_is_there = True
        return Attachment(name)

    def doubt(self) -> None:
        """Perhaps somebody pruned the bridge of those that are alone: it is looked for again next time."""
        self._shared_is_there = False

    def is_theirs(self, name: str) -> bool:
        """Whether a network of this name is one of these."""
        return name.startswith(f"{self._deployment}-")

    async def drop(self, name: str) -> None:
        """Delete that of a session, unless somebody is on it. That of those that are alone stays in any case."""
        if name != network_name(self._deployment):
            await drop(self._docker, name)

    async def leftovers(self) -> Collection[str]:
        """The names of all those of sessions."""
        labels = [f"{LABEL}deployment={self._deployment}", LABEL + "session"]
        return {network["Name"] for network in await self._docker.networks.list(filters={"label": labels})}

    async def address(self, container: Mapping[str, Any]) -> str | None:
        """The container's own: bridges are reached from their host."""
        network = container["NetworkSettings"]["Networks"].get(container["HostConfig"]["NetworkMode"], {})
        return network.get("IPAddress") or None

    async def _have(self, name: str, labels: Mapping[str, str], *, reach_each_other: bool) -> None:
        await make(
            self._docker,
            {
                "Name": name,
                "Driver": "bridge",
                "Options": {"com.docker.network.bridge.enable_icc": str(reach_each_other).lower()},
                "Labels": {LABEL + "deployment": self._deployment, **labels},
            },
        )
