"""What the whole host does, as /proc has it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_IDLE = (3, 4)  # of a processor's line: idle, and idle while something waits for a disk
_COUNTED = 8  # the times of guests, which follow, are in those of users already


@dataclass(frozen=True)
class HostReading:
    """`ticks`: of each processor, busy and altogether, since the host started. None is what it does not tell."""

    ticks: Mapping[str, tuple[int, int]]
    memory_bytes: int | None
    memory_bytes_max: int | None


def read_host(proc: Path) -> HostReading:
    """Two small files."""
    memory = _memory(proc / "meminfo")
    total, available = memory.get("MemTotal"), memory.get("MemAvailable")
    used = None if total is None or available is None else total - available
    return HostReading(_ticks(proc / "stat"), used, total)


def busy_percents(before: HostReading | None, now: HostReading) -> Sequence[float]:
    """Of each processor that was there both times, in their order."""
    if before is None:
        return ()
    percents = []
    for name, (busy, whole) in now.ticks.items():
        busy_before, whole_before = before.ticks.get(name, (busy, whole))
        passed = whole - whole_before
        if passed > 0:
            percents.append(min(100.0, max(0.0, round(100 * (busy - busy_before) / passed, 1))))
    return percents


def _ticks(path: Path) -> dict[str, tuple[int, int]]:
    found: dict[str, tuple[int, int]] = {}
    for line in _lines(path):
        name, *numbers = line.split()
        if name.startswith("cpu") and name != "cpu":
            times = [int(number) for number in numbers[:_COUNTED]]
            found[name] = (sum(times) - sum(times[place] for place in _IDLE), sum(times))
    return found


def _memory(path: Path) -> dict[str, int]:
    """In bytes."""
    return {name: int(rest.split()[0]) * 1024 for name, _, rest in (line.partition(":") for line in _lines(path))}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []
