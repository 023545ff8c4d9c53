"""Processors and memory, which every host has. Some of both may be reserved for the host itself.

Processors are an amount, unless kernels are to be pinned: then each processor is a device that the scheduler gives
out, and the log says which kernel had which. A kernel that has half a processor shares that one with others; its part
of the time is limited as ever.
"""

from collections.abc import Mapping

from agents.devices.plugin import Device, DeviceUsage, Given, Grant, Health, Misconfigured, Offer
from agents.devices.topology import Topology, show_cpu_list
from domain.slots import WHOLE, show


class _Intrinsic:
    """Nothing is known of its health, and what is used of it is counted by kernel."""

    async def health(self) -> Mapping[str, Health]:
        return {}

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        return {}

    async def close(self) -> None:
        """Nothing is held."""


class Cpu(_Intrinsic):
    """`measured` and `reserved` in thousandths. With a topology, kernels are pinned."""

    name = "cpu"

    def __init__(self, measured: int, reserved: int = 0, pinned: Topology | None = None) -> None:
        self._measured = measured
        self._reserved = reserved
        self._pinned = pinned
        self._number: dict[str, int] = {}

    async def offer(self) -> Offer:
        """Reserved are the first processors: that is where a host does its own work."""
        if self._pinned is None:
            return Offer(amounts={"cpu": _left("cpu", self._measured, self._reserved)})
        cpus = [(node, cpu) for node, mine in self._pinned.nodes.items() for cpu in mine]
        _left("cpu", len(cpus) * WHOLE, self._reserved)
        # Smaller ids are given first, and ids are compared as text: so one node is filled before the next is begun.
        self._number = {f"node{node:02}/cpu{cpu:04}": cpu for node, cpu in cpus}
        devices: list[Device] = []
        reserved = self._reserved
        for (device_id, _), (node, _) in zip(self._number.items(), cpus, strict=True):
            units = max(0, WHOLE - reserved)
            reserved = max(0, reserved - WHOLE)
            if units:
                devices.append(Device(device_id, "cpu", units, numa_node=node))
        return Offer(devices)

    def grant(self, given: Given) -> Grant:
        """In `cpu` order, as Docker and the kernel write it."""
        cpus = tuple(sorted(self._number[device_id] for device_id in given.get("cpu", {})))
        return Grant(cpus=cpus, host_config={"CpusetCpus": show_cpu_list(cpus)}) if cpus else Grant()


class Mem(_Intrinsic):
    """`measured` and `reserved` in bytes."""

    name = "mem"

    def __init__(self, measured: int, reserved: int = 0) -> None:
        self._measured = measured
        self._reserved = reserved

    async def offer(self) -> Offer:
        return Offer(amounts={"mem": _left("mem", self._measured, self._reserved)})

    def grant(self, given: Given) -> Grant:  # noqa: ARG002
        """Memory is no device: its limit is in the task."""
        return Grant()


def _left(slot: str, measured: int, reserved: int) -> int:
    if reserved and reserved >= measured:
        shown = show({slot: reserved})[slot], show({slot: measured})[slot]
        raise Misconfigured(f"REFOLD_AGENT_RESERVED_{slot.upper()}: {shown[0]} of {shown[1]} leaves nothing to offer")
    return measured - reserved
