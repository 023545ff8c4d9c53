"""Kernels as native processes, for a machine without a container engine.

Beside each kernel stands a keeper (`agents/process/keeper.py`), a process of its own that outlives the agent; the two
sides meet in a folder:

    <folder>/kernels/<kernel id>/<incarnation>/   the record: see the keeper; only the agent's user may read it
    <folder>/scratch/<kernel id>/home/            the kernel's home and working directory, for all incarnations
    <folder>/scratch/<kernel id>/config/          what it was given (REFOLD_CONFIG): see `agents/given/belongings.py`
    <folder>/output/<kernel id>/                  what it printed
    <folder>/sockets, code                        of its runner: see `agents/given/injection.py`

How far a kernel is kept apart depends on who the agent is. As root, each kernel has a user id and a host name
of its own, its files are closed to the others, and the number of its processes is limited. As an ordinary
user a kernel is that user: good for development and for work one trusts, no more. In both cases it can gain
no privileges, memory is limited for each of its processes (RLIMIT_DATA: what is reserved but not used does
not count, which CUDA and Java do by the terabyte), and its share of the processor where the host lets the agent
make control groups (`agents/process/cpu_groups.py`; version 1 as root, version 2 where a group was given to it).
Its folders it finds in its home: see `agents/process/mounting.py`.
Lack of memory shows itself as an error inside the program, so no end has the reason `oom` here. Linux only.
"""

import asyncio
import json
import os
import shutil
import signal
import zlib
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from agents.devices.plugin import Grant, Granting, NoSuchDevice, grant_nothing
from agents.given import belongings
from agents.given.folders import Folders, in_home
from agents.output import OutputStore
from agents.process import keeper
from agents.process.cpu_groups import find_cpu_groups
from agents.process.injection import ProcessInjection
from agents.process.keepers import keeper_handle, keeper_of, kill_remnants, readable, run_keeper
from agents.runtime import (
    BASE_ENVIRONMENT,
    Account,
    AlreadyEnded,
    CommitFailed,
    Ended,
    ImageHere,
    ImageSpace,
    ImageUnavailable,
    Progress,
    Running,
    RuntimeUnavailable,
    StartFailed,
    Task,
    utc_now,
)

KERNEL_UIDS = (0x70000000, 1 << 27)
"""First and count of a range of user ids that neither distributions nor systemd give to anybody."""
NOBODY = 65534
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
START_SECONDS_MAX = 30.0


class ProcessRuntime:
    """Runs kernels as processes of this host."""

    name = "process"

    def __init__(
        self,
        folder: Path,
        *,
        grant: Granting = grant_nothing,
        log_bytes_max: int = 10 * 1024 * 1024,
        folders: Folders | None = None,
    ) -> None:
        self._grant = grant
        self._folders = folders or Folders()
        self._records = folder.absolute() / "kernels"
        reachable = _reachable(folder.absolute())
        self._scratch = reachable / "scratch"
        self._injection = ProcessInjection(reachable, PATH)
        self._cpu_groups = find_cpu_groups(folder.absolute())
        self._output = OutputStore(folder.absolute() / "output", log_bytes_max)
        self._records.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._scratch.mkdir(parents=True, exist_ok=True, mode=0o711)

    async def has_image(self, image: str) -> bool:  # noqa: ARG002
        """There are no images: the host's own programs are what a kernel finds."""
        return True

    async def pull(
        self, image: str, progress: Progress, account: Account | None = None, *, afresh: bool = False
    ) -> None:
        """Nothing to fetch."""

    async def images(self) -> Sequence[ImageHere]:
        """None."""
        return ()

    async def remove_image(self, image: str) -> None:
        """Nothing to delete."""

    async def commit(self, kernel_id: str, reference: str, labels: Mapping[str, str]) -> ImageHere:  # noqa: ARG002
        """There is nothing of which an image could be made."""
        raise CommitFailed("kernels of this agent are native processes, of which no image can be made")

    async def push(self, image: str, progress: Progress, account: Account | None = None) -> None:  # noqa: ARG002
        """Nothing is here."""
        raise ImageUnavailable("there are no images where kernels are native processes")

    async def image_space(self) -> ImageSpace | None:
        """None."""
        return None

    async def start(self, task: Task) -> Running:
        """Hands the task to a keeper and returns once its program runs."""
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                return await self._start(task)
        except TimeoutError as error:
            raise RuntimeUnavailable(f"no keeper answered within {START_SECONDS_MAX:.0f} s") from error

    async def _start(self, task: Task) -> Running:
        record = self._record(task.kernel_id, task.incarnation)
        while True:
            if ended := self._ended(record):
                raise AlreadyEnded(ended)
            if keeper_of(record) is None:
                (record / "stopping").unlink(missing_ok=True)  # it came before there was anything to stop
                try:
                    granted = self._grant(task.devices)
                except NoSuchDevice as error:
                    raise StartFailed(str(error)) from error
                uid = _uid(task.kernel_id) if os.geteuid() == 0 else None
                runner = await self._injection.find(uid)
                if runner is None and task.outfit.bootstrap_script is not None:
                    raise StartFailed("no Python of this host can run a bootstrap script for a kernel")
                mounts = await asyncio.to_thread(self._mounts, task)
                try:
                    environ = await asyncio.to_thread(self._write_task, record, task, granted, uid, runner, mounts)
                except OSError as error:
                    raise StartFailed(f"the kernel's files cannot be made: {error}") from error
                answer = await run_keeper(record, environ)
                if answer.startswith("running ") and (running := _running(record)):
                    return running
                if answer.startswith("failed ") and not (record / "running.json").exists():
                    shutil.rmtree(record, ignore_errors=True)
                    if self._cpu_groups is not None:
                        self._cpu_groups.remove(task.kernel_id, task.incarnation)
                    self._injection.sockets.remove(task.kernel_id, task.incarnation)
                    raise StartFailed(answer.removeprefix("failed "))
            elif running := _running(record):
                return running
            else:
                await asyncio.sleep(0.01)  # the keeper of an agent that died is just starting it

    async def stop(self, kernel_id: str, incarnation: int, grace: timedelta) -> None:
        """The keeper carries the stop through, whether or not the agent stays."""
        record = self._record(kernel_id, incarnation)
        if not record.exists() or self._ended(record):
            return
        draft = record / "stopping.draft"
        draft.write_text(str(grace.total_seconds()))
        draft.replace(record / "stopping")
        with keeper_handle(record) as handle:
            if handle is not None:
                signal.pidfd_send_signal(handle, signal.SIGTERM)
                await readable(handle)
        self._ended(record)

    async def list(self) -> Sequence[Running]:
        """By the folder of records."""
        records = [record for record in self._records.glob("*/*/") if self._ended(record) is None]
        return [running for record in records if (running := _running(record))]

    async def wait(self, kernel_id: str, incarnation: int) -> Ended:
        """Waits for the keeper, which writes the end down as its last act."""
        record = self._record(kernel_id, incarnation)
        while (ended := self._ended(record)) is None:
            with keeper_handle(record) as handle:
                if handle is None:
                    return self._ended(record) or Ended(None, utc_now(), "gone")
                await readable(handle)
        return ended

    async def remove(self, kernel_id: str, incarnation: int) -> None:
        """Deletes the record. The home of the kernel stays for its next incarnation."""
        record = self._record(kernel_id, incarnation)
        if self._ended(record) or keeper_of(record) is None:
            shutil.rmtree(record, ignore_errors=True)
            with suppress(OSError):
                record.parent.rmdir()
            self._injection.sockets.remove(kernel_id, incarnation)
            belongings.forget(self._scratch / kernel_id / "config", incarnation)
            if self._cpu_groups is not None:
                await self._cpu_groups.removed(kernel_id, incarnation)

    async def capabilities(self) -> Sequence[str]:
        """Cluster sessions: their kernels are where their hosts are."""
        return ("cluster:single-node", "cluster:multi-node")

    async def capacity(self) -> Mapping[str, str]:
        """The processors and the memory this process may use."""
        return {"cpu": str(len(os.sched_getaffinity(0))), "mem": str(memory_bytes())}

    async def output(self, kernel_id: str) -> bytes:
        """As the keepers wrote it down."""
        return await asyncio.to_thread(self._output.read, kernel_id)

    def runner(self, kernel_id: str) -> Path | None:
        """In the folder that the latest incarnation has for it."""
        return self._injection.sockets.find(kernel_id)

    async def address(self, kernel_id: str) -> str | None:
        """The host's own: kernels share its network."""
        here = any(self._ended(record) is None for record in (self._records / kernel_id).glob("*/"))
        return "127.0.0.1" if here else None

    async def tidy(self, before: datetime, keep: Collection[str]) -> Collection[str]:
        """A kernel's home goes with its output: how old its files are is its own affair."""
        old = await asyncio.to_thread(self._output.tidy, before, keep)
        for kernel_id in old:
            await asyncio.to_thread(shutil.rmtree, self._scratch / kernel_id, ignore_errors=True)
        return old

    async def close(self) -> None:
        """Nothing is held: the keepers know what to do."""

    def _record(self, kernel_id: str, incarnation: int) -> Path:
        return self._records / kernel_id / str(incarnation)

    def _ended(self, record: Path) -> Ended | None:
        """The end that was written down; written down now if the keeper is gone without having done so."""
        if not (record / "ended.json").exists():
            if keeper_of(record) is not None or not (record / "running.json").exists():
                return None
            if not (record / "ended.json").exists():  # not even between the two looks
                kill_remnants(record)
                gone = {"exit_code": None, "at": utc_now().isoformat(), "reason": "gone"}
                keeper.write_whole(record / "ended.json", gone)
        end = _load(record / "ended.json")
        return Ended(end["exit_code"], datetime.fromisoformat(end["at"]), end["reason"]) if end else None

    def _mounts(self, task: Task) -> Sequence[Mapping[str, Any]]:
        """As the keeper is told them. Raises StartFailed, MountRefused."""
        mounts = []
        for mount in task.outfit.mounts:
            if (at := in_home(mount)) is None:
                raise StartFailed(f"{mount.path} is not in the home, where alone native processes can have folders")
            place = self._folders.find(mount)
            read_only = not mount.permission.writes
            mounts.append(
                {"root": str(place.root), "path": place.path, "part": place.part, "at": at, "read_only": read_only}
            )
        return mounts

    def _write_task(
        self,
        record: Path,
        task: Task,
        granted: Grant,
        uid: int | None,
        runner: tuple[str, Path] | None,
        mounts: Sequence[Mapping[str, Any]] = (),
    ) -> Mapping[str, str]:
        """What it gets for its environment is not written, but returned."""
        home, config = self._make_home(task, uid)
        environ = {
            "PATH": PATH,
            "HOME": str(home),
            "REFOLD_CONFIG": str(config),
            **BASE_ENVIRONMENT,
            **task.environ,
            "CUDA_VISIBLE_DEVICES": "",  # without a device of its own it sees none
            **granted.environ,
            **granted.native_environ,
            "REFOLD_RECORD": str(record),  # by this its processes are found if its keeper was killed
        }
        command = task.command or ("sleep", "infinity")
        if runner is not None:
            here = task.kernel_id, task.incarnation
            command = self._injection.command(runner, *here, uid, home, config, task.command)
        group = self._cpu_groups and self._cpu_groups.make(task.kernel_id, task.incarnation, task.cpu_millis)
        record.mkdir(parents=True, exist_ok=True, mode=0o700)
        keeper.write_whole(
            record / "task.json",
            {
                "kernel_id": task.kernel_id,
                "incarnation": task.incarnation,
                "session_id": task.session_id,
                "command": list(command),
                "home": str(home),
                "uid": uid,
                "hostname": task.hostname,
                "cpus": granted.cpus,
                "cpu_group": None if group is None else str(group),
                "mem_bytes": task.mem_bytes,
                "pids_max": task.pids_max,
                "mounts": list(mounts),
                "output": str(self._output.folder),
                "output_bytes_max": self._output.bytes_max,
            },
        )
        return environ

    def _make_home(self, task: Task, uid: int | None) -> tuple[Path, Path]:
        """The home, and the folder of what the kernel was given; no other kernel's user gets there."""
        scratch = self._scratch / task.kernel_id
        home, config = scratch / "home", scratch / "config"
        scratch.mkdir(exist_ok=True)
        home.mkdir(exist_ok=True, mode=0o700)
        if uid is not None:
            os.chown(scratch, -1, uid)
            os.chown(home, uid, uid)
        scratch.chmod(0o710)
        belongings.write(config, task, place=str(config), owner=None if uid is None else (uid, uid))
        return home, config


def _running(record: Path) -> Running | None:
    """As its keeper wrote it down once the program ran."""
    running, task = _load(record / "running.json"), _load(record / "task.json")
    if running is None or task is None:
        return None
    return Running(
        task["kernel_id"],
        task["incarnation"],
        task["session_id"],
        str(running["pid"]),
        datetime.fromisoformat(running["started_at"]),
    )


def _load(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    return content


def _uid(kernel_id: str) -> int:
    """A user id that is this kernel's alone; `nobody` where the agent itself lives in a small range of
    ids."""
    first, count = KERNEL_UIDS
    uid = first + zlib.crc32(kernel_id.encode()) % count
    ranges = (map(int, line.split()) for line in Path("/proc/self/uid_map").read_text().splitlines())
    return uid if any(start <= uid < start + length for start, _, length in ranges) else NOBODY


def _reachable(folder: Path) -> Path:
    """Where a kernel's user may walk to: the folder itself, or, below one only root may enter,
    /var/lib."""
    if os.geteuid() != 0 or all(parent.stat().st_mode & 0o001 for parent in _existing(folder)):
        return folder
    return Path("/var/lib/refold") / f"{zlib.crc32(os.fsencode(folder)):08x}"


def _existing(folder: Path) -> Sequence[Path]:
    return [path for path in (folder, *folder.parents) if path.exists()]


def memory_bytes() -> int:
    """The host's memory, or the control group's limit where that is lower."""
    meminfo = Path("/proc/meminfo").read_text()
    sizes = [int(meminfo.partition("MemTotal:")[2].split()[0]) * 1024]
    for name in ("memory.max", "memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            sizes.append(int((Path("/sys/fs/cgroup") / name).read_text()))
    return min(sizes)
