"""What a kernel of the process runtime uses: its processes, wherever in the tree below its keeper they are."""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from agents.devices.plugin import KernelUsage

USEC_PER_TICK = 1_000_000 // os.sysconf("SC_CLK_TCK")
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


@dataclass(frozen=True)
class _Process:
    pid: int
    parent: int
    own_ticks: int
    reaped_ticks: int
    """Of children that have ended."""
    pages: int


def read_processes(pids: Collection[int], proc: Path) -> dict[int, KernelUsage]:
    """By the kernel's first process; without those that are gone. Reads /proc once."""
    everybody = {process.pid: process for process in _processes(proc)}
    children: dict[int, list[_Process]] = {}
    for process in everybody.values():
        children.setdefault(process.parent, []).append(process)
    return {pid: _usage(everybody[pid], everybody, children, proc) for pid in pids if pid in everybody}


def _usage(
    first: _Process, everybody: Mapping[int, _Process], children: Mapping[int, list[_Process]], proc: Path
) -> KernelUsage:
    """The keeper is no part of the kernel, but has reaped what the kernel left behind."""
    keeper = everybody.get(first.parent)
    below = children[first.parent] if keeper is not None and keeper.pid != 1 else [first]
    mine: list[_Process] = []
    while below:
        mine += below
        below = [child for process in below for child in children.get(process.pid, ())]
    ticks = sum(process.own_ticks + process.reaped_ticks for process in mine)
    if keeper is not None and keeper.pid != 1:
        ticks += keeper.reaped_ticks
    io = [counters for process in mine if (counters := _io(proc / str(process.pid)))]
    return KernelUsage(
        cpu_usec=ticks * USEC_PER_TICK,
        memory_bytes=sum(process.pages for process in mine) * PAGE_BYTES,
        io_read_bytes=sum(read for read, _ in io) if io else None,
        io_written_bytes=sum(written for _, written in io) if io else None,
        processes=len(mine),
    )


def _processes(proc: Path) -> Iterator[_Process]:
    for folder in proc.glob("[0-9]*"):
        with suppress(OSError):  # it has ended meanwhile
            # The program's name is in parentheses, and may hold any character.
            fields = (folder / "stat").read_bytes().rpartition(b")")[2].split()
            own, reaped = int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14])
            yield _Process(int(folder.name), int(fields[1]), own, reaped, int(fields[21]))


def _io(folder: Path) -> tuple[int, int] | None:
    """Bytes read and written; None where the agent may not know."""
    try:
        lines = (folder / "io").read_text().splitlines()
    except OSError:
        return None
    counters = {name: int(value) for name, _, value in (line.partition(":") for line in lines)}
    return counters["read_bytes"], counters["write_bytes"]
