"""A Refold in whose kernels something runs: native processes, or containers."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiodocker
import httpx

from agents.__main__ import _runtime
from agents.devices.host import HostDevices
from agents.runtime import Runtime
from domain.messages import AgentId
from infra.embedded.folder import ports
from infra.supervise import Process, last_words
from tests.agents.worlds import DOCKER_SOCKET, clear_deployment
from tests.secrecy import places_of
from tests.stack import PROCESSES, Stack, child, running_stack

AGENT = AgentId("agent-1")


@asynccontextmanager
async def working_stack(
    kafka: str, database: str, runtime: str, processes: Mapping[str, Sequence[str]] = PROCESSES
) -> AsyncIterator[Stack]:
    """None of its processes crashes, no secret lies about, and no kernel is left when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="refold-"))
    os.chmod(folder, 0o711)  # kernels that run as another user walk through it to their home
    deployment = f"stack-{uuid4().hex[:10]}"
    agent: dict[str, Any] = {
        "deployment": deployment,
        "agent_runtime": runtime,
        "agent_id": AGENT,
        "docker_socket": DOCKER_SOCKET,
        "container_commit": True,
        "agent_sample_seconds": 0.5,
    }
    try:
        async with running_stack(kafka, database, folder, processes, **agent) as running:
            try:
                yield running
            finally:
                await _end_all(_runtime(running.settings, AGENT, folder / "agents" / AGENT, HostDevices()))
            assert running.crashes == []
            found = await places_of(running, running.secrets)
            assert found == [], found
    finally:
        if runtime == "docker":
            async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
                await clear_deployment(docker, f"{deployment}-{AGENT}")
        shutil.rmtree(folder)


@asynccontextmanager
async def app_proxy(stack: Stack) -> AsyncIterator[str]:
    """The process before it, for the block. Its address, which the resource group has from then on."""
    port = ports(stack.settings.data_dir, "proxy")["proxy"]
    address = f"http://127.0.0.1:{port}"
    settings = stack.settings.model_copy(
        update={"proxy_port": port, "proxy_url": address, "proxy_ports": f"{port + 1}-{port + 20}"}
    )
    command = {"type": "ModifyResourceGroup", "name": "default", "changes": {"wsproxy_addr": address}}
    process = await Process.start(
        child("proxy", ["api.proxy"], settings.environment()), stack.settings.data_dir / "logs"
    )
    try:
        async with asyncio.timeout(60), stack.client() as admin, httpx.AsyncClient() as anybody:
            assert (await admin.post("/refold/commands", json=command)).status_code == 200
            while True:
                with suppress(httpx.HTTPError):
                    if (await anybody.get(f"{address}/ready")).status_code == 200:
                        break
                assert process.exit_code is None, last_words(stack.settings.data_dir / "logs", "proxy")
                await asyncio.sleep(0.1)
            known = await admin.get("/scaling-groups/default/wsproxy-version", params={"group": "default"})
            assert known.json() == {"wsproxy_version": "v2"}
        yield address
    finally:
        assert await process.stop() == 0


async def _end_all(runtime: Runtime) -> None:
    for left in await runtime.list():
        await runtime.stop(left.kernel_id, left.incarnation, timedelta(0))
    await runtime.close()
