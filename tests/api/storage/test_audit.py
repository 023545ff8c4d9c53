"""Changes of files are told to the log, and nobody who makes one waits for it."""

import asyncio
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import pytest

from api.storage import audit
from api.storage.audit import Trail, trail
from domain.vfolder.mounts import FolderId, FolderRef
from domain.vfolder.operations import FileOperation, Operation
from infra.log import LogUnavailable, NewRecord
from infra.memory_log import MemoryLog
from infra.settings import Settings
from infra.topics import AUDIT, all_topics
from tests.whole import an_id

SETTINGS = Settings()


class Told(MemoryLog):
    """`is_away`: it takes what it is given, or part of it, and does not say so."""

    def __init__(self) -> None:
        super().__init__({SETTINGS.topic_prefix + topic.name: topic.partitions for topic in all_topics(SETTINGS)})
        self.records: list[NewRecord] = []
        self.is_away = False

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        self.records += records
        if self.is_away:
            raise LogUnavailable("no answer")
        return await super().append(records)

    @property
    def operations(self) -> list[FileOperation]:
        """Each once, though it was told twice."""
        by_id = {dict(each.headers)["ce_id"]: each.value for each in self.records}
        return [FileOperation.model_validate_json(value) for value in by_id.values()]

    async def until(self, is_so: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not is_so():
                await asyncio.sleep(0.01)


def operation(number: int) -> FileOperation:
    folder = FolderRef(scope="user:ada", folder_id=FolderId(an_id(f"folder {number % 3}")), host="local:volume1")
    return FileOperation(
        at=datetime.now(UTC), folder=folder, actor="AKADA", operation=Operation.MKDIR, path=f"directory-{number}"
    )


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_RETRY_SECONDS", 0.02)


async def test_every_change_is_told_once_to_the_partition_of_its_folder() -> None:
    log, made = Told(), [operation(number) for number in range(1200)]
    async with trail(SETTINGS, log) as note:
        for each in made:
            note(each)
        await log.until(lambda: len(log.records) == len(made))
    assert log.operations == made
    assert len(log.records) == len(made)
    assert {each.partition.topic for each in log.records} == {SETTINGS.topic_prefix + AUDIT}
    for record in log.records:
        headers = dict(record.headers)
        assert (record.key, headers["ce_actor"], headers["ce_source"]) == (
            headers["ce_subject"],
            b"AKADA",
            b"storage/local",
        )


async def test_while_the_log_is_away_changes_wait_and_are_told_by_the_same_ids_later() -> None:
    log, made = Told(), [operation(number) for number in range(600)]
    log.is_away = True
    async with trail(SETTINGS, log) as note:
        for each in made:
            note(each)
        await log.until(lambda: len(log.records) >= 1500)
        log.is_away = False
    assert log.operations == made


async def test_when_too_many_wait_the_newest_are_dropped_and_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "WAITING_BYTES_MAX", 20_000)
    before = audit._dropped._value.get()
    log, made = Told(), [operation(number) for number in range(100)]
    kept = Trail(SETTINGS, log)
    for each in made:
        kept.note(each)
    assert 10 < kept.waiting < 20
    waiting = kept.waiting
    await kept.tell()
    assert log.operations == made[:waiting]
    assert audit._dropped._value.get() - before == len(made) - waiting
    kept.note(made[-1])
    await kept.tell()
    assert log.operations == [*made[:waiting], made[-1]], "there is room again"


async def test_a_service_that_stops_does_not_wait_for_a_log_that_is_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "_STOP_SECONDS", 0.1)
    before = audit._dropped._value.get()
    log = Told()
    log.is_away = True
    async with asyncio.timeout(3), trail(SETTINGS, log) as note:
        note(operation(1))
    assert audit._dropped._value.get() - before == 1
