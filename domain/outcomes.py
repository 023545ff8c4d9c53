"""What a shard itself says, in every context: that it opened, and that a command led to no event of its context.

Every command has exactly one outcome: its events, `CommandRefused` or `CommandUnneeded`.
"""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from domain.messages import Event


class ShardOpened(Event):
    """A shard has fenced its predecessor. Whoever reads up to here has read all that happened before."""

    type: Literal["ShardOpened"] = "ShardOpened"
    shard: str
    opened_by: str

    @property
    def subject(self) -> str:
        return self.shard


class CommandOutcome(Event):
    command_id: str

    @property
    def subject(self) -> str:
        return self.command_id


class CommandRefused(CommandOutcome):
    """No. `code` is for programs, `reason` for people, `field` names the part of the command at fault."""

    type: Literal["CommandRefused"] = "CommandRefused"
    code: str
    reason: str
    field: str | None = None


class CommandUnneeded(CommandOutcome):
    """It was so already. `about` is the thing that is there already; a repeated command names in `first` the offset of
    the command that had the same id."""

    type: Literal["CommandUnneeded"] = "CommandUnneeded"
    code: str
    reason: str
    about: str | None = None
    first: int | None = None


Outcomes = Annotated[ShardOpened | CommandRefused | CommandUnneeded, Field(discriminator="type")]
OUTCOMES: TypeAdapter[Outcomes] = TypeAdapter(Outcomes)
OUTCOME_TYPES = frozenset({"ShardOpened", "CommandRefused", "CommandUnneeded"})

REPEATED = "repeated"
ID_REUSED = "command_id_reused"
UNREADABLE = "unreadable"
INTERNAL_ERROR = "internal_error"
