"""What storage services say they changed, through a real Kafka and Faust, to the table and out of it again."""

import asyncio
from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from pydantic import SecretStr

from api.storage.audit import trail
from domain.vfolder.mounts import FolderId, FolderRef
from domain.vfolder.operations import FileOperation, Operation
from infra import file_operations
from infra.envelope import Cause, record_of
from infra.kafka import KafkaLog
from infra.log import NewRecord
from infra.postgres import Pool, connection
from infra.settings import Settings
from infra.topics import AUDIT, all_topics, partition_of
from projections.rebuild import set_up
from tests.whole import an_id
from workers.auditing import add_auditing
from workers.projecting import projecting_app, run_app

pytestmark = pytest.mark.cluster

FOLDER = FolderRef(scope="user:ada", folder_id=FolderId(an_id("folder")), host="local:volume1")


def operation(path: str, at: datetime, folder: FolderRef = FOLDER) -> FileOperation:
    return FileOperation(at=at, folder=folder, actor="AKADA", operation=Operation.UPLOAD, path=path, size_bytes=3)


def record(settings: Settings, told: FileOperation, value: bytes | None = None) -> NewRecord:
    message_id = str(uuid4())
    place = partition_of(settings, AUDIT, told.key)
    made = record_of(told, message_id, "storage/local", Cause("AKADA", message_id, message_id), place, told.key)
    return made if value is None else NewRecord(made.partition, made.key, made.headers, value)


async def test_what_a_storage_service_changed_is_kept_once_for_as_long_as_it_is_wanted(
    kafka: str, own_database: str, pool: Pool
) -> None:
    name = uuid4().hex[:8]
    settings = Settings.model_validate(
        {
            "kafka": kafka,
            "database": SecretStr(own_database),
            "deployment": f"test-{name}",
            "topic_prefix": f"test{name}.",
            "partitions": 1,
            "storage_audit_days": 30,
        }
    )
    at = datetime.now(UTC)
    first, last = operation("first", at - timedelta(seconds=1)), operation("last", at)
    twice = record(settings, operation("twice", at - timedelta(hours=1)))
    nul = record(settings, first, first.model_dump_json().replace("first", r"nul\u0000").encode())
    old = record(settings, operation("old", at - timedelta(days=31)))
    stop = asyncio.Event()
    async with KafkaLog(settings) as log:
        await log.create_topics(all_topics(settings))
        await set_up(settings, log, pool)
        app = projecting_app(settings, log, pool)
        add_auditing(app, settings, pool)
        async with asyncio.TaskGroup() as group, asyncio.timeout(60):
            group.create_task(run_app(app, stop))
            async with trail(settings, log) as note:
                note(first)
            await log.append([twice, twice, nul, old, record(settings, first, b"no JSON")])
            async with trail(settings, log) as note:
                note(last)
            try:
                while "last" not in (kept := await paths(pool)):
                    await asyncio.sleep(0.1)
            finally:
                stop.set()
    assert kept == ["last", "first", "twice"], "the youngest first; what is unreadable or too old is passed over"


async def test_old_changes_are_deleted_and_the_others_stay(pool: Pool) -> None:
    at = datetime.now(UTC)
    async with connection(pool) as db:
        told = {uuid4(): operation(f"{days} days", at - timedelta(days=days)) for days in (1, 29, 31, 400)}
        await file_operations.store(db, told)
        await file_operations.store(db, told)  # read once more, by who has taken over
        await file_operations.forget(db, at, timedelta(days=30))
    assert await paths(pool) == ["1 days", "29 days"]


async def paths(pool: Pool) -> list[str]:
    async with connection(pool) as db:
        return [row.path for row in await file_operations.page(db, FOLDER.folder_id, None, 100)]
