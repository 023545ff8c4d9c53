"""What an agent measures: of real processes, of mock devices, and of a door through which people come in."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from agents.devices.host import HostDevices
from agents.devices.host_usage import HostReading, busy_percents, read_host
from agents.devices.mock import Mock, MockFile
from agents.door.uses import Uses
from agents.fake.runtime import FakeRuntime
from agents.journal import Journal
from agents.measuring.exporting import Measured
from agents.measuring.sampling import Sampler
from agents.runtime import Runtime, Task
from domain.messages import AccessKey, AgentId, KernelId, SessionId
from domain.placements import StartKernel
from domain.telemetry import TELEMETRY, DeviceSample, KernelSample, KernelSamples, used_percents
from infra.log import LogUnavailable
from tests.agents.worlds import ProcessWorld, World

AGENT = AgentId("agent-1")
GPUS = MockFile.model_validate(
    {
        "slot_name": "cuda",
        "device_plugin_name": "CUDADevice",
        "devices": [
            {"mother_uuid": f"GPU-{n}", "model_name": "A GPU", "subproc_count": 8, "memory_size": "4g"} for n in (1, 2)
        ],
        "statistics": {"load": 0.5},
    }
)


@dataclass
class Host:
    """One whose journal knows the kernels that are started here."""

    runtime: Runtime
    journal: Journal
    uses: Uses
    sampler: Sampler
    told: list[KernelSamples]
    deaf: bool = False

    async def start(self, task: Task, **more: Any) -> StartKernel:
        order = StartKernel.model_validate(
            {
                "at": datetime.now(UTC),
                "agent_id": AGENT,
                "owner": AccessKey("AK"),
                "session_id": SessionId(task.session_id),
                "kernel_id": KernelId(task.kernel_id),
                "incarnation": task.incarnation,
                "image": task.image,
                "hostname": "main1",
                "slots": {"cpu": 500, "mem": 2**28},
                "not_after": datetime.now(UTC) + timedelta(minutes=1),
            }
            | more
        )
        self.journal.keep(order)
        await self.runtime.start(task)
        self.journal.started(order.kernel_id, order.incarnation)
        return order

    async def only(self) -> KernelSample:
        samples = await self.sampler.sample()
        assert samples is not None
        [kernel] = samples.kernels
        return kernel


async def host_of(runtime: Runtime, folder: Path) -> Host:
    journal = Journal(folder / "journal.sqlite")
    journal.set_fact("incarnation", 7)
    devices = HostDevices()
    await devices.open([Mock(GPUS)])
    uses, told = Uses(), list[KernelSamples]()

    async def send(samples: KernelSamples) -> None:
        if made.deaf:
            raise LogUnavailable("nobody listens")
        told.append(samples)

    made = Host(runtime, journal, uses, Sampler(AGENT, runtime, devices, journal, uses, send, 0.02), told)
    return made


@pytest.fixture
def world(host_folder: Path) -> World:
    return ProcessWorld(host_folder)


@pytest.fixture
async def host(tmp_path: Path) -> Host:
    """On which kernels only pretend to run."""
    return await host_of(FakeRuntime(tmp_path / "fake"), tmp_path)


@pytest.fixture
async def real_host(world: World, tmp_path: Path) -> AsyncIterator[Host]:
    runtime = world.open()
    yield await host_of(runtime, tmp_path)
    for running in await runtime.list():
        await runtime.stop(running.kernel_id, running.incarnation, timedelta(0))


async def test_a_kernel_is_measured_with_its_devices_and_its_processor_time_by_the_interval(
    real_host: Host, world: World
) -> None:
    host = real_host
    await host.start(world.task("while :; do :; done"), devices={"cuda.device": {"GPU-2": 1000}})
    first = await host.only()
    assert first.cpu_percent is None, "there is nothing to compare with yet"
    async with asyncio.timeout(10):
        while not (kernel := await host.only()).cpu_percent:
            await asyncio.sleep(0.1)
    assert kernel.cpu_usec is not None
    assert kernel.memory_bytes is not None
    assert (kernel.cpu_millis, kernel.memory_bytes_max, kernel.devices) == (500, 2**28, ("GPU-2",))
    samples = await host.sampler.sample()
    assert samples is not None
    assert TELEMETRY.validate_json(samples.model_dump_json()) == samples
    devices = {device.device_id: device for device in samples.devices}
    assert {"cuda_util", "cuda_mem", "mem"} <= used_percents(kernel, devices).keys()
    assert used_percents(kernel, devices)["cuda_util"] == devices["GPU-2"].utilisation_percent
    assert samples.host.memory_bytes
    assert samples.host.cpu_percents


async def test_what_is_used_is_used_of_what_was_given() -> None:
    kernel = KernelSample(
        kernel_id=KernelId("k"),
        incarnation=1,
        session_id=SessionId("s"),
        owner=AccessKey("a"),
        cpu_percent=50,
        cpu_millis=500,
        memory_bytes=10,
        memory_bytes_max=40,
    )
    assert used_percents(kernel, {}) == {"cpu_util": 100, "mem": 25}
    assert used_percents(kernel.model_copy(update={"cpu_millis": 0}), {})["cpu_util"] == 50, "of one processor"


async def test_a_kernel_is_used_when_it_starts_and_whenever_somebody_comes_in(host: Host, world: World) -> None:
    order = await host.start(world.task())
    [running] = await host.runtime.list()
    assert (await host.only()).last_used_at == running.started_at
    host.uses.note(order.kernel_id)
    used = host.uses.last(order.kernel_id)
    assert used is not None
    assert (await host.only()).last_used_at == used > running.started_at


async def test_an_agent_does_not_know_how_what_an_earlier_one_started_was_used(
    host: Host, world: World, tmp_path: Path
) -> None:
    await host.start(world.task())
    host.journal.close()
    later = await host_of(host.runtime, tmp_path)
    assert (await later.only()).last_used_at is None


async def test_what_has_ended_is_measured_and_remembered_no_more(host: Host, world: World) -> None:
    order = await host.start(world.task())
    host.uses.note(order.kernel_id)
    await host.only()
    host.journal.forget(order.kernel_id, order.incarnation)
    samples = await host.sampler.sample()
    assert samples is not None
    assert samples.kernels == ()
    assert host.uses.last(order.kernel_id) is None


async def test_measuring_goes_on_while_nobody_listens(host: Host, world: World) -> None:
    await host.start(world.task())
    host.deaf = True
    measuring = asyncio.create_task(host.sampler.run())
    async with asyncio.timeout(10):
        while host.sampler.latest is None:
            await asyncio.sleep(0.01)
        before = host.sampler.latest
        host.deaf = False
        while not host.told:
            await asyncio.sleep(0.01)
    assert host.told[0].at > before.at
    measuring.cancel()


def test_metrics_show_each_kernel_and_device_while_it_is_there() -> None:
    kernel = KernelSample(
        kernel_id=KernelId("k"),
        incarnation=1,
        session_id=SessionId("s"),
        owner=AccessKey("a"),
        cpu_usec=2_500_000,
        memory_bytes=4096,
    )
    gpu = DeviceSample(device_id="GPU-1", slot="cuda.device", utilisation_percent=70)
    latest: KernelSamples | None = None
    registry = CollectorRegistry()
    registry.register(Measured(lambda: latest))
    assert generate_latest(registry) == b"", "nothing was measured yet"
    latest = KernelSamples(
        at=datetime.now(UTC), agent_id=AGENT, incarnation=1, interval_seconds=5, kernels=(kernel,), devices=(gpu,)
    )
    lines = generate_latest(registry).decode().splitlines()
    assert 'refold_kernel_memory_bytes{kernel="k",session="s"} 4096.0' in lines
    assert 'refold_kernel_cpu_seconds_total{kernel="k",session="s"} 2.5' in lines
    assert 'refold_device_utilisation_ratio{device="GPU-1",slot="cuda.device"} 0.7' in lines
    latest = latest.model_copy(update={"kernels": ()})
    assert 'kernel="k"' not in generate_latest(registry).decode()


async def test_a_pretended_kernel_is_told_of_without_figures(host: Host, world: World) -> None:
    await host.start(world.task())
    kernel = await host.only()
    assert (kernel.cpu_usec, kernel.memory_bytes) == (None, None)
    assert kernel.last_used_at is not None


def test_a_hosts_processors_are_busy_for_the_part_of_the_interval_they_were_not_idle(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 1000 kB\nMemFree: 1 kB\nMemAvailable: 400 kB\n")

    def after(stat: str) -> HostReading:
        (tmp_path / "stat").write_text(f"cpu  9 9 9 9 9 9 9 9 9 9\n{stat}\nintr 5\n")
        return read_host(tmp_path)

    first = after("cpu0 10 0 10 80 0 0 0 0 7 0\ncpu1 0 0 0 100 0 0 0 0 0 0")
    second = after("cpu0 60 0 10 100 10 0 0 20 57 0\ncpu1 0 0 0 200 0 0 0 0 0 0\ncpu2 1 0 0 1 0 0 0 0 0 0")
    assert (first.memory_bytes, first.memory_bytes_max) == (600 * 1024, 1000 * 1024)
    assert busy_percents(None, first) == ()
    assert busy_percents(first, second) == [70.0, 0.0]
