"""Everything is killed or stopped at random while sessions and folders come and go; nothing is lost, stuck or run
twice, and the disk has what the log says."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from infra.embedded.folder import ports
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.kafka import KafkaLog
from infra.postgres import open_pool
from infra.supervise import Crash, Supervisor
from tests.chaos.checker import judge, read_world
from tests.stack import Stack, integrity, running_stack

ROOT = Path(__file__).parent.parent.parent
SESSIONS = 300
FOLDERS = 30
CHAOS_SECONDS = 75.0
END_SECONDS = 120.0

PROCESSES = {
    "workers-1": ["workers", "--part", "shards"],
    "workers-2": ["workers", "--part", "shards"],
    "handlers": ["workers", "--part", "handlers"],
    "api": ["api"],
    "agent": ["agents"],
    "storage": ["api.storage"],
}
TRASH_DAYS = 2 / 86_400  # two seconds


@dataclass
class Installation:
    """A whole Refold with servers of its own, every process of it at the test's mercy."""

    stack: Stack
    servers: Supervisor
    crashes: list[Crash]

    def hit(self, name: str, number: signal.Signals) -> int | None:
        """Send a signal to a process; its id, if there is one at the moment."""
        pid = self.pid(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid

    def pid(self, name: str) -> int | None:
        return (self.stack.supervisor if name in PROCESSES else self.servers).pid(name)


@asynccontextmanager
async def installation(folder: Path) -> AsyncIterator[Installation]:
    free = ports(folder, "kafka", "controller", "postgres")
    kafka = EmbeddedKafka(folder, free["kafka"], free["controller"], jars_dir=ROOT / ".refold" / "jars")
    postgres = EmbeddedPostgres(folder, free["postgres"])
    crashes: list[Crash] = []
    async with Supervisor(folder / "logs", crashes.append) as servers:
        await asyncio.gather(kafka.run_by(servers), postgres.run_by(servers))
        chosen = {"agent_id": "agent-1", "vfolder_trash_days": TRASH_DAYS}
        async with running_stack(kafka.bootstrap, postgres.dsn, folder, PROCESSES, **chosen) as stack:
            yield Installation(stack, servers, crashes)


class People:
    """Clients as they should be: each command has a key of its own, and is sent again until it is answered."""

    def __init__(self, here: Installation, dice: random.Random) -> None:
        self.acknowledged: list[str] = []
        self.sessions: list[str] = []
        self._owner = here.stack.admin.access_key
        self._dice = dice
        self._client = here.stack.client()

    async def live(self, number: int) -> None:
        """One session, of one of several kinds."""
        kind = self._dice.choice(["echo", "sleep", "fail", "cluster", "broken", "interactive", "interactive"])
        kernels = 3 if kind == "cluster" else 1
        spec: dict[str, object] = {"image": "fake/image", "slots": {"cpu": 500, "mem": 2**28}}
        match kind:
            case "echo" | "cluster":
                spec |= {"session_type": "batch", "startup_command": "echo hello"}
            case "sleep":
                spec |= {"session_type": "batch", "startup_command": f"sleep {self._dice.uniform(0.5, 8):.1f}"}
            case "fail":
                spec |= {"session_type": "batch", "startup_command": "exit 3"}
            case "broken":
                spec |= {"image": "fake/fail-start"}
        if number % 3 == 0:  # its kernels start once the api has answered too
            spec |= {"environ": {"TOKEN": f"of session {number}"}}
        seats = [{"role": "sub" if index else "main", "index": index or 1} for index in range(kernels)]
        events = await self._give("RequestSession", name=f"s-{number}", spec=spec, kernels=seats)
        session_id = str(events[0]["session_id"])
        self.sessions.append(session_id)
        if kind == "interactive":
            await asyncio.sleep(self._dice.uniform(0, 10))
            await self._give("TerminateSession", session_id=session_id)

    async def keep(self, number: int) -> None:
        """One folder, which then is left alone, is copied, or is thrown away and purged when its time has come."""
        name, copy = f"f-{number}", f"f-{number}-copy"
        await self._change("POST", "/folders", json={"name": name, "cloneable": True})
        await self._until_ready(name)
        await asyncio.sleep(self._dice.uniform(0, 5))
        match number % 3:
            case 1:
                await self._change("POST", f"/folders/{name}/clone", json={"target_name": copy})
                await self._until_ready(copy)
            case 2:
                await self._change("DELETE", f"/folders/{name}")
                while (await self._until_answered("GET", "/folders/_/id", also=404, json={"name": name})).is_success:
                    await asyncio.sleep(0.5)

    async def _change(self, method: str, path: str, **parts: Any) -> None:
        """Each time it is asked again the key is the same. What was deleted by then is not there."""
        key = {"Idempotency-Key": f'"{uuid4()}"'}
        await self._until_answered(method, path, headers=key, also=404 if method == "DELETE" else None, **parts)

    async def _until_ready(self, name: str) -> None:
        while (await self._until_answered("GET", f"/folders/{name}")).json()["status"] != "ready":
            await asyncio.sleep(0.5)

    async def _give(self, kind: str, **parts: object) -> list[dict[str, object]]:
        """Send a command until it is acknowledged, and ask until its outcome is known; its events."""
        command = {"type": kind, "owner": self._owner, **parts}
        key = {"Idempotency-Key": f'"{uuid4()}"'}
        answer = await self._until_answered("POST", "/refold/commands", json=command, headers=key)
        command_id = answer.json()["command_id"]
        self.acknowledged.append(command_id)
        while answer.status_code == 202:
            await asyncio.sleep(0.5)
            answer = await self._until_answered("GET", f"/refold/commands/{command_id}")
        return list(answer.json().get("events", []))

    async def _until_answered(self, method: str, path: str, *, also: int | None = None, **parts: Any) -> httpx.Response:
        """`also`: a status that is an answer too."""
        while True:
            with suppress(httpx.HTTPError):
                answer = await self._client.request(method, path, **parts)
                if answer.is_success or answer.status_code == also:
                    return answer
                is_unknown_yet = method == "GET" and answer.status_code == 404
                if answer.status_code not in (429, 502, 503, 504) and not is_unknown_yet:
                    raise AssertionError(f"{path}: {answer.status_code} {answer.text}")
            await asyncio.sleep(self._dice.uniform(0.2, 1))

    async def close(self) -> None:
        await self._client.aclose()


async def havoc(here: Installation, dice: random.Random, until: float) -> list[str]:
    """Kill or stop something every few seconds; Kafka is killed twice and Postgres restarted twice."""
    done: list[str] = []
    grave = ["kafka", "postgres", "kafka", "postgres"]
    grave_at = [time.monotonic() + (until - time.monotonic()) * share for share in (0.2, 0.4, 0.6, 0.8)]
    stopped: list[asyncio.Task[None]] = []
    while time.monotonic() < until:
        if grave_at and time.monotonic() > grave_at[0]:
            grave_at.pop(0)
            victim = grave.pop(0)
            here.hit(victim, signal.SIGKILL if victim == "kafka" else signal.SIGINT)
            done.append(f"{victim} down")
        else:
            victim = dice.choice(list(PROCESSES))
            if dice.random() < 0.5:
                here.hit(victim, signal.SIGKILL)
                done.append(f"{victim} killed")
            else:
                stopped.append(asyncio.create_task(_stop_for(here, victim, dice.uniform(1, 8))))
                done.append(f"{victim} stopped")
        await asyncio.sleep(dice.uniform(1, 3.5))
    await asyncio.gather(*stopped)
    return done


async def _stop_for(here: Installation, victim: str, seconds: float) -> None:
    pid = here.hit(victim, signal.SIGSTOP)
    await asyncio.sleep(seconds)
    if pid is not None and here.pid(victim) == pid:
        here.hit(victim, signal.SIGCONT)


async def all_ended(here: Installation, sessions: list[str]) -> list[str]:
    """Wait until the projection shows every session ended; those that do not come to an end."""
    async with open_pool(here.stack.settings) as pool:
        end = time.monotonic() + END_SECONDS
        while True:
            async with pool.connection() as db:
                rows = await (
                    await db.execute(
                        "SELECT session_id FROM session_list WHERE status IN ('TERMINATED', 'CANCELLED', 'ERROR')"
                    )
                ).fetchall()
            left = set(sessions) - {session for (session,) in rows}
            if not left or time.monotonic() > end:
                return sorted(left)
            await asyncio.sleep(0.5)


@pytest.mark.cluster
@pytest.mark.chaos
@pytest.mark.timeout(400)
async def test_no_kill_or_pause_loses_or_repeats_anything(tmp_path: Path) -> None:
    seed = int(os.environ.get("REFOLD_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
    print(f"REFOLD_CHAOS_SEED={seed}")
    dice = random.Random(seed)
    async with installation(tmp_path) as here:
        people = People(here, dice)
        until = time.monotonic() + CHAOS_SECONDS
        hits = asyncio.create_task(havoc(here, dice, until))
        async with asyncio.timeout(CHAOS_SECONDS + END_SECONDS), asyncio.TaskGroup() as lives:
            for number in range(SESSIONS):
                lives.create_task(people.live(number))
                if number % (SESSIONS // FOLDERS) == 0:
                    lives.create_task(people.keep(number // (SESSIONS // FOLDERS)))
                await asyncio.sleep(CHAOS_SECONDS / SESSIONS)
        print(await hits)
        left = await all_ended(here, people.sessions)
        print(*here.stack.crashes, *here.crashes, sep="\n")
        await people.close()
        assert await integrity(here.stack) == ""
        here.hit("storage", signal.SIGSTOP)  # what it measures would be commands that have no outcome yet
        await asyncio.sleep(1)
        async with KafkaLog(here.stack.settings) as log:
            world = await read_world(
                log,
                here.stack.settings.topic_prefix,
                here.stack.settings.partitions,
                people.acknowledged,
                [tmp_path / "agents" / "agent-1"],
                Path(here.stack.settings.storage_volumes["volume1"]),
            )
        here.hit("storage", signal.SIGCONT)
        findings = judge(world)
        assert not findings, str(findings)
        assert not left
        verify = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "projections", "verify", "--all"),
            cwd=ROOT,
            env=dict(os.environ) | here.stack.settings.environment(),
        )
        assert await verify.wait() == 0, "a projection is not the fold of the log"
