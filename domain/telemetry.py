"""What an agent says about itself all the time. Not kept for ever, and nothing is decided by a single one."""

from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from domain.messages import AccessKey, AgentId, Cell, Instant, KernelId, Message, SessionId, Value

Count = Annotated[int, Field(ge=0)]
Measure = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class AgentTelemetry(Message):
    agent_id: AgentId

    @property
    def key(self) -> str:
        return self.agent_id

    @property
    def subject(self) -> str:
        return self.agent_id


class Heartbeat(AgentTelemetry):
    """This incarnation of the agent is alive, and will be heard again within `interval_seconds`."""

    type: Literal["Heartbeat"] = "Heartbeat"
    cell: Cell
    incarnation: int = Field(ge=1)
    interval_seconds: float = Field(gt=0)
    kernels: int = Field(ge=0)


class KernelSample(Value):
    """What one kernel uses, with everything it started. None is what its host does not tell.

    Counters count from its start; `cpu_percent` is of one processor, over the interval, and None in the first one.
    `last_used_at`: when somebody last did something in it, or it started; None: nobody has since its agent started.
    """

    kernel_id: KernelId
    incarnation: int = Field(ge=1)
    session_id: SessionId
    owner: AccessKey
    last_used_at: Instant | None = None
    cpu_usec: Count | None = None
    cpu_percent: Measure | None = None
    cpu_millis: Count = Field(0, description="Given to it; 0: no limit.")
    memory_bytes: Count | None = None
    memory_bytes_peak: Count | None = None
    memory_bytes_max: Count | None = None
    io_read_bytes: Count | None = None
    io_written_bytes: Count | None = None
    net_received_bytes: Count | None = None
    net_sent_bytes: Count | None = None
    processes: Count | None = None
    devices: tuple[str, ...] = Field((), description="Ids of those it has, of all slots.")


class DeviceSample(Value):
    """What a device was doing. None is what it does not tell."""

    device_id: str
    slot: str
    utilisation_percent: Measure | None = None
    memory_bytes: Count | None = None
    memory_bytes_max: Count | None = None
    power_watts: Measure | None = None
    power_watts_max: Measure | None = None
    temperature_celsius: float | None = None


class HostSample(Value):
    """What the whole host was doing: each processor by itself over the interval, none in the first one."""

    cpu_percents: tuple[Measure, ...] = ()
    memory_bytes: Count | None = None
    memory_bytes_max: Count | None = None


class KernelSamples(AgentTelemetry):
    """All that an agent measured at a moment; the next ones follow after `interval_seconds`."""

    type: Literal["KernelSamples"] = "KernelSamples"
    incarnation: int = Field(ge=1)
    interval_seconds: float = Field(gt=0)
    host: HostSample = HostSample()
    devices: tuple[DeviceSample, ...] = ()
    kernels: tuple[KernelSample, ...] = ()


class PullProgress(AgentTelemetry):
    """How far the image of a kernel that is to start has come, in bytes. `total` is 0 while it is not known."""

    type: Literal["PullProgress"] = "PullProgress"
    kernel_id: KernelId
    incarnation: int = Field(ge=1)
    done: Count
    total: Count


def used_percents(kernel: KernelSample, devices: Mapping[str, DeviceSample]) -> dict[str, float]:
    """What it used of what it was given, as far as that is known: `cpu_util`, `mem`, and of its devices (by id) their
    mean, by kind: `cuda_util`, `cuda_mem`. Of a processor without limit, 100 is one of them."""
    told: dict[str, list[float]] = {}
    if kernel.cpu_percent is not None:
        told["cpu_util"] = [kernel.cpu_percent * 1000 / (kernel.cpu_millis or 1000)]
    if kernel.memory_bytes is not None and kernel.memory_bytes_max:
        told["mem"] = [100 * kernel.memory_bytes / kernel.memory_bytes_max]
    for device in (devices[each] for each in kernel.devices if each in devices):
        kind = device.slot.partition(".")[0]
        if device.utilisation_percent is not None:
            told.setdefault(f"{kind}_util", []).append(device.utilisation_percent)
        if device.memory_bytes is not None and device.memory_bytes_max:
            told.setdefault(f"{kind}_mem", []).append(100 * device.memory_bytes / device.memory_bytes_max)
    return {metric: round(sum(percents) / len(percents), 2) for metric, percents in told.items()}


Telemetry = Annotated[Heartbeat | KernelSamples | PullProgress, Field(discriminator="type")]
TELEMETRY: TypeAdapter[Telemetry] = TypeAdapter(Telemetry)
