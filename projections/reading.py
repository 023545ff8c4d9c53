"""How a record of the log becomes what a projection folds, and what is done with one that this version cannot read.

Events are written by our own shards only, so one that cannot be read stops the projection (`Unreadable`): going on
would fold something else than the log. With one exception: an event of a type that only a newer version knows is passed
over, told, and remembered beside the checkpoint, so that the newer version's set-up rebuilds the projection. Shards of
two versions may thus write at the same time. A newer *shape* of a known type is not passed over, because what follows
may need it: upgrade what reads before what writes.
"""

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from typing import Any

import orjson
import structlog

from domain.contexts import CONTEXTS
from domain.outcomes import OUTCOME_TYPES
from infra.decoding import Told, read_event
from infra.log import Partition, Record
from infra.settings import Settings
from infra.topics import events
from projections.store import Checkpoint

_log = structlog.get_logger(__name__)

_NUL = b"\\u0000"


def events_topic(settings: Settings, context: str) -> str:
    """The name with the prefix."""
    return settings.topic_prefix + events(context)


def commands_of(partition: Partition) -> Partition:
    """The commands partition that an events partition belongs to."""
    return Partition(partition.topic.removesuffix("events") + "commands", partition.number)


@cache
def known_types(context: str) -> frozenset[str]:
    """The event types this version can read."""
    mapping: Mapping[str, Any] = CONTEXTS[context].events.json_schema()["discriminator"]["mapping"]
    return frozenset(mapping) | OUTCOME_TYPES


def read(context: str, record: Record) -> Told | str:
    """What the record tells, or its type where only a newer version knows it. Raises `Unreadable`."""
    kind = record.header("ce_type")
    if kind is not None and kind not in known_types(context):
        _log.warning("event of an unknown type passed over", type=kind, place=f"{record.partition}@{record.offset}")
        return kind
    if _NUL in record.value:  # Postgres holds any text but this
        record = replace(record, value=orjson.dumps(_without_nul(orjson.loads(record.value))))
    return read_event(CONTEXTS[context], record)


def after(checkpoint: Checkpoint, record: Record, told: Told | str) -> Checkpoint:
    """Where a projection stands once this record is folded.

    A command counts as reflected when the last record of its outcome is: readers that wait for it see all of it.
    """
    skipped, command_offset = checkpoint.skipped, checkpoint.command_offset
    if isinstance(told, str):
        skipped |= {told}
    place = record.header("ce_outcome") if isinstance(told, str) or told.command_offset is not None else None
    if place is not None:
        index, _, count = place.partition("/")
        if int(index) == int(count) - 1:
            command_offset = int(record.header("ce_commandoffset") or 0) + 1
    return Checkpoint(record.offset + 1, command_offset, skipped)


def _without_nul(value: Any) -> Any:
    match value:
        case str():
            return value.replace("\0", "\ufffd")
        case list():
            return [_without_nul(each) for each in value]
        case dict():
            return {_without_nul(key): _without_nul(each) for key, each in value.items()}
        case _:
            return value
