"""How a message becomes a record: CloudEvents in Kafka's binary mode, and the chain that makes a partition's events
tamper-evident.

The value is the message's JSON; the headers say what anybody may want to know without reading it.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID, uuid5

from domain.messages import Message
from infra.log import Headers, NewRecord, Partition, Record

FIRST_CHAIN = bytes(32)
"""What the first record of a partition is chained to."""


@dataclass(frozen=True, slots=True)
class Cause:
    """Where a message comes from: who wants it, what directly led to it, and what first."""

    actor: str
    causation: str
    correlation: str
    traceparent: str | None = None


def derived_id(cause: str, name: str) -> str:
    """The id of the thing called `name` among those that follow from a cause: decided twice, it is the same."""
    return str(uuid5(UUID(cause), name))


def headers_of(message: Message, message_id: str, source: str, cause: Cause) -> Headers:
    """The headers every record has."""
    headers = (
        ("ce_specversion", b"1.0"),
        ("ce_id", message_id.encode()),
        ("ce_type", type(message).__name__.encode()),
        ("ce_source", source.encode()),
        ("ce_time", _text(message.at)),
        ("ce_subject", message.subject.encode()),
        ("ce_correlationid", cause.correlation.encode()),
        ("ce_causationid", cause.causation.encode()),
        ("ce_actor", cause.actor.encode()),
        ("ce_schemaversion", str(type(message).version).encode()),
        ("content-type", b"application/json"),
    )
    if cause.traceparent is None:
        return headers
    return (*headers, ("traceparent", cause.traceparent.encode()))


def record_of(
    message: Message, message_id: str, source: str, cause: Cause, partition: Partition, key: str
) -> NewRecord:
    """A record of its own, outside any chain: a command or an order."""
    return NewRecord(
        partition,
        key.encode(),
        headers_of(message, message_id, source, cause),
        message.model_dump_json().encode(),
    )


def chained(chain: bytes, partition: Partition, key: str, headers: Headers, value: bytes) -> tuple[NewRecord, bytes]:
    """The record with its `ce_chain`, and the link the next one is chained to."""
    link = next_link(chain, key.encode(), headers, value)
    with_chain = (*headers, ("ce_chain", link.hex().encode()))
    return NewRecord(partition, key.encode(), with_chain, value), link


def next_link(chain: bytes, key: bytes, headers: Headers, value: bytes) -> bytes:
    """SHA-256 over the link before, the key, each other header's name and value by name, and the value; each preceded
    by its length in 8 bytes, big-endian."""
    pieces = [chain, key]
    for name, text in sorted(headers):
        if name != "ce_chain":
            pieces += (name.encode(), text)
    pieces.append(value)
    return hashlib.sha256(b"".join([len(piece).to_bytes(8, "big") + piece for piece in pieces])).digest()


def verify(records: Sequence[Record], chain: bytes = FIRST_CHAIN) -> bytes:
    """Follow the chain through these records; the last link. Raises `BrokenChain` at the first that does not fit.

    `ShardOpened` states no link, since it is written before its shard has read what comes before it; it is vouched for
    by the record after it.
    """
    for record in records:
        chain = next_link(chain, record.key, record.headers, record.value)
        stated = record.header("ce_chain")
        if stated != chain.hex() and not (stated is None and record.header("ce_type") == "ShardOpened"):
            raise BrokenChain(record.partition, record.offset)
    return chain


class BrokenChain(Exception):
    """A record was changed, removed or added."""

    def __init__(self, partition: Partition, offset: int) -> None:
        super().__init__(f"the chain of {partition} is broken at offset {offset}")
        self.partition = partition
        self.offset = offset


def _text(at: datetime) -> bytes:
    return at.isoformat().replace("+00:00", "Z").encode()
