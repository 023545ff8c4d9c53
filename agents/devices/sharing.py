"""Parts of an accelerator: how many shares a device has, and what a number of them may use.

One share is so much memory and so many processors of a device, by setting. What a kernel may use stands in its
environment, in the words of NVIDIA's multi-process service, which enforces it where it runs, and in those of
libraries that do the same inside a container.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from agents.devices.plugin import Misconfigured
from domain.messages import Refused
from domain.slots import WHOLE, parse

_QUANTUM = WHOLE // 100
"""Shares are offered in hundredths; what is left over stays unused."""


def _bytes(value: Any) -> Any:
    try:
        return parse({"mem": value})["mem"] if isinstance(value, str | int) else value
    except Refused as refused:
        raise ValueError(f"{value!r} is no size such as 512m or 2g") from refused


Size = Annotated[int, BeforeValidator(_bytes)]
"""Bytes, also written as people do: `40G`."""


class Sharing(BaseModel):
    """How the devices of one plugin are offered: whole, or in shares."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    allocation_mode: Literal["discrete", "fractional"] = "discrete"
    unit_mem: Size = Field(2 << 30, ge=1 << 20)
    """Bytes of device memory in one share."""
    unit_proc: int = Field(8, ge=1)
    """Processors in one share."""

    @property
    def fractional(self) -> bool:
        return self.allocation_mode == "fractional"

    def units(self, memory_bytes: int, processors: int) -> int:
        """How much of `shares` such a device is, in thousandths. Processors that are not known limit nothing."""
        by_memory = memory_bytes * WHOLE // self.unit_mem
        by_processors = processors * WHOLE // self.unit_proc if processors else by_memory
        return min(by_memory, by_processors) // _QUANTUM * _QUANTUM

    def memory_bytes(self, units: int) -> int:
        """What so much of a device may use of its memory."""
        return self.unit_mem * units // WHOLE

    def processors(self, units: int) -> int:
        """How many of a device's processors so much of it may use; never none."""
        return max(1, self.unit_proc * units // WHOLE)


def sharing_of(accelerators: Mapping[str, Mapping[str, Any]], name: str) -> Sharing:
    """As REFOLD_AGENT_ACCELERATORS has it for one plugin. Raises Misconfigured."""
    try:
        return Sharing.model_validate(accelerators.get(name, {}))
    except ValidationError as error:
        raise Misconfigured(explained(error, f"REFOLD_AGENT_ACCELERATORS: {name}.")) from error


def limits(sharing: Sharing, parts: Mapping[str, int], processors: Mapping[str, int]) -> dict[str, str]:
    """The environment of a kernel that has these parts (device id → units). `processors`: of each whole device."""
    order = list(parts)
    memory = {device: sharing.memory_bytes(units) for device, units in parts.items()}
    allowed = {device: sharing.processors(units) for device, units in parts.items()}
    environ = {
        "CUDA_MEMORY_LIMITS": ",".join(f"{device}:{memory[device]}" for device in order),
        "CUDA_PROCESSOR_LIMITS": ",".join(f"{device}:{allowed[device]}" for device in order),
        "CUDA_MPS_PINNED_DEVICE_MEM_LIMIT": ",".join(
            f"{ordinal}={memory[device] >> 20}M" for ordinal, device in enumerate(order)
        ),
    }
    if len(order) > 1:  # else the ordinals above mean whatever order the driver likes
        environ["CUDA_VISIBLE_DEVICES"] = ",".join(order)
    known = [(allowed[device], processors[device]) for device in order if processors.get(device)]
    if known:  # one figure for all devices: the smallest keeps every one of them
        percent = min(max(1, 100 * mine // whole) for mine, whole in known)
        environ["CUDA_MPS_ACTIVE_THREAD_PERCENTAGE"] = str(percent)
    return environ


def explained(error: ValidationError, where: str) -> str:
    """The first thing that is wrong, by its place: `devices[3].memory_size: …`."""
    first = error.errors()[0]
    place = ""
    for part in first["loc"]:
        place += f"[{part}]" if isinstance(part, int) else f".{part}" if place else str(part)
    more = error.error_count() - 1
    return f"{where}{place or 'file'}: {first['msg']}" + (f" (and {more} more)" if more else "")
