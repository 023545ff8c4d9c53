"""What folders hold is measured and reported; nobody writes more into them than is allowed."""

import asyncio
from pathlib import Path

import pytest

from api.storage.places import NoRoom, NoSuchFolder
from domain.vfolder.messages.life import FolderUsageMeasured
from domain.vfolder.messages.requests import SetQuota
from domain.vfolder.mounts import FolderRef
from tests.api.storage.disks import ADA, HOSTS, Disks
from tests.whole import now


async def _reports(disks: Disks, folder: FolderRef) -> list[tuple[int, int]]:
    told = [each.event for each in await disks.whole.told("vfolder", folder.folder_id)]
    return [(each.used_bytes, each.files) for each in told if isinstance(each, FolderUsageMeasured)]


async def test_what_was_changed_by_a_client_is_measured_soon_and_each_size_is_told_once(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        (disks.path(data) / "a").write_bytes(b"12345")
        (disks.path(data) / "b").hardlink_to(disks.path(data) / "a")
        effects.places.changed(data)
        measured = await disks.until(data, "FolderUsageMeasured")
        assert (measured.used_bytes, measured.files) == (5, 2)
        effects.places.changed(data)
        await asyncio.sleep(0.7)
        assert await _reports(disks, data) == [(5, 2)]


async def test_what_a_kernel_wrote_is_measured_from_time_to_time(tmp_path: Path) -> None:
    disks = Disks(tmp_path, storage_scan_seconds=0.2)
    async with disks.deciding(), disks.doing():
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        (disks.path(data) / "a").write_bytes(b"12345")
        measured = await disks.until(data, "FolderUsageMeasured")
        assert (measured.used_bytes, measured.files) == (5, 1)


async def test_no_more_is_let_in_than_the_folder_may_hold_until_something_is_deleted(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data", quota_bytes=100)
        await disks.until(data, "FolderReady")
        await effects.places.admit(data, 60)
        (disks.path(data) / "a").write_bytes(b"x" * 60)
        with pytest.raises(NoRoom) as refused:
            await effects.places.admit(data, 41)
        assert (refused.value.rule, refused.value.limit_bytes) == ("quota_bytes", 100)
        (disks.path(data) / "a").unlink()
        await effects.places.admit(data, 100)


async def test_an_owners_folders_on_a_host_share_what_his_policy_or_quota_allows(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        await disks.may(ADA, max_bytes=100)
        one, two = await disks.create("one"), await disks.create("two")
        elsewhere = await disks.create("elsewhere", host=HOSTS[1])
        for each in (one, two, elsewhere):
            await disks.until(each, "FolderReady")
        (disks.path(one) / "a").write_bytes(b"x" * 60)
        effects.places.changed(one)
        await disks.until(one, "FolderUsageMeasured")
        await effects.places.admit(elsewhere, 100)
        with pytest.raises(NoRoom) as refused:
            await effects.places.admit(two, 41)
        assert (refused.value.rule, refused.value.limit_bytes) == ("quota_scope", 100)
        await disks.whole.give("vfolder", SetQuota(at=now(), scope=ADA, host=HOSTS[0], max_bytes=101))
        await disks.until(FolderRef(scope=ADA, folder_id=ADA, host=HOSTS[0]), "QuotaSet")
        async with asyncio.timeout(5):
            while True:
                try:
                    await effects.places.admit(two, 41)
                    break
                except NoRoom:
                    await asyncio.sleep(0.01)
        with pytest.raises(NoRoom):
            await effects.places.admit(one, 1)


async def test_what_is_being_uploaded_counts(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data", quota_bytes=100)
        await disks.until(data, "FolderReady")
        place = effects.places.place(data)
        (place.uploads / "half").write_bytes(b"x" * 60)
        assert await effects.places.usage(data) == (60, 0)
        with pytest.raises(NoRoom):
            await effects.places.admit(data, 41)


async def test_nothing_is_let_into_what_is_not_there(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        await disks.purge(data)
        await disks.until(data, "FolderPurged")
        for folder in (data, data.model_copy(update={"host": "other:one"})):
            with pytest.raises(NoSuchFolder):
                await effects.places.admit(folder, 1)
            with pytest.raises(NoSuchFolder):
                effects.places.place(folder)
            with pytest.raises(NoSuchFolder):
                await effects.places.usage(folder)
        assert disks.volume().all_uploads() == []


async def test_volumes_are_described_as_they_are(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data")
        await disks.until(data, "FolderReady")
        disks.roots["two"].rename(tmp_path / "away")
        one, two = await effects.places.describe()
        assert (one["name"], one["backend"], one["capabilities"]) == ("one", "vfs", ["vfolder"])
        assert one["capacity_bytes"] > one["used_bytes"] > 0
        assert (two["name"], two["capacity_bytes"]) == ("two", 0)
