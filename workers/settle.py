"""What a shard makes of a batch of commands. Pure: every outcome is a value, and the loop only says where it goes."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import structlog
from pydantic import ValidationError

from domain.context import PLACEMENTS, Alarm, AnyContext, Send
from domain.messages import Command, Event, Message, Refused, Unneeded
from domain.outcomes import (
    ID_REUSED,
    INTERNAL_ERROR,
    REPEATED,
    UNREADABLE,
    CommandRefused,
    CommandUnneeded,
)
from infra.decoding import Told, Unreadable, read_message
from infra.envelope import FIRST_CHAIN, Cause, chained, derived_id, headers_of, next_link, record_of
from infra.log import NewRecord, Partition, Record
from infra.settings import Settings
from infra.topics import DEAD_LETTERS, commands, partition_of

_log = structlog.get_logger(__name__)

_NIL = str(UUID(int=0))
_EPOCH = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class Handled:
    """A command that has its outcome: where it stood, and what it said."""

    offset: int
    digest: str


@dataclass
class Memory:
    """What a shard knows. Changed only by what stands in the log: at rebuild, and after a batch is committed."""

    context: AnyContext
    handled_window: int
    states: dict[str, Any] = field(default_factory=dict)
    handled: OrderedDict[str, Handled] = field(default_factory=OrderedDict)
    chain: bytes = FIRST_CHAIN
    cursor: int = 0

    def state(self, key: str) -> Any:
        return self.states.get(key, self.context.empty)

    def remember(self, command_id: str, handled: Handled) -> None:
        """Keep the outcome's place for a repeated command, and forget the oldest beyond the window."""
        self.handled.setdefault(command_id, handled)
        if len(self.handled) > self.handled_window:
            self.handled.popitem(last=False)

    def replay(self, told: Told) -> Alarm | None:
        """Take in a record of the events topic. The alarm it sets, if any."""
        self.chain = next_link(self.chain, told.record.key, told.record.headers, told.record.value)
        if told.command_offset is not None:
            self.cursor = told.command_offset + 1
            digest = told.record.header("ce_commanddigest")
            if digest is not None:
                self.remember(told.command_id, Handled(told.command_offset, digest))
        if isinstance(told.event, CommandRefused | CommandUnneeded) or told.command_offset is None:
            return None
        before = self.state(told.key)
        alarm = self.context.alarm(told.event, before)
        self.states[told.key] = self.context.evolve(before, told.event)
        return alarm


@dataclass(frozen=True)
class Settlement:
    """What a batch comes to: the records to write, and what the shard will know once they are written."""

    records: Sequence[NewRecord]
    states: Mapping[str, Any]
    handled: Mapping[str, Handled]
    alarms: Sequence[Alarm]
    chain: bytes
    cursor: int
    outcomes: Mapping[str, int]


def settle(settings: Settings, memory: Memory, events: Partition, batch: Sequence[Record]) -> Settlement:
    """Give each command of the batch its one outcome, and every consequence its record."""
    draft = _Draft(settings, memory, events)
    for record in batch:
        draft.take(record)
    return Settlement(
        draft.records,
        draft.states,
        draft.handled,
        draft.alarms,
        draft.chain,
        batch[-1].offset + 1,
        draft.outcomes,
    )


def absorb(memory: Memory, settlement: Settlement) -> None:
    """What was settled is in the log now."""
    memory.states.update(settlement.states)
    for command_id, handled in settlement.handled.items():
        memory.remember(command_id, handled)
    memory.chain = settlement.chain
    memory.cursor = settlement.cursor


class _Draft:
    """One settlement while it is written, over a memory that it does not change."""

    def __init__(self, settings: Settings, memory: Memory, events: Partition) -> None:
        self._settings = settings
        self._memory = memory
        self._context = memory.context
        self._events = events
        self.records: list[NewRecord] = []
        self.states: dict[str, Any] = {}
        self.handled: dict[str, Handled] = {}
        self.alarms: list[Alarm] = []
        self.chain = memory.chain
        self.outcomes = {"events": 0, "refused": 0, "unneeded": 0, "unreadable": 0}

    def take(self, record: Record) -> None:
        headers = dict(record.headers)
        try:
            command_id, cause, command = self._read(record, headers)
        except Unreadable as unreadable:
            self._bury(record, headers, str(unreadable))
            return
        digest = _digest(command)
        seen = self.handled.get(command_id) or self._memory.handled.get(command_id)
        if seen is not None:
            self._repeat(record, command_id, cause, command, same=seen.digest == digest, first=seen.offset)
            return
        self.handled[command_id] = Handled(record.offset, digest)
        key = record.key.decode()
        try:
            outcome, sends = self._decide(command, key)
        except Refused as no:
            outcome, sends = [_refused(command, command_id, no.code, no.reason, no.field)], []
        except Unneeded as so:
            outcome, sends = [_unneeded(command, command_id, so.code, so.reason, so.subject)], []
        except Exception as error:
            # A defect of ours in one decision must not stop everybody else's: nothing happened, and it is told as such.
            _log.exception("decision failed", command=type(command).__name__, command_id=command_id)
            reason = f"the decision failed: {type(error).__name__}"
            outcome, sends = [_refused(command, command_id, INTERNAL_ERROR, reason)], []
        self._write(record, key, command_id, cause, digest, outcome, sends)

    def _read(self, record: Record, headers: Mapping[str, bytes]) -> tuple[str, Cause, Command]:
        """The command, its id, and the cause of whatever it leads to. Raises `Unreadable`."""
        try:
            command_id = str(UUID(headers["ce_id"].decode()))
            command = read_message(self._context.commands, headers["ce_type"].decode(), dict(headers), record.value)
            if command.key != record.key.decode():
                raise Unreadable(f"the record's key is not the command's, {command.key}")
            trace = headers.get("traceparent")
            cause = Cause(
                actor=headers["ce_actor"].decode(),
                causation=command_id,
                correlation=headers["ce_correlationid"].decode(),
                traceparent=trace.decode() if trace else None,
            )
        except (KeyError, ValueError, ValidationError) as error:
            raise Unreadable(f"{type(error).__name__}: {error}") from error
        return command_id, cause, command

    def _decide(self, command: Command, key: str) -> tuple[list[Event], list[tuple[int, Send]]]:
        """Events and what follows from each (by its index); the draft's state moves on only when all of it worked."""
        state = self.states.get(key, self._memory.state(key))
        events = list(self._context.decide(command, state))
        if not events:
            raise Unneeded("already_so", "nothing had to be done")
        sends: list[tuple[int, Send]] = []
        alarms: list[Alarm] = []
        for index, event in enumerate(events):
            sends += [(index, send) for send in self._context.consequences(event, state)]
            if (alarm := self._context.alarm(event, state)) is not None:
                alarms.append(alarm)
            state = self._context.evolve(state, event)
        self.states[key] = state
        self.alarms += alarms
        return events, sends

    def _write(
        self,
        record: Record,
        key: str,
        command_id: str,
        cause: Cause,
        digest: str | None,
        outcome: Sequence[Event],
        sends: Sequence[tuple[int, Send]],
        salt: str = "",
    ) -> None:
        ids = [derived_id(command_id, f"{salt}{index}") for index in range(len(outcome))]
        for index, (event, event_id) in enumerate(zip(outcome, ids, strict=True)):
            headers = (
                *headers_of(event, event_id, self._source, cause),
                ("ce_commandoffset", str(record.offset).encode()),
                ("ce_outcome", f"{index}/{len(outcome)}".encode()),
            )
            if index == 0 and digest is not None:
                headers = (*headers, ("ce_commanddigest", digest.encode()))
            value = event.model_dump_json().encode()
            written, self.chain = chained(self.chain, self._events, key, headers, value)
            self.records.append(written)
        self._count(outcome[0])
        for number, (index, send) in enumerate(sends):
            self.records.append(self._consequence(send, ids[index], number, cause))

    def _consequence(self, send: Send, event_id: str, number: int, cause: Cause) -> NewRecord:
        topic = PLACEMENTS if send.to == PLACEMENTS else commands(send.to)
        key = send.message.key
        return record_of(
            send.message,
            derived_id(event_id, str(number)),
            self._source,
            Cause(f"context:{self._context.name}", event_id, cause.correlation, cause.traceparent),
            partition_of(self._settings, topic, key),
            key,
        )

    def _repeat(
        self, record: Record, command_id: str, cause: Cause, command: Command, *, same: bool, first: int
    ) -> None:
        if same:
            outcome: Event = CommandUnneeded(
                at=command.at,
                command_id=command_id,
                code=REPEATED,
                reason="this command has its outcome already",
                first=first,
            )
        else:
            outcome = _refused(command, command_id, ID_REUSED, "another command was given under this id")
        # Its outcome needs an id of its own: the command's id has been used for the first one.
        self._write(record, record.key.decode(), command_id, cause, None, [outcome], [], f"{record.offset}:")

    def _bury(self, record: Record, headers: Mapping[str, bytes], reason: str) -> None:
        """A record that is no command: kept with the reason, and refused, so that the cursor passes it."""
        _log.error("unreadable command", place=f"{record.partition}@{record.offset}", reason=reason)
        letter = Partition(self._settings.topic_prefix + DEAD_LETTERS, 0)
        place = f"{record.partition}@{record.offset}"
        told = (("refold_reason", reason[:2000].encode()), ("refold_place", place.encode()))
        self.records.append(NewRecord(letter, record.key, (*record.headers, *told), record.value))
        # Its own id may be missing or anything, so the refusal's derives from the place.
        command_id = derived_id(_NIL, place)
        refusal = CommandRefused(
            at=_EPOCH,
            command_id=headers.get("ce_id", b"").decode(errors="replace"),
            code=UNREADABLE,
            reason=reason[:2000],
        )
        cause = Cause("unknown", command_id, command_id)
        key = record.key.decode(errors="replace")
        self._write(record, key, command_id, cause, None, [refusal], [])

    def _count(self, outcome: Message) -> None:
        match outcome:
            case CommandRefused():
                self.outcomes["unreadable" if outcome.code == UNREADABLE else "refused"] += 1
            case CommandUnneeded():
                self.outcomes["unneeded"] += 1
            case _:
                self.outcomes["events"] += 1

    @property
    def _source(self) -> str:
        return f"refold/{self._context.name}/{self._events.number}"


def _digest(command: Command) -> str:
    """What a command says, whenever it was said: a retry may carry a later time."""
    content = f"{type(command).__name__}{command.model_dump_json(exclude={'at'})}"
    return hashlib.blake2b(content.encode(), digest_size=16).hexdigest()


def _refused(command: Command, command_id: str, code: str, reason: str, field: str | None = None) -> CommandRefused:
    return CommandRefused(at=command.at, command_id=command_id, code=code, reason=reason, field=field)


def _unneeded(command: Command, command_id: str, code: str, reason: str, about: str | None) -> CommandUnneeded:
    return CommandUnneeded(at=command.at, command_id=command_id, code=code, reason=reason, about=about)
