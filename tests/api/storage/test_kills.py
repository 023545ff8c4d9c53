"""A storage service is killed at every step of its work: the next one brings disk and log to agree.

The service runs in a process of its own that kills itself before the n-th thing it does to the disk or says to the log,
for every n until there is none; then it runs again and is let be. What the log decides meanwhile is decided here.
"""

import asyncio
import os
import shutil
import signal
import sys
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from api.storage.disks import copying
from api.storage.effects.running import Effects
from api.storage.volumes import Volumes
from domain.messages import Command, Refused, Unneeded
from domain.vfolder.consequences import VFOLDER
from domain.vfolder.messages import COMMANDS, FolderEvents
from domain.vfolder.messages.common import FolderSpec, ScopeLimits
from domain.vfolder.messages.reports import ReportFolderReady, SetScopeLimits
from domain.vfolder.messages.requests import CloneFolder, CreateFolder, PurgeFolder, TrashFolder
from domain.vfolder.mounts import FolderId, FolderRef, Scope, folder_path
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folders
from infra.envelope import Cause, record_of
from infra.log import NewRecord, Partition
from infra.memory_log import MemoryLog
from infra.settings import Settings
from tests.api.storage.disks import ADA, EVE, HOSTS, tree
from tests.whole import an_id, now

_TOPICS = ("vfolder.events", "vfolder.commands", "directory.commands")
_SETTINGS = Settings(partitions=1)
_CHANGES = {f"os.{name}" for name in ("mkdir", "rename", "remove", "rmdir", "chown", "chmod", "utime", "symlink")}
_UNSEEN = ("copy_file_range", "ftruncate")


class Decisions:
    """What the shards would decide, one command after the other, and all that they said."""

    def __init__(self) -> None:
        self.events: list[tuple[str, FolderEvents]] = []
        self.states: defaultdict[Scope, Folders] = defaultdict(Folders)
        self._settled: set[str] = set()

    def give(self, command: Any, command_id: str | None = None) -> None:
        if command_id in self._settled:
            return
        self._settled.add(command_id or "")
        waiting = [command]
        while waiting:
            each = waiting.pop(0)
            try:
                decided = VFOLDER.decide(each, self.states[each.scope])
            except (Refused, Unneeded):
                continue
            for event in decided:
                sent = VFOLDER.consequences(event, self.states[event.scope])
                waiting += [send.message for send in sent if send.to == "vfolder"]
                self.states[event.scope] = VFOLDER.evolve(self.states[event.scope], event)
                self.events.append((str(uuid4()), event))


class Service:
    """One volume; `decisions` is what it reads, `reports` is what it said that became durable."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "volume"
        self.root.mkdir(parents=True)
        self.settings = _SETTINGS.model_copy(update={"storage_volumes": {"one": str(self.root)}})
        self.decisions = Decisions()
        self._reports = folder / "reports"
        self._reports.touch()
        self._heard = 0
        for scope in (ADA, EVE):
            limits = ScopeLimits(hosts={HOSTS[0]: ("create-vfolder",)})
            self.decisions.give(SetScopeLimits(at=now(), scope=scope, limits=limits))
        Volumes.from_settings(self.settings).at(HOSTS[0]).open(new=True)

    def folder(self, ref: FolderRef) -> Path:
        return self.root / folder_path(ref.folder_id)

    def run(self, kill_at: int | None = None) -> bool:
        """Until it has reported something, or is killed before its `kill_at`th step; whether it was killed."""
        child = os.fork()
        if child == 0:
            self._serve(kill_at)
        _, status = os.waitpid(child, 0)
        assert os.WIFSIGNALED(status) or os.waitstatus_to_exitcode(status) == 0
        for line in self._reports.read_text().splitlines()[self._heard :]:
            command_id, _, command = line.partition(" ")
            self.decisions.give(COMMANDS.validate_json(command), command_id)
            self._heard += 1
        return os.WIFSIGNALED(status)

    def _serve(self, kill_at: int | None) -> None:
        """In the child; never returns."""
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            for module, name, nothing in (
                (os, "fsync", _nothing),
                (copying, "_LIBC", SimpleNamespace(syncfs=_nothing)),
            ):
                setattr(module, name, nothing)  # the machine stays on, and flushing its disks takes long
            steps = _Steps(kill_at)
            asyncio.run(self._report(steps))
        finally:
            os._exit(3)

    async def _report(self, steps: "_Steps") -> None:
        log = _ReportingLog(self._reports, steps)
        place = Partition(self.settings.topic_prefix + "vfolder.events", 0)
        cause = Cause("test", str(uuid4()), str(uuid4()))
        records = [
            record_of(event, event_id, "test", cause, place, event.scope) for event_id, event in self.decisions.events
        ]
        await MemoryLog.append(log, records)
        steps.begin()
        async with Effects(self.settings, log, Volumes.from_settings(self.settings)):
            await asyncio.sleep(10)
        os._exit(4)


def _nothing(_: int) -> int:
    return 0


class _ReportingLog(MemoryLog):
    """What is appended is durable in a file; then the process has done its duty and ends."""

    def __init__(self, reports: Path, steps: "_Steps") -> None:
        super().__init__({_SETTINGS.topic_prefix + name: 1 for name in _TOPICS})
        self._reports = reports
        self._steps = steps

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        for record in records:
            headers = dict(record.headers)
            if headers["ce_type"] != b"ReportFolderUsage" and record.partition.topic.endswith("vfolder.commands"):
                self._steps.step()
                line = headers["ce_id"] + b" " + record.value + b"\n"
                descriptor = os.open(self._reports, os.O_WRONLY | os.O_APPEND)
                os.write(descriptor, line)
                os._exit(0)
        return [0] * len(records)


class _Steps:
    """Counts what is done to files, in whichever thread."""

    def __init__(self, kill_at: int | None) -> None:
        self._kill_at = kill_at
        self._count = 0
        self._began = False
        sys.addaudithook(self._heard)
        for name in _UNSEEN:
            setattr(os, name, self._seen(getattr(os, name)))

    def begin(self) -> None:
        self._began = True

    def step(self) -> None:
        self._count += self._began
        if self._began and self._count == self._kill_at:
            os.kill(os.getpid(), signal.SIGKILL)

    def _heard(self, event: str, arguments: Any) -> None:
        if event in _CHANGES or (event == "open" and isinstance(arguments[2], int) and arguments[2] & os.O_WRONLY):
            self.step()

    def _seen(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any) -> Any:
            self.step()
            return function(*arguments)

        return counted


def _agree(service: Service, contents: dict[FolderId, dict[str, Any]]) -> None:
    """Independent of the service: what the log has is on the disk as it should be, and nothing else is."""
    kept = {
        folder_path(folder.folder_id): folder.folder_id
        for state in service.decisions.states.values()
        for folder in state.folders.values()
        if folder.phase is Phase.READY
    }
    there = {str(path.relative_to(service.root)) for path in service.root.glob("[!.]*/*/*")}
    assert there == set(kept)
    for path, folder_id in kept.items():
        assert tree(service.root / path) == contents.get(folder_id, {})
    for left in ("making", "purging", "uploads"):
        assert os.listdir(service.root / ".refold" / left) == []


def _fill(folder: Path) -> None:
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"some text")
    (folder / "sub").mkdir(mode=0o500)
    with (folder / "sub" / "holes").open("wb") as holes:
        holes.truncate(100_000)
        holes.seek(50_000)
        holes.write(b"middle")
    (folder / "link").symlink_to("file")


def _create(service: Service, name: str, scope: Scope = ADA) -> FolderRef:
    folder_id = FolderId(an_id(name))
    spec = FolderSpec(host=HOSTS[0], cloneable=True)
    service.decisions.give(CreateFolder(at=now(), scope=scope, folder_id=folder_id, name=name, spec=spec))
    return FolderRef(scope=scope, folder_id=folder_id, host=HOSTS[0])


def _created(service: Service) -> dict[FolderId, dict[str, Any]]:
    _create(service, "data")
    return {}


def _cloned(service: Service) -> dict[FolderId, dict[str, Any]]:
    source = _made(service)
    clone = FolderId(an_id("clone"))
    spec = FolderSpec(host=HOSTS[0])
    command: Command = CloneFolder(at=now(), scope=EVE, folder_id=clone, name="clone", spec=spec, source=source)
    service.decisions.give(command)
    content = tree(service.folder(source))
    return {source.folder_id: content, clone: content}


def _purged(service: Service) -> dict[FolderId, dict[str, Any]]:
    data = _made(service)
    trash = TrashFolder(at=now(), scope=ADA, folder_id=data.folder_id, retention_seconds=100)
    service.decisions.give(trash)
    service.decisions.give(PurgeFolder(at=now(), scope=ADA, folder_id=data.folder_id))
    return {}


def _made(service: Service) -> FolderRef:
    ref = _create(service, "data")
    _fill(service.folder(ref))
    service.decisions.give(ReportFolderReady(at=now(), scope=ref.scope, folder_id=ref.folder_id))
    return ref


@pytest.mark.parametrize("asked", [_created, _cloned, _purged])
def test_killed_anywhere_disk_and_log_agree_afterwards(
    tmp_path: Path, asked: Callable[[Service], dict[FolderId, dict[str, Any]]]
) -> None:
    for kill_at in range(1, 1000):
        service = Service(tmp_path / str(kill_at))
        contents = asked(service)
        killed = service.run(kill_at)
        for folder_id, content in contents.items():  # what is seen of a folder is whole, also before it is repaired
            folder = service.root / folder_path(folder_id)
            assert not folder.exists() or tree(folder) == content
        if killed:
            assert not service.run()
        _agree(service, contents)
        shutil.rmtree(service.root)
        if not killed:
            break
    assert kill_at > 5, "nothing was killed"
