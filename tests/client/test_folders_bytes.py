"""The public client, unchanged, brings files into folders and fetches them: small and large, and through a crash."""

import asyncio
import hashlib
import io
import os
import signal
import time
import zipfile
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from tests.client.conftest import Client
from tests.client.folders import HOST, folder_stack, id_of, on_disk, storage_ready
from tests.client.warm import WarmClient, warm
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

GIB = 2**30
CHUNK = 16 * 2**20
SMALL_FILES = 1000


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with folder_stack(kafka, database, tmp_path_factory.mktemp("stack")) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def user(client: Client) -> AsyncIterator[WarmClient]:
    """Of a folder that is called `data`."""
    async with warm(client) as running:
        await running.run("vfolder", "create", "data", HOST)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def place(user: WarmClient, stack: Stack) -> Path:
    """Where the folder lies."""
    return on_disk(stack, await id_of(user, "data"))


async def test_files_are_brought_listed_moved_renamed_fetched_and_deleted(user: WarmClient, place: Path) -> None:
    (user.home / "notes").mkdir()
    (user.home / "notes" / "Grüße.txt").write_text("hello")
    assert "Done." in await user.run("vfolder", "upload", "data", "-r", "notes")
    assert "Done." in await user.run("vfolder", "mkdir", "data", "kept/for/long", "-p")
    assert "Done." in await user.run("vfolder", "mkdir", "data", "kept/for/long", "-p", "-e")
    assert "Something of that name is there" in await user.run("vfolder", "mkdir", "data", "kept", ends_with=1)
    assert "Moved." in await user.run("vfolder", "mv", "data", "notes/Grüße.txt", "kept/for/long")
    assert "Renamed." in await user.run("vfolder", "rename-file", "data", "kept/for/long/Grüße.txt", "hello.txt")
    assert "hello.txt" in await user.run("vfolder", "ls", "data", "kept/for/long")
    assert (place / "kept" / "for" / "long" / "hello.txt").read_text() == "hello"
    (user.home / "kept" / "for" / "long").mkdir(parents=True)
    assert "Done." in await user.run("vfolder", "download", "data", "kept/for/long/hello.txt")
    assert (user.home / "kept" / "for" / "long" / "hello.txt").read_text() == "hello"
    assert "Cancelled" in await user.run("vfolder", "rm", "data", "kept", typed="n\n", ends_with=1)
    assert "recursive" in await user.run("vfolder", "rm", "data", "kept", typed="y\n", ends_with=1)
    assert "Done." in await user.run("vfolder", "rm", "data", "kept", "notes", "-r", typed="y\n")
    assert _contents(place) == {}


async def test_a_change_of_files_is_remembered_with_who_made_it(user: WarmClient, stack: Stack) -> None:
    await user.run("vfolder", "mkdir", "data", "remembered")
    async with stack.client() as client, asyncio.timeout(30):
        while True:
            told = (await client.get("/refold/folders/data/operations")).json()["operations"]
            if any(each["path"] == "remembered" for each in told):
                break
            await asyncio.sleep(0.1)
    assert (told[0]["operation"], told[0]["path"]) == ("mkdir", "remembered")
    assert told[0]["user_email"] == stack.admin.email


async def test_a_file_that_is_brought_again_replaces_what_was_there(user: WarmClient, place: Path) -> None:
    for text in ("a long first version", "second", ""):
        (user.home / "version.txt").write_text(text)
        await user.run("vfolder", "upload", "data", "version.txt")
        assert (place / "version.txt").read_text() == text


async def test_a_thousand_small_files_come_back_as_one(user: WarmClient, stack: Stack, place: Path) -> None:
    folder = user.home / "many"
    folder.mkdir()
    for number in range(SMALL_FILES):
        (folder / f"{number}.txt").write_text(f"file {number}")
    wanted = _contents(folder)
    assert "Done." in await user.run("vfolder", "upload", "data", "-r", "many", seconds=300)
    assert _contents(place / "many") == wanted
    async with stack.client() as client, httpx.AsyncClient() as anybody:
        archive = await anybody.get(await _place_for(stack, client, "download", path="many", archive=True))
    with zipfile.ZipFile(io.BytesIO(archive.content)) as opened:
        files = [name for name in opened.namelist() if not name.endswith("/")]
        assert {Path(name).name: opened.read(name).decode() for name in files} == wanted


def _contents(folder: Path) -> Mapping[str, str]:
    """Name → what is in it."""
    return {path.name: path.read_text() for path in folder.iterdir()}


async def test_a_gibibyte_is_brought_and_fetched_though_the_service_is_killed_meanwhile(
    user: WarmClient, stack: Stack, place: Path
) -> None:
    sent = user.home / "large.bin"
    with sent.open("wb") as file:  # sparse, and no two megabytes of it are the same
        for megabyte in range(GIB // 2**20):
            file.seek(megabyte * 2**20)
            file.write(megabyte.to_bytes(8, "big"))
        file.truncate(GIB)
    wanted = await _checksum(sent)
    await user.run("vfolder", "upload", "data", "large.bin", seconds=300)
    assert await _checksum(place / "large.bin") == wanted
    sent.unlink()
    fetching = asyncio.create_task(user.run("vfolder", "download", "data", "large.bin", seconds=300))
    async with asyncio.timeout(120):
        while not sent.exists() or sent.stat().st_size < GIB // 4:
            assert not fetching.done()
            await asyncio.sleep(0.005)
    await _kill_storage(stack)
    assert "Done." in await fetching
    assert sent.stat().st_size == GIB
    assert await _checksum(sent) == wanted


async def test_an_upload_goes_on_where_it_was_when_the_service_was_killed(stack: Stack, place: Path) -> None:
    content = os.urandom(3 * 2**20 + 7)
    async with stack.client() as client, httpx.AsyncClient(timeout=30) as anybody:
        where = await _place_for(stack, client, "upload", path="resumed.bin", size=len(content))
        await _send(anybody, where, content, 0, 2**20)
        await _kill_storage(stack)
        assert not (place / "resumed.bin").exists()
        offset = await _offset(anybody, where)
        assert offset == 2**20
        wrong = await anybody.patch(where, content=b"x", headers=_headers(5))
        assert wrong.status_code == 409
        await _send(anybody, where, content, offset, len(content))
    assert (place / "resumed.bin").read_bytes() == content


async def _place_for(stack: Stack, client: httpx.AsyncClient, what: str, **asked: object) -> str:
    """The address that it is brought to or fetched from, with the token that opens it."""
    answer = await client.post(f"/folders/data/request-{what}", json=asked)
    assert answer.status_code == 200, answer.text
    token = answer.json()["token"]
    stack.secrets.add(token)
    return f"{answer.json()['url']}?token={token}"


def _headers(offset: int) -> dict[str, str]:
    """As the client's own library sends them."""
    return {
        "Tus-Resumable": "1.0.0",
        "Upload-Offset": str(offset),
        "Content-Type": "application/offset+octet-stream",
    }


async def _send(anybody: httpx.AsyncClient, where: str, content: bytes, begin: int, end: int) -> None:
    answer = await anybody.patch(where, content=content[begin:end], headers=_headers(begin))
    assert (answer.status_code, answer.headers["upload-offset"]) == (204, str(end)), answer.text


async def _offset(anybody: httpx.AsyncClient, where: str) -> int:
    answer = await anybody.head(where, headers={"Tus-Resumable": "1.0.0"})
    assert answer.status_code == 200, answer.text
    return int(answer.headers["upload-offset"])


async def _kill_storage(stack: Stack) -> None:
    """And wait until the next one serves."""
    pid = stack.supervisor.pid("storage")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 60
    while stack.supervisor.pid("storage") in {pid, None}:
        assert time.monotonic() < end
        await asyncio.sleep(0.05)
    await storage_ready(stack)


async def _checksum(path: Path) -> str:
    def computed() -> str:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    return await asyncio.to_thread(computed)
