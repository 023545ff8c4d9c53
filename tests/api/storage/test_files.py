"""File operations of the internal listener, as the api asks for them."""

import asyncio
import os
import time
from pathlib import Path

import pytest

from api.storage import listing
from domain.vfolder.operations import Operation
from infra.storage_passes import VolumesPass
from tests.api.storage.service import Service, problem


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


async def test_a_listing_shows_what_each_entry_is_and_follows_no_link_out(storage: Service) -> None:
    (storage.root / "file").write_text("12345")
    (storage.root / "directory").mkdir()
    (storage.root / "inner").symlink_to("directory")
    (storage.root / "outer").symlink_to("/etc")
    (storage.root / "directory" / "within").touch()
    (storage.root / os.fsdecode(b"\xff")).touch()
    answer = (await storage.files()).json()
    assert answer["next"] is None
    files = {entry["name"]: entry for entry in answer["files"]}
    assert {name: entry["type"] for name, entry in files.items()} == {
        "directory": "DIRECTORY",
        "file": "FILE",
        "inner": "SYMBOLIC_LINK",
        "outer": "SYMBOLIC_LINK",
        "\ufffd": "FILE",
    }
    assert (files["file"]["size"], files["file"]["mode"]) == (5, (storage.root / "file").stat().st_mode)
    assert files["file"]["modified"] == pytest.approx(time.time(), abs=60)
    assert (files["inner"]["target"], files["outer"]["target"]) == ("directory", "/etc")
    assert [entry["name"] for entry in (await storage.files("inner")).json()["files"]] == ["within"]
    assert problem(await storage.files("outer")) == (400, "symbolic-link")
    assert problem(await storage.files("file")) == (404, "not-found")
    assert problem(await storage.files("nothing/here")) == (404, "not-found")


async def test_a_large_directory_comes_in_pages_by_name(storage: Service) -> None:
    for number in range(100):
        (storage.root / f"{number:03}").touch()
    (storage.root / os.fsdecode(b"\xfe\xff")).touch()
    seen: list[str] = []
    query = {"limit": "25"}
    while True:
        page = (await storage.files(**query)).json()
        assert len(page["files"]) <= 25
        seen += [entry["name"] for entry in page["files"]]
        if page["next"] is None:
            break
        query["after"] = page["next"]
    assert seen == [*(f"{number:03}" for number in range(100)), "\ufffd\ufffd"]
    for limit in ("0", "-1", "x", "10001", "1" * 30):
        assert problem(await storage.files(limit=limit)) == (400, "invalid-api-params")


async def test_a_large_directory_is_remembered_until_it_changes(
    storage: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "_LARGE", 2)
    monkeypatch.setattr(listing, "_SETTLED_SECONDS", 0.05)
    read = 0
    listdir = os.listdir

    def counted(folder: int) -> list[str]:
        nonlocal read
        read += 1
        return listdir(folder)

    monkeypatch.setattr(os, "listdir", counted)
    for expected in (["a", "b", "c"], ["a", "b", "c", "d"]):
        (storage.root / expected[-1]).touch()
        (storage.root / expected[-2]).touch()
        (storage.root / "a").touch()
        await asyncio.sleep(0.1)
        read = 0
        for _ in range(3):
            assert [entry["name"] for entry in (await storage.files()).json()["files"]] == expected
        assert read == 1


async def test_directories_are_made_one_or_many_and_with_those_above(storage: Service) -> None:
    assert (await storage.do("mkdir", path="a")).status_code == 200
    assert problem(await storage.do("mkdir", path="a")) == (409, "exists")
    assert (await storage.do("mkdir", path="a", exist_ok=True)).status_code == 200
    assert problem(await storage.do("mkdir", path="b/c")) == (404, "not-found")
    assert (await storage.do("mkdir", paths=["b/c", "d"], parents=True)).status_code == 200
    (storage.root / "file").touch()
    assert problem(await storage.do("mkdir", path="file", exist_ok=True)) == (409, "exists")
    assert problem(await storage.do("mkdir", path="file/x", parents=True)) == (404, "not-found")
    assert problem(await storage.do("mkdir")) == (400, "invalid-api-params")
    assert names(storage.root) == ["a", "b", "b/c", "d", "file"]
    assert oct((storage.root / "b" / "c").stat().st_mode & 0o7777) == "0o755"
    assert [told.path for told in storage.audited] == ["a", "b/c", "d"]


async def test_an_empty_file_needs_no_upload(storage: Service) -> None:
    (storage.root / "old").write_text("x")
    for path in ("new/empty", "old"):
        assert (await storage.do("touch", path=path)).status_code == 200
        assert (storage.root / path).read_bytes() == b""
    assert storage.parts == []


async def test_what_is_renamed_stays_where_it_is_and_is_no_directory_if_a_file_is_meant(storage: Service) -> None:
    (storage.root / "a").mkdir()
    (storage.root / "a" / "old").write_text("x")
    (storage.root / "a" / "other").write_text("y")
    answer = await storage.do("rename", path="a/old", new_name="other")
    assert (answer.json(), (storage.root / "a" / "other").read_text()) == ({"path": "a/other"}, "x")
    assert problem(await storage.do("rename", path="a", new_name="b", is_dir=False)) == (400, "is-a-directory")
    assert (await storage.do("rename", path="a", new_name="z", is_dir=True)).status_code == 200
    assert (await storage.do("rename", path="z", new_name="b")).status_code == 200
    (storage.root / "c" / "full").mkdir(parents=True)
    assert problem(await storage.do("rename", path="b", new_name="c", is_dir=True)) == (409, "exists")
    assert problem(await storage.do("rename", path="nothing", new_name="x")) == (404, "not-found")
    for bad in ("x/y", "../x", "..", ".", "", "/x", "x/", "n" * 256, "x\0"):
        answer = await storage.do("rename", path="b/other", new_name=bad)
        assert problem(answer) == (400, "invalid-api-params"), bad
        assert answer.json()["field"] == "new_name", bad
    assert [(told.path, told.target) for told in storage.audited] == [("a/old", "a/other"), ("a", "z"), ("z", "b")]


async def test_a_move_goes_into_a_directory_or_over_a_file(storage: Service) -> None:
    (storage.root / "a").write_text("a")
    (storage.root / "b").write_text("b")
    (storage.root / "d" / "e").mkdir(parents=True)
    assert (await storage.do("move", src="a", dst="d")).json() == {"path": "d/a"}
    assert (await storage.do("move", src="d/a", dst="b")).json() == {"path": "b"}
    assert (storage.root / "b").read_text() == "a"
    assert (await storage.do("move", src="b", dst="new/name")).json() == {"path": "new/name"}
    assert (await storage.do("move", src="new/name", dst=".")).json() == {"path": "name"}
    assert problem(await storage.do("move", src="d", dst="d/e")) == (400, "into-itself")
    assert problem(await storage.do("move", src="nothing", dst="x")) == (404, "not-found")
    assert problem(await storage.do("move", src=".", dst="x")) == (400, "invalid-api-params")
    assert names(storage.root) == ["d", "d/e", "name", "new"]


async def test_what_is_deleted_is_gone_at_once_and_no_link_is_followed(storage: Service, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    for number in range(20):
        (storage.root / "tree" / str(number)).mkdir(parents=True)
        (storage.root / "tree" / str(number) / "file").touch()
    (storage.root / "tree" / "link").symlink_to(outside)
    (storage.root / "link").symlink_to(outside)
    (storage.root / "file").touch()
    assert problem(await storage.do("delete", files=["file", "tree"])) == (400, "is-a-directory")
    assert problem(await storage.do("delete", files=["file", "missing"], recursive=True)) == (404, "not-found")
    assert problem(await storage.do("delete", files=["."], recursive=True)) == (400, "invalid-api-params")
    assert problem(await storage.do("delete", files=["link/kept"])) == (400, "symbolic-link")
    assert (storage.root / "file").exists()
    assert (await storage.do("delete", files=["file", "tree", "tree/0", "link"], recursive=True)).status_code == 200
    assert names(storage.root) == []
    assert (outside / "kept").exists()
    while storage.parts:
        await asyncio.sleep(0.01)
    assert {told.operation for told in storage.audited} == {Operation.DELETE}


async def test_a_tree_deeper_than_any_path_is_deleted(storage: Service) -> None:
    handle = os.open(storage.root, os.O_RDONLY)
    for _ in range(1100):
        os.mkdir("directory", dir_fd=handle)
        deeper = os.open("directory", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = deeper
    os.close(handle)
    assert (await storage.do("delete", files=["directory"], recursive=True)).status_code == 200
    assert names(storage.root) == []


async def test_a_small_file_is_read_and_a_large_one_refused(storage: Service) -> None:
    (storage.root / "README.md").write_text("# model")
    os.mkfifo(storage.root / "pipe")

    async def content(path: str, **query: str) -> bytes | tuple[int, str]:
        answer = await storage.internal.get(
            "/content", params={"path": path} | query, headers=storage.managing(writes=False)
        )
        return answer.content if answer.status_code == 200 else problem(answer)

    assert await content("README.md") == b"# model"
    assert await content("README.md", max_bytes="3") == (413, "too-large")
    assert await content("pipe") == (400, "not-a-file")
    assert await content("") == (400, "is-a-directory")


async def test_changes_need_a_pass_that_allows_them_and_a_body_of_known_fields(storage: Service) -> None:
    for operation in ("mkdir", "touch", "rename", "move", "delete"):
        answer = await storage.internal.post(f"/{operation}", json={}, headers=storage.managing(writes=False))
        assert problem(answer) == (403, "storage-pass")
        for body in (b"", b"[", b"[]", b"{}", b'{"other": 1}', b"\xff", b'{"path": "\\ud800"}'):
            answer = await storage.internal.post(f"/{operation}", content=body, headers=storage.managing())
            assert problem(answer)[0] == 400, body
    storage.folder = storage.folder.model_copy(update={"folder_id": "00000000-0000-0000-0000-000000000000"})
    assert problem(await storage.files()) == (404, "folder-not-found")


async def test_volumes_and_usage_are_told_to_who_has_the_pass_for_it(storage: Service) -> None:
    bearer = {"Authorization": f"Bearer {storage.token(VolumesPass())}"}
    assert (await storage.internal.get("/volumes", headers=bearer)).json()["volumes"][0]["name"] == "volume1"
    assert problem(await storage.internal.get("/volumes", headers=storage.managing())) == (403, "storage-pass")
    assert problem(await storage.internal.get("/usage", headers=bearer)) == (403, "storage-pass")
    usage = await storage.internal.get("/usage", headers=storage.managing(writes=False))
    assert usage.json() == {"used_bytes": 3, "files": 1}
    assert (await storage.internal.get("/health")).status_code == 200
