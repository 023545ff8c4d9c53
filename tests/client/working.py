"""A Refold in whose kernels something runs: native processes, or containers."""

import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

from agents.__main__ import _runtime
from agents.devices.host import HostDevices
from agents.runtime import Runtime
from domain.messages import AgentId
from tests.agents.worlds import DOCKER_SOCKET
from tests.secrecy import places_of
from tests.stack import Stack, running_stack

AGENT = AgentId("agent-1")


@asynccontextmanager
async def working_stack(kafka: str, database: str, runtime: str) -> AsyncIterator[Stack]:
    """None of its processes crashes, no secret lies about, and no kernel is left when the block ends."""
    folder = Path(tempfile.mkdtemp(prefix="refold-"))
    os.chmod(folder, 0o711)  # kernels that run as another user walk through it to their home
    agent: dict[str, Any] = {"agent_runtime": runtime, "agent_id": AGENT, "docker_socket": DOCKER_SOCKET}
    try:
        async with running_stack(kafka, database, folder, **agent) as running:
            try:
                yield running
            finally:
                await _end_all(_runtime(running.settings, AGENT, folder / "agents" / AGENT, HostDevices()))
            assert running.crashes == []
            assert await places_of(running, running.secrets) == []
    finally:
        shutil.rmtree(folder)


async def _end_all(runtime: Runtime) -> None:
    for left in await runtime.list():
        await runtime.stop(left.kernel_id, left.incarnation, timedelta(0))
    await runtime.close()
