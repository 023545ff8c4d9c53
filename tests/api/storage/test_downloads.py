"""Downloads: files, parts of them, and directories as archives."""

import asyncio
import io
import os
import tarfile
import zipfile

import httpx
import pytest

from api.storage.ranges import Part, part_of
from tests.api.storage.service import Service, problem

MIB = 1024 * 1024


async def test_a_file_comes_with_what_is_needed_to_go_on_later(storage: Service) -> None:
    data = os.urandom(5 * MIB + 3)
    (storage.root / "möd el.bin").write_bytes(data)
    whole = await storage.get("möd el.bin")
    assert (whole.status_code, whole.content) == (200, data)
    assert whole.headers["Content-Length"] == str(len(data))
    assert whole.headers["Accept-Ranges"] == "bytes"
    assert whole.headers["Content-Disposition"] == "attachment; filename*=UTF-8''m%C3%B6d%20el.bin"
    etag, modified = whole.headers["ETag"], whole.headers["Last-Modified"]
    for condition in (etag, modified):
        rest = await storage.get("möd el.bin", Range=f"bytes={MIB}-", If_Range=condition)
        assert (rest.status_code, rest.content) == (206, data[MIB:])
        assert rest.headers["Content-Range"] == f"bytes {MIB}-{len(data) - 1}/{len(data)}"
    known = await storage.get("möd el.bin", If_None_Match=etag)
    assert (known.status_code, known.content) == (304, b"")
    (storage.root / "möd el.bin").write_bytes(b"changed")
    os.utime(storage.root / "möd el.bin", (1, 1))
    changed = await storage.get("möd el.bin", Range=f"bytes={MIB}-", If_Range=etag)
    assert (changed.status_code, changed.content) == (200, b"changed")
    beyond = await storage.get("möd el.bin", Range="bytes=7-")
    assert (beyond.status_code, beyond.headers["Content-Range"]) == (416, "bytes */7")
    head = await storage.client.head("/download", params={"token": storage.download("möd el.bin")})
    assert (head.status_code, head.headers["Content-Length"], head.content) == (200, "7", b"")
    (storage.root / "empty").touch()
    empty = await storage.get("empty")
    assert (empty.status_code, empty.content, empty.headers["Content-Length"]) == (200, b"", "0")


async def test_the_bytes_of_a_file_are_never_in_this_process(storage: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    (storage.root / "a").write_bytes(b"x" * 3 * MIB)
    sent = 0
    sendfile = os.sendfile

    def counted(out: int, file: int, offset: int, count: int) -> int:
        nonlocal sent
        now = sendfile(out, file, offset, count)
        sent += now
        return now

    monkeypatch.setattr(os, "sendfile", counted)
    assert len((await storage.get("a")).content) == sent == 3 * MIB


TAG, DAY = '"1"', 86_400
THEN, LATER = "Thu, 01 Jan 1970 00:00:01 GMT", "Fri, 02 Jan 1970 00:00:00 GMT"


@pytest.mark.parametrize(
    ("headers", "part"),
    [
        ({}, Part(200, 0, 10)),
        ({"Range": "bytes=2-4"}, Part(206, 2, 3)),
        ({"Range": "bytes=2-"}, Part(206, 2, 8)),
        ({"Range": "bytes=-3"}, Part(206, 7, 3)),
        ({"Range": "bytes=-30"}, Part(206, 0, 10)),
        ({"Range": "bytes=8-100"}, Part(206, 8, 2)),
        ({"Range": "bytes=10-"}, Part(416)),
        ({"Range": "bytes=-0"}, Part(416)),
        ({"Range": "bytes=4-2"}, Part(200, 0, 10)),
        ({"Range": "bytes=0-1,3-4"}, Part(200, 0, 10)),
        ({"Range": "bytes=-"}, Part(200, 0, 10)),
        ({"Range": "lines=1-2"}, Part(200, 0, 10)),
        ({"Range": "bytes=2-4", "If-Range": TAG}, Part(206, 2, 3)),
        ({"Range": "bytes=2-4", "If-Range": '"2"'}, Part(200, 0, 10)),
        ({"Range": "bytes=2-4", "If-Range": 'W/"1"'}, Part(200, 0, 10)),
        ({"Range": "bytes=2-4", "If-Range": LATER}, Part(206, 2, 3)),
        ({"Range": "bytes=2-4", "If-Range": THEN}, Part(200, 0, 10)),
        ({"Range": "bytes=2-4", "If-Range": "yesterday"}, Part(200, 0, 10)),
        ({"If-None-Match": 'W/"1", "3"'}, Part(304)),
        ({"If-None-Match": "*"}, Part(304)),
        ({"If-None-Match": '"3"', "If-Modified-Since": LATER}, Part(200, 0, 10)),
        ({"If-Modified-Since": LATER}, Part(304)),
        ({"If-Modified-Since": THEN}, Part(200, 0, 10)),
        ({"If-Match": '"3", "1"'}, Part(200, 0, 10)),
        ({"If-Match": '"3"'}, Part(412)),
        ({"If-Unmodified-Since": THEN}, Part(412)),
        ({"If-Unmodified-Since": LATER}, Part(200, 0, 10)),
    ],
)
def test_conditions_and_ranges_are_those_of_the_rfc(headers: dict[str, str], part: Part) -> None:
    assert part_of(httpx.Headers(headers), 10, TAG, DAY) == part


async def test_what_is_no_file_is_not_downloaded(storage: Service) -> None:
    (storage.root / "directory").mkdir()
    os.mkfifo(storage.root / "pipe")
    (storage.root / "out").symlink_to("/etc/passwd")
    (storage.root / "up").symlink_to("../../../../etc/passwd")
    (storage.root / "loop").symlink_to("loop")
    (storage.root / "file").write_text("x")
    (storage.root / "in").symlink_to("directory/../file")
    assert problem(await storage.get("directory")) == (400, "is-a-directory")
    assert problem(await storage.get("pipe")) == (400, "not-a-file")
    for link in ("out", "up", "loop"):
        assert problem(await storage.get(link)) == (400, "symbolic-link")
    assert problem(await storage.get("missing")) == (404, "not-found")
    assert (await storage.get("in")).content == b"x"


async def test_a_download_pass_opens_its_file_and_no_other(storage: Service) -> None:
    (storage.root / "a").write_text("a")
    (storage.root / "b").write_text("b")
    token = storage.download("a")
    for more in ({"path": "b"}, {"dst_dir": ".."}, {"file": "b"}, {"archive": "1"}):
        assert (await storage.client.get("/download", params={"token": token} | more)).content == b"a"


async def test_a_directory_comes_as_zip_or_tar_without_what_leads_out(storage: Service) -> None:
    (storage.root / "top" / "sub").mkdir(parents=True)
    (storage.root / "top" / "empty").mkdir()
    big = os.urandom(3 * MIB + 1)
    (storage.root / "top" / "big").write_bytes(big)
    (storage.root / "top" / "sub" / "ü").write_text("small")
    (storage.root / "top" / "link").symlink_to("/etc/passwd")
    os.mkfifo(storage.root / "top" / "pipe")
    os.utime(storage.root / "top" / "sub" / "ü", (1, 1))  # a zip knows no year before 1980
    before = storage.parts

    params = {"token": storage.download("top", archive=True)}
    zipped = await storage.client.get("/download", params=params)
    assert (zipped.headers["Content-Type"], zipped.headers["Content-Disposition"][-7:]) == (
        "application/zip",
        "top.zip",
    )
    with zipfile.ZipFile(io.BytesIO(zipped.content)) as archive:
        assert archive.testzip() is None
        assert sorted(archive.namelist()) == ["big", "empty/", "sub/", "sub/ü"]
        assert (archive.read("big"), archive.read("sub/ü")) == (big, b"small")

    for query, headers in (({"format": "tar"}, {}), ({}, {"Accept": "application/x-tar"})):
        tarred = await storage.client.get("/download", params=params | query, headers=headers)
        with tarfile.open(fileobj=io.BytesIO(tarred.content)) as tar:
            assert sorted(tar.getnames()) == ["big", "empty", "link", "sub", "sub/ü"]
            assert tar.getmember("link").issym()
            assert [file.read() for name in ("big", "sub/ü") if (file := tar.extractfile(name))] == [big, b"small"]
    assert problem(await storage.client.get("/download", params=params | {"format": "rar"}))[0] == 400
    assert storage.parts == before
    of_all = await storage.client.get("/download", params={"token": storage.download("", archive=True)})
    with zipfile.ZipFile(io.BytesIO(of_all.content)) as archive:
        assert "top/big" in archive.namelist()


async def test_a_file_that_becomes_shorter_is_never_taken_for_whole(storage: Service) -> None:
    path = storage.root / "a"
    with path.open("wb") as file:
        file.truncate(512 * MIB)
    async with storage.client.stream("GET", "/download", params={"token": storage.download("a")}) as answer:
        pieces = answer.aiter_raw()
        await anext(pieces)
        os.truncate(path, 1)
        with pytest.raises(httpx.RemoteProtocolError):
            async for _ in pieces:
                pass


async def test_who_does_not_read_costs_no_memory_and_no_time_of_others(storage: Service) -> None:
    with (storage.root / "a").open("wb") as file:
        file.truncate(200 * MIB)
    port = storage.client.base_url.port
    waiting = []
    for _ in range(20):
        _, writer = await asyncio.open_connection("127.0.0.1", port, limit=1024)
        writer.write(f"GET /download?token={storage.download('a')} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        waiting.append(writer)
    (storage.root / "b").write_text("b")
    assert (await storage.get("b")).content == b"b"
    for writer in waiting:
        writer.transport.abort()
