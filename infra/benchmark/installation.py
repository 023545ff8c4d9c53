"""An installation of its own for a measurement: real servers on an empty folder, and whatever processes it needs."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import httpx

from domain.directory.messages.groups import CreateResourceGroup
from domain.directory.messages.keypairs import KeypairChanges, ModifyKeypair
from domain.directory.messages.policies import KeypairPolicyChanges, ModifyKeypairPolicy
from domain.messages import AccessKey, Cell
from infra.embedded import stack
from infra.embedded.folder import CannotStart, ports
from infra.kafka import KafkaLog
from infra.secrets import new_key
from infra.sending import Sender
from infra.settings import Settings
from infra.setup import Admin, set_up
from infra.signing import KeypairAuth
from infra.supervise import Crash, Supervisor

ROOT = Path(__file__).resolve().parent.parent.parent
ADMIN = Admin("bench@refold.test", "bench", "AKIABENCHBENCHBENCH0", "b" * 40)

_READY_SECONDS = 60.0
_NOTHING_ELSE: Mapping[str, str] = {}


@dataclass
class Installation:
    """`start` and `stop` its processes by name; everything is stopped at the end of the block."""

    settings: Settings
    supervisor: Supervisor
    crashes: list[str]
    running: dict[str, "asyncio.subprocess.Process"] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def client(self, *, covers_body: bool = True) -> httpx.AsyncClient:
        """Signs as the administrator. `covers_body`: not for uploads."""
        auth = KeypairAuth(ADMIN.access_key, ADMIN.secret_key, covers_body=covers_body)
        return httpx.AsyncClient(base_url=self.url, auth=auth, timeout=120)

    async def start(
        self, name: str, *arguments: str, called: str = "", environ: Mapping[str, str] = _NOTHING_ELSE
    ) -> None:
        """`python -m NAME ARGUMENTS`, with its log in the data folder. `called`: its name here, if not that one;
        `environ`: its settings, where they are others."""
        called = called or name
        logs = self.settings.data_dir / "logs"
        with (logs / f"{called}.log").open("ab") as log:
            self.running[called] = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", name, *arguments),
                cwd=ROOT,
                env=dict(os.environ) | self.settings.environment() | dict(environ),
                stdout=log,
                stderr=log,
            )

    async def stop(self, *names: str) -> None:
        for name in names or list(self.running):
            process = self.running.pop(name)
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(15):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    async def api_ready(self) -> None:
        """Returns once the api can append and read back."""
        url = f"{self.url}/ready"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient() as client:
                while True:
                    with contextlib.suppress(httpx.HTTPError):
                        if (await client.get(url)).status_code == 200:
                            return
                    await asyncio.sleep(0.1)
        raise CannotStart(f"the api is not ready after {_READY_SECONDS:g} s; see {self.settings.data_dir}/logs/api.log")


@contextlib.asynccontextmanager
async def installation(folder: Path, **chosen: object) -> AsyncIterator[Installation]:
    """Kafka and Postgres of its own, with topics, tables and an administrator. `chosen`: settings other than usual."""
    servers = stack.choose(folder, {}, jars_dir=ROOT / ".refold" / "jars")
    crashes: list[str] = []

    def note(crash: Crash) -> None:
        crashes.append(str(crash))

    async with Supervisor(folder / "logs", note) as supervisor:
        await servers.start(supervisor)
        addresses = servers.addresses()
        port = ports(folder, "api")["api"]
        settings = Settings.model_validate(
            {
                "data_dir": folder,
                "kafka": addresses["REFOLD_KAFKA"],
                "database": addresses["REFOLD_DATABASE"],
                "master_key": new_key(),
                "internal_key": new_key(),
                "api_port": port,
                "api_url": f"http://127.0.0.1:{port}",
                "agent_id": "bench",
                "agent_runtime": "fake",
                "agent_slots": {"cpu": "64", "mem": "256g"},
            }
            | chosen
        )
        await set_up(settings, ADMIN)
        await _prepare(settings)
        here = Installation(settings, supervisor, crashes)
        try:
            yield here
        finally:
            await here.stop()


async def _prepare(settings: Settings) -> None:
    """The first administrator may run a thousand sessions at a time and make 30,000 requests in 15 minutes, and a
    measurement asks for more; the group `nowhere` has no agents, so what is asked of it waits."""
    now = datetime.now(UTC)
    many = KeypairPolicyChanges(max_concurrent_sessions=10**6)
    commands = [
        ModifyKeypairPolicy(at=now, name="default", changes=many),
        ModifyKeypair(at=now, access_key=AccessKey(ADMIN.access_key), changes=KeypairChanges(rate_limit=10**9)),
        CreateResourceGroup(at=now, name="nowhere", cell=Cell("default")),
        CreateResourceGroup(at=now, name="docker", cell=Cell("default")),
        CreateResourceGroup(at=now, name="native", cell=Cell("default")),
        CreateResourceGroup(at=now, name="fleet", cell=Cell("default")),
    ]
    async with KafkaLog(settings) as log:
        await Sender(settings, log, "bench").send_all([("directory", each, str(uuid4())) for each in commands], "bench")
