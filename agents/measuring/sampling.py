"""What kernels, devices and the host use, every few seconds: told as telemetry, and the latest kept for /metrics.

One message for all kernels of a host. What cannot be sent is not kept: the next one says more.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path

import structlog

from agents.devices.host import HostDevices
from agents.devices.host_usage import HostReading, busy_percents, read_host
from agents.devices.plugin import DeviceUsage, KernelUsage
from agents.devices.usage import CGROUPS, PROC, AsProcess, InContainer, Reading, Where, read_stats
from agents.door.uses import Uses
from agents.journal import Journal, JournalUnavailable, Kept, Stage
from agents.runtime import Running, Runtime, RuntimeUnavailable
from domain.messages import AgentId, KernelId
from domain.telemetry import DeviceSample, HostSample, KernelSample, KernelSamples
from infra.log import LogError

_log = structlog.get_logger("agents")

Here = tuple[KernelId, int]
"""A kernel and its incarnation."""

Send = Callable[[KernelSamples], Awaitable[None]]
"""Raises `LogError`."""


class Sampler:
    """`latest` is what was measured last; None before. Make it inside a running event loop."""

    def __init__(
        self,
        agent_id: AgentId,
        runtime: Runtime,
        devices: HostDevices,
        journal: Journal,
        uses: Uses,
        send: Send,
        interval_seconds: float,
        *,
        proc: Path = PROC,
        cgroups: Path = CGROUPS,
    ) -> None:
        self._agent_id = agent_id
        self._runtime = runtime
        self._devices = devices
        self._journal = journal
        self._uses = uses
        self._send = send
        self._interval = interval_seconds
        self._proc, self._cgroups = proc, cgroups
        self._places: dict[Here, Running] = {}
        self._before: Reading[Here] | None = None
        self._host_before: HostReading | None = None
        self.latest: KernelSamples | None = None

    async def run(self) -> None:
        """Until it is cancelled."""
        while True:
            try:
                self.latest = await self.sample()
                if self.latest is not None:
                    await self._send(self.latest)
            except (LogError, RuntimeUnavailable, JournalUnavailable) as error:
                _log.debug("samples not sent", reason=str(error))
            except Exception:  # a defect of ours, or a host that tells what nobody expected: kernels go on
                _log.exception("nothing could be measured")
            await asyncio.sleep(self._interval)

    async def sample(self) -> KernelSamples | None:
        """What is used now; None before the agent knows who it is. Raises `RuntimeUnavailable`."""
        incarnation = self._journal.fact("incarnation")
        if incarnation is None:
            return None
        kept = {
            (each.order.kernel_id, each.order.incarnation): each
            for each in self._journal.kernels()
            if each.stage is Stage.STARTED
        }
        await self._find(kept)
        self._uses.forget([kernel_id for kernel_id, _ in kept])
        places = {here: place for here in kept if (place := self._place(here)) is not None}
        reading, host = await asyncio.gather(
            read_stats(places, self._devices, proc=self._proc, cgroups=self._cgroups),
            asyncio.to_thread(read_host, self._proc),
        )
        samples = KernelSamples(
            at=reading.at,
            agent_id=self._agent_id,
            incarnation=incarnation,
            interval_seconds=self._interval,
            host=HostSample(
                cpu_percents=tuple(busy_percents(self._host_before, host)),
                memory_bytes=host.memory_bytes,
                memory_bytes_max=host.memory_bytes_max,
            ),
            devices=tuple(
                _device(slot, device_id, reading.devices[device_id])
                for slot, device_ids in self._devices.devices.items()
                for device_id in device_ids
                if device_id in reading.devices
            ),
            kernels=tuple(self._kernel(kept[here], reading) for here in kept if here in self._places),
        )
        self._before, self._host_before = reading, host
        return samples

    async def _find(self, kept: Mapping[Here, Kept]) -> None:
        """Where each of them is; the runtime is asked only when there is a new one."""
        self._places = {here: place for here, place in self._places.items() if here in kept}
        if kept.keys() - self._places.keys():
            for running in await self._runtime.list():
                if (here := (KernelId(running.kernel_id), running.incarnation)) in kept:
                    self._places[here] = running

    def _place(self, here: Here) -> Where | None:
        """None for what only pretends to run."""
        running = self._places.get(here)
        if running is None:
            return None
        match self._runtime.name:
            case "docker":
                return InContainer(running.runtime_id)
            case "process":
                return AsProcess(int(running.runtime_id))
            case _:
                return None

    def _kernel(self, kept: Kept, reading: Reading[Here]) -> KernelSample:
        order = kept.order
        here = (order.kernel_id, order.incarnation)
        usage = reading.kernels.get(here, KernelUsage())
        return KernelSample(
            kernel_id=order.kernel_id,
            incarnation=order.incarnation,
            session_id=order.session_id,
            owner=order.owner,
            last_used_at=self._last_used(self._places[here]),
            cpu_usec=usage.cpu_usec,
            cpu_percent=self._cpu_percent(here, usage, reading.at),
            cpu_millis=order.slots.get("cpu", 0),
            memory_bytes=usage.memory_bytes,
            memory_bytes_peak=usage.memory_bytes_peak,
            memory_bytes_max=usage.memory_bytes_max or order.slots.get("mem") or None,
            io_read_bytes=usage.io_read_bytes,
            io_written_bytes=usage.io_written_bytes,
            net_received_bytes=usage.net_received_bytes,
            net_sent_bytes=usage.net_sent_bytes,
            processes=usage.processes,
            devices=tuple(device_id for slot, given in order.devices.items() if slot != "cpu" for device_id in given),
        )

    def _last_used(self, running: Running) -> datetime | None:
        """A start is a use. Of what an earlier agent started, that one may know of later ones."""
        used = self._uses.last(running.kernel_id)
        if used is None and running.started_at < self._uses.began_at:
            return None
        return running.started_at if used is None else max(used, running.started_at)

    def _cpu_percent(self, here: Here, usage: KernelUsage, at: datetime) -> float | None:
        """A counter that has gone down counts from the beginning."""
        before = None if self._before is None else self._before.kernels.get(here)
        if self._before is None or before is None or before.cpu_usec is None or usage.cpu_usec is None:
            return None
        seconds = (at - self._before.at).total_seconds()
        used = usage.cpu_usec - before.cpu_usec
        return round(max(0, used) / seconds / 10_000, 2) if seconds > 0 else None


def _device(slot: str, device_id: str, usage: DeviceUsage) -> DeviceSample:
    return DeviceSample(
        device_id=device_id,
        slot=slot,
        utilisation_percent=usage.utilisation_percent,
        memory_bytes=usage.memory_bytes,
        memory_bytes_max=usage.memory_bytes_max,
        power_watts=usage.power_watts,
        power_watts_max=usage.power_watts_max,
        temperature_celsius=usage.temperature_celsius,
    )
