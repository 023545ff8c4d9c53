"""The public client, unchanged, works against us: its commands for the life of a session."""

import asyncio
import json
import re

import pytest

from infra.first_session import run_first_session
from tests.client.conftest import Client
from tests.stack import Stack

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

IMAGE = "fake/image"
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")


async def lines_until(process: asyncio.subprocess.Process, last: str, seconds: float = 30) -> list[str]:
    """Lines of a command that does not end by itself, up to the one that begins with `last`; then it is ended."""
    assert process.stdout is not None
    lines = []
    try:
        async with asyncio.timeout(seconds):
            while line := _COLOUR.sub("", (await process.stdout.readline()).decode()).strip():
                lines.append(line)
                if line.startswith(last):
                    return lines
    except TimeoutError:
        pass
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    raise AssertionError(lines)


async def test_a_session_lives_and_dies(client: Client) -> None:
    created = await client.run("session", "create", "--name", "sess1", "-r", "cpu=1", "-r", "mem=512m", IMAGE)
    assert "is created and ready" in created
    again = await client.run("session", "create", "--name", "sess1", IMAGE)
    assert "is already running and ready" in again
    assert "renamed to sess2" in await client.run("session", "rename", "sess1", "sess2")
    assert "Done." in await client.run("session", "restart", "sess2")
    assert "End of logs." in await client.run("session", "logs", "sess2")
    assert "Actual Resource Allocation Time" in await client.run("session", "status-history", "sess2")
    assert "KernelStatus.RUNNING" in await client.run("session", "show-graph", "--table", "sess2")
    assert "'abuse_report': None" in await client.run("session", "abuse-history", "sess2")
    assert "Done." in await client.run("rm", "sess2")


async def test_a_session_runs_with_an_environment_that_nobody_else_can_read(client: Client, stack: Stack) -> None:
    token = "the-token-of-this-session"
    stack.secrets.add(token)
    created = await client.run("session", "create", "--name", "environ1", "-e", f"TOKEN={token}", IMAGE)
    assert "is created and ready" in created
    assert "Done." in await client.run("rm", "environ1")


async def test_a_batch_session_is_told_from_beginning_to_end(client: Client) -> None:
    listening = await client.start("events", "batch1")
    enqueued = await client.run(
        "session", "create", "--type", "batch", "-c", "echo hi", "--name", "batch1", "--enqueue-only", IMAGE
    )
    assert "is enqueued for scheduling" in enqueued
    live = await lines_until(listening, "session_terminated")
    names = [line.split(" ", 1)[0] for line in live]
    assert names[0] == "session_enqueued"
    assert {"session_started", "session_success", "session_terminated"} <= set(names)
    assert all(json.loads(line.split(" ", 1)[1])["sessionName"] == "batch1" for line in live)
    replayed = await lines_until(await client.start("session", "events", "batch1"), "session_terminated")
    assert replayed == live
    by_id = json.loads(live[0].split(" ", 1)[1])["sessionId"]
    kernels = await lines_until(await client.start("events", by_id, "--scope", "kernel"), "kernel_terminated")
    assert all(line.startswith("kernel_") for line in kernels)
    assert "hi" in await client.run("session", "logs", "batch1")
    assert "hi" in await client.run("task-logs", by_id)


async def test_what_is_wrong_is_said(client: Client) -> None:
    assert "No such session" in await client.run("rm", "nobody", ends_with=1)
    assert "No such session" in await client.run("session", "restart", "nobody", ends_with=1)
    bad = await client.run("session", "create", "--name", "bad1", "-r", "cpu=many", IMAGE, ends_with=1)
    assert "config.resources.cpu" in bad
    mounted = await client.run("session", "create", "--name", "bad2", "-v", "folder", IMAGE, ends_with=1)
    assert "No such folder" in mounted
    wrong = Client(client.program, client.environment | {"BACKEND_SECRET_KEY": "wrong"}, client.home)
    assert "401" in await wrong.run("rm", "sess1", ends_with=1)


async def test_a_session_that_waits_can_be_cancelled(client: Client) -> None:
    await client.run("session", "create", "--name", "waits", "--enqueue-only", "-r", "cpu=1000", IMAGE)
    watching = await client.start("events", "waits")
    assert "Done." in await client.run("session", "rm", "waits")
    assert await lines_until(watching, "session_cancelled")


async def test_the_first_session_runs(stack: Stack) -> None:
    said: list[str] = []
    assert await run_first_session(
        stack.endpoint, stack.admin.access_key, stack.admin.secret_key, said.append, IMAGE
    ), said
