"""What a Docker daemon knows of our containers, and what that means."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import aiodocker

from agents.docker.answers import unless_missing
from agents.docker.container import LABEL
from agents.runtime import Ended, Reason, Running, utc_now

_NEVER = datetime(1, 1, 1, tzinfo=UTC)
"""How the daemon says that something has not happened."""


class DockerContainers:
    """Those of one deployment. `stopping`: the folder in which it stands which of them were told to stop."""

    def __init__(self, docker: aiodocker.Docker, deployment: str, stopping: Path) -> None:
        self.deployment = deployment
        self._docker = docker
        self._stopping = stopping
        stopping.mkdir(parents=True, exist_ok=True)

    async def inspect(self, name: str) -> Mapping[str, Any] | None:
        """All about the container of this name or id; None if there is none."""
        with unless_missing():
            return await self._docker.containers.container(name).show()
        return None

    async def running(self, kernel_id: str | None = None) -> Sequence[Mapping[str, Any]]:
        """All about each container that runs, of all kernels or of this one."""
        return [info for info in await self._all(kernel_id, everything=False) if info["State"]["Running"]]

    async def of(self, kernel_id: str) -> Sequence[Mapping[str, Any]]:
        """All about each container of a kernel, also those that ended."""
        return await self._all(kernel_id, everything=True)

    def is_ours(self, info: Mapping[str, Any]) -> bool:
        """Whether the labels say so."""
        return bool(info["Config"]["Labels"].get(LABEL + "deployment") == self.deployment)

    def stopping(self, name: str) -> None:
        """It is told to stop now, so however it ends, it was that."""
        (self._stopping / name).touch()

    def forget(self, name: str) -> None:
        """It is deleted."""
        (self._stopping / name).unlink(missing_ok=True)

    def ended(self, info: Mapping[str, Any]) -> Ended | None:
        """The end of a container that does not run; None if it never did."""
        state = info["State"]
        if _time(state["StartedAt"]) == _NEVER:
            return None
        at, code = _time(state["FinishedAt"]), state["ExitCode"]
        reason: Reason = "exited"
        if state["OOMKilled"] and code != 0:  # a child may have been the victim, and the kernel gone on
            reason = "oom"
        elif (self._stopping / info["Name"].removeprefix("/")).exists():
            reason = "killed"
        return Ended(code, utc_now() if at == _NEVER else at, reason)

    async def logs(self, name: str) -> bytes:
        """As bytes: aiodocker's own way assumes text."""
        url = f"{self._docker.docker_host}/{self._docker.api_version}/containers/{name}/logs"
        async with self._docker.session.get(url, params={"stdout": "1", "stderr": "1"}) as response:
            return _unframed(await response.read()) if response.status == 200 else b""

    async def _all(self, kernel_id: str | None, *, everything: bool) -> Sequence[Mapping[str, Any]]:
        labels = [f"{LABEL}deployment={self.deployment}"]
        if kernel_id is not None:
            labels.append(f"{LABEL}kernel={kernel_id}")
        listed = await self._docker.containers.list(all=everything, filters=json.dumps({"label": labels}))
        found = await asyncio.gather(*(self.inspect(container.id) for container in listed))
        return [info for info in found if info is not None]


def running_of(info: Mapping[str, Any]) -> Running:
    """Of what the daemon says about a container that was started."""
    labels = info["Config"]["Labels"]
    return Running(
        kernel_id=labels[LABEL + "kernel"],
        incarnation=int(labels[LABEL + "incarnation"]),
        session_id=labels[LABEL + "session"],
        runtime_id=info["Id"],
        started_at=_time(info["State"]["StartedAt"]),
    )


def _time(text: str) -> datetime:
    """The daemon writes nanoseconds, which `fromisoformat` cuts to the microseconds it knows."""
    return datetime.fromisoformat(text)


def _unframed(data: bytes) -> bytes:
    """Logs without a terminal come in frames: stream, three zeros, length as four bytes big-endian,
    payload."""
    pieces = list[bytes]()
    at = 0
    while at + 8 <= len(data):
        payload = at + 8
        at = payload + int.from_bytes(data[payload - 4 : payload], "big")
        pieces.append(data[payload:at])
    return b"".join(pieces)
