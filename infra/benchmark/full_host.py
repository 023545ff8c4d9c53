"""One host with many containers: how its agent does with them, and that it may die under them."""

import asyncio
import json
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

import httpx

from infra.benchmark.containers import docker
from infra.benchmark.installation import Installation
from infra.benchmark.measures import Figures, Say
from infra.benchmark.processes import cpu_seconds, resident_bytes

_AGENT: Final = "full"
_AT_ONCE: Final = 50
_LIMITS: Final = ("--cpus=0.1", "--memory=64m", "--pids-limit=4096", "--cap-drop=ALL", "--user=1000:1000", "--init")
_MIB: Final = 1024 * 1024
_PATIENCE_SECONDS: Final = 300.0


async def full_host(here: Installation, socket: Path, image: str, containers: int, seconds: float, say: Say) -> Figures:
    """Sessions are started 50 at a time until there are `containers` of them, or one does not come up; the first 50
    also by `docker run`. Then the agent is measured, killed with -9, and started again."""
    environ = {
        "REFOLD_AGENT_ID": _AGENT,
        "REFOLD_AGENT_GROUP": "docker",
        "REFOLD_AGENT_RUNTIME": "docker",
        "REFOLD_AGENT_SLOTS": json.dumps({"cpu": "1000", "mem": "1000g"}),
        "REFOLD_DOCKER_SOCKET": str(socket),
    }
    await here.start("agents", called=_AGENT, environ=environ)
    figures: Figures = {}
    names: list[str] = []
    async with here.client() as client:
        try:
            if not await _sessions(client, image, ["full-warm"]):
                raise RuntimeError(f"no session comes up; see {here.settings.data_dir}/logs")
            await client.delete("/session/full-warm?forced=true")
            while len(names) < containers:
                some = [f"full-{len(names) + number}" for number in range(min(_AT_ONCE, containers - len(names)))]
                began = time.monotonic()
                up = await _sessions(client, image, some)
                if not names:
                    figures |= await _against_docker_run(socket, image, some, time.monotonic() - began, say)
                names += up
                if len(up) < len(some):
                    say(f"no more than {len(names)} fit here")
                    break
            figures["host_containers"] = float(len(names))
            figures |= await _agent(here, seconds, say)
            figures |= await _takeover(here, socket, environ, len(names), say)
        finally:
            for start in range(0, len(names), _AT_ONCE):
                ends = (client.delete(f"/session/{name}?forced=true") for name in names[start : start + _AT_ONCE])
                await asyncio.gather(*ends, return_exceptions=True)
    await _until_empty(socket)
    await here.stop(_AGENT)
    return figures


async def _sessions(client: httpx.AsyncClient, image: str, names: list[str]) -> list[str]:
    """Those that run, of as many asked for at once."""

    async def one(name: str) -> bool:
        body = {
            "name": name,
            "image": image,
            "config": {"resources": {"cpu": "0.1", "mem": "64m"}, "scalingGroup": "docker"},
            "maxWaitSeconds": 110,
        }
        answer = await client.post("/session", json=body)
        return answer.status_code == 201 and answer.json()["status"] == "RUNNING"

    are_up = await asyncio.gather(*map(one, names))
    return [name for name, is_up in zip(names, are_up, strict=True) if is_up]


async def _against_docker_run(socket: Path, image: str, names: list[str], ours: float, say: Say) -> Figures:
    network = f"bench-{uuid4().hex[:8]}"
    await docker(socket, "network", "create", network)
    bare = [f"{network}-{number}" for number in range(len(names))]
    began = time.monotonic()
    runs = (
        docker(socket, "run", "-d", "--name", name, "--network", network, *_LIMITS, image, "sleep", "infinity")
        for name in bare
    )
    await asyncio.gather(*runs)
    took = time.monotonic() - began
    await docker(socket, "rm", "-f", *bare)
    await docker(socket, "network", "rm", network)
    say(f"{len(names)} at once: {ours:.1f} s, and by `docker run` {took:.1f} s")
    return {"at_once_sessions": float(len(names)), "at_once_seconds": ours, "at_once_to_docker_run_ratio": ours / took}


async def _agent(here: Installation, seconds: float, say: Say) -> Figures:
    """What it takes while its kernels do nothing."""
    pid = here.running[_AGENT].pid
    began, before = time.monotonic(), cpu_seconds(pid)
    await asyncio.sleep(max(seconds, 5))
    share = (cpu_seconds(pid) - before) / (time.monotonic() - began)
    memory = resident_bytes(pid) / _MIB
    say(f"the agent has {memory:.0f} MiB and takes {share * 100:.1f} % of a processor")
    return {"agent_memory_mib": memory, "agent_cpu_percent": share * 100}


async def _takeover(here: Installation, socket: Path, environ: dict[str, str], count: int, say: Say) -> Figures:
    """From killing the agent with -9 until another one of its name looks after all of them."""
    before = await _running(socket)
    here.running[_AGENT].kill()
    await here.running.pop(_AGENT).wait()
    began = time.monotonic()
    await here.start("agents", called=_AGENT, environ=environ)
    async with asyncio.timeout(_PATIENCE_SECONDS), httpx.AsyncClient() as client:
        while True:
            if await _looked_after(client, here) >= count:
                break
            await asyncio.sleep(0.05)
    took = time.monotonic() - began
    after = await _running(socket)
    if before != after:
        raise RuntimeError(
            f"{len(before - after)} containers ended under the dead agent, {len(after - before)} are new"
        )
    say(f"{count} containers were taken over within {took:.1f} s; none ended, none was started again")
    return {"agent_takeover_seconds": took}


async def _looked_after(client: httpx.AsyncClient, here: Installation) -> int:
    """Kernels of an agent that is ready, as its metrics have it. Its port is in its log."""
    log = (here.settings.data_dir / "logs" / f"{_AGENT}.log").read_text()
    ports = [word.removeprefix("port=") for word in log.split() if word.startswith("port=")]
    try:
        if (await client.get(f"http://127.0.0.1:{ports[-1]}/ready")).status_code != 200:
            return 0
        metrics = (await client.get(f"http://127.0.0.1:{ports[-1]}/metrics")).text
    except httpx.HTTPError:
        return 0
    lines = [line for line in metrics.splitlines() if line.startswith("refold_agent_kernels ")]
    return int(float(lines[0].split()[1])) if lines else 0


async def _ids(socket: Path) -> list[str]:
    """The containers of the agent's kernels."""
    label = f"label=ai.refold.deployment=refold-{_AGENT}"
    return (await docker(socket, "ps", "-q", "--no-trunc", "--filter", label)).split()


async def _running(socket: Path) -> set[str]:
    """Container and process of each of the agent's kernels: another process is another start."""
    ids = await _ids(socket)
    told = await docker(socket, "inspect", "--format", "{{.Id}} {{.State.Pid}}", *ids) if ids else ""
    return set(told.splitlines())


async def _until_empty(socket: Path) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            if not await _ids(socket):
                return
            await asyncio.sleep(0.5)
