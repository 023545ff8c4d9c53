"""Which processors a host has, and on which NUMA node each of them, as sysfs tells."""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

SYSFS = Path("/sys")


@dataclass(frozen=True)
class Topology:
    """Processors that are online, by NUMA node. A host that knows of no nodes is one node, 0."""

    nodes: Mapping[int, tuple[int, ...]]

    def within(self, cpus: Iterable[int]) -> "Topology":
        """Only these processors, and the nodes that still have one."""
        allowed = set(cpus)
        kept = {node: tuple(cpu for cpu in mine if cpu in allowed) for node, mine in self.nodes.items()}
        return Topology({node: mine for node, mine in kept.items() if mine})


def read_topology(sysfs: Path = SYSFS) -> Topology:
    """Of the host whose sysfs that is. Raises OSError where there is none."""
    system = sysfs / "devices/system"
    online = cpu_list((system / "cpu/online").read_text())
    nodes: dict[int, tuple[int, ...]] = {}
    for folder in system.glob("node/node[0-9]*"):
        mine = sorted(set(cpu_list((folder / "cpulist").read_text())) & set(online))
        if mine:  # a node may be memory only
            nodes[int(folder.name.removeprefix("node"))] = tuple(mine)
    return Topology(dict(sorted(nodes.items())) or {0: online})


def numa_node_of_pci(address: str, sysfs: Path = SYSFS) -> int | None:
    """The node a PCI device is next to; None where the host does not say. Drivers write the domain with four digits
    or with eight."""
    domain, _, rest = address.lower().partition(":")
    with suppress(OSError, ValueError):
        node = int((sysfs / "bus/pci/devices" / f"{domain[-4:]}:{rest}" / "numa_node").read_text())
        return node if node >= 0 else None
    return None


def cpu_list(text: str) -> tuple[int, ...]:
    """`0-2,5` → 0, 1, 2, 5."""
    numbers: list[int] = []
    for part in filter(None, text.strip().split(",")):
        first, _, last = part.partition("-")
        numbers.extend(range(int(first), int(last or first) + 1))
    return tuple(numbers)


def show_cpu_list(cpus: Iterable[int]) -> str:
    """0, 1, 2, 5 → `0-2,5`."""
    runs: list[tuple[int, int]] = []
    for cpu in sorted(cpus):
        if runs and cpu == runs[-1][1] + 1:
            runs[-1] = runs[-1][0], cpu
        else:
            runs.append((cpu, cpu))
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)
