"""What containers get of their host: a home that outlives them, and a runner.

    <folder>/scratch/<kernel id>/home/       /home/work in all incarnations of the kernel
    <folder>/scratch/<kernel id>/config/     /home/config, read-only: resource.txt says what the kernel was given
    <folder>/sockets/<kernel id>/…           /run/refold: see `agents/injection.py`
    <folder>/code/…                          /opt/refold/runner, read-only
    <folder>/pythons/<image id>              the Python of an image that can run the runner; empty if it has none

Whether an image has a Python (3.8 or newer, with its standard library) is tried out once, in a container of its own
that may do even less than a kernel. A kernel of an image without one runs the image's own program or the given command,
as it is, and has no runner.

Files for a kernel must belong to its user. As root the agent gives them to user 1000, as an ordinary user it runs its
kernels under its own id. Where the daemon maps user ids (rootless, or `userns-remap`) neither would be that user's, and
where it does not see the agent's folder under the same path (a daemon on another host) there is nothing to share:
kernels then have no runner, and no home but their container's.
"""

import asyncio
import json
import os
import shutil
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import aiodocker
import structlog

from agents.container import HOME, LABEL, USER, Injected, confined
from agents.docker_answers import UNREACHABLE, unless_missing
from agents.injection import SOCKET_NAME, Sockets, answered, install, looking, runner_command
from agents.runtime import Task
from domain.slots import show

CODE: Final = "/opt/refold/runner"
CONFIG: Final = "/home/config"
SOCKETS: Final = "/run/refold"
LOOK_LABEL: Final = LABEL + "look"
LOOK_SECONDS_MAX: Final = 60.0
LOOK_BYTES_MAX: Final = 256 << 20

_log = structlog.get_logger("agents")


class DockerInjection:
    """For the containers of one daemon."""

    def __init__(self, docker: aiodocker.Docker, folder: Path, deployment: str) -> None:
        self._docker = docker
        self._deployment = deployment
        self._scratch = folder.absolute() / "scratch"
        self._pythons = folder.absolute() / "pythons"
        self._codes = folder.absolute() / "code"
        self.sockets = Sockets(folder.absolute() / "sockets")
        self._user = (1000, 1000) if os.geteuid() == 0 else (os.geteuid(), os.getegid())
        self._shares: bool | None = None
        self._opening = asyncio.Lock()
        self._code: Path | None = None
        self._looks = defaultdict[str, asyncio.Lock](asyncio.Lock)
        for private in (self._scratch, self._pythons):
            private.mkdir(parents=True, exist_ok=True, mode=0o700)

    async def of(self, task: Task) -> Injected:
        """Makes what a task's container is to find. May be repeated."""
        image = await self._docker.images.inspect(task.image)
        if not await self._shared():
            return Injected()
        if (code := self._code) is None:
            code = self._code = await asyncio.to_thread(install, self._codes)
        python = await self._python(image["Id"], code)
        if not await self._shared():  # the first look has shown it
            return Injected()
        mounts = await asyncio.to_thread(self._make, task, None if python is None else code)
        user = "{}:{}".format(*self._user)
        if python is None:
            return Injected(user, mounts)
        labels = image["Config"].get("Labels") or {}
        socket = f"{SOCKETS}/{SOCKET_NAME}"
        return Injected(user, mounts, runner_command(python, CODE, socket, HOME, labels, task.command))

    def tidy(self, before: datetime, keep: Collection[str], forgotten: Collection[str]) -> Collection[str]:
        """Deletes the files of kernels that are forgotten, and of those to which nothing happened since before then;
        the ids of all of them."""
        old = set(forgotten)
        for folder in self._scratch.iterdir():
            if folder.name in old or (folder.name not in keep and _started_at(folder) < before.timestamp()):
                shutil.rmtree(folder, ignore_errors=True)
                old.add(folder.name)
        return old

    def _make(self, task: Task, code: Path | None) -> Sequence[Mapping[str, Any]]:
        scratch = self._scratch / task.kernel_id
        home, config = scratch / "home", scratch / "config"
        for folder in (scratch, home, config):
            folder.mkdir(exist_ok=True)
            folder.chmod(0o755)  # whatever the mask is; nobody gets below `scratch` on this host
        (config / "resource.txt").write_text(resource_text(task))
        mounts = [_bind(home, HOME), _bind(config, CONFIG, read_only=True)]
        owner = self._user if os.geteuid() == 0 else None
        if owner is not None:
            os.chown(home, *owner)
        if code is not None:
            sockets = self.sockets.make(task.kernel_id, task.incarnation, owner)
            mounts += [_bind(sockets, SOCKETS), _bind(code, CODE, read_only=True)]
        return mounts

    async def _shared(self) -> bool:
        """Whether files can be shared with containers at all."""
        async with self._opening:
            if self._shares is None:
                await self._clear_looks()
                options = (await self._docker.system.info()).get("SecurityOptions") or ()
                self._shares = not any("name=rootless" in option or "name=userns" in option for option in options)
                if not self._shares:
                    _log.warning("the Docker daemon maps user ids: its kernels have no runner")
        return self._shares

    async def _clear_looks(self) -> None:
        """Containers that an agent left that died while it looked: they would hold their image."""
        label = json.dumps({"label": [f"{LOOK_LABEL}={self._deployment}"]})
        for left in await self._docker.containers.list(all=True, filters=label):
            with unless_missing():
                await left.delete(force=True, v=True)

    async def _python(self, image_id: str, code: Path) -> str | None:
        known = self._pythons / f"{image_id.rpartition(':')[2]}-{code.name}"
        async with self._looks[image_id]:
            if not known.exists():
                found = await self._look(image_id, code)
                if found is None:
                    return None
                draft = known.with_suffix(".draft")
                draft.write_text(found)
                draft.replace(known)
            return known.read_text() or None

    async def _look(self, image_id: str, code: Path) -> str | None:
        """Its path, empty if there is certainly none; None if that could not be found out now."""
        config: dict[str, Any] = {
            "Image": image_id,
            "User": USER,
            "Entrypoint": [*looking("python3", CODE)],
            "Labels": {LOOK_LABEL: self._deployment},
            "HostConfig": {
                **confined(LOOK_BYTES_MAX, pids_max=64),
                "NetworkMode": "none",
                "ReadonlyRootfs": True,
                "Mounts": [_bind(code, CODE, read_only=True)],
                "LogConfig": {"Type": "json-file", "Config": {"max-size": "64k"}},
            },
        }
        try:
            looker = await self._docker.containers.create(config)
        except aiodocker.DockerError as error:
            if error.status != 400 or "bind source" not in error.message:
                raise
            _log.warning("the Docker daemon does not see the agent's folder: its kernels have no runner")
            self._shares = False
            return None
        try:
            await looker.start()
            async with asyncio.timeout(LOOK_SECONDS_MAX):
                exit_code = (await looker.wait())["StatusCode"]
            if exit_code > 128:
                return None  # it was ended from outside
            return "" if exit_code else answered("".join(await looker.log(stdout=True))) or ""
        except aiodocker.DockerError as error:
            if error.status == UNREACHABLE:
                raise
            return "" if error.status == 400 else None  # 400: there is no python3
        except TimeoutError:
            return None
        finally:
            with suppress(aiodocker.DockerError), unless_missing():
                await looker.delete(force=True, v=True)


def resource_text(task: Task) -> str:
    """What a kernel was given, for programs in it: amounts of its slots, and the share of each device."""
    slots = show({"cpu": task.cpu_millis, "mem": task.mem_bytes}) | {
        slot: show({slot: sum(devices.values())})[slot] for slot, devices in task.devices.items()
    }
    lines = [f"SLOTS={json.dumps(slots)}"]
    for slot, devices in task.devices.items():
        shares = ",".join(f"{device}:{show({slot: units})[slot]}" for device, units in devices.items())
        lines.append(f"{slot.upper()}_SHARES={shares}")
    return "\n".join(lines) + "\n"


def _bind(source: Path, target: str, *, read_only: bool = False) -> Mapping[str, Any]:
    return {
        "Type": "bind",
        "Source": str(source),
        "Target": target,
        "ReadOnly": read_only,
        "BindOptions": {"Propagation": "rprivate"},
    }


def _started_at(scratch: Path) -> float:
    """When the kernel was last started, in seconds since 1970."""
    try:
        return (scratch / "config" / "resource.txt").stat().st_mtime
    except FileNotFoundError:
        return scratch.stat().st_mtime
