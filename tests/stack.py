"""A Refold of processes on the servers that `infra/test` has started: own topics, own database, a fake agent."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from psycopg import AsyncConnection
from psycopg.conninfo import make_conninfo
from psycopg.sql import SQL, Identifier
from pydantic import SecretStr

from domain.messages import AgentId
from infra.embedded.folder import ports
from infra.embedded.storage import own_storage
from infra.secrets import agent_key, new_key
from infra.settings import Settings
from infra.setup import Admin, set_up
from infra.signing import KeypairAuth
from infra.storage_passes import storage_key
from infra.supervise import Child, Crash, Supervisor

ROOT = Path(__file__).parent.parent
_READY_SECONDS = 60.0
_SLOTS = {"cpu": "64", "mem": "256g"}
PROCESSES: Mapping[str, Sequence[str]] = {"workers": ["workers"], "api": ["api"], "agent": ["agents"]}
"""Name → what `python -m` gets."""
WITH_STORAGE: Mapping[str, Sequence[str]] = {**PROCESSES, "storage": ["api.storage"]}


@dataclass
class Stack:
    """`supervisor` has the processes as its children; `crashes` tells of those that ended by themselves.

    `secrets`: what was used in it and may stand nowhere in clear.
    """

    settings: Settings
    admin: Admin
    supervisor: Supervisor
    crashes: list[Crash]
    secrets: set[str]

    @property
    def endpoint(self) -> str:
        return f"http://127.0.0.1:{self.settings.api_port}"

    def client(self, **headers: str) -> httpx.AsyncClient:
        """Signs as the administrator."""
        auth = KeypairAuth(self.admin.access_key, self.admin.secret_key)
        return httpx.AsyncClient(base_url=self.endpoint, auth=auth, headers=headers, timeout=30)


@asynccontextmanager
async def running_stack(
    kafka: str, database: str, folder: Path, processes: Mapping[str, Sequence[str]] = PROCESSES, **changed: Any
) -> AsyncIterator[Stack]:
    """Everything up and ready; stopped, and its database dropped, when the block ends."""
    name = f"stack_{uuid4().hex[:10]}"
    url = await _create_database(database, name)
    port = ports(folder, "api")["api"]
    chosen: dict[str, Any] = {
        "data_dir": folder,
        "kafka": kafka,
        "database": SecretStr(url),
        "deployment": name.replace("_", "-"),
        "topic_prefix": f"{name}.",
        "master_key": new_key(),
        "internal_key": new_key(),
        "api_port": port,
        "api_url": f"http://127.0.0.1:{port}",
        "partitions": 3,
        "agent_runtime": "fake",
        "agent_slots": _SLOTS,
        "log_format": "json",
    }
    if any(arguments[0] == "api.storage" for arguments in processes.values()):
        chosen |= own_storage(folder, Settings())
    settings = Settings.model_validate(chosen | changed)
    admin = Admin("admin@refold.test", "correct horse", f"AKIA{uuid4().hex[:16].upper()}", uuid4().hex)
    try:
        await set_up(settings, admin)
        crashes: list[Crash] = []
        async with Supervisor(folder / "logs", crashes.append) as supervisor:
            keys = {
                settings.master_key.get_secret_value(),
                settings.internal_key.get_secret_value(),
                _own_key(settings),
            }
            stack = Stack(settings, admin, supervisor, crashes, {admin.password, admin.secret_key} | keys)
            for each, arguments in processes.items():
                await supervisor.start(child(each, arguments, _known_to(arguments, settings)))
            await _until_ready(stack)
            yield stack
    finally:
        await _drop_database(database, name)


def _known_to(arguments: Sequence[str], settings: Settings) -> dict[str, str]:
    """Agents run where people's code runs, and storage services touch what people bring: they are told nothing that
    opens secrets, and no key but their own."""
    told = settings.environment()
    match arguments[0]:
        case "agents":
            own = {"REFOLD_AGENT_KEY": _own_key(settings)}
        case "api.storage":
            own = {"REFOLD_STORAGE_KEY": storage_key(settings, settings.storage_name)}
        case _:
            return told
    kept = {"REFOLD_MASTER_KEY", "REFOLD_DATABASE", "REFOLD_INTERNAL_KEY"}
    return {name: text for name, text in told.items() if name not in kept} | own


def _own_key(settings: Settings) -> str:
    return agent_key(settings, AgentId(settings.agent_id or socket.gethostname()))


def child(name: str, arguments: Sequence[str], environment: Mapping[str, str]) -> Child:
    """`python -m` with these arguments, which knows nothing of our environment but this."""
    base = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
    return Child(name, (sys.executable, "-P", "-m", *arguments), env={**base, **environment}, cwd=ROOT)


async def integrity(stack: Stack) -> str:
    """What is on the disks of folders and not in the log, or the other way round; nothing, if all is well."""
    checking = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "api.storage.integrity"),
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), **stack.settings.environment()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    found, _ = await checking.communicate()
    return found.decode()


async def _until_ready(stack: Stack) -> None:
    """The api follows the log, the administrator is in its directory, and the agent has registered."""
    async with asyncio.timeout(_READY_SECONDS), stack.client() as client:
        while True:
            try:
                signed = await client.get("/manager/announcement")
                status = (await client.get("/refold/status")).json() if signed.status_code == 200 else {}
                if status.get("agents", {}).get("ALIVE"):
                    return
            except httpx.HTTPError:
                pass
            await asyncio.sleep(0.1)


async def _create_database(database: str, name: str) -> str:
    async with await AsyncConnection.connect(database, autocommit=True) as db:
        await db.execute(SQL("CREATE DATABASE {}").format(Identifier(name)))
    return make_conninfo(database, dbname=name)


async def _drop_database(database: str, name: str) -> None:
    async with await AsyncConnection.connect(database, autocommit=True) as db:
        await db.execute(SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(Identifier(name)))
