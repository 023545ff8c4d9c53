"""Workers as processes: a scan outlives the one that had begun it."""

import asyncio
from datetime import UTC, datetime
from uuid import uuid4

import pytest
from aiohttp import web

from domain.contexts import CONTEXTS
from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.images import CreateRegistry, ImageRegistered, RegistrySpec
from domain.directory.messages.tasks import ScanRegistries, StartTask, TaskEnd, TaskEnded, TaskId
from domain.messages import Event
from infra.decoding import read_event
from infra.log import Partition, read_until
from infra.sending import Sender
from infra.topics import events
from tests.workers.registry import FakeRegistry
from tests.workers.test_takeover import PARTITIONS, Workers, workers

__all__ = ["workers"]  # the fixture

pytestmark = pytest.mark.cluster

NAME = "cr.example.org"


async def give(workers: Workers, *commands: DirectoryCommand) -> None:
    sender = Sender(workers.settings, workers.log, "test")
    await sender.send_all([("directory", command, str(uuid4())) for command in commands], "test")


async def told(workers: Workers) -> list[Event]:
    places = [Partition(workers.settings.topic_prefix + events("directory"), number) for number in range(PARTITIONS)]
    ends = await workers.log.ends(places)
    read = read_until(workers.log, dict.fromkeys(places, 0), ends)
    return [read_event(CONTEXTS["directory"], record).event async for batch in read for record in batch]


async def test_a_scan_whose_worker_is_killed_is_done_by_another(workers: Workers) -> None:
    registry = FakeRegistry()
    for tag in ("1", "2", "3"):
        registry.add("stable/python", tag)
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def held(request: web.Request) -> web.StreamResponse:
        asked.set()
        await go_on.wait()
        del registry.instead[request.path]
        return await registry.answer(request)

    registry.instead["/v2/stable/python/manifests/3"] = held
    async with registry.serving():
        first = await workers.start()
        now = datetime.now(UTC)
        work = ScanRegistries(registries=(NAME,))
        await give(
            workers,
            CreateRegistry(at=now, name=NAME, spec=RegistrySpec(url=registry.url)),
            StartTask(at=now, task_id=TaskId(str(uuid4())), work=work),
        )
        async with asyncio.timeout(40):
            await asked.wait()
        first.kill()
        go_on.set()
        await workers.start()
        async with asyncio.timeout(40):
            while not (ends := [each for each in await told(workers) if isinstance(each, TaskEnded)]):
                await asyncio.sleep(0.2)
    assert [each.end for each in ends] == [TaskEnd.DONE]
    found = sorted(each.reference for each in await told(workers) if isinstance(each, ImageRegistered))
    assert found == [f"{NAME}/stable/python:{tag}" for tag in "123"]
