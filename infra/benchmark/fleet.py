"""Thousands of hosts: how soon they are known, what their heartbeats cost, and how fast sessions are placed on them."""

import asyncio
import json
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from domain.messages import AccessKey, Command, SessionId
from domain.session.messages import RequestSession, Seat, SessionSpec
from infra.benchmark.installation import ADMIN, Installation
from infra.benchmark.measures import Figures, Say
from infra.benchmark.processes import cpu_seconds
from infra.kafka import KafkaLog
from infra.postgres import open_pool
from infra.sending import Sender

_GROUP: Final = "fleet"
_CPU: Final = 4
_PATIENCE_SECONDS: Final = 300.0


async def fleet(here: Installation, agents: int, seconds: float, say: Say) -> Figures:
    """`agents` of them in one process, with the api and the workers beside. Two sessions of half a host for each."""
    environ = {
        "REFOLD_AGENT_ID": _GROUP,
        "REFOLD_AGENT_GROUP": _GROUP,
        "REFOLD_AGENT_RUNTIME": "fake",
        "REFOLD_AGENT_SLOTS": json.dumps({"cpu": str(_CPU), "mem": "16g"}),
    }
    seconds = max(seconds, 2 * here.settings.agent_heartbeat_seconds)
    idle = await _shares(here, seconds)
    began = time.monotonic()
    await here.start("agents.fleet", "--count", str(agents), called=_GROUP, environ=environ)
    await _until_alive(here, agents)
    registered = time.monotonic() - began
    say(f"{agents} agents were known {registered:.1f} s after their process was started")
    figures = {"fleet_agents": float(agents), "fleet_known_seconds": registered}
    await asyncio.sleep(2)
    rate = agents / here.settings.agent_heartbeat_seconds
    busy = await _shares(here, seconds)
    figures["heartbeats_per_second"] = rate
    for name, share in busy.items():
        own = share - idle.get(name, 0.0)
        say(f"{rate:.0f} heartbeats/s: {name} takes {own * 100:.0f} % of a processor")
        figures[f"heartbeat_{name}_us"] = own / rate * 1e6
    figures |= await _placements(here, 2 * agents, say)
    await here.stop(_GROUP)
    return figures


async def _until_alive(here: Installation, count: int) -> None:
    async with asyncio.timeout(_PATIENCE_SECONDS), open_pool(here.settings) as pool:
        while True:
            async with pool.connection() as db:
                cursor = await db.execute(
                    "SELECT count(*) FROM agents WHERE resource_group = %s AND status = 'ALIVE'", (_GROUP,)
                )
                row = await cursor.fetchone()
            if row is not None and row[0] >= count:
                return
            await asyncio.sleep(0.1)


async def _shares(here: Installation, seconds: float) -> Mapping[str, float]:
    """Of one processor, by process: of those that heartbeats concern and that run now."""
    pids = {name: here.running[name].pid for name in (_GROUP, "handlers", "workers") if name in here.running}
    began, before = time.monotonic(), {name: cpu_seconds(pid) for name, pid in pids.items()}
    await asyncio.sleep(seconds)
    took = time.monotonic() - began
    return {name: (cpu_seconds(pid) - before[name]) / took for name, pid in pids.items()}


async def _placements(here: Installation, count: int, say: Say) -> Figures:
    """From the first request in the log until the agents were told to start all of them, and had."""
    now = datetime.now(UTC)
    spec = SessionSpec(image="bench/image", slots={"cpu": _CPU * 500, "mem": 2**30}, resource_group=_GROUP)
    owner = AccessKey(ADMIN.access_key)  # whom the api knows: agents ask it what his kernels are given
    asking: list[Command] = []
    for number in range(count):
        session_id = SessionId(str(uuid4()))
        seat = Seat.model_validate({"kernel_id": session_id, "role": "main", "index": 1})
        asking.append(
            RequestSession(at=now, owner=owner, session_id=session_id, name=f"f-{number}", spec=spec, kernels=(seat,))
        )
    async with KafkaLog(here.settings) as log:
        sender = Sender(here.settings, log, "bench")
        began = time.time()
        for start in range(0, count, 1000):
            some = asking[start : start + 1000]
            await sender.send_all([("session", command, str(uuid4())) for command in some], "bench")
    starts = await _starts(here, count)
    took = max(starts.values()) - began
    say(f"{count} sessions on {len({agent for agent, _ in starts})} agents within {took:.1f} s")
    return {"placements_per_second": count / took}


async def _starts(here: Installation, count: int) -> Mapping[tuple[str, str], float]:
    """When which agent was told to start which session, once all of them are there."""
    async with asyncio.timeout(_PATIENCE_SECONDS):
        while True:
            starts = {
                (file.parent.name, line["session_id"]): datetime.fromisoformat(line["called_at"]).timestamp()
                for file in (here.settings.data_dir / "agents").glob(f"{_GROUP}-*/starts.jsonl")
                for line in map(json.loads, file.read_text().splitlines())
            }
            if len(starts) >= count:
                return starts
            await asyncio.sleep(1)
