"""Where the file system keeps quotas, folders get theirs: here with a program in the place of `xfs_quota`."""

import asyncio
import os
import stat
from pathlib import Path

import pytest

from api.storage.disks.backend import BadVolume, backend_of
from api.storage.disks.xfs import XfsBackend
from domain.vfolder.messages.requests import SetQuota
from tests.api.storage.disks import ADA, Disks
from tests.whole import now

_PROGRAM = """#!/bin/sh
echo "$3" >> {said}
[ -e {broken} ] && echo "no such project" >&2
exit 0
"""


class Quota:
    """What was said to `xfs_quota`. While `broken` is there, it refuses."""

    def __init__(self, folder: Path) -> None:
        self._said = folder / "said"
        self.broken = folder / "broken"
        programs = folder / "programs"
        programs.mkdir()
        program = programs / "xfs_quota"
        program.write_text(_PROGRAM.format(said=self._said, broken=self.broken))
        program.chmod(program.stat().st_mode | stat.S_IXUSR)
        self.path = f"{programs}{os.pathsep}{os.environ['PATH']}"

    @property
    def said(self) -> list[str]:
        return self._said.read_text().splitlines()


@pytest.fixture
def quota(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Quota:
    made = Quota(tmp_path)
    monkeypatch.setenv("PATH", made.path)
    return made


def _disks(folder: Path, **settings: object) -> Disks:
    return Disks(folder, storage_volumes={"one": f"xfs://{folder}/one", "two": f"{folder}/two"}, **settings)


async def test_a_folder_is_a_project_of_its_own_with_its_limit_and_so_is_what_is_uploaded(
    tmp_path: Path, quota: Quota
) -> None:
    disks = _disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        data = await disks.create("data", quota_bytes=1000)
        other = await disks.create("other")
        await disks.until(data, "FolderReady")
        await disks.until(other, "FolderReady")
        uploads = effects.places.place(data).uploads
        said = quota.said
        number = next(each.rpartition(" ")[2] for each in said if f"-p {disks.path(data)} " in each)
        assert f"limit -p bhard=1000 {number}" in said
        assert f"project -s -p {uploads} {number}" in said
        others = next(each.rpartition(" ")[2] for each in said if f"-p {disks.path(other)} " in each)
        assert others != number
        assert f"limit -p bhard=0 {others}" in said
        await disks.purge(data)
        await disks.until(data, "FolderPurged")
        assert quota.said[-1] == f"limit -p bhard=0 {number}"


async def test_what_the_owner_may_have_is_shared_out_among_his_folders_as_they_are(
    tmp_path: Path, quota: Quota
) -> None:
    disks = _disks(tmp_path)
    async with disks.deciding(), disks.doing() as effects:
        one, two = await disks.create("one"), await disks.create("two")
        await disks.until(one, "FolderReady")
        await disks.until(two, "FolderReady")
        (disks.path(one) / "file").write_bytes(b"x" * 60)
        effects.places.changed(one)
        await disks.until(one, "FolderUsageMeasured")
        await disks.whole.give("vfolder", SetQuota(at=now(), scope=ADA, host=one.host, max_bytes=100))
        numbers = [
            next(said.rpartition(" ")[2] for said in quota.said if f"-p {disks.path(each)} " in said)
            for each in (one, two)
        ]
        limits = {f"limit -p bhard=100 {numbers[0]}", f"limit -p bhard=40 {numbers[1]}"}
        async with asyncio.timeout(5):
            while not limits <= set(quota.said):
                await asyncio.sleep(0.05)


async def test_a_folder_that_cannot_be_limited_is_in_error_and_says_why(tmp_path: Path, quota: Quota) -> None:
    disks = _disks(tmp_path)
    quota.broken.touch()
    async with disks.deciding(), disks.doing():
        data = await disks.create("data", quota_bytes=1000)
        failed = await disks.until(data, "FolderFailed")
        assert failed.message == "xfs_quota: no such project"


def test_a_volume_names_its_backend_by_the_scheme_of_its_url() -> None:
    assert backend_of("/srv/one").kind == "vfs"
    assert backend_of("file:///srv/one").root == Path("/srv/one")
    assert isinstance(backend_of("xfs:///srv/one"), XfsBackend)
    for bad in ("relative", "xfs://host/one", "other:///srv/one", ""):
        with pytest.raises(BadVolume):
            backend_of(bad)
