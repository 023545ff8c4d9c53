"""What storage services have changed in folders, from the log to Postgres, where it is kept for a while.

At-least-once: a batch is acknowledged when it is kept, and what is read twice is one row.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

import psycopg
import structlog

from domain.vfolder.operations import FileOperation
from infra import file_operations
from infra.postgres import Pool, Unavailable, connection
from infra.settings import Settings
from infra.topics import AUDIT
from workers.projecting import ProjectingApp, batches

_log = structlog.get_logger(__name__)

_FORGET_SECONDS: Final = 3600.0
_RETRY_SECONDS: Final = 1.0


def add_auditing(app: ProjectingApp, settings: Settings, pool: Pool) -> None:
    """Keep what is told, for `storage_audit_days`."""
    kept = timedelta(days=settings.storage_audit_days)

    async def keep(stream: Any) -> None:
        async for batch in batches(stream):
            now = datetime.now(UTC)
            read = dict(found for event in batch if (found := _read(event)) is not None)
            await _store(pool, {each: operation for each, operation in read.items() if now - operation.at < kept})
            for event in batch:
                event.ack()

    async def forget() -> None:
        try:
            async with connection(pool) as db:
                await file_operations.forget(db, datetime.now(UTC), kept)
        except Unavailable as error:
            _log.warning("old changes of files were not deleted", reason=str(error))

    app.agent(app.topic(settings.topic_prefix + AUDIT, value_type=bytes), name="keep_file_operations")(keep)
    app.timer(_FORGET_SECONDS)(forget)


def _read(event: Any) -> tuple[UUID, FileOperation] | None:
    message = event.message
    try:
        operation_id = UUID(dict(message.headers or ())["ce_id"].decode())
        return operation_id, FileOperation.model_validate_json(message.value)
    except (ValueError, KeyError, OverflowError) as error:  # the last: a moment outside of the calendar
        _log.warning("unreadable change of files", offset=message.offset, reason=str(error))
        return None


async def _store(pool: Pool, operations: Mapping[UUID, FileOperation]) -> None:
    """Returns once they are kept, however long the database is away."""
    while True:
        try:
            async with connection(pool) as db:
                return await file_operations.store(db, operations)
        except Unavailable as error:
            _log.warning("changes of files not kept, trying again", reason=str(error))
        except psycopg.Error as error:  # what no column takes is not taken the next time either
            _log.error("changes of files were not kept", count=len(operations), reason=str(error))
            return None
        await asyncio.sleep(_RETRY_SECONDS)
