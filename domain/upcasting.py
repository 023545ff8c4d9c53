"""How what was written in an older shape is read: each step lifts a message's JSON to the next version of its class.

A class that changes its shape gets a higher `version` and here, in the same commit, the step from the one before. Steps
are never changed or taken away: the log is read for ever.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

Shape = dict[str, Any]
Upcaster = Callable[[Shape], Shape]
Steps = Mapping[str, Sequence[Upcaster]]

STEPS: Steps = {}
"""Message type → its steps: the first lifts version 1 to 2, the next 2 to 3."""


class UnknownVersion(ValueError):
    """The message is of a shape that this code has never heard of: it was written by a newer one."""


def current_version(kind: str, steps: Steps = STEPS) -> int:
    """The version to which `lift` brings messages of this type."""
    return 1 + len(steps.get(kind, ()))


def lift(kind: str, version: int, data: Shape, steps: Steps = STEPS) -> Shape:
    """The message as its class reads it today. Raises `UnknownVersion`."""
    if not 1 <= version <= current_version(kind, steps):
        raise UnknownVersion(f"{kind} is known up to version {current_version(kind, steps)}, this is {version}")
    for step in steps.get(kind, ())[version - 1 :]:
        data = step(data)
    return data
