"""What a kernel's container may do, held against the rules of the CIS Docker Benchmark for containers (5.x).

Once on what the daemon is asked for (no daemon needed), once on a container that runs.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiodocker
import pytest

from agents.container import container_config
from agents.injection import install
from agents.runtime import Task
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld


@pytest.fixture
def task(tmp_path: Path) -> Task:
    return ProcessWorld(tmp_path).task("sleep 600")


def test_no_capability_is_added_and_all_are_dropped(task: Task) -> None:
    host = container_config(task, "refold", 4096)["HostConfig"]
    assert host["CapDrop"] == ["ALL"]
    assert "CapAdd" not in host


def test_nothing_of_the_host_is_mounted_by_itself(task: Task) -> None:
    config = container_config(task, "refold", 4096)
    assert not {"Binds", "Mounts", "VolumesFrom", "Devices"} & config["HostConfig"].keys()
    assert "docker.sock" not in repr(config)


def test_the_images_own_program_runs_where_no_command_is_given(task: Task) -> None:
    assert container_config(task, "refold", 4096)["Entrypoint"] == ["sh", "-c", "sleep 600"]
    config = container_config(replace(task, command=None), "refold", 4096)
    assert not {"Entrypoint", "Cmd"} & config.keys()


@pytest.fixture(scope="module")
def status_script() -> str:
    return "id -u; cat /proc/self/status; echo --; ls /proc | grep -c '^[0-9]'; ls /sys/class/net; sleep 600"


@pytest.fixture
async def running(host_folder: Path, status_script: str) -> AsyncIterator[tuple[dict[str, Any], bytes]]:
    """The inspection of a running kernel, and what it sees of itself."""
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    world = DockerWorld(host_folder)
    runtime = world.open()
    kernel = replace(world.task(status_script), kernel_id=str(uuid4()))
    container_id = (await runtime.start(kernel)).runtime_id
    while not (text := await runtime.output(kernel.kernel_id)).endswith(b"lo\n"):
        await asyncio.sleep(0.02)
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        yield await docker.containers.container(container_id).show(), text
    await runtime.close()
    await world.clear()


def folders_of(container: dict[str, Any], host_folder: Path) -> Mapping[str, Path]:
    """The folders of the host that a kernel should see, by where it should see them."""
    kernel_id = container["Config"]["Labels"]["ai.refold.kernel"]
    return {
        "/home/work": host_folder / "scratch" / kernel_id / "home",
        "/home/config": host_folder / "scratch" / kernel_id / "config",
        "/run/refold": host_folder / "sockets" / kernel_id / "1",
        "/opt/refold/runner": install(host_folder / "code"),
    }


@pytest.mark.docker
async def test_a_running_kernel_keeps_the_rules(running: tuple[dict[str, Any], bytes], host_folder: Path) -> None:
    container, _ = running
    host, config = container["HostConfig"], container["Config"]
    mounted = {mount["Destination"]: mount for mount in container["Mounts"]}
    mounts = {path: Path(mount["Source"]) for path, mount in mounted.items()}
    writable = {path for path, mount in mounted.items() if mount["RW"]}
    rules = {
        "5.3 no capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"],
        "5.4 not privileged": host["Privileged"] is False,
        "5.5 of the host's folders its own only": not host["Binds"] and mounts == folders_of(container, host_folder),
        "5.5 and no more of it to write to than it must": writable == {"/home/work", "/run/refold"},
        "5.7 and 5.8 no ports": not host["PortBindings"] and not host["PublishAllPorts"],
        "5.9 own network": host["NetworkMode"] not in ("host", "default", "bridge"),
        "5.10 memory": host["Memory"] == host["MemorySwap"] == 256 << 20,
        "5.11 processors": host["NanoCpus"] == 500_000_000,
        "5.14 no restarts": host["RestartPolicy"]["Name"] == "no",
        "5.15 own processes": host["PidMode"] == "",
        "5.16 own memory segments": host["IpcMode"] == "private",
        "5.17 no devices": not host["Devices"] and not host["DeviceRequests"],
        "5.18 usual ulimits": not host["Ulimits"],
        "5.19 mounts are not shared": {mount["Propagation"] for mount in mounted.values()} == {"rprivate"},
        "5.20 own host name": host["UTSMode"] == "" and config["Hostname"] == "main1",
        "5.21 and 5.25 confined": host["SecurityOpt"] == ["no-new-privileges:true"],  # seccomp: the default
        "5.24 own control group": host["CgroupParent"] == "",
        "5.28 processes": host["PidsLimit"] == 64,
        "5.30 users": host["UsernsMode"] == "",
        "4.1 user": config["User"] == "1000:1000",
        "logs are bounded": host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "8192", "max-file": "2"}},
        "zombies are reaped": host["Init"] is True,
    }
    assert [rule for rule, kept in rules.items() if not kept] == []


@pytest.mark.docker
async def test_a_running_kernel_finds_itself_confined(running: tuple[dict[str, Any], bytes]) -> None:
    _, text = running
    status, _, seen = text.decode().partition("--\n")
    uid, *lines = status.splitlines()
    fields = {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}
    assert uid == "1000"
    assert {int(fields[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2", "filtered"
    processes, *interfaces = seen.split()
    assert int(processes) < 10
    assert sorted(interfaces) == ["eth0", "lo"]


@pytest.mark.docker
async def test_kernels_do_not_reach_each_other(running: tuple[dict[str, Any], bytes]) -> None:
    container, _ = running
    (name,) = container["NetworkSettings"]["Networks"]
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        network = await (await docker.networks.get(name)).show()
    assert network["Options"]["com.docker.network.bridge.enable_icc"] == "false"
