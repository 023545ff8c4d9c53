"""A session on Docker against `docker run` of the same image, in turn: what the control plane adds."""

import asyncio
import time
from pathlib import Path
from uuid import uuid4

import httpx

from infra.benchmark.installation import Installation
from infra.benchmark.load import quantile
from infra.benchmark.measures import Figures, Say

_ROUNDS = 8


async def docker_session(here: Installation, socket: Path, image: str, say: Say) -> Figures:
    """Medians of: from `POST /session` to its answer that it runs; and `docker run -d` with the same limits."""
    environ = {
        "REFOLD_AGENT_ID": "docker",
        "REFOLD_AGENT_GROUP": "docker",
        "REFOLD_AGENT_RUNTIME": "docker",
        "REFOLD_AGENT_SLOTS": '{"cpu": "2", "mem": "4g"}',
        "REFOLD_DOCKER_SOCKET": str(socket),
    }
    await here.start("agents", called="docker", environ=environ)
    network = f"bench-{uuid4().hex[:8]}"  # the engine has none by default; our agent makes its own too
    await docker(socket, "network", "create", network)
    ours: list[float] = []
    bare: list[float] = []
    try:
        async with here.client() as client:
            for number in range(-1, _ROUNDS):
                session = await _session(client, image, number)
                plain = await _docker_run(socket, image, network)
                if number >= 0:  # the first round warms both up
                    ours.append(session)
                    bare.append(plain)
    finally:
        await here.stop("docker")
        await docker(socket, "network", "rm", network)
    ratios = sorted(a / b for a, b in zip(ours, bare, strict=True))
    say(f"{len(ratios)} pairs")
    return {
        "docker_session_p50_ms": quantile(sorted(ours), 0.5) * 1e3,
        "docker_run_p50_ms": quantile(sorted(bare), 0.5) * 1e3,
        "docker_session_to_docker_run_ratio": quantile(ratios, 0.5),
    }


async def _session(client: httpx.AsyncClient, image: str, number: int) -> float:
    body = {
        "name": f"docker-{number + 1}",
        "image": image,
        "config": {"resources": {"cpu": "1", "mem": "256m"}, "scalingGroup": "docker"},
        "maxWaitSeconds": 60,
    }
    began = time.monotonic()
    answer = await client.post("/session", json=body)
    took = time.monotonic() - began
    if answer.status_code != 201 or answer.json()["status"] != "RUNNING":
        raise RuntimeError(f"the session did not come up: {answer.status_code} {answer.text}")
    await client.delete(f"/session/{answer.json()['sessionId']}?forced=true")
    return took


async def _docker_run(socket: Path, image: str, network: str) -> float:
    name = f"bare-{uuid4().hex[:12]}"
    limits = ("--cpus=1", "--memory=256m", "--pids-limit=4096", "--cap-drop=ALL", "--user=1000:1000", "--init")
    began = time.monotonic()
    await docker(socket, "run", "-d", "--name", name, "--network", network, *limits, image, "sleep", "infinity")
    took = time.monotonic() - began
    await docker(socket, "rm", "-f", name)
    return took


async def docker(socket: Path, *arguments: str) -> str:
    """What the command line of Docker prints. Raises `RuntimeError`."""
    process = await asyncio.create_subprocess_exec(
        *("docker", "-H", f"unix://{socket}", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    printed, said = await process.communicate()
    if process.returncode != 0:
        raise RuntimeError(f"docker {arguments[0]}: {said.decode().strip()}")
    return printed.decode()
