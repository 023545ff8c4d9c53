"""What became of a command?   GET /refold/commands/{id}

Each time a command stood in the log it has a row of its own here; its fate is the first. Folded from every context.
"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from domain.contexts import CONTEXTS
from domain.outcomes import CommandRefused, CommandUnneeded
from infra.decoding import Told
from infra.postgres import Connection
from projections.table import Keys, Projection, Rows, Table


@dataclass(slots=True)
class OutcomeRow:
    """`outcome` is "events", "refused" or "unneeded". `boundary_key` and `actor`: whose it was, and who gave it.

    `field`, `code` and `reason` of what was refused or unneeded; `about`: the thing that was there already; `repeats`:
    the offset of the command that had the same id first. `subject` and `event_type` of the first event; the events
    stand from `first_offset` to `last_offset` in the events partition of the same number.
    """

    command_id: str
    context: str
    partition: int
    command_offset: int
    outcome: str
    boundary_key: str
    actor: str
    code: str | None
    reason: str | None
    field: str | None
    about: str | None
    repeats: int | None
    subject: str | None
    event_type: str
    first_offset: int
    last_offset: int
    at: datetime


COMMAND_OUTCOMES = Table(
    "command_outcomes",
    OutcomeRow,
    key=("command_id", "context", "partition", "command_offset"),
    append_only=True,
)


def keys(_told: Told, _rows: Rows) -> Keys:
    return ()


def fold(rows: Rows, told: Told) -> None:
    """All that is to be said is said by the first record of an outcome: the others follow it directly."""
    if told.command_offset is None:
        return
    event, record = told.event, told.record
    index, _, count = (record.header("ce_outcome") or "0/1").partition("/")
    if index != "0":
        return
    row = OutcomeRow(
        command_id=told.command_id,
        # The topic is <prefix><context>.events, and a context's name has no dot.
        context=record.partition.topic.rsplit(".", 2)[-2],
        partition=record.partition.number,
        command_offset=told.command_offset,
        outcome="events",
        boundary_key=told.key,
        actor=record.header("ce_actor") or "",
        code=None,
        reason=None,
        field=None,
        about=None,
        repeats=None,
        subject=None,
        event_type=type(event).__name__,
        first_offset=record.offset,
        last_offset=record.offset + int(count) - 1,
        at=event.at,
    )
    match event:
        case CommandRefused():
            row.outcome = "refused"
            row.code, row.reason, row.field = event.code, event.reason, event.field
        case CommandUnneeded():
            row.outcome = "unneeded"
            row.code, row.reason, row.about, row.repeats = event.code, event.reason, event.about, event.first
        case _:
            row.subject = event.subject
    rows.put(COMMAND_OUTCOMES, row)


PROJECTION = Projection(
    "command_outcomes",
    contexts=tuple(CONTEXTS),
    tables=(COMMAND_OUTCOMES,),
    keys=keys,
    fold=fold,
)


_OF_COMMAND = sql.SQL(
    "SELECT {} FROM command_outcomes WHERE command_id = %s ORDER BY context, partition, command_offset LIMIT 100"
).format(COMMAND_OUTCOMES.names)


async def of_command(db: Connection, command_id: str) -> list[OutcomeRow]:
    """Its outcomes, the first one first: empty while it has none. Several contexts answer only if each was given it."""
    async with db.cursor(row_factory=class_row(OutcomeRow)) as cursor:
        await cursor.execute(_OF_COMMAND, (command_id,))
        return await cursor.fetchall()
