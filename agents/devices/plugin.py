"""What a kind of device has to be able to say and do. The docstrings of `DevicePlugin` are the contract.

Plugins come with Refold (`cpu` and `mem` always, `cuda`, `mock`) or from other packages, as entry points of the group
`refold.devices`: a callable that takes the agent's settings and returns a plugin, under the plugin's name.

What can go wrong, as a tree:

    DeviceFailure
    ├── Misconfigured     a setting or a file says what cannot be; the agent does not start
    ├── NoSuchDevice      a kernel was given what is not here
    └── Unanswered        a driver does not answer; nothing is known for now
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Protocol

from domain.scheduling.messages import SlotFormat


class DeviceFailure(Exception):
    """Anything devices can answer instead of doing what was asked."""


class Misconfigured(DeviceFailure):
    """What the agent was told about its devices cannot be."""


class NoSuchDevice(DeviceFailure):
    """A kernel was given a device that this host does not offer."""


class Unanswered(DeviceFailure):
    """A driver did not answer in time, or has yet to answer an earlier question."""


Given = Mapping[str, Mapping[str, int]]
"""What a kernel was given: slot → device id → units (thousandths, see `domain.slots`)."""


@dataclass(frozen=True)
class Device:
    """One thing of one slot. What can be given in several ways is offered in one of them."""

    device_id: str
    """Unique within its slot, and the same after a restart of the host."""
    slot: str
    """`cuda.device`, `cuda.shares`. Kinds other than `shares` go to at most one kernel at a time."""
    units: int
    """1000 is one whole device, or one share."""
    model: str = ""
    numa_node: int | None = None
    """None where the host does not say."""
    memory_bytes: int = 0
    """0 where it has none of its own, or does not say."""
    processors: int = 0
    """Streaming multiprocessors and the like; 0 where it does not say."""


@dataclass(frozen=True)
class Offer:
    """What a plugin found."""

    devices: Sequence[Device] = ()
    amounts: Mapping[str, int] = field(default_factory=dict)
    """Slots that are amounts only, in units of `domain.slots`."""
    formats: Mapping[str, SlotFormat] = field(default_factory=dict)
    """How amounts of its slots are shown, where it says."""


class Condition(StrEnum):
    """How a device is."""

    FINE = "fine"
    WORN = "worn"
    """It works; somebody should look after it. Kernels go on."""
    FAILED = "failed"
    """No kernel should be given it."""


@dataclass(frozen=True)
class Health:
    """How a device is, and in words why it is not fine."""

    condition: Condition = Condition.FINE
    reason: str = ""


@dataclass(frozen=True)
class DeviceUsage:
    """What a device is doing now. None: it does not say."""

    utilisation_percent: float | None = None
    memory_bytes: int | None = None
    memory_bytes_max: int | None = None
    power_watts: float | None = None
    power_watts_max: float | None = None
    temperature_celsius: float | None = None


@dataclass(frozen=True)
class KernelUsage:
    """What one kernel uses, with everything it started."""

    cpu_usec: int | None = None
    """Microseconds of processor time, user and system, so far."""
    memory_bytes: int | None = None
    """Now. Of a container without file pages that could be dropped; of processes, pages that several of them share
    count for each."""
    memory_bytes_peak: int | None = None
    memory_bytes_max: int | None = None
    """Its limit."""
    io_read_bytes: int | None = None
    """From block devices, so far."""
    io_written_bytes: int | None = None
    net_received_bytes: int | None = None
    """So far, by all interfaces but its own loopback. None where it shares the host's network."""
    net_sent_bytes: int | None = None
    processes: int | None = None
    """Now. Of a container: threads."""


@dataclass(frozen=True)
class Grant:
    """What having its devices means for a kernel. Nothing a user says overrides it."""

    environ: Mapping[str, str] = field(default_factory=dict)
    """For its environment, whatever runs it."""
    native_environ: Mapping[str, str] = field(default_factory=dict)
    """For its environment where it is a process of the host, which sees all devices."""
    container_environ: Mapping[str, str] = field(default_factory=dict)
    """For its environment where it is a container."""
    host_config: Mapping[str, Any] = field(default_factory=dict)
    """For the HostConfig of its container, in Docker's words."""
    cpus: tuple[int, ...] = ()
    """The only processors it may run on; all of them if empty."""


Granting = Callable[[Given], Grant]
"""Raises NoSuchDevice."""


def grant_nothing(given: Given) -> Grant:
    """The `Granting` of a host without devices."""
    for slot, devices in given.items():
        for device_id in devices:
            raise NoSuchDevice(f"this host has no {slot} {device_id}")
    return Grant()


class DevicePlugin(Protocol):
    """Small on purpose. Nothing here blocks the event loop, and nothing fails for lack of a device or a driver:
    there is just nothing to offer then, and one line in the log that says why."""

    name: str
    """The device part of its slots."""

    async def offer(self) -> Offer:
        """What is here. Called once, when the agent starts.

        Raises Misconfigured.
        """

    async def health(self) -> Mapping[str, Health]:
        """By id, for devices that are not fine. Cheap enough for every few seconds."""

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        """By id, for devices that say something; all at once. Cheap enough for every few seconds."""

    def grant(self, given: Given) -> Grant:
        """What it means to have these, all of which are in this plugin's offer. Pure."""

    async def close(self) -> None:
        """Let go of the driver."""
