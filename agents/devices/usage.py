"""What kernels and devices use, read once: for all kernels of a host in one go, beside the event loop.

Counters count from a kernel's start, so that a reading that was missed costs nothing but its moment. None is what the
host does not tell.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Generic, TypeVar

from agents.devices.containers import read_container
from agents.devices.host import HostDevices
from agents.devices.plugin import DeviceUsage, KernelUsage
from agents.devices.processes import read_processes

K = TypeVar("K")

CGROUPS = Path("/sys/fs/cgroup")
PROC = Path("/proc")


@dataclass(frozen=True)
class InContainer:
    """A kernel of the Docker runtime."""

    container_id: str


@dataclass(frozen=True)
class AsProcess:
    """A kernel of the process runtime: its first process, whose parent is its keeper."""

    pid: int


Where = InContainer | AsProcess


@dataclass(frozen=True)
class Reading(Generic[K]):
    """What everything used at a moment. Kernels that were not found are not in it."""

    at: datetime
    kernels: Mapping[K, KernelUsage]
    devices: Mapping[str, DeviceUsage]
    """By device id."""


async def read_stats(
    kernels: Mapping[K, Where], devices: HostDevices, *, proc: Path = PROC, cgroups: Path = CGROUPS
) -> Reading[K]:
    """Cheap enough for every few seconds: some ten small files for each container, /proc once for all processes."""
    at = datetime.now(UTC)
    used, working = await asyncio.gather(asyncio.to_thread(_read, kernels, proc, cgroups), devices.read_stats())
    return Reading(at, used, working)


def _read(kernels: Mapping[K, Where], proc: Path, cgroups: Path) -> dict[K, KernelUsage]:
    pids = [where.pid for where in kernels.values() if isinstance(where, AsProcess)]
    native = read_processes(pids, proc) if pids else {}
    found: dict[K, KernelUsage] = {}
    for kernel, where in kernels.items():
        match where:
            case AsProcess(pid):
                usage = native.get(pid)
            case InContainer(container_id):
                usage = read_container(container_id, proc, cgroups)
        if usage is not None:
            found[kernel] = usage
    return found
