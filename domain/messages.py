"""What a message is: commands ask, events tell, orders are carried out by agents.

Messages are kept for ever, so they are frozen models with a `type` of their own, and every class says which version of
its shape it is. An older shape is lifted by an upcaster (`domain.upcasting`) before it is validated.
"""

from datetime import UTC, datetime, timedelta
from typing import Annotated, ClassVar, NewType

from pydantic import AfterValidator, AwareDatetime, Base64Bytes, BaseModel, ConfigDict, Field, TypeAdapter

SessionId = NewType("SessionId", str)
KernelId = NewType("KernelId", str)
AgentId = NewType("AgentId", str)
AccessKey = NewType("AccessKey", str)
ProjectId = NewType("ProjectId", str)
UserId = NewType("UserId", str)
Cell = NewType("Cell", str)

Instant = Annotated[AwareDatetime, AfterValidator(lambda at: at.astimezone(UTC))]
"""A moment; any time zone is accepted, UTC is kept."""

_BASE64: TypeAdapter[bytes] = TypeAdapter(Base64Bytes)


def _base64(text: str) -> str:
    _BASE64.validate_python(text)
    return text


Sealed = Annotated[str, Field(min_length=1, max_length=2**18), AfterValidator(_base64)]
"""Base64 of a secret that infra has encrypted."""


class Value(BaseModel):
    """A part of a message: compared by content, never changed, no unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Message(Value):
    """Something said at a moment. Subclasses add `type: Literal[...]`, by which a union of them is read."""

    version: ClassVar[int] = 1

    at: Instant

    @property
    def subject(self) -> str:
        """The one thing this is about: an id that a reader may filter by without reading the rest."""
        raise LookupError(f"{type(self).__name__} names no subject")


class Command(Message):
    """An order to one aggregate; can be refused."""

    @property
    def key(self) -> str:
        """The boundary key: inside it, things are unique or limited together."""
        raise LookupError(f"{type(self).__name__} names no boundary key")


class Event(Message):
    """A fact; never refused, never changed."""


class Order(Message):
    """What an agent is to do. Carried out twice it is carried out once."""

    @property
    def key(self) -> str:
        raise LookupError(f"{type(self).__name__} names no agent")


class Refused(Exception):
    """A command's "no" to its sender. Nothing happened, and the log says why.

    `code` is stable and for programs, `reason` is for people, `field` names the part of the command at fault.
    """

    def __init__(self, code: str, reason: str, field: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.field = field


class Unneeded(Exception):
    """It was so already. `subject` is what the sender would have got, if that is another thing than he named."""

    def __init__(self, code: str, reason: str, subject: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.subject = subject


def later(at: datetime, seconds: float) -> datetime:
    """The moment that many seconds after `at`; the last one there is, where the calendar ends before."""
    try:
        return at + timedelta(seconds=seconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC)
