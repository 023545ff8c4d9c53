"""The public client, unchanged, starts sessions with folders: what is written there is in the folder, and stays."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from tests.agents.worlds import DOCKER_IMAGE, DOCKER_SOCKET
from tests.client.conftest import Client
from tests.client.folders import ADA, HOST, People, id_of, on_disk, storage_ready, two_people
from tests.client.working import working_stack
from tests.stack import WITH_STORAGE, Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = DOCKER_IMAGE
SMALL = ("-r", "cpu=1", "-r", "mem=256m")


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
async def stack(request: pytest.FixtureRequest, kafka: str, database: str) -> AsyncIterator[Stack]:
    if request.param == "docker" and not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    async with working_stack(kafka, database, request.param, WITH_STORAGE) as running:
        await storage_ready(running)
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def people(stack: Stack, client: Client, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[People]:
    async with two_people(stack, client, tmp_path_factory.mktemp("ada")) as them:
        yield them


WRITE = """
from pathlib import Path
print("it says", Path("data/note.txt").read_text(), Path("elsewhere").is_dir(), Path(".tools").is_dir())
Path("data/made").mkdir()
Path("data/made/result.txt").write_text("made in a session")
"""


async def test_what_a_session_writes_into_a_folder_stays_when_it_is_gone(people: People, stack: Stack) -> None:
    admin = people.admin
    for name in ("data", "second", ".tools"):
        await admin.run("vfolder", "create", name, HOST)
    (admin.home / "note.txt").write_text("a note")
    await admin.run("vfolder", "upload", "data", "note.txt")
    mounts = ("-v", "data", "-v", "second=/home/work/elsewhere")
    told = await admin.run("run", *SMALL, *mounts, "--name", "writes1", "-c", WRITE, IMAGE, seconds=120)
    assert "it says a note True True" in told
    assert "- Status: mounted" in await admin.run("vfolder", "info", "data")
    assert "mounted" in await admin.run("vfolder", "delete", "data", ends_with=1)
    assert "Done." in await admin.run("rm", "writes1")
    async with asyncio.timeout(30):
        while "- Status: ready" not in await admin.run("vfolder", "info", "data"):
            await asyncio.sleep(0.1)
    place = on_disk(stack, await id_of(admin, "data"))
    assert (place / "made" / "result.txt").read_text() == "made in a session"
    told = await admin.run("vfolder", "rm", "data", "made", "-r", typed="y\n")
    assert "Deleted." in await admin.run("vfolder", "delete", "data")


TRY_TO_WRITE = """
from pathlib import Path
print("it says", Path("lent/note.txt").read_text())
try:
    Path("lent/note.txt").write_text("changed")
except OSError as error:
    print("refused:", error.strerror)
"""


async def test_who_may_only_read_a_folder_only_reads_it_in_a_session(people: People, stack: Stack) -> None:
    admin, ada = people.admin, people.ada
    await admin.run("vfolder", "create", "lent", HOST)
    (admin.home / "note.txt").write_text("a lent note")
    await admin.run("vfolder", "upload", "lent", "note.txt")
    await admin.run("vfolder", "invite", "lent", ADA, "-p", "ro")
    await ada.run("vfolder", "invitations", typed="1\na\n")
    ran = ("run", *SMALL, "-v", "lent", "--rm", "--name", "reads1", "-c", TRY_TO_WRITE, IMAGE)
    told = await ada.run(*ran, seconds=120)
    assert "it says a lent note" in told
    assert "refused: Read-only file system" in told
    assert (on_disk(stack, await id_of(admin, "lent")) / "note.txt").read_text() == "a lent note"
    await ada.run("vfolder", "leave", "lent")
    assert "lent" in await ada.run("session", "create", "-v", "lent", "--name", "reads2", IMAGE, ends_with=1)
