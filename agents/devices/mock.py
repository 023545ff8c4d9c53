"""Devices that are not there, declared in a file: a host with 64 GPUs anywhere.

The file is TOML, in the format of the reference's mock accelerator: `slot_name`, `device_plugin_name`, `formats`,
`attributes`, `devices`. Two tables are ours. With `statistics = { load = 0.7 }` the devices look alive, as if they
were used that much; else they are idle. A device with `fault = "…"` has failed, for that reason, also if that is
written there while the agent runs.

    slot_name = "cuda"
    device_plugin_name = "CUDADevice"
    devices = [
        { mother_uuid = "c59395cd-…", model_name = "A GPU", numa_node = 0, subproc_count = 108, memory_size = "40G" },
    ]

A kernel finds its devices in BACKENDAI_MOCK_CUDA_DEVICES, and as many as it is in BACKENDAI_MOCK_CUDA_DEVICE_COUNT.
"""

import asyncio
import math
import time
import tomllib
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, BaseModel, ConfigDict, Field, ValidationError

from agents.devices.plugin import Condition, Device, DeviceUsage, Given, Grant, Health, Misconfigured, Offer
from agents.devices.sharing import Sharing, Size, explained, limits
from domain.scheduling.messages import SlotFormat
from domain.slots import WHOLE

IDLE_WATTS, BUSY_WATTS = 60.0, 400.0
IDLE_CELSIUS, BUSY_CELSIUS = 34.0, 76.0


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class NumberFormat(_Table):
    """How amounts of a slot are shown: in powers of 1024 or of 1000, rounded to so many places."""

    binary: bool
    round_length: int = Field(ge=0, le=16)


class Format(_Table):
    """How a slot is shown."""

    display_icon: str = Field(max_length=64)
    display_unit: str = Field(max_length=32)
    human_readable_name: str = Field(max_length=64)
    description: str = Field(max_length=256)
    number_format: NumberFormat


class MockDevice(_Table):
    """One device."""

    mother_uuid: str = Field(min_length=1, pattern=r"^[^\s,]+$")
    model_name: str
    numa_node: int = Field(0, ge=0)
    subproc_count: int = Field(ge=1)
    memory_size: Size = Field(gt=0)
    is_mig_devices: bool = Field(False, validation_alias=AliasChoices("is_mig_devices", "is_mig_device"))
    """The manual has the first name, the reference's own samples the second."""
    fault: str = ""


class Statistics(_Table):
    """How the devices look alive."""

    load: float = Field(0.6, ge=0, le=1)
    """Their mean utilisation."""
    period_seconds: float = Field(60.0, gt=0)
    """One rise and fall of it."""


class MockFile(_Table):
    """The whole file."""

    slot_name: str = Field(pattern=r"^[a-z][a-z0-9_-]*$")
    device_plugin_name: Literal["CUDADevice", "MockDevice"]
    formats: dict[str, Format] = Field({})
    attributes: dict[str, str] = Field({})
    devices: list[MockDevice]
    statistics: Statistics | None = None


def read_mock_file(path: Path) -> MockFile:
    """Raises Misconfigured with the file, the place in it, and what is wrong there."""
    where = f"{path}: "
    try:
        content = tomllib.loads(path.read_text())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise Misconfigured(f"{where}{getattr(error, 'strerror', None) or error}") from error
    try:
        read = MockFile.model_validate(content)
    except ValidationError as error:
        raise Misconfigured(explained(error, where)) from error
    if read.slot_name in ("cpu", "mem"):
        raise Misconfigured(f"{where}slot_name: {read.slot_name} is no accelerator")
    first: dict[str, int] = {}
    for index, device in enumerate(read.devices):
        here = f"{where}devices[{index}]"
        if device.is_mig_devices:
            if read.device_plugin_name != "CUDADevice":
                raise Misconfigured(f"{here}.is_mig_devices: only a CUDADevice has MIG instances")
            if not device.model_name.lower().removeprefix("mig-").replace("-", "").isalnum():
                raise Misconfigured(f"{here}.model_name: {device.model_name!r} is no size such as MIG-10g")
        elif (other := first.setdefault(device.mother_uuid, index)) != index:
            raise Misconfigured(f"{here}.mother_uuid: already that of devices[{other}]")
    return read


class Mock:
    """Offers what a file declares. `clock` makes statistics move; `again` reads the file once more, for its faults."""

    def __init__(
        self,
        declared: MockFile,
        sharing: Sharing | None = None,
        *,
        clock: Callable[[], float] = time.time,
        again: Callable[[], MockFile] | None = None,
    ) -> None:
        self.name = declared.slot_name
        self._file = declared
        self._sharing = sharing or Sharing()
        self._clock = clock
        self._again = again
        self._devices = [self._device(index, device) for index, device in enumerate(declared.devices)]

    async def offer(self) -> Offer:
        """The same every time."""
        devices = [device for device in self._devices if device.units]
        told = {f"{self.name}.{kind}": _shown(each) for kind, each in self._file.formats.items()}
        return Offer(devices, formats={slot: told[slot] for slot in {each.slot for each in devices} if slot in told})

    async def health(self) -> Mapping[str, Health]:
        """The faults of the file, as it is now: devices fail and recover by an editor. Raises Misconfigured."""
        now = self._file if self._again is None else await asyncio.to_thread(self._again)
        if len(now.devices) != len(self._devices):
            raise Misconfigured("the file of mock devices has other devices than when the agent started")
        told = zip(self._devices, now.devices, strict=True)
        return {here.device_id: Health(Condition.FAILED, there.fault) for here, there in told if there.fault}

    async def read_stats(self) -> Mapping[str, DeviceUsage]:
        """A smooth wave for each device, at a place of its own in it. The same at the same time on every host."""
        now = self._clock()
        return {device.device_id: self._usage(device, now) for device in self._devices}

    def grant(self, given: Given) -> Grant:
        """No device of the host, only word of it."""
        ids = list(dict.fromkeys(device_id for devices in given.values() for device_id in devices))
        if not ids:
            return Grant()
        word = f"BACKENDAI_MOCK_{self.name.upper().replace('-', '_')}_DEVICE"
        environ = {f"{word}S": ",".join(ids), f"{word}_COUNT": str(len(ids))}
        shares = given.get(f"{self.name}.shares", {})
        if shares and self._file.device_plugin_name == "CUDADevice":
            processors = {device.device_id: device.processors for device in self._devices}
            environ |= limits(self._sharing, shares, processors)
        return Grant(environ=environ)

    async def close(self) -> None:
        """Nothing is held."""

    def _device(self, index: int, declared: MockDevice) -> Device:
        values: dict[str, Any] = {
            "model": declared.model_name,
            "numa_node": declared.numa_node,
            "memory_bytes": declared.memory_size,
            "processors": declared.subproc_count,
        }
        if declared.is_mig_devices:
            return Device(f"MIG-{declared.mother_uuid}/{index}/0", self._mig_slot(declared), WHOLE, **values)
        if self._sharing.fractional:
            units = self._sharing.units(declared.memory_size, declared.subproc_count)
            return Device(declared.mother_uuid, f"{self.name}.shares", units, **values)
        return Device(declared.mother_uuid, f"{self.name}.device", WHOLE, **values)

    def _mig_slot(self, declared: MockDevice) -> str:
        """`cuda.mig-10g`, or `cuda.10g-mig` where the file has a format of that name: both spellings are in use."""
        size = declared.model_name.lower().removeprefix("mig-")
        return f"{self.name}.{size}-mig" if f"{size}-mig" in self._file.formats else f"{self.name}.mig-{size}"

    def _usage(self, device: Device, now: float) -> DeviceUsage:
        busy, filled = 0.0, 0.0
        if (alive := self._file.statistics) is not None:
            turn = zlib.crc32(device.device_id.encode()) / 2**32  # its place in the wave
            slow = math.sin(2 * math.pi * (now / alive.period_seconds + turn))
            fast = math.sin(2 * math.pi * (7.3 * now / alive.period_seconds + 3 * turn))
            reach = min(alive.load, 1 - alive.load)  # so that neither end is cut off
            busy = alive.load + reach * (0.8 * slow + 0.2 * fast)
            filled = alive.load + reach * 0.5 * math.sin(2 * math.pi * (now / alive.period_seconds / 10 + turn))
        return DeviceUsage(
            utilisation_percent=round(100 * busy, 1),
            memory_bytes=int(device.memory_bytes * filled),
            memory_bytes_max=device.memory_bytes,
            power_watts=round(IDLE_WATTS + (BUSY_WATTS - IDLE_WATTS) * busy, 1),
            power_watts_max=BUSY_WATTS,
            temperature_celsius=round(IDLE_CELSIUS + (BUSY_CELSIUS - IDLE_CELSIUS) * busy, 1),
        )


def _shown(declared: Format) -> SlotFormat:
    return SlotFormat(
        human_readable_name=declared.human_readable_name,
        description=declared.description,
        display_unit=declared.display_unit,
        display_icon=declared.display_icon,
        binary=declared.number_format.binary,
        round_length=declared.number_format.round_length,
    )
