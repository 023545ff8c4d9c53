"""A network of each session over several hosts, by Docker's swarm: VXLAN between them, names by its own DNS.

Each host that is to have part must be a manager of the same swarm, since only managers make networks. What goes between
the hosts is not encrypted: their network is to be trusted, as it is for the kernels' traffic with storage.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

import aiodocker

from agents.docker.container import LABEL
from agents.docker.networks.made import drop, make
from agents.docker.networks.plugin import Attachment
from agents.runtime import Task, utc_now

_GATEWAY = "docker_gwbridge"
"""The bridge by which containers on overlays reach the world, and their host reaches them."""
_LEFT_OVER_AFTER = timedelta(hours=1)
"""A younger one may just be waiting for its first container, on whatever host."""


class Overlay:
    """The plugin `overlay`."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker

    async def impossible(self) -> str | None:
        """A worker of a swarm can only join what a manager made."""
        if (await self._docker.system.info())["Swarm"].get("ControlAvailable"):
            return None
        return "its Docker Engine is not a manager of a swarm"

    async def attach(self, task: Task) -> Attachment:
        """Whichever host is first makes it."""
        name = f"refold-{task.session_id}"
        labels = {LABEL + "session": task.session_id}
        await make(self._docker, {"Name": name, "Driver": "overlay", "Attachable": True, "Labels": labels})
        return Attachment(name)

    async def drop(self, name: str) -> None:
        """The swarm knows who is on it."""
        await drop(self._docker, name)

    async def leftovers(self) -> Collection[str]:
        """Two hosts that left at the same moment each saw the other still there."""
        networks = await self._docker.networks.list(filters={"driver": ["overlay"], "label": [LABEL + "session"]})
        old = utc_now() - _LEFT_OVER_AFTER
        return {network["Name"] for network in networks if datetime.fromisoformat(network["Created"]) < old}

    async def address(self, container: Mapping[str, Any]) -> str | None:
        """On the gateway's bridge: the overlay itself begins inside the containers."""
        gateway = await (await self._docker.networks.get(_GATEWAY)).show()
        own: str = gateway["Containers"].get(container["Id"], {}).get("IPv4Address", "")
        return own.partition("/")[0] or None
