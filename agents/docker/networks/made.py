"""Networks that the agent has Docker make, and delete when nobody is on them any more."""

import asyncio
from typing import Any

import aiodocker

from agents.docker.answers import UNREACHABLE, unless_missing
from agents.runtime import StartFailed

_IN_USE = (400, 403)
"""How the daemon refuses to delete a network: 403 where it knows itself who is on it, 400 where its swarm does."""
_SEEN_SECONDS_MAX = 1.0
"""What another manager of the swarm made is seen here a moment later."""


async def make(docker: aiodocker.Docker, config: dict[str, Any]) -> None:
    """Unless there is one of that name. Raises StartFailed: there is an end to the addresses that a daemon may give."""
    name = config["Name"]
    if await _is_there(docker, name):
        return
    try:
        await docker.networks.create({"CheckDuplicate": True, **config})
    except aiodocker.DockerError as error:
        if error.status == UNREACHABLE:
            raise
        try:  # another agent may have made it just now
            async with asyncio.timeout(_SEEN_SECONDS_MAX):
                while not await _is_there(docker, name):  # noqa: ASYNC110 - nobody tells
                    await asyncio.sleep(0.1)
        except TimeoutError:
            raise StartFailed(f"no network {name}: {error.message}") from error


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
