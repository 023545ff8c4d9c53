"""How a record of an events topic is read back: what it says, and where it stands."""

from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import TypeAdapter, ValidationError

from domain.context import AnyContext
from domain.messages import Event
from domain.outcomes import OUTCOME_TYPES, OUTCOMES
from domain.upcasting import current_version, lift
from infra.log import Record


class Unreadable(Exception):
    """A record that is no message of its topic."""


@dataclass(frozen=True, slots=True)
class Told:
    """An event, its boundary key, and the record it was read from.

    `command_id` caused it; `command_offset` is where that command stands in the commands partition of the same number,
    None for what no command caused (`ShardOpened`).
    """

    event: Event
    key: str
    record: Record
    event_id: str
    command_id: str
    command_offset: int | None


def read_event(context: AnyContext, record: Record) -> Told:
    """Raises `Unreadable`."""
    headers = dict(record.headers)
    try:
        kind = headers["ce_type"].decode()
        adapter: TypeAdapter[Any] = OUTCOMES if kind in OUTCOME_TYPES else context.events
        event = read_message(adapter, kind, headers, record.value)
        offset = headers.get("ce_commandoffset")
        return Told(
            event=event,
            key=record.key.decode(),
            record=record,
            event_id=headers["ce_id"].decode(),
            command_id=headers["ce_causationid"].decode(),
            command_offset=None if offset is None else int(offset),
        )
    except (KeyError, ValueError) as error:
        raise Unreadable(f"{record.partition} offset {record.offset}: {error}") from error


def read_message(adapter: TypeAdapter[Any], kind: str, headers: dict[str, bytes], value: bytes) -> Any:
    """The message in `value`, lifted first where it is of an older shape. Raises `Unreadable`."""
    try:
        version = int(headers.get("ce_schemaversion", b"1"))
        if version == current_version(kind):
            return adapter.validate_json(value)
        return adapter.validate_python(lift(kind, version, orjson.loads(value)), strict=False)
    except (ValidationError, ValueError) as error:
        raise Unreadable(str(error)) from error
