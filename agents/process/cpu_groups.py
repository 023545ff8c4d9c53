"""Control groups that hold native kernels to their share of the processor, where the host lets the agent make some.

They are made below the agent's own group: of the controller `cpu` (version 1), or of all (version 2). Version 2 lets a
group have children with controllers only if it holds no processes itself, so the agent moves into a group beside
them; and only one that was given to it whole (systemd: `Delegate=yes`) lets it do that.
"""

import asyncio
import os
import zlib
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

import structlog

_log = structlog.get_logger("agents")

_MOUNT: Final = Path("/sys/fs/cgroup")
_MEMBERSHIP: Final = Path("/proc/self/cgroup")
_LEAF: Final = "refold-agent"
_PERIOD_USEC: Final = 100_000  # the kernel's default
_QUOTA_USEC_MIN: Final = 1000  # of a period; less is refused
_DYING_SECONDS: Final = 0.01
_DYING_SECONDS_MAX: Final = 2.0


class CpuGroups:
    """One for each incarnation of a kernel."""

    def __init__(self, base: Path, prefix: str, *, is_version_2: bool) -> None:
        self._base = base
        self._prefix = prefix
        self._is_version_2 = is_version_2

    def make(self, kernel_id: str, incarnation: int, cpu_millis: int) -> Path | None:
        """Its group; None where nothing limits it. Whoever writes "0" into its `cgroup.procs` is in it."""
        if not cpu_millis:
            return None
        group = self._group(kernel_id, incarnation)
        try:
            group.mkdir(exist_ok=True)
            for name, text in self._files(max(_QUOTA_USEC_MIN, cpu_millis * _PERIOD_USEC // 1000)).items():
                (group / name).write_text(text)
        except OSError as error:
            _log.warning("its share of the processor is not limited", kernel=kernel_id, reason=str(error))
            self.remove(kernel_id, incarnation)
            return None
        return group

    def remove(self, kernel_id: str, incarnation: int) -> None:
        """Quiet where it is not there, or still in use."""
        with suppress(OSError):
            self._group(kernel_id, incarnation).rmdir()

    async def removed(self, kernel_id: str, incarnation: int) -> None:
        """What was just killed is still in it for a moment; for that long it is tried again."""
        self.remove(kernel_id, incarnation)
        with suppress(TimeoutError):
            async with asyncio.timeout(_DYING_SECONDS_MAX):
                while self.is_there(kernel_id, incarnation):
                    await asyncio.sleep(_DYING_SECONDS)
                    self.remove(kernel_id, incarnation)

    def is_there(self, kernel_id: str, incarnation: int) -> bool:
        """Whether one was made, and not removed since."""
        return self._group(kernel_id, incarnation).exists()

    def _group(self, kernel_id: str, incarnation: int) -> Path:
        return self._base / f"{self._prefix}-{kernel_id}-{incarnation}"

    def _files(self, quota_usec: int) -> Mapping[str, str]:
        if self._is_version_2:
            return {"cpu.max": f"{quota_usec} {_PERIOD_USEC}"}
        return {"cpu.cfs_period_us": str(_PERIOD_USEC), "cpu.cfs_quota_us": str(quota_usec)}


def find_cpu_groups(folder: Path, mount: Path = _MOUNT, membership: Path = _MEMBERSHIP) -> CpuGroups | None:
    """None, and a line in the log, where the host lets us make none. `folder`: of the agent; another one's groups have
    other names."""
    prefix = f"refold-{zlib.crc32(os.fsencode(folder)):08x}"
    try:
        own = {
            controllers: path.removeprefix("/")
            for _, controllers, path in (line.split(":", 2) for line in membership.read_text().splitlines())
        }
        if (mount / "cgroup.controllers").exists():
            return CpuGroups(_delegated(mount / own[""]), prefix, is_version_2=True)
        controllers = next(each for each in own if "cpu" in each.split(","))
        base = mount / "cpu" / own[controllers]
        probe = base / f"{prefix}-probe"
        probe.mkdir(exist_ok=True)
        probe.rmdir()
        return CpuGroups(base, prefix, is_version_2=False)
    except (OSError, KeyError, ValueError, StopIteration) as error:
        _log.info("no kernel's share of the processor is limited", reason=str(error) or "no such control group")
        return None


def _delegated(own: Path) -> Path:
    """Ours, with children that have the controller, once this process has left it. Raises `OSError`."""
    base = own.parent if own.name == _LEAF else own
    if "cpu" not in (base / "cgroup.subtree_control").read_text().split():
        leaf = base / _LEAF
        leaf.mkdir(exist_ok=True)
        (leaf / "cgroup.procs").write_text("0")
        try:
            (base / "cgroup.subtree_control").write_text("+cpu")
        except OSError:
            (base / "cgroup.procs").write_text("0")  # others are in it, and it is not ours
            leaf.rmdir()
            raise
    return base
