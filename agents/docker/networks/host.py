"""No network of their own: kernels of sessions on several hosts share the network of their hosts.

Where there is no swarm, and for fabrics that cannot be reached through a bridge. Such kernels reach whatever their host
reaches, are reached by whoever reaches it, and two of them on one host must not listen on the same port.
"""

import asyncio
import ipaddress
import socket
from collections.abc import Collection, Mapping
from typing import Any

import aiodocker

from agents.docker.networks.plugin import Attachment
from agents.runtime import StartFailed, Task


class HostNetwork:
    """The plugin `host`."""

    def __init__(self, docker: aiodocker.Docker) -> None:
        """There is nothing to ask of Docker."""

    async def impossible(self) -> str | None:
        """Every host has a network."""
        return None

    async def attach(self, task: Task) -> Attachment:
        """The names of all kernels are written into each."""
        hosts = [peer.host for peer in task.peers]
        addresses = await asyncio.gather(*map(_address, hosts))
        return Attachment("host", hosts={peer.hostname: at for peer, at in zip(task.peers, addresses, strict=True)})

    async def drop(self, name: str) -> None:
        """It is not ours to delete."""

    async def leftovers(self) -> Collection[str]:
        """Nothing is made."""
        return ()

    async def address(self, container: Mapping[str, Any]) -> str | None:  # noqa: ARG002
        """The host's own."""
        return "127.0.0.1"


async def _address(host: str) -> str:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise StartFailed(f"the host {host} of another kernel is not found: {error}") from error
    address = str(found[0][4][0])
    if ipaddress.ip_address(address).is_loopback:
        raise StartFailed(f"other hosts cannot reach {host}: REFOLD_AGENT_HOST is to be an address that they can")
    return address
