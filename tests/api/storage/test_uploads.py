"""Uploads: TUS 1.0 as the public client sends it."""

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from api.storage import tus
from api.storage.uploads import Unfinished, sweep
from domain.vfolder.operations import Operation
from infra.storage_passes import UploadPass, VolumesPass, make_pass
from tests.api.storage.service import ACTOR, TUS, OneVolume, Service, problem, service

MIB = 1024 * 1024


async def test_a_file_sent_in_chunks_is_whole_or_not_there(storage: Service) -> None:
    data = os.urandom(3 * MIB + 7)
    token = storage.upload("deep/er/model.bin", len(data))
    for offset in range(0, len(data), MIB):
        assert not (storage.root / "deep").exists()
        answer = await storage.patch(token, offset, data[offset : offset + MIB])
        assert (answer.status_code, answer.content) == (204, b"")
        assert answer.headers["Upload-Offset"] == str(min(offset + MIB, len(data)))
        assert answer.headers["Tus-Resumable"] == "1.0.0"
    made = storage.root / "deep" / "er" / "model.bin"
    assert made.read_bytes() == data
    assert oct(made.stat().st_mode & 0o7777) == "0o644"
    assert [path.name[36:] for path in storage.parts] == [".done"]
    [told] = storage.audited
    assert (told.operation, told.path, told.actor, told.size_bytes) == (
        Operation.UPLOAD,
        "deep/er/model.bin",
        ACTOR,
        len(data),
    )


async def test_an_upload_goes_on_where_a_killed_service_was(tmp_path: Path) -> None:
    volume = OneVolume(tmp_path)
    async with service(volume) as before:
        token = before.upload("a", 10)
        assert (await before.patch(token, 0, b"0123")).status_code == 204
    async with service(volume) as after:
        after.folder = before.folder
        there = await after.client.head("/upload", params={"token": token}, headers=TUS)
        assert (there.headers["Upload-Offset"], there.headers["Upload-Length"]) == ("4", "10")
        assert (await after.patch(token, 4, b"456789")).status_code == 204
        assert (after.root / "a").read_bytes() == b"0123456789"


async def begun(
    storage: Service, token: str, length: int, data: bytes
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A request of which only the first bytes are sent."""
    reader, writer = await asyncio.open_connection("127.0.0.1", storage.client.base_url.port)
    head = (
        f"PATCH /upload?token={token} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n"
        "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 0\r\nTus-Resumable: 1.0.0\r\n\r\n"
    )
    writer.write(head.encode() + data)
    await writer.drain()
    return reader, writer


async def test_what_came_before_a_cut_is_kept(storage: Service) -> None:
    token = storage.upload("a", 2 * MIB)
    _, writer = await begun(storage, token, 2 * MIB, b"x" * 100_000)
    while not storage.parts:
        await asyncio.sleep(0.01)
    await asyncio.sleep(0.1)
    writer.close()
    offset = 0
    async with asyncio.timeout(5):
        while offset == 0:
            there = await storage.client.head("/upload", params={"token": token}, headers=TUS)
            offset = int(there.headers["Upload-Offset"])
    assert offset == 100_000
    assert (await storage.patch(token, offset, b"y" * (2 * MIB - offset))).status_code == 204
    assert (storage.root / "a").read_bytes() == b"x" * 100_000 + b"y" * (2 * MIB - 100_000)


async def test_a_new_request_goes_on_while_an_old_connection_is_still_open(storage: Service) -> None:
    token = storage.upload("a", MIB + 4)

    async def half_of_it() -> AsyncIterator[bytes]:
        yield b"x" * MIB
        await asyncio.sleep(30)

    old = asyncio.create_task(
        storage.client.patch(
            "/upload", params={"token": token}, content=half_of_it(), headers=TUS | {"Upload-Offset": "0"}
        )
    )
    while not storage.parts or storage.parts[0].stat().st_size < MIB:
        await asyncio.sleep(0.01)
    assert (await storage.patch(token, MIB, b"last")).status_code == 204
    assert (storage.root / "a").read_bytes() == b"x" * MIB + b"last"
    old.cancel()
    await asyncio.gather(old, return_exceptions=True)


async def test_bytes_come_in_order_and_not_more_than_were_announced(storage: Service) -> None:
    token = storage.upload("a", 10)
    assert (await storage.patch(token, 0, b"01234")).status_code == 204
    for offset in (0, 4, 6, 10):
        answer = await storage.patch(token, offset, b"5")
        assert (problem(answer), answer.headers["Upload-Offset"]) == ((409, "wrong-offset"), "5")
    assert problem(await storage.patch(token, 5, b"567890")) == (413, "too-large")

    async def without_length() -> AsyncIterator[bytes]:
        yield b"567890"

    headers = TUS | {"Upload-Offset": "5"}
    more = await storage.client.patch("/upload", params={"token": token}, content=without_length(), headers=headers)
    assert problem(more) == (413, "too-large")
    assert (await storage.patch(token, 5, b"56789")).status_code == 204
    assert (storage.root / "a").read_bytes() == b"0123456789"


async def test_a_pass_is_used_once(storage: Service) -> None:
    token = storage.upload("a", 3)
    await storage.patch(token, 0, b"one")
    (storage.root / "a").unlink()
    for offset in (0, 3):
        assert problem(await storage.patch(token, offset, b"")) == (410, "pass-used")
    there = await storage.client.head("/upload", params={"token": token}, headers=TUS)
    assert (there.status_code, there.headers["Upload-Offset"]) == (200, "3")
    assert not (storage.root / "a").exists()


async def test_uploads_of_one_file_at_the_same_time_each_are_whole(storage: Service) -> None:
    contents = [bytes([number]) * (MIB // 2) for number in range(8)]
    tokens = [storage.upload("same", MIB // 2) for _ in contents]
    for begins in (0, MIB // 4):
        halves = [each[begins : begins + MIB // 4] for each in contents]
        pairs = zip(tokens, halves, strict=True)
        answers = await asyncio.gather(*(storage.patch(token, begins, half) for token, half in pairs))
        assert {answer.status_code for answer in answers} == {204}
    assert (storage.root / "same").read_bytes() in contents


@pytest.mark.parametrize("killed", ["before the file had its place", "after it"])
async def test_an_upload_killed_at_its_end_ends_when_it_is_asked_again(storage: Service, killed: str) -> None:
    given = UploadPass(folder=storage.folder, actor=ACTOR, path="a", size=3)
    token = storage.token(given)
    upload = Unfinished(storage.volume.place(storage.folder), given, "a", None)
    (part,) = [storage.volume.place(storage.folder).uploads / given.pass_id]
    part.write_bytes(b"one")
    part.with_name(part.name + ".done").touch()
    if killed == "after it":
        part.rename(storage.root / "a")
    assert upload.is_used_up == (killed == "after it")
    there = await storage.client.head("/upload", params={"token": token}, headers=TUS)
    assert there.headers["Upload-Offset"] == "3"
    again = await storage.patch(token, 3, b"")
    assert again.status_code == (410 if killed == "after it" else 204)
    assert (storage.root / "a").read_bytes() == b"one"


async def test_a_file_takes_the_place_of_a_file_or_link_but_not_of_a_directory(
    storage: Service, tmp_path: Path
) -> None:
    outside = tmp_path / "outside"
    outside.write_text("mine")
    (storage.root / "link").symlink_to(outside)
    (storage.root / "directory").mkdir()
    assert (await storage.patch(storage.upload("link", 3), 0, b"new")).status_code == 204
    assert ((storage.root / "link").is_symlink(), outside.read_text()) == (False, "mine")
    token = storage.upload("directory", 3)
    assert problem(await storage.patch(token, 0, b"new")) == (400, "is-a-directory")
    (storage.root / "directory").rmdir()
    assert (await storage.patch(token, 3, b"")).status_code == 204
    assert (storage.root / "directory").read_text() == "new"


async def test_nothing_is_written_over_the_quota(storage: Service) -> None:
    storage.volume.room = 5
    token = storage.upload("a", 8)
    assert (await storage.patch(token, 0, b"0123")).status_code == 204
    refused = await storage.patch(token, 4, b"4567")
    assert problem(refused) == (507, "no-room")
    assert (refused.json()["rule"], refused.json()["limit_bytes"]) == ("quota_scope", 1000)
    storage.volume.room = 4
    assert (await storage.patch(token, 4, b"4567")).status_code == 204


async def test_the_directory_that_the_public_client_names_is_one_of_the_folder(storage: Service) -> None:
    assert (await storage.patch(storage.upload("a", 1), 0, b"1", dst_dir="data/raw")).status_code == 204
    assert (storage.root / "data" / "raw" / "a").read_bytes() == b"1"
    for bad in ("..", "/tmp", "x/../..", "x\0"):
        assert problem(await storage.patch(storage.upload("a", 1), 0, b"1", dst_dir=bad))[0] == 400


async def test_what_is_no_upload_is_refused_with_its_rule(storage: Service) -> None:
    params = {"token": storage.upload("a", 1)}

    async def sent(**headers: str | None) -> tuple[int, str]:
        asked = TUS | {"Upload-Offset": "0"} | {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in asked.items() if value is not None}
        return problem(await storage.client.patch("/upload", params=params, content=b"1", headers=given))

    assert await sent(Content_Type="application/json") == (415, "unsupported-media-type")
    assert await sent(Tus_Resumable="0.2.2") == (412, "tus-version")
    for offset in (None, "", "-1", "x", "1" * 40, "0x0"):
        assert await sent(Upload_Offset=offset) == (400, "invalid-api-params")
    assert problem(await storage.client.put("/upload", params=params)) == (405, "method-not-allowed")
    assert problem(await storage.client.get("/elsewhere")) == (404, "api-not-found")


async def test_who_sends_nothing_is_not_waited_for_and_too_many_come_later(
    storage: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tus, "_SILENCE_SECONDS", 0.1)
    token = storage.upload("a", 8)

    reader, writer = await begun(storage, token, 8, b"0123")
    assert (await reader.readline()).startswith(b"HTTP/1.1 408 ")
    writer.close()
    monkeypatch.setattr(tus, "_UPLOADS_MAX", 0)
    later = await storage.patch(token, 4, b"4567")
    assert (problem(later), later.headers["Retry-After"]) == ((503, "overloaded"), "5")
    monkeypatch.undo()
    assert (await storage.patch(token, 4, b"4567")).status_code == 204


async def test_a_browser_of_any_origin_may_use_a_pass(storage: Service) -> None:
    asked = await storage.client.options(
        "/upload", headers={"Origin": "https://ui", "Access-Control-Request-Method": "PATCH"}
    )
    assert (asked.status_code, asked.headers["Tus-Version"]) == (204, "1.0.0")
    assert "PATCH" in asked.headers["Access-Control-Allow-Methods"]
    assert "Upload-Offset" in asked.headers["Access-Control-Allow-Headers"]
    for answer in (asked, await storage.patch("bad", 0, b""), await storage.patch(storage.upload("a", 1), 0, b"1")):
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        assert "Upload-Offset" in answer.headers["Access-Control-Expose-Headers"]


async def test_what_nobody_can_go_on_with_is_swept(storage: Service) -> None:
    uploads = storage.volume.place(storage.folder).uploads
    old, new = uploads / "old", uploads / "new"
    old.touch()
    new.touch()
    os.utime(old, (0, 0))
    sweep(uploads)
    assert list(uploads.iterdir()) == [new]


async def test_what_was_being_deleted_when_the_service_ended_is_deleted_when_it_starts(tmp_path: Path) -> None:
    volume = OneVolume(tmp_path)
    uploads = volume.place(volume.make()).uploads
    (uploads / "x.gone" / "deep").mkdir(parents=True)
    async with service(volume):
        while list(uploads.iterdir()):
            await asyncio.sleep(0.01)


async def test_passes_that_are_expired_altered_of_another_service_or_for_something_else_are_refused(
    storage: Service,
) -> None:
    upload = UploadPass(folder=storage.folder, actor=ACTOR, path="a", size=1)
    good = storage.token(upload)
    head, body, signature = good.split(".")
    flipped = body[:20] + ("A" if body[20] != "A" else "B") + body[21:]
    bad = [
        "",
        "x",
        storage.token(upload, seconds=-1),
        f"{head}.{flipped}.{signature}",
        f"{head}.{body}.{signature[::-1]}",
        f"{head}.{body}.",
        make_pass(storage.settings, "elsewhere", upload, 60),
        storage.token(upload.model_copy(update={"pass_id": "../../a"})),
    ]
    for token in bad:
        assert problem(await storage.patch(token, 0, b"1")) == (401, "storage-pass")
        assert problem(await storage.client.get("/download", params={"token": token})) == (401, "storage-pass")
        bearer = {"Authorization": f"Bearer {token or '-'}"}
        assert problem(await storage.internal.get("/files", headers=bearer)) == (401, "storage-pass")
    for other in (storage.download("a"), storage.token(VolumesPass()), storage.managing()["Authorization"][7:]):
        assert problem(await storage.patch(other, 0, b"1")) == (403, "storage-pass")
    assert problem(await storage.client.get("/download", params={"token": good})) == (403, "storage-pass")
    bearer = {"Authorization": f"Bearer {good}"}
    assert problem(await storage.internal.get("/files", headers=bearer)) == (403, "storage-pass")
    assert list(storage.root.iterdir()) == []
    assert (await storage.patch(good, 0, b"1")).status_code == 204
