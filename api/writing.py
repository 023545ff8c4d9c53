"""A write from its headers to its answer: one command, durable before anything is said, and then its outcome.

A key given by the client (`Idempotency-Key`, or the reference's client token) becomes the command's id, so a retry is
the same command, and whoever sends it again gets the first outcome again, from whichever process and after any restart.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any, Final, Protocol
from uuid import NAMESPACE_URL, UUID, uuid4, uuid5

from api.access.auth import Caller
from api.http.problems import Problem, invalid, refused
from api.known import Known
from api.outcomes import Expected, Outcome, events_partition
from api.tail import Tail
from domain.directory.messages.common import DirectoryCommand
from domain.messages import Command
from domain.outcomes import ID_REUSED, REPEATED
from domain.session.messages import SessionCommand
from domain.vfolder.messages.common import ScopeCommand
from infra.log import Log, Partition, Position, read_until
from infra.sending import Sender
from infra.settings import Settings
from infra.topics import commands, events, partition_of

POSITION: Final = "X-Refold-Position"
_KEYS: Final = uuid5(NAMESPACE_URL, "https://refold/idempotency-key")
_QUOTED: Final = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_KEY_LENGTH_MAX: Final = 255


class Actor(Protocol):
    """Whoever sends a command. `actor`: how the log names him."""

    @property
    def actor(self) -> str: ...


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a command, in plain values. `verdict` is `accepted`, `refused` or `unneeded`."""

    command_id: str
    verdict: str
    position: str
    code: str | None = None
    reason: str | None = None
    field: str | None = None
    about: str | None = None
    events: tuple[Mapping[str, Any], ...] = ()
    repeated: bool = False
    """The command was sent before, and this became of it then."""

    @property
    def shown(self) -> dict[str, Any]:
        """As `GET /refold/commands/{id}` tells it."""
        told = {
            "command_id": self.command_id,
            "status": self.verdict,
            "position": self.position,
            "code": self.code,
            "reason": self.reason,
            "field": self.field,
            "about": self.about,
            "events": list(self.events) or None,
        }
        return {name: value for name, value in told.items() if value is not None}


def accepted(result: Result) -> Result:
    """Itself, unless the command was refused: then that is a `Problem`."""
    if result.verdict == "refused":
        problem = refused(result.code or "refused", result.reason or "", result.field)
        problem.members["position"] = result.position
        problem.headers[POSITION] = result.position
        raise problem
    return result


def result_of(outcome: Outcome) -> Result:
    position = str(outcome.position)
    if (refusal := outcome.refusal) is not None:
        return Result(
            outcome.command_id,
            "refused",
            position,
            code=refusal.code,
            reason=refusal.reason,
            field=refusal.field,
        )
    if (unneeded := outcome.unneeded) is not None:
        return Result(
            outcome.command_id,
            "unneeded",
            position,
            code=unneeded.code,
            reason=unneeded.reason,
            about=unneeded.about,
        )
    happened = tuple(event.model_dump(mode="json") for event in outcome.events())
    return Result(outcome.command_id, "accepted", position, events=happened)


@dataclass(frozen=True, slots=True)
class Written:
    """A command that is durable: it stands at `offset` of `partition`.

    `position` is reached when its outcome is; as a place to listen from, it lies before that outcome.
    """

    command_id: str
    partition: Partition
    offset: int
    position: Position
    expected: Expected


class Writing:
    """What a route needs to send a command and to wait for its outcome."""

    def __init__(self, settings: Settings, log: Log, tail: Tail, sender: Sender, known: Known) -> None:
        self._settings = settings
        self._log = log
        self._tail = tail
        self._sender = sender
        self._known = known

    async def send(
        self, context: str, command: Command, command_id: str, caller: Actor, traceparent: str | None
    ) -> Written:
        """Raises `Overloaded` and `LogUnavailable`."""
        expected = self._tail.outcomes.expect(command_id, caller.actor)
        place = partition_of(self._settings, commands(context), command.key)
        before = self._tail.seen(events_partition(place))
        position = await self._sender.send(context, command, command_id, caller.actor, traceparent)
        both = Position({**before.offsets, **position.offsets})
        return Written(command_id, place, position.offsets[place] - 1, both, expected)

    async def outcome(self, written: Written) -> Outcome | None:
        """What became of it; None if that is not known in time. May say that it was repeated: see `first`."""
        return await written.expected.outcome(written.offset, self._settings.outcome_timeout)

    async def result(self, written: Written) -> Result | None:
        """The first outcome of the command, also when this was not its first sending."""
        outcome = await self.outcome(written)
        return None if outcome is None else await self.first(written, outcome)

    async def first(self, written: Written, outcome: Outcome) -> Result:
        """What `outcome` says, or, where it only says that the command was repeated, what became of the first one."""
        unneeded = outcome.unneeded
        if unneeded is None or unneeded.code != REPEATED:
            return result_of(outcome)
        assert unneeded.first is not None
        if (known := written.expected.known.get(unneeded.first)) is not None:
            return replace(result_of(known), repeated=True)
        # It stands before its repetition in the same partition: once that is folded, so is the first.
        repeated = Position({events_partition(written.partition): outcome.records[-1].offset + 1})
        if await self._known.wait_for(repeated, self._settings.read_timeout):
            first = await self.recorded(written.command_id)
            if first is not None:
                return replace(result_of(first), repeated=True)
        raise _not_readable()

    async def recorded(self, command_id: str) -> Outcome | None:
        """The first outcome of a command: the projection says where it stands, the log what it says."""
        expected = self._tail.outcomes.get(command_id)
        if expected is not None and expected.first is not None:
            return expected.first
        try:
            async with asyncio.timeout(self._settings.read_timeout):
                return await self._read(command_id)
        except TimeoutError:
            raise _not_readable() from None

    async def _read(self, command_id: str) -> Outcome | None:
        for row in await self._known.outcomes(command_id):
            if row.repeats is None and row.code != ID_REUSED:
                place = Partition(self._settings.topic_prefix + events(row.context), row.partition)
                records = [
                    record
                    async for batch in read_until(self._log, {place: row.first_offset}, {place: row.last_offset + 1})
                    for record in batch
                ]
                return Outcome(row.context, command_id, row.command_offset, row.actor, tuple(records))
        return None


def _not_readable() -> Problem:
    return Problem(
        503,
        "outcome-not-readable",
        "The outcome cannot be read",
        "the command has its outcome, but it cannot be read at the moment",
        retryable=True,
        retry_after=1,
    )


def context_of(command: Command) -> str:
    """Which context decides about it."""
    if isinstance(command, SessionCommand):
        return "session"
    if isinstance(command, ScopeCommand):
        return "vfolder"
    return "directory" if isinstance(command, DirectoryCommand) else "scheduling"


def command_id_of(headers: Mapping[str, str], caller: Caller) -> str:
    """Derived from the client's key, if there is one. Raises `Problem` for a key of bad form."""
    for name in ("idempotency-key", "x-backendai-client-token"):
        if (text := headers.get(name)) is not None:
            return str(uuid5(_KEYS, f"{caller.access_key}\n{_bare(name, text)}"))
    return str(uuid4())


def _bare(header: str, text: str) -> str:
    """A structured-field string without its quotes, or the text as it is."""
    text = text.strip()
    if text.startswith('"'):
        match = _QUOTED.fullmatch(text)
        if match is None:
            raise invalid(header, "structured_string", f"{header} is not a well-formed quoted string")
        text = re.sub(r"\\(.)", r"\1", match[1])
    if not 1 <= len(text) <= _KEY_LENGTH_MAX:
        raise invalid(header, "length", f"{header} must have 1 to {_KEY_LENGTH_MAX} characters")
    return text


def command_id_from(text: str) -> str:
    """The canonical form of an id in a path. Raises `Problem` (404)."""
    try:
        return str(UUID(text))
    except ValueError:
        raise Problem(404, "command-not-found", "No such command", f"{text[:80]!r} is no command id") from None


def wants_async(headers: Mapping[str, str]) -> bool:
    return "respond-async" in headers.get("prefer", "").lower()


def now() -> datetime:
    return datetime.now(UTC)
