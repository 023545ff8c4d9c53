"""What the log says is done to the disk, whole and once; and reported."""

import asyncio
import os
import stat
import time
from pathlib import Path
from typing import Any

import pytest

from api.storage.disks import copying, walking
from api.storage.effects import doing, keeping
from api.storage.effects.wanted import Wanted
from domain.directory.messages.tasks import TaskEnded, TaskId, TaskProgressed, TaskStarted
from domain.vfolder.messages.common import FolderSpec, Work
from domain.vfolder.messages.life import FolderCreated, FolderPurging, FolderReady
from domain.vfolder.messages.requests import TransferFolder
from domain.vfolder.messages.sharing import FolderGiven, FolderTaken, TransferBegun
from domain.vfolder.mounts import FolderId
from domain.vfolder.phases import Phase
from tests.api.storage.disks import ADA, EVE, HOSTS, Disks, tree
from tests.whole import an_id, now


async def test_a_folder_that_was_created_is_on_the_disk_before_it_is_ready(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        its = disks.path(data).stat()
        assert (its.st_uid, its.st_gid) == ((1000, 1000) if os.geteuid() == 0 else (os.geteuid(), os.getegid()))
        assert stat.S_IMODE(its.st_mode) == 0o755


async def test_work_that_was_asked_for_before_the_service_started_is_done(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding():
        data = await disks.create("data")
        await disks.until(data, "FolderCreated")
        async with disks.doing():
            await disks.until(data, "FolderReady")
            await disks.until(other := await disks.create("other"), "FolderReady")
        (disks.path(data) / "kept").write_text("as it is")
        await disks.purge(other)
        async with disks.doing():
            await disks.until(other, "FolderPurged")
        assert tree(disks.path(data)) == {"kept": b"as it is"}


async def test_a_clone_is_a_copy_also_on_another_volume_and_links_are_copied_as_links(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        source = await disks.create("source")
        await disks.until(source, "FolderReady")
        there = disks.path(source)
        (there / "deep" / "er").mkdir(parents=True)
        (there / "deep" / "er" / "file").write_text("text")
        (there / "run").write_text("#!/bin/sh")
        (there / "run").chmod(0o4751)
        (there / "out").symlink_to("/etc")
        os.mkfifo(there / "pipe")
        with (there / "sparse").open("wb") as sparse:
            sparse.truncate(2**30)
            sparse.seek(2**29)
            sparse.write(b"middle")
        clone = await disks.clone(source, "clone", EVE, HOSTS[1])
        ready = await disks.until(clone, "FolderReady")
        copy = disks.path(clone)
        assert (ready.used_bytes, ready.files) == (2**30 + len("text") + len("#!/bin/sh") + len("/etc"), 4)
        assert sorted(path.name for path in copy.rglob("*")) == ["deep", "er", "file", "out", "run", "sparse"]
        assert (copy / "deep" / "er" / "file").read_text() == "text"
        assert (copy / "out").readlink() == Path("/etc")
        assert stat.S_IMODE((copy / "run").stat().st_mode) == 0o751
        its = (copy / "sparse").stat()
        assert its.st_blocks * 512 < 2**20
        with (copy / "sparse").open("rb") as sparse:
            sparse.seek(2**29)
            assert sparse.read(6) == b"middle"
        await disks.until(source, "FolderReleased")


async def test_how_far_a_clone_is_is_told_to_who_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = copying.copy

    def slowly(source: Path, target: Path, owner: tuple[int, int] | None, tell: walking.Tell) -> None:
        copy(source, target, owner, tell)
        time.sleep(0.3)

    monkeypatch.setattr(copying, "copy", slowly)
    monkeypatch.setattr(doing, "_PROGRESS_SECONDS", 0.05)
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        source = await disks.create("source")
        await disks.until(source, "FolderReady")
        (disks.path(source) / "file").write_bytes(b"x" * 1000)
        clone = await disks.clone(source, "clone")
        await disks.until(clone, "TaskEnded", context="directory")
        started, progressed, ended = [each.event for each in await disks.whole.told("directory", clone.folder_id)]
        assert isinstance(started, TaskStarted)
        assert isinstance(progressed, TaskProgressed)
        assert (progressed.done, progressed.total) == (1000, 1000)
        assert isinstance(ended, TaskEnded)
        assert ended.end == "done"


async def test_how_far_a_purge_is_is_told_to_who_asked_for_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unlink = os.unlink

    def slowly(path: str, *, dir_fd: int | None = None) -> None:
        unlink(path, dir_fd=dir_fd)
        time.sleep(0.02)

    monkeypatch.setattr(doing, "_PROGRESS_SECONDS", 0.05)
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        below = disks.path(data) / "below"
        below.mkdir()
        for number in range(20):
            (below / str(number)).touch()
        effects.places.changed(data)
        await disks.until(data, "FolderUsageMeasured")
        monkeypatch.setattr(os, "unlink", slowly)
        await disks.purge(data, TaskId("attempt-1"))
        ended = await disks.until(TaskId("attempt-1"), "TaskEnded", context="directory")
        assert ended.end == "done"
        assert await disks.until(data, "FolderPurged")
        told = [each.event for each in await disks.whole.told("directory", "attempt-1")]
        counts = [(each.done, each.total) for each in told if isinstance(each, TaskProgressed)]
        assert counts
        assert all(0 < done <= total == 20 for done, total in counts)
        assert sorted(set(counts)) == counts, "each further than the one before"


async def test_a_clone_whose_source_is_not_on_the_disk_is_in_error(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        source = await disks.create("source")
        await disks.until(source, "FolderReady")
        disks.path(source).rmdir()
        clone = await disks.clone(source, "clone")
        failed = await disks.until(clone, "FolderFailed")
        assert failed.message == "its source is not on the disk"
        ended = await disks.until(clone, "TaskEnded", context="directory")
        assert ended.message == failed.message


async def test_a_clone_that_cannot_be_made_is_in_error_and_leaves_nothing(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        source = await disks.create("source")
        await disks.until(source, "FolderReady")
        (disks.path(source) / "file").write_bytes(b"x" * 1000)
        clone = await disks.clone(source, "clone", quota_bytes=999)
        failed = await disks.until(clone, "FolderFailed")
        assert "999" in failed.message
        await disks.until(source, "FolderReleased")
        assert not disks.path(clone).exists()
        assert disks.volume().unfinished()["making"] == []


async def test_a_purge_leaves_nothing_follows_no_link_and_goes_as_deep_as_it_must(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("stays")
    async with disks.deciding(), disks.doing():
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        (disks.path(data) / "out").symlink_to(outside)
        (disks.volume().uploads(data.folder_id) / "half").write_text("half")
        deep = os.open(disks.path(data), os.O_DIRECTORY)
        for _ in range(1200):
            os.mkdir("d", dir_fd=deep)
            deeper = os.open("d", os.O_DIRECTORY, dir_fd=deep)
            os.close(deep)
            deep = deeper
        os.close(deep)
        await disks.purge(data)
        await disks.until(data, "FolderPurged")
        assert not disks.path(data).exists()
        assert not any(disks.volume().unfinished().values())
        assert (outside / "precious").read_text() == "stays"


async def test_what_cannot_be_deleted_is_an_error_of_the_folder_and_can_be_tried_again(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        in_the_way = disks.volume().backend.root / ".refold" / "purging" / data.folder_id
        in_the_way.write_text("no folder")
        await disks.purge(data)
        failed = await disks.until(data, "FolderFailed")
        assert str(tmp_path) not in failed.message
        assert (await disks.folder(data)).phase is Phase.PURGE_FAILED
        in_the_way.unlink()
        await disks.purge(data)
        await disks.until(data, "FolderPurged")
        assert not disks.path(data).exists()


async def test_a_folder_outside_of_volumes_is_neither_made_nor_deleted(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "file").write_text("stays")
    async with disks.deciding(), disks.doing():
        data = await disks.create("data", unmanaged_path=str(theirs))
        await disks.until(data, "FolderReady")
        assert not disks.path(data).exists()
        await disks.purge(data)
        await disks.until(data, "FolderPurged")
        assert tree(theirs) == {"file": b"stays"}


async def test_a_volume_that_is_not_mounted_is_not_taken_for_an_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_RETRY_SECONDS", 0.05)
    disks = Disks(tmp_path)
    async with disks.deciding():
        async with disks.doing():
            data = await disks.create("data")
            await disks.until(data, "FolderReady")
        away = tmp_path / "away"
        disks.roots["one"].rename(away)
        disks.roots["one"].mkdir()
        async with disks.doing() as effects:
            await disks.purge(data)
            other = await disks.create("other")
            await disks.until(other, "FolderCreated")
            async with asyncio.timeout(5):
                while "local:one is not at" not in effects.why_not:
                    await asyncio.sleep(0.01)
            assert not effects.ready
            assert list(disks.roots["one"].iterdir()) == []
            disks.roots["one"].rmdir()
            away.rename(disks.roots["one"])
            await disks.until(data, "FolderPurged")
            await disks.until(other, "FolderReady")
            assert effects.ready


async def test_what_is_to_be_done_to_a_volume_that_went_away_waits_until_it_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeping, "_RETRY_SECONDS", 0.05)
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        away = tmp_path / "away"
        disks.roots["one"].rename(away)
        await disks.purge(data)
        await disks.until(data, "FolderPurging")
        async with asyncio.timeout(5):
            while not effects.why_not:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
        told = [type(each.event).__name__ for each in await disks.whole.told("vfolder", data.folder_id)]
        assert told[-1] == "FolderPurging"
        away.rename(disks.roots["one"])
        await disks.until(data, "FolderPurged")
        assert not disks.path(data).exists()


async def test_two_processes_never_work_on_one_volume(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    volume = disks.volume()
    volume.open(new=True)
    async with disks.deciding():
        with volume.alone() as mine:
            assert mine
            async with disks.doing() as effects:
                data = await disks.create("data")
                await disks.until(data, "FolderCreated")
                async with asyncio.timeout(5):
                    while "another process" not in effects.why_not:
                        await asyncio.sleep(0.01)
                assert not disks.path(data).exists()
        async with disks.doing():
            await disks.until(data, "FolderReady")


async def test_a_folder_that_changed_hands_is_purged_for_its_new_owner(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing():
        data = await disks.create("data", ADA)
        await disks.until(data, "FolderReady")
        transfer = TransferFolder(at=now(), scope=ADA, folder_id=data.folder_id, to=EVE)
        await disks.whole.give("vfolder", transfer)
        await disks.until(data, "FolderGiven")
        assert disks.path(data).is_dir()
        await disks.purge(data.model_copy(update={"scope": EVE}))
        await disks.until(data, "FolderPurged")
        assert not disks.path(data).exists()


def test_a_folder_is_its_new_owners_in_whichever_order_the_two_are_read() -> None:
    wanted = Wanted(HOSTS)
    folder_id, spec = FolderId(an_id("data")), FolderSpec(host=HOSTS[0])
    about: Any = {"at": now(), "folder_id": folder_id}
    taken = FolderTaken(**about, scope=EVE, giver=ADA, name="data", spec=spec, used_bytes=5, files=1, created_at=now())
    for event in (
        taken,
        FolderCreated(**about, scope=ADA, name="data", spec=spec),
        FolderReady(**about, scope=ADA),
        TransferBegun(**about, scope=ADA, to=EVE),
        FolderGiven(**about, scope=ADA, to=EVE),
    ):
        wanted.take(event, an_id(event.type))
        found = wanted.folder(folder_id)
        assert found is not None
        assert (found[0], found[1].used_bytes) == (EVE, 5)
    assert wanted.jobs(HOSTS[0]) == []
    wanted.take(FolderPurging(**about, scope=EVE), "purging")
    assert [(job.work, job.scope, job.asked) for job in wanted.jobs(HOSTS[0])] == [(Work.PURGE, EVE, "purging")]
