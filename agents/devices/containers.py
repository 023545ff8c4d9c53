"""What a Docker container uses, from its control group (version 1 or 2) and from its network's counters.

The daemon would tell the same, but takes a second for each container and has to be asked for one at a time.
"""

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from agents.devices.plugin import KernelUsage

NO_LIMIT = 1 << 60
"""Version 1 says so, and more, where there is no limit."""


def read_container(container_id: str, proc: Path, cgroups: Path) -> KernelUsage | None:
    """None where there is no such container."""
    if (cgroups / "cgroup.controllers").exists():
        group = _group(cgroups, container_id)
        return None if group is None else _version_2(group, proc)
    groups = {name: _group(cgroups / name, container_id) for name in ("cpuacct", "memory", "blkio", "pids")}
    return _version_1({name: group for name, group in groups.items() if group is not None}, proc)


def _group(root: Path, container_id: str) -> Path | None:
    """Where Docker puts it, by itself and with systemd."""
    places = (root / "docker" / container_id, root / "system.slice" / f"docker-{container_id}.scope")
    return next((place for place in places if place.is_dir()), None)


def _version_2(group: Path, proc: Path) -> KernelUsage:
    io = [word.partition("=") for word in _text(group / "io.stat").split()]
    received, sent = _network(group, proc)
    return KernelUsage(
        cpu_usec=_entry(group / "cpu.stat", "usage_usec"),
        memory_bytes=_without_cache(_number(group / "memory.current"), group / "memory.stat", "inactive_file"),
        memory_bytes_peak=_number(group / "memory.peak"),
        memory_bytes_max=_number(group / "memory.max"),
        io_read_bytes=sum(int(value) for name, _, value in io if name == "rbytes"),
        io_written_bytes=sum(int(value) for name, _, value in io if name == "wbytes"),
        net_received_bytes=received,
        net_sent_bytes=sent,
        processes=_number(group / "pids.current"),
    )


def _version_1(groups: dict[str, Path], proc: Path) -> KernelUsage | None:
    if not groups:
        return None
    nowhere = Path("/nonexistent")
    memory, blocks = groups.get("memory", nowhere), groups.get("blkio", nowhere)
    nanoseconds = _number(groups.get("cpuacct", nowhere) / "cpuacct.usage")
    limit = _number(memory / "memory.limit_in_bytes")
    io = [line.split() for line in _text(blocks / "blkio.throttle.io_service_bytes_recursive").splitlines()]
    received, sent = _network(next(iter(groups.values())), proc)
    return KernelUsage(
        cpu_usec=None if nanoseconds is None else nanoseconds // 1000,
        memory_bytes=_without_cache(
            _number(memory / "memory.usage_in_bytes"), memory / "memory.stat", "total_inactive_file"
        ),
        memory_bytes_peak=_number(memory / "memory.max_usage_in_bytes"),
        memory_bytes_max=None if limit is None or limit >= NO_LIMIT else limit,
        io_read_bytes=sum(int(words[2]) for words in io if words[1:2] == ["Read"]) if blocks != nowhere else None,
        io_written_bytes=sum(int(words[2]) for words in io if words[1:2] == ["Write"]) if blocks != nowhere else None,
        net_received_bytes=received,
        net_sent_bytes=sent,
        processes=_number(groups.get("pids", nowhere) / "pids.current"),
    )


def _without_cache(used: int | None, stat: Path, cache: str) -> int | None:
    """What `docker stats` shows: pages of files nobody has looked at lately are not counted."""
    return None if used is None else max(0, used - (_entry(stat, cache) or 0))


def _network(group: Path, proc: Path) -> tuple[int | None, int | None]:
    """Bytes in and out, as any process of the group sees them."""
    for pid in _processes(group):
        lines = _text(proc / str(pid) / "net/dev").splitlines()[2:]
        counters = [(name.strip(), rest.split()) for name, _, rest in (line.partition(":") for line in lines)]
        if counters:
            mine = [numbers for name, numbers in counters if name != "lo"]
            return sum(int(numbers[0]) for numbers in mine), sum(int(numbers[8]) for numbers in mine)
    return None, None


def _processes(group: Path) -> Iterator[int]:
    """Its own first; a container with a service manager has them all in groups below."""
    yield from map(int, _text(group / "cgroup.procs").split())
    with suppress(OSError):
        for below in group.rglob("cgroup.procs"):
            yield from map(int, _text(below).split())


def _entry(path: Path, name: str) -> int | None:
    for line in _text(path).splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return int(value)
    return None


def _number(path: Path) -> int | None:
    """None where it is not told, and for `max`."""
    text = _text(path).strip()
    return int(text) if text.isdigit() else None


def _text(path: Path) -> str:
    """Empty where there is no such file, or no longer."""
    try:
        return path.read_text()
    except OSError:
        return ""
