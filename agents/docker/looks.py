"""What an image has, as far as kernels of it depend on that: a Python that can run the runner, a shell, and its users.

It is tried out once for each image, in a container of its own that may do even less than a kernel, and kept:

    <folder>/<image id>-<version of the runner>.json
"""

import asyncio
import json
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiodocker
import structlog
from pydantic import TypeAdapter

from agents.docker.answers import UNREACHABLE, unless_missing
from agents.docker.container import LABEL, USER, confined
from agents.given.injection import answered, looking
from agents.given.kits import PYTHON

LOOK_LABEL: Final = LABEL + "look"
_SECONDS_MAX: Final = 60.0
_BYTES_MAX: Final = 256 << 20
_FILE_BYTES_MAX: Final = 1 << 20

_log = structlog.get_logger("agents")


@dataclass(frozen=True)
class Look:
    """`python`: its path, None if there is none. `passwd`, `group`: the image's own, empty where it has none."""

    python: str | None
    shell: str
    passwd: str
    group: str

    @property
    def is_brought(self) -> bool:
        """Whether it is the kit's, not the image's."""
        return self.python is not None and self.python.startswith(f"{PYTHON}/")


@dataclass(frozen=True)
class Candidate:
    """A Python that may run the runner, and what has to be mounted for that."""

    python: str
    mounts: Sequence[Mapping[str, Any]]


Brought = Callable[[], Awaitable[Candidate | None]]
"""Makes the Python that is brought along where the image has none."""


class NotShared(Exception):
    """The daemon does not see the agent's files."""


_LOOKS: Final[TypeAdapter[Look]] = TypeAdapter(Look)


class DockerLooks:
    """For the images of one daemon. `folder` is the agent's own."""

    def __init__(self, docker: aiodocker.Docker, folder: Path, deployment: str) -> None:
        self._docker = docker
        self._folder = folder
        self._deployment = deployment
        self._turns = defaultdict[str, asyncio.Lock](asyncio.Lock)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def clear(self) -> None:
        """Containers that an agent left that died while it looked: they would hold their image."""
        label = json.dumps({"label": [f"{LOOK_LABEL}={self._deployment}"]})
        for left in await self._docker.containers.list(all=True, filters=label):
            with unless_missing():
                await left.delete(force=True, v=True)

    async def at(self, image_id: str, code: str, version: str, own: Candidate, brought: Brought) -> Look:
        """`code`: where the runner's is, in the container; `version`: of it. The first Python that can run it counts.

        Raises `NotShared`.
        """
        known = self._folder / f"{image_id.rpartition(':')[2]}-{version}.json"
        async with self._turns[image_id]:
            with suppress(FileNotFoundError):
                return _LOOKS.validate_json(known.read_bytes())
            look, certain = await self._look(image_id, code, own, brought)
            if certain:
                draft = known.with_suffix(".draft")
                draft.write_bytes(_LOOKS.dump_json(look))
                draft.replace(known)
            return look

    async def _look(self, image_id: str, code: str, own: Candidate, brought: Brought) -> tuple[Look, bool]:
        """And whether that is certain: a container may be ended from outside."""
        found, users = await self._try(image_id, code, own)
        certain = found is not None
        if not found and (kit := await brought()) is not None:
            found, users = await self._try(image_id, code, kit)
            certain = certain and found is not None
        return Look(found or None, *users), certain

    async def _try(self, image_id: str, code: str, candidate: Candidate) -> tuple[str | None, tuple[str, str, str]]:
        looker = await self._created(image_id, code, candidate)
        try:
            users = await self._users(looker)
            return await _tried(looker), users
        finally:
            with suppress(aiodocker.DockerError), unless_missing():
                await looker.delete(force=True, v=True)

    async def _created(self, image_id: str, code: str, candidate: Candidate) -> aiodocker.containers.DockerContainer:
        config: dict[str, Any] = {
            "Image": image_id,
            "User": USER,
            "Entrypoint": [*looking(candidate.python, code)],
            "Labels": {LOOK_LABEL: self._deployment},
            "HostConfig": {
                **confined(_BYTES_MAX, pids_max=64),
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "Mounts": [*candidate.mounts],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "64k"}},
            },
        }
        try:
            return await self._docker.containers.create(config)
        except aiodocker.DockerError as error:
            if error.status != 400 or "bind source" not in error.message:
                raise
            raise NotShared from error

    async def _users(self, looker: aiodocker.containers.DockerContainer) -> tuple[str, str, str]:
        """The shell there is, and the files in which the users are."""
        shell = "/bin/bash" if await self._has(looker, "/bin/bash") else "/bin/sh"
        return shell, await _text(looker, "/etc/passwd"), await _text(looker, "/etc/group")

    async def _has(self, looker: aiodocker.containers.DockerContainer, path: str) -> bool:
        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{looker.id}/archive"
        async with self._docker.session.head(url, params={"path": path}) as answer:
            return answer.status == 200


async def _tried(looker: aiodocker.containers.DockerContainer) -> str | None:
    """The Python's path, empty if it is certainly not to be had; None if that could not be found out now."""
    try:
        await looker.start()
        async with asyncio.timeout(_SECONDS_MAX):
            exit_code = (await looker.wait())["StatusCode"]
        if exit_code > 128:
            return None  # it was ended from outside
        return "" if exit_code else answered("".join(await looker.log(stdout=True))) or ""
    except aiodocker.DockerError as error:
        if error.status == UNREACHABLE:
            raise
        return "" if error.status == 400 else None  # 400: there is no such program
    except TimeoutError:
        return None


async def _text(looker: aiodocker.containers.DockerContainer, path: str) -> str:
    """Of a file in its image; empty where there is none, or nothing that could be one."""
    with unless_missing(), await looker.get_archive(path) as archive:
        for member in archive:
            file = archive.extractfile(member) if member.isfile() and member.size < _FILE_BYTES_MAX else None
            if file is not None:
                return file.read().decode(errors="replace")
    return ""
