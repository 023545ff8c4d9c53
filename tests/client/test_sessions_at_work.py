"""The public client, unchanged, builds programs, moves files and types into a terminal, in kernels that are real."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest
import pytest_asyncio

from tests.agents.worlds import DOCKER_IMAGE, DOCKER_SOCKET
from tests.client.conftest import Client
from tests.client.working import working_stack
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = DOCKER_IMAGE
SMALL = ("-r", "cpu=1", "-r", "mem=256m")


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
async def stack(request: pytest.FixtureRequest, kafka: str, database: str) -> AsyncIterator[Stack]:
    if request.param == "docker" and not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    async with working_stack(kafka, database, request.param) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(client: Client) -> AsyncIterator[str]:
    """The name of one that runs."""
    assert "is created and ready" in await client.run("session", "create", *SMALL, "--name", "kernel1", IMAGE)
    yield "kernel1"
    assert "Done." in await client.run("rm", "kernel1")


async def test_a_program_is_uploaded_built_and_run(client: Client, session: str) -> None:
    (client.home / "main.py").write_text("import made\nprint('it is', made.value)\n")
    build, execute = "echo 'value = 5' > made.py; echo built", "python3 main.py; exit 3"
    told = await client.run("run", "--name", session, "--build", build, "--exec", execute, IMAGE, "main.py")
    assert "Build finished. (exit code = 0)" in told
    assert told.index("built") < told.index("it is 5")
    assert "Execution finished. (exit code = 3)" in told


async def test_files_go_there_and_come_back(client: Client, session: str) -> None:
    (client.home / "sent.bin").write_bytes(bytes(range(256)) * 100)
    assert "Uploaded." in await client.run("session", "upload", session, "sent.bin")
    assert "sent.bin" in await client.run("session", "ls", session, ".")
    back = client.home / "back"
    back.mkdir()
    assert "Downloaded" in await client.run("session", "download", session, "sent.bin", "--dest", str(back))
    assert (back / "sent.bin").read_bytes() == (client.home / "sent.bin").read_bytes()


async def test_what_a_batch_session_prints_is_in_its_logs(client: Client) -> None:
    command = ("--type", "batch", "-c", "echo from the command")
    await client.run("session", "create", *SMALL, *command, "--name", "batch1", IMAGE)
    assert "from the command" in await client.run("session", "logs", "batch1")


TERMINAL = """
import asyncio, base64, json, sys
from ai.backend.client.session import AsyncSession
async def main():
    async with AsyncSession() as session:
        async with session.ComputeSession(sys.argv[1]).stream_pty() as terminal:
            async def say(**frame):
                await terminal.send_str(json.dumps(frame))
            await say(type="resize", rows=30, cols=111)
            await say(type="stdin", chars=base64.b64encode(b"stty size; echo in $((40 + 2))\\n").decode())
            shown = ""
            while "in 42" not in shown:
                frame = json.loads(await asyncio.wait_for(terminal.receive_str(), 20))
                shown += base64.b64decode(frame["data"]).decode()
            print(shown)
asyncio.run(main())
"""
# The library's own `resize` cannot work: it uses an attribute that it never sets.


async def test_a_terminal_is_a_shell_in_the_session(client: Client, session: str) -> None:
    python = replace(client, program=client.program.parent / "python")
    assert "30 111" in await python.run("-c", TERMINAL, session)


async def test_a_restarted_session_has_its_files_and_a_fresh_interpreter(
    client: Client, session: str, stack: Stack
) -> None:
    await client.run("run", "--name", session, "-c", "x = 1; open('kept.txt', 'w').write('kept')", IMAGE)
    assert "Done." in await client.run("session", "restart", session)
    async with asyncio.timeout(30), stack.client() as admin:
        while (await admin.get(f"/session/{session}")).json()["status"] != "RUNNING":
            await asyncio.sleep(0.1)
    told = await client.run("run", "--name", session, "-c", "print(open('kept.txt').read(), 'x' in globals())", IMAGE)
    assert "kept False" in told
