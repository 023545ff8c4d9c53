"""Processors and memory: read from a pretended sysfs, reserved, and pinned."""

from pathlib import Path

import pytest

from agents.devices.host import HostDevices
from agents.devices.intrinsic import Cpu, Mem
from agents.devices.plugin import Grant, Misconfigured
from agents.devices.topology import Topology, cpu_list, numa_node_of_pci, read_topology, show_cpu_list
from domain.scheduling.placing import choose_devices

TWO_NODES = Topology({0: (0, 1, 2, 3), 1: (4, 5, 6, 7)})


def sysfs(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    return folder


async def offered(*plugins: Cpu | Mem, chosen: dict[str, int] | None = None) -> HostDevices:
    host = HostDevices()
    await host.open(plugins, chosen)
    return host


def test_processors_belong_to_the_node_that_lists_them_as_far_as_they_are_online(tmp_path: Path) -> None:
    root = sysfs(
        tmp_path,
        {
            "devices/system/cpu/online": "0-5,8",
            "devices/system/node/node0/cpulist": "0-3",
            "devices/system/node/node1/cpulist": "4-8",
            "devices/system/node/node2/cpulist": "",
        },
    )
    assert read_topology(root) == Topology({0: (0, 1, 2, 3), 1: (4, 5, 8)})


def test_a_host_that_knows_of_no_nodes_is_one(tmp_path: Path) -> None:
    assert read_topology(sysfs(tmp_path, {"devices/system/cpu/online": "0-1"})) == Topology({0: (0, 1)})


def test_only_processors_the_agent_may_use_are_offered() -> None:
    assert TWO_NODES.within({2, 3, 9}) == Topology({0: (2, 3)})


@pytest.mark.parametrize(
    ("text", "cpus"), [("", ()), ("0", (0,)), ("0-3", (0, 1, 2, 3)), ("0-1,4,6-7", (0, 1, 4, 6, 7))]
)
def test_processor_lists_are_written_as_they_are_read(text: str, cpus: tuple[int, ...]) -> None:
    assert cpu_list(text + "\n") == cpus
    assert show_cpu_list(reversed(cpus)) == text


@pytest.mark.parametrize("address", ["00000000:3B:00.0", "0000:3b:00.0"])
def test_a_pci_device_is_next_to_the_node_sysfs_says(tmp_path: Path, address: str) -> None:
    root = sysfs(tmp_path, {"bus/pci/devices/0000:3b:00.0/numa_node": "1"})
    assert numa_node_of_pci(address, root) == 1
    sysfs(tmp_path, {"bus/pci/devices/0000:3b:00.0/numa_node": "-1"})
    assert numa_node_of_pci(address, root) is None
    assert numa_node_of_pci("0000:99:00.0", root) is None


async def test_what_is_reserved_is_not_offered() -> None:
    host = await offered(Cpu(8000, reserved=1500), Mem(16 << 30, reserved=1 << 30))
    assert host.slots == {"cpu": 6500, "mem": 15 << 30}
    assert host.devices == {}, "amounts only"


@pytest.mark.parametrize(
    ("plugin", "said"),
    [
        (Cpu(2000, reserved=2000), "REFOLD_AGENT_RESERVED_CPU: 2 of 2 leaves nothing"),
        (Mem(1 << 30, reserved=2 << 30), "REFOLD_AGENT_RESERVED_MEM: 2147483648 of 1073741824 leaves nothing"),
    ],
)
async def test_a_host_that_would_reserve_everything_does_not_start(plugin: Cpu | Mem, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        await plugin.offer()


async def test_pinned_processors_are_devices_and_the_first_ones_are_reserved() -> None:
    host = await offered(Cpu(8000, reserved=1500, pinned=TWO_NODES))
    assert host.slots == {"cpu": 6500}
    assert list(host.devices["cpu"].items())[:3] == [
        ("node00/cpu0001", 500),
        ("node00/cpu0002", 1000),
        ("node00/cpu0003", 1000),
    ]
    assert sorted(host.devices["cpu"]) == list(host.devices["cpu"]), "given node by node"


async def test_a_pinned_kernel_may_run_on_exactly_its_processors() -> None:
    host = await offered(Cpu(8000, pinned=TWO_NODES))
    given = {"cpu": {"node01/cpu0004": 500, "node00/cpu0002": 1000, "node00/cpu0003": 1000}}
    assert choose_devices("cpu", 3500, host.devices["cpu"]) == {
        "node00/cpu0000": 1000,
        "node00/cpu0001": 1000,
        "node00/cpu0002": 1000,
        "node00/cpu0003": 500,
    }, "the scheduler fills one node before it begins the next"
    assert host.grant(given) == Grant(cpus=(2, 3, 4), host_config={"CpusetCpus": "2-4"})


async def test_as_many_processors_are_pinned_as_were_chosen() -> None:
    host = await offered(Cpu(0, pinned=TWO_NODES), chosen={"cpu": 2500})
    assert host.devices["cpu"] == {"node00/cpu0000": 1000, "node00/cpu0001": 1000, "node00/cpu0002": 500}
    with pytest.raises(Misconfigured, match="REFOLD_AGENT_SLOTS: 9 of cpu, but there is 8"):
        await offered(Cpu(0, pinned=TWO_NODES), chosen={"cpu": 9000})
