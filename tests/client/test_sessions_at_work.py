"""The public client, unchanged, in kernels that are real: builds programs, moves files, types into a terminal, tunnels
to what listens, logs in by ssh, and has clusters.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace

import aiodocker
import httpx
import pytest
import pytest_asyncio

from infra.embedded.folder import ports
from tests.agents.worlds import DOCKER_IMAGE, DOCKER_SOCKET
from tests.client.conftest import Client
from tests.client.working import app_proxy, working_stack
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = DOCKER_IMAGE
SMALL = ("-r", "cpu=1", "-r", "mem=256m")
PORT = "8090"
SECRET = "a-password-in-the-bootstrap-script"


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["process", pytest.param("docker", marks=pytest.mark.docker)]
)
async def stack(request: pytest.FixtureRequest, kafka: str, database: str) -> AsyncIterator[Stack]:
    if request.param == "docker" and not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    async with working_stack(kafka, database, request.param) as running:
        yield running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(client: Client, stack: Stack) -> AsyncIterator[str]:
    """The name of one that runs, with all that it may be asked to have."""
    (client.home / "bootstrap.sh").write_text(f"# {SECRET}\necho begun > bootstrapped.txt\n")
    stack.secrets.add(SECRET)
    options = ("--resource-opts", "shmem=32m", "--preopen", PORT, "--bootstrap-script", "bootstrap.sh")
    told = await client.run("session", "create", *SMALL, *options, "--name", "kernel1", IMAGE)
    assert "is created and ready" in told
    yield "kernel1"
    assert "Done." in await client.run("rm", "kernel1")


async def test_a_session_has_what_it_was_asked_to_have(client: Client, session: str, stack: Stack) -> None:
    code = "import os; print(open('bootstrapped.txt').read(), os.statvfs('/dev/shm').f_blocks * 4096 >> 20)"
    told = await client.run("run", "--name", session, "-c", code, IMAGE)
    assert "begun\n 32\n" in told or ("begun" in told and stack.settings.agent_runtime == "process")


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


SERVICE = """
import json, sys
from ai.backend.client.session import Session
with Session() as session:
    print(json.dumps(session.ComputeSession(sys.argv[1]).start_service(sys.argv[2])))
"""


async def test_an_app_is_opened_by_the_proxy_that_the_client_is_told_of(
    client: Client, session: str, stack: Stack
) -> None:
    serve = f"import subprocess as s; s.Popen(['python3', '-m', 'http.server', '{PORT}'], stderr=-3); print('serves')"
    assert "serves" in await client.run("run", "--name", session, "-c", serve, IMAGE)
    python = replace(client, program=client.program.parent / "python")
    async with app_proxy(stack) as address, stack.client() as admin, httpx.AsyncClient(timeout=30) as browser:
        session_id = (await admin.get("/session/_/match", params={"id": session})).json()["matches"][0]["id"]
        async with asyncio.timeout(30):
            while not (text := await python.run("-c", SERVICE, session, PORT, ends_with=None)).startswith("{"):
                await asyncio.sleep(0.2)  # nobody listens there yet
        told = json.loads(text)
        assert told["wsproxy_addr"] == address
        added = await browser.get(f"{address}/v2/proxy/{told['token']}/{session_id}/add", params={"app": PORT})
        page = await browser.get(added.json()["url"], follow_redirects=True)
        assert "bootstrapped.txt" in page.text


async def test_a_session_becomes_an_image_and_the_next_one_starts_from_it(
    client: Client, session: str, stack: Stack
) -> None:
    if stack.settings.agent_runtime == "process":
        pytest.skip("no image is made of native processes")
    await client.run("run", "--name", session, "-c", "open('/tmp/made.txt', 'w').write('made')", IMAGE)
    assert "Request to commit" in await client.run("session", "commit", session)
    async with asyncio.timeout(60), stack.client() as admin:
        while (await admin.get(f"/session/{session}/commit")).json()["status"] != "ready":
            await asyncio.sleep(0.1)
    listed = await client.run("--output=json", "admin", "image", "list")
    [made] = [each for each in json.loads(listed)["items"] if "customized" in each["name"]]
    image = f"localhost/{made['name']}:{made['tag']}"
    try:
        assert "is created and ready" in await client.run("session", "create", *SMALL, "--name", "next1", image)
        told = await client.run("run", "--name", "next1", "-c", "print(open('/tmp/made.txt').read())", image)
        assert "made\n" in told
        assert "Done." in await client.run("rm", "next1")
    finally:
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            await docker.images.delete(image, force=True)


async def test_what_a_session_and_its_host_use_is_shown_and_how_long_it_may_go_on(
    client: Client, session: str, stack: Stack
) -> None:
    async with stack.client() as admin:
        session_id = (await admin.get(f"/session/{session}")).json()["sessionId"]
    async with asyncio.timeout(60):
        while "cpu_util" not in (told := await client.run("session", "info", session_id)):
            await asyncio.sleep(0.2)
    assert "network_timeout" in told
    assert [each for each in ("cpu_used:", "mem:", "'unit_hint': 'bytes'") if each not in told] == []
    agent = await client.run("admin", "agent", "info", "agent-1")
    assert "cpu_util: " in agent
    assert " cores)" in agent
    assert "mem: " in agent


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


async def test_ssh_leads_into_a_session(client: Client, session: str, stack: Stack) -> None:
    if stack.settings.agent_runtime == "process":
        pytest.skip("native processes have no sshd")
    (client.home / ".ssh").mkdir(mode=0o700)
    port = ports(client.home, "ssh")["ssh"]
    command = "whoami; hostname; cat bootstrapped.txt"
    await client.run_to("work\nmain1\nbegun\n", "ssh", session, "-p", str(port), command)


CLUSTER = """
import os, subprocess
print(os.environ["BACKENDAI_CLUSTER_HOSTS"], os.environ["BACKENDAI_CLUSTER_HOST"])
if os.path.exists("/home/work/.ssh/id_cluster"):
    subprocess.run(["ssh", "sub1", "hostname; ssh main1 hostname"], timeout=60, check=True)
"""


async def test_the_kernels_of_a_cluster_log_in_to_each_other_whatever_it_is_called(
    client: Client, stack: Stack
) -> None:
    size = ("--cluster-size", "2", "--cluster-mode", "single-node", "-r", "cpu=1", "-r", "mem=128m")
    assert "is created and ready" in await client.run("session", "create", *size, "--name", "cluster1", IMAGE)
    assert "renamed to pair1" in await client.run("session", "rename", "cluster1", "pair1")
    async with stack.client() as admin:
        assert (await admin.get("/session/pair1")).json()["clusterSize"] == 2
        assert (await admin.get("/session/cluster1")).status_code == 404
    (client.home / "cluster.py").write_text(CLUSTER)
    ran = ("run", "--name", "pair1", "--exec", "python3 cluster.py")
    told = await client.run(*ran, "--cluster-size", "2", IMAGE, "cluster.py")
    assert "main1,sub1 main1" in told
    if stack.settings.agent_runtime == "docker":
        assert "\nsub1\nmain1\n" in told
        assert "exit code = 0" in told
    assert "Done." in await client.run("rm", "pair1")
