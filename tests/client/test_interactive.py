"""The public client, unchanged, works in sessions of ours: it runs code in kernels that are real processes."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import pytest_asyncio

from tests.client.conftest import Client
from tests.secrecy import places_of
from tests.stack import Stack, running_stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = "python"
SMALL = ("-r", "cpu=1", "-r", "mem=256m")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """With native processes for kernels."""
    folder = tmp_path_factory.mktemp("stack")
    async with running_stack(kafka, database, folder, agent_runtime="process") as running:
        yield running
        assert running.crashes == []
        assert await places_of(running, running.secrets) == []


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
