"""Disk and log are compared both ways; nothing is deleted, and an orphan becomes a folder only by a command."""

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from api.storage.integrity import Kind, adopt, app, look
from domain.vfolder.mounts import FolderId, FolderRef, folder_path
from infra.settings import Settings
from tests.api.storage.disks import ADA, HOSTS, Disks, tree
from tests.whole import an_id


async def _found(disks: Disks) -> set[tuple[Kind, str, str]]:
    found = await look(disks.whole.settings, disks.whole.log, disks.volumes)
    return {(each.kind, each.host, each.folder_id) for each in found}


async def test_what_is_missing_left_or_unknown_is_found_and_stays_as_it_is(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    unknown, half = FolderId(an_id("unknown")), FolderId(an_id("half"))
    async with disks.deciding():
        async with disks.doing():
            well, lost, moved = [await disks.create(name) for name in ("well", "lost", "moved")]
            elsewhere = await disks.create("elsewhere", unmanaged_path="/nowhere")
            for each in (well, lost, moved, elsewhere):
                await disks.until(each, "FolderReady")
        asked = await disks.create("asked")
        await disks.until(asked, "FolderCreated")
        disks.path(lost).rmdir()
        (disks.roots["two"] / folder_path(moved.folder_id)).parent.mkdir(parents=True)
        disks.path(moved).rename(disks.roots["two"] / folder_path(moved.folder_id))
        (disks.roots["one"] / folder_path(unknown)).mkdir(parents=True)
        (disks.roots["one"] / ".refold" / "making" / half).mkdir()
        before = tree(tmp_path / "one")
        assert await _found(disks) == {
            (Kind.MISSING, HOSTS[0], lost.folder_id),
            (Kind.MISSING, HOSTS[0], moved.folder_id),
            (Kind.ORPHAN, HOSTS[1], moved.folder_id),
            (Kind.ORPHAN, HOSTS[0], unknown),
            (Kind.LEFT, HOSTS[0], half),
            (Kind.PENDING, HOSTS[0], asked.folder_id),
        }
        assert tree(tmp_path / "one") == before
        disks.roots["two"].rename(tmp_path / "away")
        assert (Kind.ABSENT, HOSTS[1], "") in await _found(disks)


async def test_an_orphan_is_adopted_with_what_is_in_it_and_only_within_the_owners_limits(tmp_path: Path) -> None:
    disks = Disks(tmp_path)
    whole, unknown = disks.whole, FolderId(an_id("unknown"))
    orphan = disks.roots["one"] / folder_path(unknown)
    orphan.mkdir(parents=True)
    (orphan / "file").write_text("precious")
    async with disks.deciding(), disks.doing():

        async def adopted(folder_id: FolderId) -> str | None:
            return await adopt(whole.settings, whole.log, disks.volume(), folder_id, ADA, "found")

        await disks.may(ADA, hosts={})
        assert "no folders may be made" in (await adopted(unknown) or "")
        await disks.may(ADA)
        assert await adopted(unknown) is None
        await disks.until(FolderRef(scope=ADA, folder_id=unknown, host=HOSTS[0]), "FolderReady")
        assert tree(orphan) == {"file": b"precious"}
        assert "has it already" in (await adopted(unknown) or "")
        assert "there is no folder" in (await adopted(FolderId(an_id("nothing"))) or "")
        assert await _found(disks) == set()


def test_the_command_says_what_it_cannot_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(volume: str, *arguments: str) -> Result:
        chosen = Settings(storage_volumes={"one": volume})
        monkeypatch.setattr("api.storage.integrity.settings", lambda: chosen)
        return CliRunner().invoke(app, arguments)

    assert "'relative' names no absolute path" in str(run("relative", "mark", "one").exception)
    assert "local:other is not a volume" in str(run(str(tmp_path), "mark", "other").exception)
    assert "String should match" in run(str(tmp_path), "adopt", "one", an_id("folder"), "ada", "name").output
    assert run(str(tmp_path), "mark", "one").exit_code == 0
    assert (tmp_path / ".refold" / "volume").read_text() == "local:one"
