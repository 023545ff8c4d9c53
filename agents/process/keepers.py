"""The agent's side of the keepers (`agents/process/keeper.py`): starts one, finds it again, waits for its end."""

import asyncio
import fcntl
import json
import os
import signal
import struct
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from agents.process import keeper

FLOCK = "hhqqi"
"""struct flock of 64-bit Linux: type, whence, start, length, process id."""


async def run_keeper(record: Path, environ: Mapping[str, str]) -> str:
    """Its one line of answer."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", keeper.__file__, str(record)),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={},
    )
    # Ends once the keeper has answered and let go of the pipe.
    printed, _ = await process.communicate(json.dumps(environ).encode())
    answer = printed.decode(errors="replace").strip()
    if answer:
        return answer
    with suppress(OSError):
        return "failed " + " ".join((record / "keeper.log").read_text().split())[-500:]
    return "failed the keeper did not start"


def keeper_of(record: Path) -> int | None:
    """The process that holds the record's lock. The host itself answers, so no process id is ever out of
    date."""
    try:
        file = os.open(record / "lock", os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    try:
        question = struct.pack(FLOCK, fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
        kind, _, _, _, pid = struct.unpack(FLOCK, fcntl.fcntl(file, fcntl.F_GETLK, question))
        return None if kind == fcntl.F_UNLCK else pid
    finally:
        os.close(file)


@contextmanager
def keeper_handle(record: Path) -> Iterator[int | None]:
    """A pidfd of the keeper while it lives, else None."""
    pid = keeper_of(record)
    try:
        handle = None if pid is None else os.pidfd_open(pid)
    except ProcessLookupError:
        handle = None
    try:
        # If it died between the two calls, the handle may be a stranger's.
        yield handle if handle is not None and keeper_of(record) == pid else None
    finally:
        if handle is not None:
            os.close(handle)


async def readable(handle: int) -> None:
    """A pidfd is readable once its process has ended."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(handle, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(handle)


def kill_remnants(record: Path) -> None:
    """After a keeper was killed: its kernel died with it, but children of that may live on."""
    mark = b"REFOLD_RECORD=" + os.fsencode(record)
    for pid in _processes():
        with suppress(OSError):
            if mark in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                os.kill(pid, signal.SIGKILL)


def _processes() -> Iterator[int]:
    return (int(name) for name in os.listdir("/proc") if name.isdigit())
