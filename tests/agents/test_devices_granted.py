"""A kernel's devices, in the words of whatever runs it."""

import asyncio
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import aiodocker
import pytest

from agents.devices.cuda import Cuda
from agents.devices.host import HostDevices
from agents.devices.intrinsic import Cpu
from agents.devices.topology import read_topology
from agents.docker.container import container_config
from agents.docker.runtime import DockerRuntime
from agents.process.runtime import ProcessRuntime
from agents.runtime import StartFailed, Task
from tests.agents.nvml import Board, FakeNvml
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld

MINE = max(os.sched_getaffinity(0))
"""A processor of this very host."""


@pytest.fixture
async def host() -> HostDevices:
    """Two GPUs, and the real processors."""
    made = HostDevices()
    pinned = read_topology().within(os.sched_getaffinity(0))
    await made.open([Cpu(0, pinned=pinned), Cuda(nvml=FakeNvml([Board("GPU-1"), Board("GPU-2")]))])
    return made


@pytest.fixture
def processor(host: HostDevices) -> str:
    """The device id of `MINE`."""
    return next(device for device in host.devices["cpu"] if device.endswith(f"cpu{MINE:04}"))


def environ_of(task: Task, host: HostDevices) -> Mapping[str, str]:
    environ: list[str] = container_config(task, "refold", 4096, host.grant(task.devices))["Env"]
    return dict(entry.split("=", 1) for entry in environ)


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return ProcessWorld(tmp_path).task("sleep 600")


def test_a_container_gets_exactly_its_gpus_and_its_processors(task: Task, host: HostDevices, processor: str) -> None:
    task = replace(task, devices={"cuda.device": {"GPU-2": 1000}, "cpu": {processor: 500}})
    granted = container_config(task, "refold", 4096, host.grant(task.devices))["HostConfig"]
    assert granted["DeviceRequests"] == [{"Driver": "nvidia", "DeviceIDs": ["GPU-2"], "Capabilities": [["gpu"]]}]
    assert granted["CpusetCpus"] == str(MINE)
    assert granted["NanoCpus"] == 500_000_000, "half of that processor"
    assert environ_of(task, host)["NVIDIA_VISIBLE_DEVICES"] == "GPU-2"


def test_a_container_without_gpus_sees_none_and_is_not_pinned(task: Task, host: HostDevices) -> None:
    config = container_config(task, "refold", 4096, host.grant(task.devices))
    assert config["HostConfig"]["DeviceRequests"] == []
    assert "CpusetCpus" not in config["HostConfig"]
    assert "NVIDIA_VISIBLE_DEVICES=void" in config["Env"]


@pytest.mark.parametrize(("devices", "seen"), [({}, "void"), ({"cuda.device": {"GPU-1": 1000}}, "GPU-1")])
def test_nobody_takes_more_gpus_by_saying_so(
    task: Task, host: HostDevices, devices: Mapping[str, Mapping[str, int]], seen: str
) -> None:
    task = replace(task, environ={"NVIDIA_VISIBLE_DEVICES": "all"}, devices=devices)
    assert environ_of(task, host)["NVIDIA_VISIBLE_DEVICES"] == seen


async def test_a_process_gets_its_gpus_in_its_environment_and_runs_on_its_processors(
    host_folder: Path, host: HostDevices, processor: str
) -> None:
    runtime = ProcessRuntime(host_folder, grant=host.grant)
    script = 'echo "$CUDA_VISIBLE_DEVICES"; grep Cpus_allowed_list /proc/self/status'
    task = replace(
        ProcessWorld(host_folder).task(script),
        environ={"CUDA_VISIBLE_DEVICES": "0,1"},
        devices={"cuda.device": {"GPU-2": 1000, "GPU-1": 1000}, "cpu": {processor: 1000}},
    )
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    assert (await runtime.output(task.kernel_id)).decode().split() == ["GPU-2,GPU-1", "Cpus_allowed_list:", str(MINE)]


async def test_a_kernel_with_a_device_that_is_not_here_fails_to_start(host_folder: Path, host: HostDevices) -> None:
    task = replace(ProcessWorld(host_folder).task("true"), devices={"cuda.device": {"GPU-9": 1000}})
    for runtime in (ProcessRuntime(host_folder), ProcessRuntime(host_folder, grant=host.grant)):
        with pytest.raises(StartFailed, match=r"cuda\.device GPU-9"):
            await runtime.start(task)
        assert await runtime.list() == []
    await runtime.start(replace(task, devices={}))
    assert (await runtime.wait(task.kernel_id, 1)).exit_code == 0, "once it can, it does"


@pytest.mark.docker
async def test_a_container_runs_on_exactly_its_processors(host_folder: Path, host: HostDevices, processor: str) -> None:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    world = DockerWorld(host_folder)
    runtime = DockerRuntime(DOCKER_SOCKET, host_folder, deployment=world.deployment, grant=host.grant)
    task = replace(
        world.task("grep Cpus_allowed_list /proc/self/status; sleep 600"), devices={"cpu": {processor: 1000}}
    )
    running = await runtime.start(task)
    while not (text := (await runtime.output(task.kernel_id)).decode()):
        await asyncio.sleep(0.02)
    assert text.split() == ["Cpus_allowed_list:", str(MINE)]

    lost = replace(task, devices={"cpu": {"node00/cpu9999": 1000}})
    assert await runtime.start(lost) == running, "what runs is left as it is"
    with pytest.raises(StartFailed, match="cpu9999"):
        await runtime.start(replace(lost, incarnation=2))
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        created = container_config(replace(lost, incarnation=3), world.deployment, 4096)
        cut_short = await docker.containers.create(created, name=f"refold-{task.kernel_id}-3")
        with pytest.raises(StartFailed, match="cpu9999"):
            await runtime.start(replace(lost, incarnation=3))
        with pytest.raises(aiodocker.DockerError, match="No such container"):
            await cut_short.show()
        config = (await docker.containers.container(running.runtime_id).show())["HostConfig"]
    assert config["CpusetCpus"] == str(MINE)
    await runtime.close()
    await world.clear()
