"""Where the workers keep what storage services say they have changed in folders, and where it is read: one row for each
change, for so many days. Telemetry, not a fold of the log: nothing is decided by it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple
from uuid import UUID

from psycopg.rows import class_row

from domain.vfolder.operations import FileOperation
from infra.postgres import Connection

_ADD: Final = """
INSERT INTO file_operations (operation_id, at, scope, folder_id, host, actor, operation, path, target, size_bytes)
SELECT * FROM unnest(%s::uuid[], %s::timestamptz[], %s::text[], %s::text[], %s::text[], %s::text[], %s::text[],
                     %s::text[], %s::text[], %s::bigint[])
ON CONFLICT DO NOTHING"""

_PAGE: Final = """
SELECT operation_id, at, actor, operation, path, target, size_bytes FROM file_operations
WHERE folder_id = %(folder_id)s AND (at, operation_id) < (%(at)s, %(operation_id)s)
ORDER BY at DESC, operation_id DESC LIMIT %(limit)s"""

_FORGET: Final = """
DELETE FROM file_operations WHERE operation_id IN (
    SELECT operation_id FROM file_operations WHERE at < %s ORDER BY at LIMIT %s)"""

_FORGOTTEN_AT_ONCE: Final = 10_000


class Place(NamedTuple):
    """Of a row among those of its folder, which come the youngest first."""

    at: datetime
    operation_id: UUID


@dataclass(frozen=True, slots=True)
class Row:
    operation_id: UUID
    at: datetime
    actor: str
    operation: str
    path: str
    target: str | None
    size_bytes: int | None

    @property
    def place(self) -> Place:
        return Place(self.at, self.operation_id)


async def store(db: Connection, operations: Mapping[UUID, FileOperation]) -> None:
    """By id; those that are there already are left as they are."""
    rows = [
        (
            operation_id,
            each.at,
            each.folder.scope,
            each.folder.folder_id,
            each.folder.host,
            each.actor,
            each.operation.value,
            each.path,
            each.target,
            each.size_bytes,
        )
        for operation_id, each in sorted(operations.items())  # in one order: workers that meet do not lock up
    ]
    if rows:
        await db.execute(_ADD, [list(column) for column in zip(*rows, strict=True)])


async def forget(db: Connection, now: datetime, kept: timedelta) -> None:
    """What is older."""
    while True:
        if (await db.execute(_FORGET, (now - kept, _FORGOTTEN_AT_ONCE))).rowcount < _FORGOTTEN_AT_ONCE:
            return


async def page(db: Connection, folder_id: str, before: Place | None, limit: int) -> list[Row]:
    """The youngest, or those that follow that place."""
    at, operation_id = before or ("infinity", UUID(int=0))
    values = {"folder_id": folder_id, "at": at, "operation_id": operation_id, "limit": limit}
    async with db.cursor(row_factory=class_row(Row)) as cursor:
        await cursor.execute(_PAGE, values)
        return await cursor.fetchall()
