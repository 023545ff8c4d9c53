"""Commands of a request on their way: may he give it, is it durable, what became of it."""

from collections.abc import Sequence
from typing import Any

from fastapi import Request
from starlette.responses import Response

from api.access.auth import Caller
from api.access.authority import authorize
from api.http.answers import accepted_for_later, json
from api.http.deps import Services
from api.writing import POSITION, Written, accepted, command_id_of, context_of, wants_async
from domain.messages import Command
from infra.log import Position


class Giving:
    """One request that gives commands. `command_id`: of the first, derived from the client's key if there is one."""

    def __init__(self, request: Request, caller: Caller, all_: Services) -> None:
        self.command_id = command_id_of(request.headers, caller)
        self._headers = request.headers
        self._caller = caller
        self._all = all_

    async def give(self, command: Command, body: Any = None, status: int = 200) -> Response:
        """`body` as the answer once it is accepted (None: 204), or 202. Raises `Problem` where it is refused."""
        authorize(command, self._caller.identity, self._all.tail.directory)
        return await self.give_vouched(command, body, status)

    async def give_all(self, commands: Sequence[tuple[str, Command]], body: Any = None) -> Response:
        """Several, each with its id. Where one is refused, the answer says so; the others stand."""
        for _, command in commands:
            authorize(command, self._caller.identity, self._all.tail.directory)
        sent = [await self._send(command, command_id) for command_id, command in commands]
        return await self._answer(sent, body, 200)

    async def give_vouched(self, command: Command, body: Any = None, status: int = 200) -> Response:
        """For what the route itself has made sure of, by a password."""
        return await self._answer([await self._send(command, self.command_id)], body, status)

    async def _send(self, command: Command, command_id: str) -> Written:
        traceparent = self._headers.get("traceparent")
        return await self._all.writing.send(context_of(command), command, command_id, self._caller, traceparent)

    async def _answer(self, sent: Sequence[Written], body: Any, status: int) -> Response:
        if wants_async(self._headers):
            return accepted_for_later(sent[-1])
        position = Position({})
        for written in sent:
            result = await self._all.writing.result(written)
            if result is None:
                return accepted_for_later(written)
            position = position.merged(Position.parse(accepted(result).position))
        if body is None:
            return Response(None, 204, {POSITION: str(position)})
        return json(body, status, str(position))
