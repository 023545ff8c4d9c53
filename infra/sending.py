"""The one way to send a command: as one durable record, whose place is its receipt.

Sends that happen at the same time leave in the same batches; how many may be on their way is bounded, so that a log
that has become slow is felt at the door and not in our memory.
"""

import re
from collections.abc import Sequence

from domain.messages import Command
from infra.envelope import Cause, record_of
from infra.log import Log, NewRecord, Partition, Position
from infra.settings import Settings
from infra.topics import commands, partition_of

_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")


class Overloaded(Exception):
    """As many appends are on their way as may be. Nothing was sent; `retry_after` is in seconds."""

    retry_after = 1


class Sender:
    """Appends commands to the log. `source` is the CloudEvents source of what this process sends, e.g. `refold/api`."""

    def __init__(self, settings: Settings, log: Log, source: str) -> None:
        self._settings = settings
        self._log = log
        self._source = source
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """Appends not yet answered."""
        return self._in_flight

    async def send(
        self,
        context: str,
        command: Command,
        command_id: str,
        actor: str,
        traceparent: str | None = None,
        correlation: str | None = None,
        causation: str | None = None,
    ) -> Position:
        """Returns once the command is durable: the position just after it.

        `command_id` is a UUID; whoever sends the same one again gets the first outcome again. `correlation` and
        `causation` are the command's own id unless something else led to it.
        Raises `Overloaded` (nothing was sent) or `LogUnavailable` (whether it was is not known: send it again).
        """
        cause = Cause(actor, causation or command_id, correlation or command_id, _valid(traceparent))
        return await self._append([self._record(context, command, command_id, cause)])

    async def send_all(self, sent: Sequence[tuple[str, Command, str]], actor: str) -> Position:
        """Several at once, in order within each partition: (context, command, command id). Not all or none.

        Raises as `send` does.
        """
        records = [
            self._record(context, command, command_id, Cause(actor, command_id, command_id))
            for context, command, command_id in sent
        ]
        return await self._append(records)

    def _record(self, context: str, command: Command, command_id: str, cause: Cause) -> NewRecord:
        place = partition_of(self._settings, commands(context), command.key)
        return record_of(command, command_id, self._source, cause, place, command.key)

    async def _append(self, records: Sequence[NewRecord]) -> Position:
        if self._in_flight and self._in_flight + len(records) > self._settings.appends_in_flight_max:
            raise Overloaded(f"{self._in_flight} appends are on their way already")
        self._in_flight += len(records)
        try:
            offsets = await self._log.append(records)
        finally:
            self._in_flight -= len(records)
        after: dict[Partition, int] = {}
        for record, offset in zip(records, offsets, strict=True):
            after[record.partition] = max(offset + 1, after.get(record.partition, 0))
        return Position(after)


def _valid(traceparent: str | None) -> str | None:
    return traceparent if traceparent and _TRACEPARENT.fullmatch(traceparent) else None
