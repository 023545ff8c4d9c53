"""What a kernel's container may do, held against the rules of the CIS Docker Benchmark for containers (5.x).

Once on what the daemon is asked for (no daemon needed), once on a container that runs.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiodocker
import pytest

from agents.docker.container import container_config
from agents.given.injection import install
from agents.given.kits import ssh_kit
from agents.runtime import Task
from domain.placements import RuntimeClass
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld, cluster

WAIVED = {
    "5.6": "sshd is a service of a session: it runs as the kernel's user, and only when it is asked for",
    "5.12": "people install packages into their session; the layer goes with the container",
    "5.22": "nobody runs `docker exec`: what is run in a kernel is run by its runner",
    "5.23": "the same",
    "5.26": "the agent watches the process",
    "5.27": "whose image it is says which one it is; an installation may allow registered ones only",
}
"""Rules that are not kept, or cannot be seen on a container, and why."""
ALONE, CLUSTERED = "alone", "in a cluster, of a runtime class, with shared memory"


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
async def running(
    request: pytest.FixtureRequest, host_folder: Path, stock: Path, status_script: str
) -> AsyncIterator[tuple[dict[str, Any], bytes]]:
    """The inspection of a running kernel, and what it sees of itself: alone, or as its parameter says."""
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    world = DockerWorld(host_folder, stock)
    runtime = world.open()
    kernel = world.task(status_script)
    if getattr(request, "param", ALONE) == CLUSTERED:
        kernel, _ = cluster(kernel, "main1", "sub1")
        kernel = replace(kernel, runtime_class=RuntimeClass.RUNC, shm_bytes=32 << 20)
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
    users = host_folder / "users" / container["Image"].removeprefix("sha256:")
    kit = ssh_kit(host_folder / "code")
    return {
        "/etc/passwd": users / "passwd",
        "/etc/group": users / "group",
        "/home/work": host_folder / "scratch" / kernel_id / "home",
        "/home/config": host_folder / "scratch" / kernel_id / "config",
        "/run/refold": host_folder / "sockets" / kernel_id / "1",
        "/opt/refold/runner": install(host_folder / "code"),
    } | ({} if kit is None else {"/opt/refold/ssh": kit.folder})


@pytest.mark.docker
@pytest.mark.parametrize("running", [ALONE, CLUSTERED], indirect=True)
async def test_a_running_kernel_keeps_the_rules(running: tuple[dict[str, Any], bytes], host_folder: Path) -> None:
    container, _ = running
    host, config = container["HostConfig"], container["Config"]
    mounted = {mount["Destination"]: mount for mount in container["Mounts"]}
    mounts = {path: Path(mount["Source"]) for path, mount in mounted.items()}
    writable = {path for path, mount in mounted.items() if mount["RW"]}
    deployment, session = config["Labels"]["ai.refold.deployment"], config["Labels"]["ai.refold.session"]
    rules = {
        "5.3 no capabilities": host["CapDrop"] == ["ALL"] and not host["CapAdd"],
        "5.4 not privileged": host["Privileged"] is False,
        "5.5 of the host's folders its own only": not host["Binds"] and mounts == folders_of(container, host_folder),
        "5.5 and no more of it to write to than it must": writable == {"/home/work", "/run/refold"},
        "5.31 nor the daemon's socket": not any("docker.sock" in str(source) for source in mounts.values()),
        "5.7, 5.8 and 5.13 no ports": not host["PortBindings"] and not host["PublishAllPorts"],
        "5.9 and 5.29 own network": host["NetworkMode"] in (f"{deployment}-kernels", f"{deployment}-{session}"),
        "5.29 and no other": [*container["NetworkSettings"]["Networks"]] == [host["NetworkMode"]],
        "5.10 memory": host["Memory"] == host["MemorySwap"] == 256 << 20,
        "5.11 processors": host["NanoCpus"] == 500_000_000,
        "5.14 no restarts": host["RestartPolicy"]["Name"] == "no",
        "5.15 own processes": host["PidMode"] == "",
        "5.16 own memory segments": host["IpcMode"] == "private",
        "5.16 of bounded size": host["ShmSize"] < host["Memory"],
        "5.17 no devices": not host["Devices"] and not host["DeviceRequests"],
        "5.18 usual ulimits": not host["Ulimits"],
        "5.19 mounts are not shared": {mount["Propagation"] for mount in mounted.values()} == {"rprivate"},
        "5.20 own host name": host["UTSMode"] == "" and config["Hostname"] == "main1",
        # Nothing else is said: the daemon's default profiles of AppArmor or SELinux and of seccomp apply.
        "5.1, 5.2, 5.21 and 5.25 confined": host["SecurityOpt"] == ["no-new-privileges:true"],
        "5.24 own control group": host["CgroupParent"] == "",
        "5.28 processes": host["PidsLimit"] == 64,
        "5.30 users": host["UsernsMode"] == "",  # the daemon's own choice
        "4.1 user": config["User"] == "1000:1000",
        "logs are bounded": host["LogConfig"] == {"Type": "json-file", "Config": {"max-size": "8192", "max-file": "2"}},
        "a known runtime": host["Runtime"] == "runc",
        "zombies are reaped": host["Init"] is True,
    }
    assert [rule for rule, kept in rules.items() if not kept] == []
    numbers = set(re.findall(r"5\.\d+", " ".join(rules)))
    assert numbers.isdisjoint(WAIVED)
    assert numbers | WAIVED.keys() == {f"5.{number}" for number in range(1, 32)}, "each is kept or waived"


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
