"""Commands about folders, answered when what they are for is there: made on disk, accepted by both owners, readable.

Most of them concern somebody else too. A request waits for his answer for as long as for any outcome; if it does not
come in time, the thing goes on, and the answer says how it stands.
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID, uuid5

from fastapi import Request
from starlette.responses import Response

from api.access.auth import Caller
from api.access.authority import authorize
from api.folders.live import Awaited, Future, Happened
from api.http.answers import accepted_for_later, json
from api.http.deps import Services
from api.writing import POSITION, Result, Written, accepted, command_id_of, context_of, wants_async
from domain.directory.messages.tasks import TaskId
from domain.messages import Command
from infra.log import Position

NAMES: Final = "folder"
"""What ids of new folders derive from, beside the command's."""


@dataclass(frozen=True, slots=True)
class Step:
    """A command, and what it is over with: the first of these events. None: with its own."""

    command: Command
    until: Sequence[Awaited] = ()


@dataclass(frozen=True, slots=True)
class Done:
    """How a step ended. `last`: what it was waited for, None: it did not come in time, or the command was repeated."""

    result: Result
    last: Happened | None

    @property
    def happened(self) -> bool:
        """Whether the command changed anything."""
        return self.result.verdict == "accepted"

    @property
    def position(self) -> Position:
        own = Position.parse(self.result.position)
        return own if self.last is None else own.merged(self.last.position)


class Doing:
    """One request. `command_id`: of the first command, derived from the client's key if there is one."""

    def __init__(self, request: Request, caller: Caller, all_: Services) -> None:
        self.command_id = command_id_of(request.headers, caller)
        self._headers = request.headers
        self._caller = caller
        self._all = all_

    def new_id(self, name: str = NAMES) -> str:
        """The same for a request that is repeated."""
        return str(uuid5(UUID(self.command_id), name))

    def authorize(self, command: Command) -> None:
        """Raises `Problem` or `Refused` for one that he may not give."""
        authorize(command, self._caller.identity, self._all.tail.directory)

    async def do(self, steps: Sequence[Step], answer: Callable[[Sequence[Done], str], Awaitable[Response]]) -> Response:
        """`answer` makes the answer of how they ended and a position; 202, if that is not known in time.

        The projections know of them then. Raises `Problem` where one is refused; those before it stand.
        """
        for step in steps:
            self.authorize(step.command)
        with ExitStack() as stack:
            watched = [stack.enter_context(self._all.tail.folders.expecting(*step.until)) for step in steps]
            sent = [await self._send(step.command, number) for number, step in enumerate(steps)]
            if wants_async(self._headers) and sent:
                return accepted_for_later(sent[-1])
            done: list[Done] = []
            for written, step, future in zip(sent, steps, watched, strict=True):
                result = await self._all.writing.result(written)
                if result is None:
                    return accepted_for_later(written)
                is_new = accepted(result).verdict == "accepted" and not result.repeated
                done.append(Done(result, await self._waited(future) if is_new and step.until else None))
        position = Position({})
        for each in done:
            position = position.merged(each.position)
        await self._all.known.wait_for(position, self._all.settings.read_timeout)
        return await answer(done, str(position))

    async def done(self, command: Command, body: Any = None, status: int = 200) -> Response:
        """One command. `body`: the answer once it is accepted; None: 204."""

        async def answer(_: Sequence[Done], position: str) -> Response:
            return Response(None, 204, {POSITION: position}) if body is None else json(body, status, position)

        return await self.do([Step(command)], answer)

    async def _send(self, command: Command, number: int) -> Written:
        command_id = self.command_id if number == 0 else str(uuid5(UUID(self.command_id), str(number)))
        traceparent = self._headers.get("traceparent")
        return await self._all.writing.send(context_of(command), command, command_id, self._caller, traceparent)

    async def _waited(self, future: Future) -> Happened | None:
        with suppress(TimeoutError):
            async with asyncio.timeout(self._all.settings.outcome_timeout):
                return await asyncio.shield(future)
        return None


async def is_task(task_id: TaskId, all_: Services) -> bool:
    """Whether the directory knows of it, which it does soon after the work on the folder has begun."""
    with suppress(TimeoutError):
        async with asyncio.timeout(all_.settings.outcome_timeout):
            more_read = all_.tail.more_read
            while task_id not in all_.tail.directory.tasks:
                await more_read.wait()
                more_read = all_.tail.more_read
    return task_id in all_.tail.directory.tasks
