"""Files of running sessions: uploads, listings, downloads."""

import asyncio
import email
import io
import json
import os
import tarfile
from collections.abc import AsyncIterator
from contextlib import aclosing
from email.message import Message
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from api.http import multipart
from api.kernels import files
from api.kernels.failures import failed
from api.kernels.runner import Runner
from infra.signing import KeypairAuth
from tests.api.kernels import Kernels
from tests.api.world import KEYS, World

MIB = 1024 * 1024


@pytest.fixture
async def ada(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as client:
        client.auth = KeypairAuth(*KEYS["ada"], covers_body=False)
        yield client


@pytest.fixture
async def home(kernels: Kernels) -> Path:
    """Of the session `mysess`."""
    return kernels.runners.of_kernel[await kernels.session()].home


async def uploaded(client: httpx.AsyncClient, *files: tuple[str, bytes]) -> httpx.Response:
    """As browsers do it, but for the name, which is sent as it is."""
    pieces = [
        b'--limit\r\nContent-Disposition: form-data; name="src"; filename="%s"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n%s\r\n" % (name.encode(), content)
        for name, content in files
    ]
    return await sent(client, b"".join(pieces) + b"--limit--\r\n")


async def sent(
    client: httpx.AsyncClient, body: bytes, content_type: str = "multipart/form-data; boundary=limit"
) -> httpx.Response:
    return await client.post("/session/mysess/upload", content=body, headers={"Content-Type": content_type})


def archives(answer: httpx.Response) -> list[dict[str, Any]]:
    """What is in each part of a download: path → content, or what else it is."""
    body = email.message_from_bytes(f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode() + answer.content)
    found = []
    for part in body.get_payload():
        assert isinstance(part, Message)
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        with tarfile.open(fileobj=io.BytesIO(content)) as archive:
            found.append({entry.name: _content(archive, entry) for entry in archive})
    return found


def _content(archive: tarfile.TarFile, entry: tarfile.TarInfo) -> Any:
    file = archive.extractfile(entry) if entry.isfile() else None
    return entry.linkname or "folder" if file is None else file.read()


async def test_what_is_put_there_is_there(home: Path, ada: httpx.AsyncClient) -> None:
    every_byte = bytes(range(256)) * 4
    answer = await uploaded(ada, ("main.py", b"print(1)\n"), ("data/deep/all.bin", every_byte), ("empty", b""))
    assert (answer.status_code, answer.content) == (204, b"")
    assert (home / "main.py").read_bytes() == b"print(1)\n"
    assert (home / "data/deep/all.bin").read_bytes() == every_byte
    assert (home / "empty").read_bytes() == b""
    await uploaded(ada, ("/home/work/main.py", b"print(2)\n"))
    assert (home / "main.py").read_bytes() == b"print(2)\n"


async def test_a_file_is_called_what_its_sender_calls_it(home: Path, ada: httpx.AsyncClient) -> None:
    names = {
        "src%2Fa%20b.txt": "src/a b.txt",
        "%C3%BC.txt": "ü.txt",
        "ö b.txt": "ö b.txt",
        "100%.txt": "100%.txt",
        "a %22b%22.txt": 'a "b".txt',
        'c \\"d\\".txt': 'c "d".txt',
    }
    assert (await uploaded(ada, *((name, name.encode()) for name in names))).status_code == 204
    assert {name: (home / there).read_bytes() for name, there in names.items()} == {n: n.encode() for n in names}


async def test_twenty_files_of_a_mebibyte_are_the_most(home: Path, ada: httpx.AsyncClient) -> None:
    many = [(f"{number}.bin", os.urandom(MIB)) for number in range(20)]
    assert (await uploaded(ada, *many)).status_code == 204
    assert all((home / name).read_bytes() == content for name, content in many)
    answer = await uploaded(ada, *many, ("21.bin", b"x"))
    assert_refused(answer, "files", "too_many")
    assert "20 files" in answer.json()["detail"]
    answer = await uploaded(ada, ("small", b"x"), ("large", bytes(MIB + 1)), ("late", b"x"))
    assert_refused(answer, "large", "too_large")
    assert ((home / "small").exists(), (home / "large").exists(), (home / "late").exists()) == (True, False, False)


def assert_refused(answer: httpx.Response, field: str, rule: str) -> None:
    assert answer.status_code == 400, answer.text
    assert (answer.json()["field"], answer.json()["rule"]) == (field, rule)


async def test_an_upload_that_is_none_is_refused(home: Path, ada: httpx.AsyncClient) -> None:
    before = sorted(os.listdir(home))
    usual = "multipart/form-data; boundary=limit"
    named = b'--limit\r\nContent-Disposition: form-data; filename="%s"\r\n\r\nx\r\n'
    for body, content_type, field, rule in (
        (b"x", "application/json", "Content-Type", "multipart"),
        (b"x", "multipart/form-data", "Content-Type", "boundary"),
        (b"x", "multipart/form-data; boundary=" + "x" * 71, "Content-Type", "boundary"),
        (b"x", usual, "body", "multipart"),
        (b"", usual, "body", "multipart"),
        (named[:60] % b"a", usual, "body", "multipart"),
        (b"--limit\r\nA: b\r\n\r\nx\r\n--limit--\r\n", usual, "filename", "file_name"),
        (named % b"a%00b" + b"--limit--\r\n", usual, "filename", "file_name"),
        (b"\r\n" * 12 * MIB, usual, "body", "too_long"),
    ):
        assert_refused(await sent(ada, body, content_type), field, rule)
    assert sorted(os.listdir(home)) == before


async def test_an_upload_of_a_stranger_is_refused_before_it_is_read(world: World, home: Path) -> None:
    del home
    reader, writer = await asyncio.open_connection(*world.url.removeprefix("http://").split(":"))
    writer.write(b"POST /session/mysess/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
    async with asyncio.timeout(5):
        assert (await reader.readline()).split()[1] == b"401"
    writer.close()


async def test_a_folder_is_listed(home: Path, ada: httpx.AsyncClient) -> None:
    (home / "folder").mkdir()
    (home / "folder" / "b.txt").write_bytes(b"12345")
    (home / "folder" / "a").mkdir()
    (home / "folder" / os.fsdecode(b"\xff")).touch()
    answer = await ada.request("GET", "/session/mysess/files", json={"path": "folder"})
    told = answer.json()
    assert told.keys() == {"files", "folder_path", "errors", "left_out"}
    assert (told["folder_path"], told["errors"], told["left_out"]) == (str(home / "folder"), "", 0)
    files = json.loads(told["files"])
    assert [(file["filename"], file["mode"][0]) for file in files] == [("a", "d"), ("b.txt", "-"), ("\udcff", "-")]
    assert files[1].keys() == {"filename", "size", "mode", "mtime", "ctime", "atime"}
    assert files[1]["size"] == 5
    for same in ({"path": "/home/work/folder"}, {"path": str(home / "folder")}, {"path": "./folder/../folder/"}):
        assert (await ada.get("/session/mysess/files", params=same)).json() == told
    of_home = (await ada.get("/session/mysess/files")).json()
    assert of_home["folder_path"] == str(home)
    assert "folder" in {file["filename"] for file in json.loads(of_home["files"])}


async def test_files_and_folders_come_back_as_archives(home: Path, ada: httpx.AsyncClient) -> None:
    (home / "folder").mkdir()
    (home / "folder" / "a").write_bytes(b"a" * 100_000)
    (home / "folder" / "link").symlink_to("/etc/passwd")
    (home / "b").write_bytes(b"\r\n--b--\r\n")
    expected = [
        {"folder": "folder", "folder/a": b"a" * 100_000, "folder/link": "/etc/passwd"},
        {"b": b"\r\n--b--\r\n"},
    ]
    by_body = await ada.request("GET", "/session/mysess/download", json={"files": ["folder", "/home/work/b"]})
    assert by_body.status_code == 200, by_body.text
    assert archives(by_body) == expected
    by_query = await ada.post("/session/mysess/download", params={"files": ["folder", "b"]})
    assert archives(by_query) == expected


async def test_one_file_comes_back_as_it_is(home: Path, ada: httpx.AsyncClient) -> None:
    content = os.urandom(3 * MIB + 7)
    (home / "ü.bin").write_bytes(content)
    for answer in (
        await ada.get("/session/mysess/download_single", params={"file": "ü.bin"}),
        await ada.post("/session/mysess/download_single", json={"file": "/home/work/ü.bin"}),
    ):
        assert answer.status_code == 200, answer.text
        assert answer.content == content
        assert answer.headers["Content-Length"] == str(len(content))
        assert answer.headers["Content-Disposition"] == "attachment; filename*=UTF-8''%C3%BC.bin"
        assert answer.headers["Content-Type"] == "application/octet-stream"


async def test_a_path_stays_in_the_home_folder(home: Path, ada: httpx.AsyncClient) -> None:
    (home / "way-out").symlink_to("/etc")
    for path in ("../x", "/etc/passwd", "/home/workers", "way-out/passwd"):
        for answer in (
            await ada.get("/session/mysess/files", params={"path": path}),
            await ada.get("/session/mysess/download", params={"files": [".", path]}),
            await ada.get("/session/mysess/download_single", params={"file": path}),
            await uploaded(ada, (path, b"x")),
        ):
            assert_told(answer, 400, "outside-home")


def assert_told(answer: httpx.Response, status: int, kind: str) -> None:
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, kind), answer.text


async def test_what_is_wrong_with_a_path_is_said(home: Path, ada: httpx.AsyncClient) -> None:
    (home / "folder").mkdir()
    for operation, query, field in (
        ("download", {}, "files"),
        ("download", {"files": ["1", "2", "3", "4", "5", "6"]}, "files"),
        ("download", {"files": ""}, "files.0"),
        ("download_single", {}, "file"),
        ("files", {"path": ""}, "path"),
    ):
        answer = await ada.get(f"/session/mysess/{operation}", params=query)
        assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    assert_told(await ada.get("/session/mysess/files", params={"path": "nothing"}), 404, "no-such-path")
    assert_told(await ada.get("/session/mysess/download", params={"files": "nothing"}), 404, "no-such-path")
    assert_told(await ada.get("/session/mysess/download_single", params={"file": "folder"}), 400, "is-a-folder")


async def test_a_download_is_read_as_fast_as_it_is_wanted_and_let_go_when_it_is_not(tmp_path: Path) -> None:
    async with (
        World(tmp_path, kernel_connections_per_key_max=1).started() as world,
        Kernels(world, tmp_path / "kernels").started() as kernels,
        world.client() as ada,
    ):
        home = kernels.runners.of_kernel[await kernels.session()].home
        with (home / "large").open("wb") as file:
            file.truncate(2**40)
        async with ada.stream("GET", "/session/mysess/download_single", params={"file": "large"}) as answer:
            assert answer.headers["Content-Length"] == str(2**40)
            assert len(await anext(answer.aiter_bytes())) > 0
            assert (await ada.get("/session/mysess/files")).status_code == 429  # it holds the one connection
        async with asyncio.timeout(10):
            while (await ada.get("/session/mysess/files")).status_code != 200:
                await asyncio.sleep(0.05)


async def test_whatever_a_runner_says_is_an_answer() -> None:
    """It is the session's user who may be speaking."""
    for told in (
        {"code": "no-such-path", "why": "\udcff"},
        {"code": 7},
        {},
        {"code": "bad-request", "why": "\udcff: x"},
    ):
        answer = failed(told).response("/")
        assert answer.status_code in {400, 404, 502}


async def test_an_upload_is_signed_with_its_body_where_all_bodies_must_be(tmp_path: Path) -> None:
    async with (
        World(tmp_path, signed_bodies=True).started() as world,
        Kernels(world, tmp_path / "kernels").started() as kernels,
        world.client() as ada,
    ):
        home = kernels.runners.of_kernel[await kernels.session()].home
        assert (await uploaded(ada, ("covered", b"x"))).status_code == 204
        ada.auth = KeypairAuth(*KEYS["ada"], covers_body=False)
        assert (await uploaded(ada, ("bare", b"x"))).status_code == 401
        assert ((home / "covered").exists(), (home / "bare").exists()) == (True, False)


async def test_an_upload_that_does_not_go_on_is_given_up(
    home: Path, ada: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "_PIECE_SECONDS", 0.2)

    async def slow() -> AsyncIterator[bytes]:
        yield b'--limit\r\nContent-Disposition: form-data; filename="a"\r\n\r\nx'
        await asyncio.sleep(1)
        yield b"\r\n--limit--\r\n"

    headers = {"Content-Type": "multipart/form-data; boundary=limit"}
    assert_told(await ada.post("/session/mysess/upload", content=slow(), headers=headers), 408, "request-timeout")
    assert not (home / "a").exists()


async def test_while_a_piece_is_on_its_way_the_next_is_fetched_and_no_more() -> None:
    asked: list[int] = []

    class Pieces:
        async def request(self, do: str, **_: Any) -> tuple[dict[str, Any], bytes]:
            assert do == "download-read"
            asked.append(len(asked))
            return {"last": len(asked) == 4}, b"x"

    pieces = files._pieces(cast(Runner, Pieces()), "one")
    async with aclosing(pieces):
        assert await anext(pieces) == b"x"
        for _ in range(5):
            await asyncio.sleep(0)
        assert len(asked) == 2
        assert [piece async for piece in pieces] == [b"x"] * 3
    assert len(asked) == 4
