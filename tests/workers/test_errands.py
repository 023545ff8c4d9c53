"""Scans on the log: they are begun from what it says, and whoever has the lease may come and go."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from pydantic import SecretStr

from domain.directory.messages.images import CreateRegistry, ImageRegistered, RegistrySpec
from domain.directory.messages.tasks import CancelTask, ScanRegistries, StartTask, TaskEnd, TaskEnded, TaskId
from infra.keyring import Keyring, MemoryKeys, PostgresKeys
from infra.log import LogUnavailable, Record
from infra.memory_log import _MemoryReader
from infra.postgres import Pool
from infra.secrets import new_key
from infra.settings import Settings
from tests.whole import Whole, an_id, now
from tests.workers.registry import FakeRegistry
from workers import errands
from workers.errands import Errands, registry_passwords
from workers.registries.web import RegistryError

NAME = "cr.example.org"
TASK = TaskId(an_id("scan"))


class Installation(Whole):
    """The directory's shard, a registry, and workers for the errands."""

    def __init__(self, folder: Path, registry: FakeRegistry) -> None:
        super().__init__(folder, master_key=new_key())
        self.registry = registry
        self.keyring = Keyring(self.settings, MemoryKeys())

    @asynccontextmanager
    async def worker(self, name: str = "worker") -> AsyncIterator[None]:
        """Killed when the block ends: it says no goodbye."""
        running = asyncio.create_task(Errands(self.settings, self.log, name, self._password).run())
        try:
            yield
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def know(self, **spec: str) -> None:
        given = RegistrySpec.model_validate({"url": self.registry.url, "ssl_verify": False} | spec)
        await self.give("directory", CreateRegistry(at=now(), name=NAME, spec=given))

    async def start(self) -> None:
        work = ScanRegistries(registries=(NAME,))
        await self.give("directory", StartTask(at=now(), task_id=TASK, work=work))

    async def ended(self) -> TaskEnded:
        async with asyncio.timeout(10):
            while True:
                ends = [each.event for each in await self.told("directory", TASK)]
                if found := [event for event in ends if isinstance(event, TaskEnded)]:
                    return found[0]
                await asyncio.sleep(0.01)

    async def registered(self) -> list[str]:
        """References, once for each time that one was registered."""
        said = [each.event for each in await self.told("directory")]
        return sorted(event.reference for event in said if isinstance(event, ImageRegistered))

    async def until_asked(self, part: str) -> None:
        async with asyncio.timeout(10):
            while not self.registry.paths(part):
                await asyncio.sleep(0.005)

    async def _password(self, registry: str, sealed: str) -> str:
        return await self.keyring.reveal(sealed, f"registry/{registry}")


@pytest.fixture
async def here(tmp_path: Path) -> AsyncIterator[Installation]:
    registry = FakeRegistry()
    async with registry.serving():
        made = Installation(tmp_path, registry)
        async with made.shards():
            yield made


def held(registry: FakeRegistry, path: str) -> asyncio.Event:
    """From now on the registry answers there only once the event is set."""
    go_on = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        await go_on.wait()
        del registry.instead[path]
        return await registry.answer(request)

    registry.instead[path] = answer
    return go_on


async def test_a_scan_that_was_asked_for_is_done(here: Installation) -> None:
    here.registry.add("stable/python", "1")
    await here.know()
    await here.start()
    async with here.worker():
        ended = await here.ended()
    assert ended.end is TaskEnd.DONE
    assert await here.registered() == [f"{NAME}/stable/python:1"]


async def test_a_registrys_password_is_unsealed_for_the_scan_only(here: Installation) -> None:
    here.registry.account = ("robot", "correct horse")
    here.registry.add("stable/python", "1")
    sealed = await here.keyring.seal(f"registry:{NAME}", "correct horse", f"registry/{NAME}")
    await here.know(username="robot", password=sealed)
    await here.start()
    async with here.worker():
        assert (await here.ended()).end is TaskEnd.DONE
    assert len(await here.registered()) == 1
    assert not any(b"correct horse" in each.record.value for each in await here.told("directory"))


async def test_a_worker_killed_in_the_middle_loses_nothing_and_repeats_nothing(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.scanning._TELL_SECONDS", 0.01)
    for tag in ("1", "2", "3"):
        here.registry.add("stable/python", tag)
    go_on = held(here.registry, "/v2/stable/python/manifests/3")
    await here.know()
    await here.start()
    async with here.worker("first"), asyncio.timeout(10):
        while len(await here.registered()) < 2:
            await asyncio.sleep(0.01)
    go_on.set()
    async with here.worker("second"):
        assert (await here.ended()).end is TaskEnd.DONE
    assert await here.registered() == [f"{NAME}/stable/python:{tag}" for tag in "123"]


async def test_two_workers_at_once_do_no_harm(here: Installation) -> None:
    for tag in ("1", "2", "3"):
        here.registry.add("stable/python", tag)
    await here.know()
    async with here.worker("first"), here.worker("second"):
        await here.start()
        assert (await here.ended()).end is TaskEnd.DONE
        await asyncio.sleep(0.1)
    assert len(await here.registered()) == 3


async def test_a_cancelled_scan_stops_soon_and_says_nothing_more(here: Installation) -> None:
    here.registry.add("stable/python", "1")
    go_on = held(here.registry, "/v2/_catalog")
    await here.know()
    await here.start()
    async with here.worker():
        await here.until_asked("_catalog")
        await here.give("directory", CancelTask(at=now(), task_id=TASK))
        assert (await here.ended()).end is TaskEnd.CANCELLED
        async with asyncio.timeout(2):
            while any(task.get_name() == f"scan {TASK}" for task in asyncio.all_tasks()):
                await asyncio.sleep(0.01)
        go_on.set()
        await asyncio.sleep(0.05)
    assert not await here.registered()
    assert not here.registry.paths("/tags/")


async def test_what_has_ended_is_not_begun_again_by_the_next_worker(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = _MemoryReader.batch

    async def slow(reader: _MemoryReader, at_most: int, within: float) -> Sequence[Record]:
        """So that it reads of the task some time before it reads of its end."""
        await asyncio.sleep(0.02)
        return await batch(reader, min(at_most, 1), within)

    await here.know()
    await here.start()
    async with here.worker("first"):
        await here.ended()
    here.registry.asked.clear()
    monkeypatch.setattr(_MemoryReader, "batch", slow)
    async with here.worker("second"):
        await asyncio.sleep(0.5)
    assert not here.registry.asked


async def test_what_was_found_waits_for_a_log_that_does_not_answer(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(errands, "_RETRY_SECONDS", 0.01)
    here.registry.add("stable/python", "1")
    await here.know()
    await here.start()
    append = here.log.append
    refusals = 0

    async def away(_: object) -> list[int]:
        nonlocal refusals
        refusals += 1
        raise LogUnavailable("away")

    monkeypatch.setattr(here.log, "append", away)
    async with here.worker():
        async with asyncio.timeout(10):
            while refusals < 3:
                await asyncio.sleep(0.01)
        monkeypatch.setattr(here.log, "append", append)
        assert (await here.ended()).end is TaskEnd.DONE
    assert len(await here.registered()) == 1


async def test_a_defect_of_ours_fails_the_scan_and_not_the_worker(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("workers.scanning.Scan._look_through", None)
    await here.know()
    await here.start()
    async with here.worker():
        ended = await here.ended()
    assert (ended.end, ended.message) == (TaskEnd.FAILED, "a defect: TypeError")


async def test_a_password_that_cannot_be_read_fails_the_scan(
    here: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    await here.know(username="robot", password="c2VhbGVk")

    async def unreadable(_: str, __: str) -> str:
        raise RegistryError("its password cannot be read")

    monkeypatch.setattr(here, "_password", unreadable)
    await here.start()
    async with here.worker():
        ended = await here.ended()
    assert ended.message.startswith(f"{NAME}: its password cannot be read")
    assert not here.registry.asked


@pytest.mark.cluster
async def test_a_password_is_unsealed_with_the_keys_of_the_database(pool: Pool) -> None:
    settings = Settings(master_key=SecretStr(new_key()))
    sealed = await Keyring(settings, PostgresKeys(pool)).seal(f"registry:{NAME}", "correct horse", f"registry/{NAME}")
    assert await registry_passwords(settings, pool)(NAME, sealed) == "correct horse"
    for other, name in ((Settings(), NAME), (settings, "other.example.org")):
        with pytest.raises(RegistryError, match="cannot be read"):
            await registry_passwords(other, pool)(name, sealed)
