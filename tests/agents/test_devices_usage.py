"""What kernels use: of real processes, of a real container, and of control groups as they were recorded."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from agents.devices.containers import read_container
from agents.devices.host import HostDevices
from agents.devices.mock import Mock, MockFile
from agents.devices.plugin import KernelUsage
from agents.devices.usage import AsProcess, InContainer, read_stats
from agents.process.runtime import ProcessRuntime
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld

ID = "371db107749b"
NET_DEV = """\
Inter-|   Receive                              |  Transmit
 face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed
    lo: 9999 11 0 0 0 0 0 0 9999 1 0 0 0 0 0 0
  eth0: 1042 11 0 0 0 0 0 0  700 8 0 0 0 0 0 0
  eth1:    8  1 0 0 0 0 0 0    4 1 0 0 0 0 0 0
"""
VERSION_1 = {
    f"cpuacct/docker/{ID}/cpuacct.usage": "623258346",
    f"memory/docker/{ID}/memory.usage_in_bytes": "9236480",
    f"memory/docker/{ID}/memory.limit_in_bytes": "268435456",
    f"memory/docker/{ID}/memory.max_usage_in_bytes": "30867456",
    f"memory/docker/{ID}/memory.stat": "cache 8392704\ninactive_file 1\ntotal_inactive_file 8388608",
    f"blkio/docker/{ID}/blkio.throttle.io_service_bytes_recursive": "254:0 Read 4096\n254:0 Write 8388608\n"
    "254:0 Sync 8388608\n254:0 Async 4096\n254:0 Total 8392704\n8:0 Read 1\n8:0 Write 2\nTotal 8392707",
    f"pids/docker/{ID}/pids.current": "2",
    f"cpuacct/docker/{ID}/cgroup.procs": "2179\n2217",
}
VERSION_2 = {
    "cgroup.controllers": "cpuset cpu io memory hugetlb pids rdma misc",
    f"system.slice/docker-{ID}.scope/cpu.stat": "usage_usec 623258\nuser_usec 500000\nsystem_usec 123258\nnr_periods 7",
    f"system.slice/docker-{ID}.scope/memory.current": "9236480",
    f"system.slice/docker-{ID}.scope/memory.max": "max",
    f"system.slice/docker-{ID}.scope/memory.peak": "30867456",
    f"system.slice/docker-{ID}.scope/memory.stat": "anon 114688\nfile 8392704\ninactive_file 8388608\nactive_file 4096",
    f"system.slice/docker-{ID}.scope/io.stat": "254:0 rbytes=4096 wbytes=8388608 rios=1 wios=8 dbytes=0 dios=0\n"
    "8:0 rbytes=1 wbytes=2 rios=1 wios=1 dbytes=0 dios=0",
    f"system.slice/docker-{ID}.scope/pids.current": "2",
    f"system.slice/docker-{ID}.scope/cgroup.procs": "",
    f"system.slice/docker-{ID}.scope/init.scope/cgroup.procs": "2178\n2179",
}
USED = KernelUsage(
    cpu_usec=623258,
    memory_bytes=847872,
    memory_bytes_peak=30867456,
    memory_bytes_max=268435456,
    io_read_bytes=4097,
    io_written_bytes=8388610,
    net_received_bytes=1050,
    net_sent_bytes=704,
    processes=2,
)


def recorded(folder: Path, files: dict[str, str]) -> tuple[Path, Path]:
    """/proc and /sys/fs/cgroup of a host on which process 2178 has ended just now."""
    for name, text in files.items():
        path = folder / "cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    network = folder / "proc/2179/net/dev"
    network.parent.mkdir(parents=True)
    network.write_text(NET_DEV)
    return folder / "proc", folder / "cgroup"


@pytest.fixture
async def runtime(host_folder: Path) -> AsyncIterator[ProcessRuntime]:
    opened = ProcessRuntime(host_folder)
    yield opened
    for running in await opened.list():
        await opened.stop(running.kernel_id, running.incarnation, timedelta(0))


def test_a_container_is_read_from_control_groups_of_version_1(tmp_path: Path) -> None:
    assert read_container(ID, *recorded(tmp_path, VERSION_1)) == USED


def test_a_container_is_read_from_control_groups_of_version_2(tmp_path: Path) -> None:
    assert read_container(ID, *recorded(tmp_path, VERSION_2)) == replace(USED, memory_bytes_max=None)


@pytest.mark.parametrize("files", [VERSION_1, VERSION_2])
def test_what_is_not_told_is_none_and_a_container_that_is_gone_is_nothing(
    tmp_path: Path, files: dict[str, str]
) -> None:
    proc, cgroups = recorded(tmp_path, files)
    assert read_container("another", proc, cgroups) is None
    next(cgroups.rglob("pids.current")).unlink()
    next(cgroups.rglob("memory.*usage_in_bytes" if files is VERSION_1 else "memory.current")).unlink()
    (proc / "2179/net/dev").unlink()
    usage = read_container(ID, proc, cgroups)
    assert usage is not None
    assert (usage.processes, usage.net_received_bytes, usage.net_sent_bytes) == (None, None, None)
    assert usage.cpu_usec == 623258


def test_no_limit_is_none_also_in_version_1(tmp_path: Path) -> None:
    files = VERSION_1 | {f"memory/docker/{ID}/memory.limit_in_bytes": "9223372036854771712"}
    usage = read_container(ID, *recorded(tmp_path, files))
    assert usage is not None
    assert usage.memory_bytes_max is None


WORK = """
(python3 -c '
import time
while time.process_time() < 0.3: pass
' &)
(setsid sh -c 'python3 -c "
import time
data = bytearray(60 << 20)
for at in range(0, len(data), 4096): data[at] = 1
open(\\"ready\\", \\"w\\").close()
time.sleep(600)"; true' &)
exec sleep 600
"""
"""Two orphans: one works and ends, the other one leaves the process group and stays."""


async def test_a_native_kernel_is_all_its_processes_and_those_that_have_ended(
    host_folder: Path, runtime: ProcessRuntime
) -> None:
    task = replace(ProcessWorld(host_folder).task(WORK), mem_bytes=0)
    running = await runtime.start(task)
    other = await runtime.start(ProcessWorld(host_folder).task("exec sleep 600"))
    where = {
        "busy": AsProcess(int(running.runtime_id)),
        "idle": AsProcess(int(other.runtime_id)),
        "gone": AsProcess(9**8),
    }
    ready = host_folder / "scratch" / task.kernel_id / "home" / "ready"
    while True:
        reading = await read_stats(where, HostDevices())
        if ready.exists() and reading.kernels["busy"].processes == 4:  # its runner, sleep, sh, and python in it
            break
        await asyncio.sleep(0.02)
    assert reading.kernels.keys() == {"busy", "idle"}
    busy, idle = reading.kernels["busy"], reading.kernels["idle"]
    assert 300_000 <= (busy.cpu_usec or 0) < 10_000_000, "the one that has ended is still counted"
    assert 60 << 20 <= (busy.memory_bytes or 0) < 160 << 20
    assert (idle.cpu_usec or 0) < (busy.cpu_usec or 0)
    assert 0 < (idle.memory_bytes or 0) < 60 << 20
    assert idle.processes == 2, "its runner, and sleep"
    assert busy.net_received_bytes is None, "the host's network is not the kernel's"
    assert abs(datetime.now(UTC) - reading.at) < timedelta(seconds=10)


async def test_devices_are_read_in_the_same_go(tmp_path: Path) -> None:
    device = {"mother_uuid": "g1", "model_name": "GPU", "subproc_count": 8, "memory_size": "8g"}
    host = HostDevices()
    await host.open([Mock(MockFile(slot_name="npu", device_plugin_name="MockDevice", devices=[device]))])
    proc, cgroups = recorded(tmp_path, VERSION_1)
    reading = await read_stats({"k1": InContainer(ID)}, host, proc=proc, cgroups=cgroups)
    assert reading.kernels == {"k1": USED}
    assert reading.devices["g1"].memory_bytes_max == 8 << 30


@pytest.mark.docker
async def test_a_real_container_is_found_with_its_limit_and_its_network(host_folder: Path) -> None:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    world = DockerWorld(host_folder)
    runtime = world.open()
    task = world.task("i=0; while [ $i -lt 30000 ]; do i=$((i+1)); done; echo done; sleep 600")
    running = await runtime.start(task)
    while b"done" not in await runtime.output(task.kernel_id):
        await asyncio.sleep(0.02)
    while True:
        usage = (await read_stats({"k": InContainer(running.runtime_id)}, HostDevices())).kernels["k"]
        if usage.processes == 4:  # its init, its runner, the shell, and, a moment after it has said so, sleep
            break
        await asyncio.sleep(0.02)
    assert usage.memory_bytes_max == 256 << 20
    assert 0 < (usage.memory_bytes or 0) < 256 << 20
    assert 1_000 < (usage.cpu_usec or 0) < 60_000_000
    assert usage.net_received_bytes is not None
    await runtime.close()
    await world.clear()
