"""Everything is killed or stopped at random while sessions come and go; nothing is lost, stuck or run twice."""

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from pydantic import SecretStr

from infra.embedded.folder import ports
from infra.embedded.kafka import EmbeddedKafka
from infra.embedded.postgres import EmbeddedPostgres
from infra.kafka import KafkaLog
from infra.postgres import open_pool
from infra.secrets import new_key
from infra.settings import Settings
from infra.setup import Admin, set_up
from infra.signing import KeypairAuth
from infra.supervise import Child, Crash, Supervisor
from tests.chaos.checker import judge, read_world

ROOT = Path(__file__).parent.parent.parent
SESSIONS = 300
CHAOS_SECONDS = 75.0
END_SECONDS = 120.0
ADMIN = Admin("admin@refold.test", "correct horse", "AKIACHAOSCHAOSCHAOS0", "s" * 40)

PROCESSES = {
    "workers-1": ["workers", "--part", "shards"],
    "workers-2": ["workers", "--part", "shards"],
    "handlers": ["workers", "--part", "handlers"],
    "api": ["api"],
    "agent": ["agents"],
}


@dataclass
class Installation:
    """A whole Refold as processes of this machine, each of them at the test's mercy."""

    folder: Path
    settings: Settings
    supervisor: Supervisor
    crashes: list[str] = field(default_factory=list)

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    @property
    def environment(self) -> dict[str, str]:
        chosen = self.settings.model_dump(mode="json", exclude_unset=True)
        for name in ("database", "master_key", "internal_key"):
            chosen[name] = getattr(self.settings, name).get_secret_value()
        return {f"REFOLD_{name.upper()}": str(value) for name, value in chosen.items() if name != "agent_slots"} | {
            "REFOLD_AGENT_SLOTS": '{"cpu": "16", "mem": "64g"}'
        }

    def hit(self, name: str, number: signal.Signals) -> int | None:
        pid = self.supervisor.pid(name)
        if pid is not None:
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        return pid


@asynccontextmanager
async def installation(folder: Path) -> AsyncIterator[Installation]:
    crashes: list[str] = []

    def note(crash: Crash) -> None:
        crashes.append(str(crash))

    chosen = ports(folder, "kafka", "controller", "postgres", "api")
    kafka = EmbeddedKafka(folder, chosen["kafka"], chosen["controller"], jars_dir=ROOT / ".refold" / "jars")
    postgres = EmbeddedPostgres(folder, chosen["postgres"])
    async with Supervisor(folder / "logs", note) as supervisor:
        await asyncio.gather(kafka.run_by(supervisor), postgres.run_by(supervisor))
        settings = Settings(
            data_dir=folder,
            kafka=kafka.bootstrap,
            database=SecretStr(postgres.dsn),
            master_key=SecretStr(new_key()),
            internal_key=SecretStr(new_key()),
            api_port=chosen["api"],
            partitions=3,
            agent_id="agent-1",
            agent_runtime="fake",
        )
        here = Installation(folder, settings, supervisor, crashes)
        await set_up(settings, ADMIN)
        for name, command in PROCESSES.items():
            argv = (sys.executable, "-m", *command)
            await supervisor.start(Child(name=name, argv=argv, cwd=ROOT, env=dict(os.environ) | here.environment))
        async with asyncio.timeout(60), httpx.AsyncClient() as client:
            while not await _is_ready(client, here.endpoint):
                await asyncio.sleep(0.2)
        yield here


async def _is_ready(client: httpx.AsyncClient, endpoint: str) -> bool:
    with suppress(httpx.HTTPError):
        return (await client.get(f"{endpoint}/ready")).status_code == 200
    return False


class People:
    """Clients as they should be: each command has a key of its own, and is sent again until it is answered."""

    def __init__(self, here: Installation, dice: random.Random) -> None:
        self.acknowledged: list[str] = []
        self.sessions: list[str] = []
        self._here = here
        self._dice = dice
        self._client = httpx.AsyncClient(
            base_url=here.endpoint, auth=KeypairAuth(ADMIN.access_key, ADMIN.secret_key), timeout=20
        )

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
        seats = [{"role": "sub" if index else "main", "index": index or 1} for index in range(kernels)]
        events = await self._give("RequestSession", name=f"s-{number}", spec=spec, kernels=seats)
        session_id = str(events[0]["session_id"])
        self.sessions.append(session_id)
        if kind == "interactive":
            await asyncio.sleep(self._dice.uniform(0, 10))
            await self._give("TerminateSession", session_id=session_id)

    async def _give(self, kind: str, **parts: object) -> list[dict[str, object]]:
        """Send a command until it is acknowledged, and ask until its outcome is known; its events."""
        command = {"type": kind, "owner": ADMIN.access_key, **parts}
        key = {"Idempotency-Key": f'"{uuid4()}"'}
        answer = await self._until_answered("POST", "/refold/commands", json=command, headers=key)
        self.acknowledged.append(answer.json()["command_id"])
        while answer.status_code == 202:
            await asyncio.sleep(0.5)
            answer = await self._until_answered("GET", f"/refold/commands/{self.acknowledged[-1]}")
        return list(answer.json().get("events", []))

    async def _until_answered(self, method: str, path: str, **parts: Any) -> httpx.Response:
        while True:
            with suppress(httpx.HTTPError):
                answer = await self._client.request(method, path, **parts)
                is_unknown_yet = method == "GET" and answer.status_code == 404
                if answer.status_code not in (429, 502, 503, 504) and not is_unknown_yet:
                    assert answer.status_code in (200, 202), f"{path}: {answer.status_code} {answer.text}"
                    return answer
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
    if pid is not None and here.supervisor.pid(victim) == pid:
        here.hit(victim, signal.SIGCONT)


async def all_ended(here: Installation, sessions: list[str]) -> list[str]:
    """Wait until the projection shows every session ended; those that do not come to an end."""
    async with open_pool(here.settings) as pool:
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
                await asyncio.sleep(CHAOS_SECONDS / SESSIONS)
        print(await hits)
        left = await all_ended(here, people.sessions)
        print("\n".join(here.crashes))
        await people.close()
        async with KafkaLog(here.settings) as log:
            world = await read_world(
                log,
                here.settings.topic_prefix,
                here.settings.partitions,
                people.acknowledged,
                [tmp_path / "agents" / "agent-1"],
            )
        findings = judge(world)
        assert not findings, str(findings)
        assert not left
        verify = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "projections", "verify", "--all"),
            cwd=ROOT,
            env=dict(os.environ) | here.environment,
        )
        assert await verify.wait() == 0, "a projection is not the fold of the log"
