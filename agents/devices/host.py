"""All devices of one host: what it offers, what having them means for a kernel, and how they are."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import structlog

from agents.devices.cuda import Cuda
from agents.devices.intrinsic import Cpu, Mem
from agents.devices.mock import Mock, read_mock_file
from agents.devices.plugin import (
    Condition,
    Device,
    DevicePlugin,
    DeviceUsage,
    Given,
    Grant,
    Health,
    Misconfigured,
    NoSuchDevice,
    Offer,
)
from agents.devices.sharing import sharing_of
from agents.devices.topology import read_topology
from domain.messages import Refused
from domain.scheduling.messages import SlotFormat
from domain.slots import WHOLE, is_whole, parse, show
from infra.settings import Settings

_log = structlog.get_logger("agents")

ENTRY_POINTS = "refold.devices"


class HostDevices:
    """Nothing until `open`. `slots` and `devices` are then what the agent's profile says of them, and `faults` why
    devices that are here are not offered."""

    def __init__(self) -> None:
        self._plugins: list[DevicePlugin] = []
        self._owner: dict[str, DevicePlugin] = {}
        self._offers: list[tuple[DevicePlugin, Offer]] = []
        self._chosen: Mapping[str, int] | None = None
        self.slots: dict[str, int] = {}
        self.devices: dict[str, dict[str, int]] = {}
        self.faults: dict[str, str] = {}
        self.formats: dict[str, SlotFormat] = {}
        self._noted: dict[str, Health] = {}
        """What the log has been told."""

    async def open(self, plugins: Sequence[DevicePlugin], chosen: Mapping[str, int] | None = None) -> None:
        """Asks every plugin for what there is, and leaves out what has failed. `chosen` offers these slots only, and
        so much of them; devices with smaller ids first.

        Raises Misconfigured.
        """
        for plugin in plugins:
            self._plugins.append(plugin)
            offer = await plugin.offer()
            for slot in sorted({*offer.amounts, *(device.slot for device in offer.devices)}):
                if slot.partition(".")[0] != plugin.name:
                    raise Misconfigured(f"the device plugin {plugin.name} offers {slot}, which is not its own")
                if (other := self._owner.setdefault(slot, plugin)) is not plugin:
                    raise Misconfigured(
                        f"{type(other).__name__} and {type(plugin).__name__} both offer {slot}: "
                        "name one of them only in REFOLD_AGENT_DEVICE_PLUGINS and REFOLD_AGENT_MOCK_DEVICES"
                    )
            self._offers.append((plugin, offer))
            self.formats |= offer.formats
        self._chosen = chosen
        await self.look_again()
        for slot, units in (chosen or {}).items():
            if units and slot not in self._owner:
                raise Misconfigured(
                    f"REFOLD_AGENT_SLOTS: nothing here offers {slot} (REFOLD_AGENT_MOCK_DEVICES makes devices up)"
                )
            if (there := self.slots.get(slot, 0)) < (units // WHOLE * WHOLE if is_whole(slot) else units):
                wanted, found = show({slot: units})[slot], show({slot: there})[slot]
                raise Misconfigured(f"REFOLD_AGENT_SLOTS: {wanted} of {slot}, but there is {found}")

    async def look_again(self) -> bool:
        """Leave out what has failed meanwhile, take in what has recovered, and say whether that changed anything.

        Cheap enough for every few seconds.
        """
        faults: dict[str, str] = {}
        slots: dict[str, int] = {}
        devices: dict[str, dict[str, int]] = {}
        for plugin, offer in self._offers:
            usable = Offer(await self._usable(plugin, offer.devices, faults), offer.amounts)
            here = usable if self._chosen is None else _chosen(usable, self._chosen)
            slots |= here.amounts
            for device in here.devices:
                devices.setdefault(device.slot, {})[device.device_id] = device.units
                slots[device.slot] = slots.get(device.slot, 0) + device.units
        for device_id in self.faults.keys() - faults.keys():
            _log.info("a device has recovered", device=device_id)
            del self._noted[device_id]
        before = (self.slots, self.devices, self.faults)
        self.slots, self.devices, self.faults = slots, devices, faults
        return before != (slots, devices, faults)

    async def _usable(
        self, plugin: DevicePlugin, devices: Sequence[Device], faults: dict[str, str]
    ) -> Sequence[Device]:
        """Those that have not failed; of the others, why is noted in `faults`."""
        known = await plugin.health() if devices else {}
        for device_id, health in known.items():
            if health.condition is Condition.FAILED:
                faults[device_id] = health.reason
            if self._noted.get(device_id) != health:
                _log.warning("a device is not fine", device=device_id, condition=health.condition, reason=health.reason)
                self._noted[device_id] = health
        return [device for device in devices if device.device_id not in faults]

    def grant(self, given: Given) -> Grant:
        """What all plugins say of what is theirs, as one. Raises NoSuchDevice."""
        parts: dict[int, tuple[DevicePlugin, dict[str, Mapping[str, int]]]] = {}
        for slot, devices in given.items():
            for device_id in devices:
                if device_id not in self.devices.get(slot, {}):
                    raise NoSuchDevice(f"this host does not offer {slot} {device_id} (any more)")
            if devices:
                plugin = self._owner[slot]
                parts.setdefault(id(plugin), (plugin, {}))[1][slot] = devices
        return merged([plugin.grant(part) for plugin, part in parts.values()])

    async def health(self) -> Mapping[str, Health]:
        """Devices that are not fine, by id."""
        told = await asyncio.gather(*(plugin.health() for plugin in self._plugins))
        return {device_id: health for each in told for device_id, health in each.items()}

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        """What the devices are doing now, by id."""
        told = await asyncio.gather(*(plugin.read_stats() for plugin in self._plugins))
        return {device_id: usage for each in told for device_id, usage in each.items()}

    async def close(self) -> None:
        """Lets go of all drivers."""
        await asyncio.gather(*(plugin.close() for plugin in self._plugins))


def merged(grants: Sequence[Grant]) -> Grant:
    """One grant that means all of them: lists are joined, and two may not say different things."""
    environ: dict[str, str] = {}
    native_environ: dict[str, str] = {}
    container_environ: dict[str, str] = {}
    host_config: dict[str, Any] = {}
    cpus: tuple[int, ...] = ()
    for grant in grants:
        environ |= grant.environ
        native_environ |= grant.native_environ
        container_environ |= grant.container_environ
        cpus = tuple(sorted({*cpus, *grant.cpus}))
        for name, value in grant.host_config.items():
            if name not in host_config:
                host_config[name] = value
            elif isinstance(value, list):
                host_config[name] = [*host_config[name], *value]
            elif host_config[name] != value:
                raise NoSuchDevice(f"two kinds of devices want different {name} of one container")
    return Grant(environ, native_environ, container_environ, host_config, cpus)


async def take_stock(
    host: HostDevices, settings: Settings, capacity: Callable[[], Awaitable[Mapping[str, str]]]
) -> None:
    """Opens the devices of this host as the settings have it; `capacity` is the runtime's.

    Raises Misconfigured.
    """
    chosen = _amounts("REFOLD_AGENT_SLOTS", settings.agent_slots)
    measured = chosen or _amounts("the runtime's capacity", await capacity())
    reserved = {"cpu": 0, "mem": 0}
    if not chosen:  # else what is offered was said outright
        reserved |= _amounts("REFOLD_AGENT_RESERVED_CPU", {"cpu": settings.agent_reserved_cpu})
        reserved |= _amounts("REFOLD_AGENT_RESERVED_MEM", {"mem": settings.agent_reserved_mem})
    try:
        pinned = read_topology().within(os.sched_getaffinity(0)) if settings.agent_cpu_pinning else None
    except OSError as error:
        raise Misconfigured(f"REFOLD_AGENT_CPU_PINNING: this host does not tell its processors: {error}") from error
    plugins: list[DevicePlugin] = [
        Cpu(measured.get("cpu", 0), reserved["cpu"], pinned),
        Mem(measured.get("mem", 0), reserved["mem"]),
        *_accelerators(settings),
    ]
    if unknown := sorted(settings.agent_accelerators.keys() - {plugin.name for plugin in plugins}):
        raise Misconfigured(f"REFOLD_AGENT_ACCELERATORS: there is no device plugin {unknown[0]}")
    await host.open(plugins, chosen or None)


def _amounts(what: str, amounts: Mapping[str, str]) -> dict[str, int]:
    try:
        return parse(amounts)
    except Refused as refused:
        raise Misconfigured(f"{what}: {refused.reason}") from refused


def _accelerators(settings: Settings) -> Sequence[DevicePlugin]:
    plugins: list[DevicePlugin] = []
    makers: dict[str, Callable[[Settings], DevicePlugin]] = {
        "cuda": lambda settings: Cuda(sharing_of(settings.agent_accelerators, "cuda"))
    }
    for point in entry_points(group=ENTRY_POINTS):
        makers[point.name] = lambda settings, point=point: point.load()(settings)  # type: ignore[misc]
    for name in filter(None, (part.strip() for part in settings.agent_device_plugins.split(","))):
        if name not in makers:
            raise Misconfigured(f"REFOLD_AGENT_DEVICE_PLUGINS: no device plugin {name} is installed")
        plugins.append(makers[name](settings))
    if settings.agent_mock_devices:
        again = partial(read_mock_file, Path(settings.agent_mock_devices))
        declared = again()
        plugins.append(Mock(declared, sharing_of(settings.agent_accelerators, declared.slot_name), again=again))
    return plugins


def _chosen(offer: Offer, chosen: Mapping[str, int]) -> Offer:
    """So many units of each slot. A fraction of what is given as a whole is cut off."""
    left = dict(chosen)
    taken: list[Device] = []
    for device in sorted(offer.devices, key=lambda device: device.device_id):
        wanted = left.get(device.slot, 0)
        units = min(device.units, wanted // WHOLE * WHOLE if is_whole(device.slot) else wanted)
        if units:
            left[device.slot] = wanted - units
            taken.append(replace(device, units=units))
    return Offer(taken, {slot: chosen[slot] for slot in offer.amounts if slot in chosen})
