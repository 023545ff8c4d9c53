"""A bounded context as a value: everything the one shard loop needs to know to run it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from pydantic import TypeAdapter

from domain.messages import Command, Event, Order

C = TypeVar("C", bound=Command)
E = TypeVar("E", bound=Event)
S = TypeVar("S")

PLACEMENTS = "placements"
"""Where orders to agents go; every other destination is the name of a context."""


@dataclass(frozen=True)
class Send:
    """A consequence: this message, to that context (or to `PLACEMENTS`), in the transaction of its event."""

    to: str
    message: Command | Order


@dataclass(frozen=True)
class Alarm:
    """When `due` comes and no later alarm replaced this one, its shard sends `command` to itself.

    One alarm a subject: a later one replaces it, and one without `due` takes it away.
    """

    subject: str
    due: datetime | None
    command: Command | None = None


@dataclass(frozen=True)
class Context(Generic[C, E, S]):
    """A decider with its vocabulary. All functions are pure; `evolve` accepts every event that was ever written.

    `empty` is the state of a boundary key of which nothing is known yet. `consequences` and `alarm` see the state
    before the event, so that what has just ended still says where it was.
    """

    name: str
    commands: TypeAdapter[C]
    events: TypeAdapter[E]
    empty: S
    decide: Callable[[C, S], Sequence[E]]
    evolve: Callable[[S, E], S]
    consequences: Callable[[E, S], Sequence[Send]]
    alarm: Callable[[E, S], Alarm | None]


AnyContext = Context[Any, Any, Any]
