"""The public client, unchanged, works in sessions of ours: it runs code in kernels that are real processes."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import httpx
import pytest
import pytest_asyncio

from infra.embedded.folder import ports
from tests.client.conftest import Client
from tests.client.working import working_stack
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = "python"
SERVED = "stable/served:1"
SMALL = ("-r", "cpu=1", "-r", "mem=256m")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: str, database: str) -> AsyncIterator[Stack]:
    """With native processes for kernels."""
    async with working_stack(kafka, database, "process") as running:
        yield running


async def test_code_runs_in_a_new_session_and_then_in_the_same(client: Client) -> None:
    ran = await client.run("run", *SMALL, "--name", "query1", "-c", "x = 6; print(x * 7, 'Grüße')", IMAGE)
    assert "42 Grüße" in ran
    assert "Execution finished. (exit code = 0)" in ran
    again = await client.run("run", *SMALL, "--name", "query1", "--rm", "-c", "print(x + 1)", IMAGE)
    assert "\n7\n" in again


async def test_what_is_typed_reaches_the_program(client: Client) -> None:
    code = "name = input('who? '); print('hello', name)"
    ran = await client.run("run", *SMALL, "--name", "input1", "--rm", "-c", code, IMAGE, typed="ada\n")
    assert "who? " in ran
    assert "hello ada" in ran


async def test_code_runs_by_the_cookie_of_a_sign_in(client: Client, stack: Stack, tmp_path: Path) -> None:
    environment = {name: text for name, text in client.environment.items() if not name.endswith("_KEY")}
    environment |= {"BACKEND_ENDPOINT_TYPE": "session", "HOME": str(tmp_path)}
    browser = replace(client, environment=environment, home=tmp_path)
    await browser.run("login", typed=f"{stack.admin.email}\n{stack.admin.password}\n")
    assert "\n42\n" in await browser.run("run", *SMALL, "--name", "cookie1", "--rm", "-c", "print(6 * 7)", IMAGE)
    await browser.run("logout")


async def test_the_python_sdk_runs_code_step_by_step(client: Client, tmp_path: Path) -> None:
    script = tmp_path / "steps.py"
    script.write_text(SDK)
    python = replace(client, program=client.program.parent / "python")
    assert (await python.run(str(script))).splitlines() == [
        "query ['before\\n', 'after\\n'] finished 0",
        "input name? waiting-input",
        "typed ['ada\\n'] finished",
        "batch ['build-finished', 'finished'] 3",
        "complete True",
        "interrupted True",
        "stream ['one\\n'] finished",
        "terminated",
    ]


async def test_files_go_in_and_come_back(client: Client) -> None:
    await client.run("session", "create", *SMALL, "--name", "files1", IMAGE)
    there = {"src/über uns.txt": "Grüße".encode(), "data.bin": bytes(range(256)) * 4096, "a%20b": b""}
    (client.home / "src").mkdir()
    for name, content in there.items():
        (client.home / name).write_bytes(content)
    assert "Uploaded." in await client.run("session", "upload", "files1", *there)
    assert "über uns.txt" in await client.run("session", "ls", "files1", "src")
    assert "data.bin" in await client.run("session", "ls", "files1")
    done = await client.run("session", "download", "files1", "src", "data.bin", "/home/work/a%20b", "--dest", "back")
    assert "Downloaded to" in done
    assert {name: (client.home / "back" / name).read_bytes() for name in there} == there
    (client.home / "large.bin").write_bytes(bytes(2**20 + 1))
    large = await client.run("session", "upload", "files1", "large.bin", ends_with=1)
    assert "a file may have 1048576 bytes" in large
    (client.home / "huge.bin").write_bytes(bytes(2**26))
    assert "a file may have" in await client.run("session", "upload", "files1", "huge.bin", ends_with=1)
    assert "there is no such path" in await client.run("session", "ls", "files1", "nothing", ends_with=1)
    outside = await client.run("session", "download", "files1", "../x", ends_with=1)
    assert "leads out of the home folder" in outside
    await client.run("rm", "files1")


async def test_a_tunnel_and_a_terminal_lead_into_a_session(client: Client, stack: Stack, tmp_path: Path) -> None:
    served, local = ports(tmp_path, "served", "local").values()
    await give_services(stack, f"web:http:{served}")
    await client.run("session", "create", *SMALL, "--name", "tunnel1", SERVED)
    assert "following app services: web" in await client.run("apps", "-l", "tunnel1")
    async with stack.client() as admin:
        query = "{ compute_session_list(limit: 20, offset: 0) { items { name service_ports } } }"
        sessions = (await admin.post("/admin/gql", json={"query": query})).json()["data"]["compute_session_list"]
    [told] = [json.loads(each["service_ports"]) for each in sessions["items"] if each["name"] == "tunnel1"]
    assert told[0] == {"name": "web", "protocol": "http", "ports": [served]}
    script = tmp_path / "terminal.py"
    script.write_text(TERMINAL)
    python = replace(client, program=client.program.parent / "python")
    assert (await python.run(str(script))).splitlines() == ["seen"]
    arguments = f"'-m', 'http.server', '--bind', '127.0.0.1', '{served}'"
    serve = f"import subprocess, sys; subprocess.Popen([sys.executable, {arguments}], stderr=-3); print('serves')"
    assert "serves" in await client.run("run", "--name", "tunnel1", "-c", serve, SERVED)
    proxy = await client.start("app", "tunnel1", "web", "-b", f"127.0.0.1:{local}")
    try:
        async with asyncio.timeout(60), httpx.AsyncClient() as browser:
            while True:
                with suppress(httpx.HTTPError):
                    answer = await browser.get(f"http://127.0.0.1:{local}/hello.txt")
                    if answer.status_code == 200:
                        break
                await asyncio.sleep(0.1)
        assert answer.text == "hello from within"
    finally:
        proxy.kill()
        await proxy.wait()
    await client.run("rm", "tunnel1")


async def give_services(stack: Stack, label: str) -> None:
    """An image that has them, in a registry for everybody."""
    hub, reference = "cr.example.org", f"cr.example.org/{SERVED}"
    facts = {"registry": hub, "labels": {"ai.backend.service-ports": label}}
    async with stack.client() as admin:
        for command in (
            {"type": "CreateRegistry", "name": hub, "spec": {"url": f"https://{hub}"}},
            {"type": "ModifyDomain", "name": "default", "changes": {"allowed_docker_registries": ["local", hub]}},
            {"type": "RegisterImage", "reference": reference, "facts": facts},
        ):
            answer = await admin.post("/refold/commands", json=command)
            assert answer.status_code == 200, answer.text


TERMINAL = r"""
import asyncio, base64, json
from ai.backend.client.session import AsyncSession

TYPED = "printf 'hello from within' > hello.txt; echo sh''ell; stty size\n"

async def main():
    async with AsyncSession() as session:
        async with session.ComputeSession("tunnel1").stream_pty() as pty:
            await pty.send_json({"type": "resize", "rows": 30, "cols": 200})  # its own `resize` does not work
            await pty.send_json({"type": "stdin", "chars": base64.b64encode(TYPED.encode()).decode()})
            seen = b""
            async for message in pty:
                seen += base64.b64decode(json.loads(message.data)["data"])
                if b"shell\r\n30 200\r\n" in seen:
                    print("seen")
                    return

asyncio.run(main())
"""

SDK = """
import asyncio, threading, time
from ai.backend.client.session import AsyncSession, Session

def texts(results):
    return [text for each in results for kind, text in each["console"] if kind == "stdout"]

def to_end(kernel, results):
    while results[-1]["status"] not in ("finished", "waiting-input"):
        results.append(kernel.execute(results[-1]["runId"], "", mode="continue"))
    return results

with Session() as session:
    kernel = session.ComputeSession.get_or_create("python", name="sdk1", resources={"cpu": 1, "mem": "256m"})
    code = "import time; print('before', flush=True); time.sleep(1); print('after')"
    ran = to_end(kernel, [kernel.execute("run1", code)])
    print("query", texts(ran), ran[-1]["status"], ran[-1]["exitCode"])
    asked = to_end(kernel, [kernel.execute(None, "print(input('name? '))")])
    print("input", "".join(texts(asked)) + asked[-1]["status"])
    typed = to_end(kernel, [kernel.execute(asked[-1]["runId"], "ada", mode="input")])
    print("typed", texts(typed), typed[-1]["status"])
    steps = to_end(kernel, [kernel.execute(None, "", mode="batch", opts={"build": "true", "exec": "exit 3"})])
    print("batch", [each["status"] for each in steps if each["status"] != "continued"], steps[-1]["exitCode"])
    print("complete", any(name.strip() == "import" for name in kernel.complete("imp")["result"]))
    threading.Timer(1, lambda: kernel_interrupt()).start()

    def kernel_interrupt():
        with Session() as other:
            other.ComputeSession("sdk1").interrupt()

    ended = to_end(kernel, [kernel.execute(None, "while True: pass")])
    print("interrupted", any("KeyboardInterrupt" in text for each in ended for _, text in each["console"]))

async def stream():
    async with AsyncSession() as session:
        async with session.ComputeSession("sdk1").stream_execute("print('one')", mode="query") as socket:
            results = []
            async for message in socket:
                results.append(message.json())
                if results[-1]["status"] == "finished":
                    break
            print("stream", texts(results), results[-1]["status"])

asyncio.run(stream())
with Session() as session:
    print(session.ComputeSession("sdk1").destroy()["stats"]["status"])
"""
