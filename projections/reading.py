"""How a record of the log becomes what a projection folds, and what is done with one that this version cannot read.

Events are written by our own shards only, so one that cannot be read stops the projection (`Unreadable`): going on
would fold something else than the log. With one exception: an event of a type that only a newer version knows is passed
over, told, and remembered beside the checkpoint, so that the newer version's set-up rebuilds the projection. Shards of
two versions may thus write at the same time. A newer *shape* of a known type is not passed over, because what follows
may need it: upgrade what reads before what writes.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from typing import Any

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

Tale = tuple[Record, Told | str]
"""A record and what it tells; only its type where this version does not know it."""


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
        record = replace(record, value=json.dumps(_without_nul(json.loads(record.value))).encode())
    return read_event(CONTEXTS[context], record)


def after(checkpoint: Checkpoint, tales: Sequence[Tale]) -> Checkpoint:
    """Where a projection stands once these records of one partition are folded.

    A command counts as reflected when the last record of its outcome is: readers that wait for it see all of it.
    """
    return Checkpoint(
        next_offset=tales[-1][0].offset + 1,
        command_offset=_reflected(tales) or checkpoint.command_offset,
        skipped=checkpoint.skipped | {told for _, told in tales if isinstance(told, str)},
    )


def by_partition(tales: Iterable[Tale]) -> dict[Partition, list[Tale]]:
    """The same, each partition's together."""
    grouped: dict[Partition, list[Tale]] = {}
    for tale in tales:
        grouped.setdefault(tale[0].partition, []).append(tale)
    return grouped


def _reflected(tales: Sequence[Tale]) -> int | None:
    """The offset after the last command whose outcome ends among these; None if none does."""
    for record, _ in reversed(tales):
        index, _, count = (record.header("ce_outcome") or "").partition("/")
        if count and int(index) == int(count) - 1:
            return int(record.header("ce_commandoffset") or 0) + 1
    return None


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
