"""Which topics there are, how they are kept, and which partition a key belongs to. The README is checked against it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from aiokafka.partitioner import murmur2

from domain.contexts import CONTEXTS
from infra.log import Partition
from infra.settings import Settings

_DAY_MS = 86_400_000
_FOR_EVER: Mapping[str, str] = {"cleanup.policy": "delete", "retention.ms": "-1", "retention.bytes": "-1"}


@dataclass(frozen=True)
class Topic:
    """`name` without the prefix. Retention is explicit, whatever the broker's defaults are."""

    name: str
    carries: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=lambda: dict(_FOR_EVER))


def commands(context: str) -> str:
    return f"{context}.commands"


def events(context: str) -> str:
    return f"{context}.events"


PLACEMENTS = "placements"
TELEMETRY = "agent.telemetry"
AUDIT = "storage.audit"
DEAD_LETTERS = "dead-letters"


def all_topics(settings: Settings) -> list[Topic]:
    """Every topic of an installation."""
    by_context = [
        topic
        for name in CONTEXTS
        for topic in (
            Topic(commands(name), f"commands to the {name} context", settings.partitions),
            Topic(events(name), f"what became of them: events of the {name} context", settings.partitions),
        )
    ]
    return [
        *by_context,
        Topic(
            PLACEMENTS,
            "orders to agents",
            settings.partitions,
            {"cleanup.policy": "delete", "retention.ms": str(7 * _DAY_MS)},
        ),
        Topic(
            TELEMETRY,
            "heartbeats of agents, what their kernels and devices use, and how far images have come",
            settings.partitions,
            {"cleanup.policy": "delete", "retention.ms": str(_DAY_MS)},
        ),
        Topic(
            AUDIT,
            "what storage services have changed in folders",
            settings.partitions,
            {"cleanup.policy": "delete", "retention.ms": str(settings.storage_audit_days * _DAY_MS)},
        ),
        Topic(DEAD_LETTERS, "records nobody could read, with the reason", 1),
    ]


def number_of(key: str, partitions: int) -> int:
    """The partition number of a key: Kafka's own default hash, so that any client computes the same."""
    return int(murmur2(key.encode()) & 0x7FFFFFFF) % partitions


def partition_of(settings: Settings, topic: str, key: str) -> Partition:
    """Where records of this key go. `topic` is without the prefix."""
    return Partition(settings.topic_prefix + topic, number_of(key, settings.partitions))
