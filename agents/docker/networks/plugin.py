"""What lets the kernels of one session reach each other though they are on several hosts.

`overlay` and `host` are in this folder. Others are entry points of the group `refold.cluster_networks`: a callable that
is given the aiodocker client and makes a `ClusterNetwork`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from agents.runtime import Task


@dataclass(frozen=True)
class Attachment:
    """How a container is connected: to which of Docker's networks, and the names that are written into the container
    itself (host name → IP address). On a network of the session's own Docker finds each container by its host name."""

    network: str
    hosts: Mapping[str, str] = field(default_factory=dict)


class ClusterNetwork(Protocol):
    """All calls may be repeated, and may raise aiodocker's errors."""

    async def impossible(self) -> str | None:
        """Why this host cannot have part in such a network; None if it can."""

    async def attach(self, task: Task) -> Attachment:
        """Make what a kernel is to be connected to.

        Raises StartFailed.
        """

    async def drop(self, name: str) -> None:
        """Delete the network of this name, unless somebody is on it, here or elsewhere."""

    async def leftovers(self) -> Collection[str]:
        """The names of networks that may have been left over, and are to be dropped."""

    async def address(self, container: Mapping[str, Any]) -> str | None:
        """Where a running container's ports are reached from this host. `container`: what the daemon knows of it."""
