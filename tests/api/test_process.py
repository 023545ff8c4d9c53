"""`python -m api` as a process, on real Kafka and Postgres: killed, stopped, and taken up again by its clients."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import httpx
import pytest

from tests.api.kernels import HANDSHAKE
from tests.api.listening import listening
from tests.api.test_sessions import RECORDED
from tests.stack import Stack, running_stack

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(240)]

BATCH = RECORDED | {"type": "batch", "startupCommand": "sleep 2", "image": "fake/image"}


async def test_a_stream_goes_on_after_the_api_was_killed(kafka: str, database: str, tmp_path: Path) -> None:
    async with running_stack(kafka, database, tmp_path) as stack, stack.client() as client:
        async with listening(client, sessionName="mysess") as before:
            key = {"Idempotency-Key": '"one"'}
            first = await client.post("/session", json=BATCH, headers=key)
            await before.until("session_started", 30)
            await _kill_api(stack)
        again = await client.post("/session", json=BATCH, headers=key)
        assert (again.status_code, again.json()["sessionId"]) == (201, first.json()["sessionId"])
        async with listening(client, last_id=before.events[-1].id, sessionName="mysess") as after:
            await after.until("session_terminated", 30)
        async with listening(client, sessionName="mysess") as whole:
            await whole.until("session_terminated", 30)
    assert whole.names == before.names + after.names
    assert whole.names.count("session_started") == 1


async def _kill_api(stack: Stack) -> None:
    pid = stack.supervisor.pid("api")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    async with asyncio.timeout(60), stack.client() as client:
        while True:
            try:
                if (await client.get("/ready")).status_code == 200 and stack.supervisor.pid("api") != pid:
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def test_a_stop_ends_streams_and_lets_requests_finish(kafka: str, database: str, tmp_path: Path) -> None:
    waits = BATCH | {"enqueueOnly": False, "config": {"resources": {"cpu": "1000"}}}  # there is no such agent
    async with (
        running_stack(kafka, database, tmp_path) as stack,
        stack.client() as client,
        stack.client() as other,
        listening(client) as heard,
    ):
        waiting = asyncio.create_task(other.post("/session", json=waits))
        await heard.until("session_enqueued", 30)
        pid = stack.supervisor.pid("api")
        assert pid is not None
        refused = await other.get("/stream/session/nobody/pty", headers=HANDSHAKE)
        os.kill(pid, signal.SIGTERM)
        await asyncio.wait_for(heard.ended.wait(), 10)
        answer = await waiting
    assert answer.status_code == 201
    assert answer.json()["status"] == "TIMEOUT"
    assert refused.status_code == 404
    assert '"level":"error"' not in (tmp_path / "logs" / "api.log").read_text()


async def test_help_is_there_without_any_server() -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "api", "--help"),
        stdout=asyncio.subprocess.PIPE,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(Path(__file__).parent.parent.parent)},
    )
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert b"--port" in output
