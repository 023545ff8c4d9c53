"""Rows and checkpoints in Postgres: how they are read, written and compared.

Everything takes table names, so that the same statements work on the live tables and on a rebuild's shadows.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, TypeVar

import orjson
from psycopg import sql
from psycopg.types.json import Jsonb

from infra.log import Partition
from infra.postgres import Connection
from projections.table import AnyTable, Key, Table

R = TypeVar("R")

CHANNEL = "refold_projected"
"""Notified with each commit that moves checkpoints, so that whoever waits for a position learns of it."""

_PAYLOAD_BYTES_MAX = 7_999  # of a notification, says Postgres


class StaleProjector(Exception):
    """The checkpoint is not where this fold began: somebody else is folding. Read it again."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a projection has folded of one events partition.

    `next_offset`: the first record that is not folded. `command_offset`: in the commands partition of the same number,
    the first command whose outcome is not folded entirely. `skipped`: types this version does not know and passed over.
    """

    next_offset: int = 0
    command_offset: int = 0
    skipped: frozenset[str] = frozenset()


Checkpoints = dict[tuple[str, Partition], Checkpoint]
"""By projection and partition of events."""


async def read_checkpoints(db: Connection, projections: Iterable[str], *, lock: bool = False) -> Checkpoints:
    """Those of these projections. With `lock`, nobody folds them before the transaction is over."""
    statement = (
        "SELECT projection, topic, partition, next_offset, command_offset, skipped_types FROM checkpoints"
        " WHERE projection = ANY(%s) ORDER BY projection, topic, partition"
    )
    cursor = await db.execute(statement + (" FOR UPDATE" if lock else ""), (list(projections),))
    return {
        (projection, Partition(topic, number)): Checkpoint(next_offset, command_offset, frozenset(skipped))
        for projection, topic, number, next_offset, command_offset, skipped in await cursor.fetchall()
    }


async def begin_checkpoints(db: Connection, places: Iterable[tuple[str, Partition]]) -> None:
    """Where there is none yet, begin at the beginning."""
    names, topics, numbers = _columns(sorted(places, key=_by_name))
    await db.execute(
        "INSERT INTO checkpoints (projection, topic, partition, next_offset, command_offset)"
        " SELECT *, 0, 0 FROM unnest(%s::text[], %s::text[], %s::int[]) ON CONFLICT DO NOTHING",
        (names, topics, numbers),
    )


async def advance_checkpoints(db: Connection, before: Checkpoints, after: Checkpoints) -> None:
    """Move each from where the fold began to where it ends, and tell so when this transaction commits.

    Raises `StaleProjector` if one is somewhere else.
    """
    places = sorted(after, key=_by_name)
    cursor = await db.execute(
        "WITH moved AS (UPDATE checkpoints SET next_offset = n.next_offset, command_offset = n.command_offset,"
        " skipped_types = ARRAY(SELECT jsonb_array_elements_text(n.skipped))"
        " FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[], %s::bigint[], %s::bigint[], %s::jsonb[])"
        " AS n (projection, topic, partition, began_at, next_offset, command_offset, skipped)"
        " WHERE checkpoints.projection = n.projection AND checkpoints.topic = n.topic"
        " AND checkpoints.partition = n.partition AND checkpoints.next_offset = n.began_at RETURNING 1)"
        " SELECT count(*), pg_notify(%s, %s) FROM moved",
        (
            *_columns(places),
            [before[place].next_offset for place in places],
            [after[place].next_offset for place in places],
            [after[place].command_offset for place in places],
            [Jsonb(sorted(after[place].skipped)) for place in places],
            CHANNEL,
            _told(after),
        ),
    )
    count, _ = await cursor.fetchone() or (0, None)
    if count != len(places):
        raise StaleProjector(f"{count} of {len(places)} checkpoints are where the fold began")


def _told(checkpoints: Checkpoints) -> str:
    told = [
        (name, partition.topic, partition.number, checkpoint.next_offset, checkpoint.command_offset)
        for (name, partition), checkpoint in checkpoints.items()
    ]
    text = orjson.dumps(told)
    return text.decode() if len(text) <= _PAYLOAD_BYTES_MAX else ""


def moved(notification: str) -> Checkpoints | None:
    """The checkpoints that a commit moved, as it told on `CHANNEL`; None where they were too many to be told."""
    if not notification:
        return None
    return {
        (name, Partition(topic, number)): Checkpoint(next_offset, command_offset)
        for name, topic, number, next_offset, command_offset in orjson.loads(notification)
    }


async def load(db: Connection, table: Table[R], keys: Sequence[Key], name: str | None = None) -> list[R]:
    """The rows of these keys, as far as they exist."""
    columns = [[key[n] for key in keys] for n in range(len(table.key))]
    statement = sql.SQL("SELECT {names} FROM {table} WHERE ({key}) IN (SELECT * FROM unnest({arrays}))").format(
        names=table.names,
        table=sql.Identifier(name or table.name),
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
        arrays=sql.SQL(", ").join(sql.SQL("%s::" + kind + "[]") for kind in table.key_types),
    )
    cursor = await db.execute(statement, columns)
    return [table.row(*cells) for cells in await cursor.fetchall()]


async def save(db: Connection, table: AnyTable, changes: Mapping[Key, Any], name: str | None = None) -> None:
    """Write rows, new or changed, and delete those that are None; one statement each, in the order of their keys."""
    kept = [row for _, row in sorted(changes.items()) if row is not None]
    gone = sorted(key for key, row in changes.items() if row is None)
    if gone:
        await db.execute(_delete(table, name or table.name), [[key[n] for key in gone] for n in range(len(table.key))])
    if kept:
        await db.execute(_upsert(table, name or table.name), (_as_json(kept),))


async def copy(db: Connection, table: AnyTable, rows: Iterable[Any], name: str) -> None:
    """Write rows that are not there yet, the fast way."""
    statement = sql.SQL("COPY {} ({}) FROM STDIN (FORMAT binary)").format(sql.Identifier(name), table.names)
    json_columns = [n for n, column in enumerate(table.columns) if column.sql_type == "jsonb"]
    async with db.cursor() as cursor, cursor.copy(statement) as out:
        out.set_types([column.sql_type for column in table.columns])
        for row in rows:
            cells = table.cells(row)
            if json_columns:
                cells = _with_json(cells, json_columns)
            await out.write_row(cells)


def _with_json(cells: tuple[Any, ...], json_columns: Sequence[int]) -> tuple[Any, ...]:
    changed = list(cells)
    for n in json_columns:
        if changed[n] is not None:
            changed[n] = Jsonb(changed[n], _dumps)
    return tuple(changed)


def _upsert(table: AnyTable, name: str) -> sql.Composed:
    rest = [column.name for column in table.columns if column.name not in table.key]
    return sql.SQL(
        "INSERT INTO {table} ({names}) SELECT {names} FROM json_populate_recordset(NULL::{table}, %s::json)"
        " ON CONFLICT ({key}) DO {action}"
    ).format(
        table=sql.Identifier(name),
        names=table.names,
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
        action=sql.SQL("NOTHING")
        if table.append_only
        else sql.SQL("UPDATE SET ")
        + sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(each)) for each in rest),
    )


def _delete(table: AnyTable, name: str) -> sql.Composed:
    return sql.SQL("DELETE FROM {table} WHERE ({key}) IN (SELECT * FROM unnest({arrays}))").format(
        table=sql.Identifier(name),
        key=sql.SQL(", ").join(map(sql.Identifier, table.key)),
        arrays=sql.SQL(", ").join(sql.SQL("%s::" + kind + "[]") for kind in table.key_types),
    )


def _as_json(rows: Sequence[Any]) -> str:
    try:
        return orjson.dumps(rows).decode()
    except TypeError:  # a number of more than 64 bits inside a JSON column, which Postgres can hold and orjson cannot
        return json.dumps([asdict(row) for row in rows], default=_plain)


def _dumps(value: Any) -> bytes:
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value).encode()


def _plain(value: Any) -> str:
    assert isinstance(value, datetime)
    return value.isoformat()


def _columns(places: Sequence[tuple[str, Partition]]) -> tuple[list[str], list[str], list[int]]:
    return (
        [projection for projection, _ in places],
        [partition.topic for _, partition in places],
        [partition.number for _, partition in places],
    )


def _by_name(place: tuple[str, Partition]) -> tuple[str, str, int]:
    projection, partition = place
    return projection, partition.topic, partition.number
