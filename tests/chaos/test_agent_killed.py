"""The agent's process is killed under running containers: none of them notices, and who looks on goes on.

With more of them by REFOLD_FAULT_KERNELS.
"""

import asyncio
import json
import os
import re
import signal
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any
from uuid import uuid4

import aiodocker
import aiohttp
import httpx
import pytest

from infra.signing import KeypairAuth
from tests.agents.worlds import DOCKER_IMAGE, DOCKER_SOCKET
from tests.api.frames import frames_of
from tests.api.kernels import Line
from tests.api.test_terminals import Screen
from tests.client.working import AGENT, working_stack
from tests.stack import Stack

KERNELS = int(os.environ.get("REFOLD_FAULT_KERNELS") or 4)


async def started(stack: Stack, client: httpx.AsyncClient, name: str) -> str:
    """The id of a session."""
    command = {
        "type": "RequestSession",
        "owner": stack.admin.access_key,
        "name": name,
        "spec": {"image": f"docker.io/{DOCKER_IMAGE}", "slots": {"cpu": 100, "mem": 64 << 20}},
        "kernels": [{"role": "main", "index": 1}],
    }
    answer = await client.post("/refold/commands", json=command, headers={"Idempotency-Key": f'"{uuid4()}"'})
    assert answer.status_code in (200, 202), answer.text
    return name


async def until_running(client: httpx.AsyncClient, number: int) -> None:
    """That many sessions, and no other."""
    async with asyncio.timeout(120 + number):
        while True:
            told = (await client.get("/refold/status")).json()["sessions"]
            if told == {"RUNNING": number}:
                return
            await asyncio.sleep(0.1)


async def containers(stack: Stack) -> Mapping[str, tuple[str, str]]:
    """By kernel: id and time of start; those that ended, too."""
    label = json.dumps({"label": [f"ai.refold.deployment={stack.settings.deployment}-{AGENT}"]})
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        found = [await each.show() for each in await docker.containers.list(all=True, filters=label)]
    return {each["Config"]["Labels"]["ai.refold.kernel"]: (each["Id"], each["State"]["StartedAt"]) for each in found}


@asynccontextmanager
async def terminal(stack: Stack, name: str) -> AsyncIterator[Screen]:
    path = f"/stream/session/{name}/pty"
    signed = httpx.Request("GET", stack.endpoint + path)
    next(KeypairAuth(stack.admin.access_key, stack.admin.secret_key).auth_flow(signed))
    headers = {each: signed.headers[each] for each in ("Authorization", "Date", "X-BackendAI-Version")}
    async with aiohttp.ClientSession() as client, client.ws_connect(str(signed.url), headers=headers) as socket:
        yield Screen(Line(socket, frames_of(path)))


async def printed(client: httpx.AsyncClient, name: str, code: str) -> str:
    """Of code that runs in the session, once its agent is there."""
    body: dict[str, Any] = {"mode": "query", "code": code}
    text = ""
    async with asyncio.timeout(60):
        while True:
            answer = await client.post(f"/session/{name}", json=body)
            if answer.status_code in {502, 503}:
                await asyncio.sleep(0.05)
                continue
            assert answer.status_code == 200, answer.text
            result = answer.json()["result"]
            text += "".join(words for kind, words in result["console"] or [] if kind == "stdout")
            if result["status"] == "finished":
                return text
            body = {"mode": "continue", "code": "", "runId": result["runId"]}


@pytest.mark.cluster
@pytest.mark.docker
@pytest.mark.timeout(600)
async def test_containers_outlive_an_agent_that_is_killed_and_who_looks_on_goes_on(kafka: str, database: str) -> None:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    async with working_stack(kafka, database, "docker") as stack, stack.client() as client:
        names = [await started(stack, client, f"kernel-{number}") for number in range(KERNELS)]
        await until_running(client, KERNELS)
        before = await containers(stack)
        assert len(before) == KERNELS
        await printed(client, names[0], "x = 6 * 7")
        async with terminal(stack, names[1]) as screen:
            await screen.type("here=st''ill; echo re''ady\n")
            await screen.until("ready\r\n")

            pid = stack.supervisor.pid("agent")
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            killed = time.monotonic()

            assert await printed(client, names[0], "print(x)") == "42\n", "the same interpreter"
            print(f"{KERNELS} kernels: an agent that was killed answers again after {time.monotonic() - killed:.2f} s")
            async with asyncio.timeout(60):
                while not re.search("\nstill\r\n", screen.text):
                    await screen.type("echo $here\n")  # what is typed while the way is broken is lost, and said so
                    with suppress(TimeoutError):
                        async with asyncio.timeout(1):
                            await screen.hear()
        await until_running(client, KERNELS)
        assert await containers(stack) == before, "each as it was, and none beside"

        assert (await client.delete(f"/session/{names[-1]}")).status_code == 200
        await until_running(client, KERNELS - 1)
        print(f"and has carried out an order after {time.monotonic() - killed:.2f} s")
        assert [crash.name for crash in stack.crashes] == ["agent"]
        stack.crashes.clear()
