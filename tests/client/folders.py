"""A Refold that has a storage service, and two people who use its folders by the public client."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx

from domain.vfolder.mounts import FolderId, folder_path
from tests.client.conftest import Client
from tests.client.warm import WarmClient, warm
from tests.secrecy import places_of
from tests.stack import WITH_STORAGE, Stack, integrity, running_stack

HOST = "local:volume1"
ADA = "ada@example.org"
_READY_SECONDS = 60.0

_ADA = f"""
s.User.create("default", "{ADA}", "a first password", username="ada")
uuid = s.User.detail("{ADA}")["uuid"]
s.Group.add_users(s.Group.list("default")[0]["id"], [uuid])
made = s.KeyPair.create("{ADA}")["keypair"]
print(json.dumps([uuid, made["access_key"], made["secret_key"]]))
"""


@asynccontextmanager
async def folder_stack(kafka: str, database: str, folder: Path) -> AsyncIterator[Stack]:
    """None of its processes crashes but a storage service that is killed, no secret lies about, and in the end the
    disk has the folders that the log has."""
    async with running_stack(kafka, database, folder, WITH_STORAGE) as running:
        await storage_ready(running)
        yield running
        assert [crash for crash in running.crashes if crash.name != "storage"] == []
        assert await integrity(running) == ""
        assert await places_of(running, running.secrets) == []


async def storage_ready(stack: Stack) -> None:
    address = stack.settings.storage[stack.settings.storage_name]["internal"]
    async with asyncio.timeout(_READY_SECONDS), httpx.AsyncClient() as anybody:
        while True:
            with suppress(httpx.HTTPError):
                if (await anybody.get(f"{address}/ready")).is_success:
                    return
            await asyncio.sleep(0.1)


def on_disk(stack: Stack, folder_id: str) -> Path:
    """Where the folder of that id lies, however the id is written."""
    return Path(stack.settings.storage_volumes["volume1"]) / folder_path(FolderId(str(UUID(folder_id))))


@dataclass(frozen=True)
class People:
    """The administrator, and a user who is in his project."""

    admin: WarmClient
    ada: WarmClient
    ada_id: str


@asynccontextmanager
async def two_people(stack: Stack, client: Client, home: Path) -> AsyncIterator[People]:
    async with warm(client) as admin:
        ada_id, access_key, secret_key = json.loads((await admin.called(_ADA)).splitlines()[-1])
        stack.secrets |= {secret_key, "a first password"}
        yield People(admin, admin.of(access_key, secret_key, home), ada_id)


async def id_of(client: WarmClient, name: str) -> str:
    told = await client.called(f"print(s.VFolder('{name}').info()['id'])")
    return told.split()[-1]
