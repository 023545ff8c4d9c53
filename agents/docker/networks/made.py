"""Networks that the agent has Docker make, and delete when nobody is on them any more."""

import asyncio
import time
from typing import Any

import aiodocker

from agents.docker.answers import UNREACHABLE, unless_missing
from agents.runtime import StartFailed

_IN_USE = (400, 403)
"""How the daemon refuses to delete a network: 403 where it knows itself who is on it, 400 where its swarm does."""
_SEEN_SECONDS_MAX = 1.0
"""What another agent, or another manager of the swarm, made just now is seen here a moment later."""
_PASSING_SECONDS_MAX = 5.0
"""While somebody restarts the host's firewall or a daemon, there are no chains that a network's rules could go to. What
lasts longer does not pass by itself."""
_AGAIN_SECONDS = 0.2


async def make(docker: aiodocker.Docker, config: dict[str, Any]) -> None:
    """Unless there is one of that name. Raises StartFailed: there is an end to the addresses that a daemon may give."""
    began = time.monotonic()
    while not await _is_there(docker, config["Name"]):
        try:
            await docker.networks.create({"CheckDuplicate": True, **config})
            return
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                raise
            patience = _SEEN_SECONDS_MAX if error.status < 500 else _PASSING_SECONDS_MAX
            if time.monotonic() - began > patience:
                raise StartFailed(f"no network {config['Name']}: {error.message}") from error
            await asyncio.sleep(_AGAIN_SECONDS)


async def drop(docker: aiodocker.Docker, name: str) -> None:
    """Unless somebody is on it, or it is gone already."""
    with unless_missing():
        try:
            await (await docker.networks.get(name)).delete()
        except aiodocker.DockerError as error:
            if error.status not in _IN_USE:
                raise


async def _is_there(docker: aiodocker.Docker, name: str) -> bool:
    try:
        await docker.networks.get(name)
    except aiodocker.DockerError as error:
        if error.status != 404:
            raise
        return False
    return True
