"""WebSocket `/stream/session/{id}/execute`: one run, as it happens. The connection is the run.

The client says first what to run: `{"mode": "query" | "batch", "code": …, "options": {…}}`. What it hears are the
results of `POST /session/{id}`, each in a text frame; after `waiting-input` it sends the typed line, as it is, in one
too. The last result is `finished` or `exec-timeout`, or `error` with what is wrong; then the socket is closed. Who
leaves before that interrupts the run.

If the way to the kernel breaks, the run goes on there, and is taken up again where it was heard last.
"""

import asyncio
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from typing import Any, Final, Literal
from uuid import uuid4

import orjson
from fastapi import APIRouter
from starlette.websockets import WebSocket, WebSocketDisconnect

from api.http.deps import All, Caller
from api.http.problems import Problem, from_error, invalid
from api.kernels.execution import Asking, Execution, Result, next_result, shown
from api.kernels.failures import Gone
from api.kernels.reaching import Place, place_of
from api.kernels.runner import to_json
from api.kernels.ways import Way, way_to
from api.sessions.requests import refuse_nul

router = APIRouter(tags=["code"])

_FIRST_SECONDS: Final = 30.0  # within which a client must say what to run
_WAIT_MS: Final = 20_000
_GATHER_MS: Final = 50
_ASK_AGAIN_SECONDS: Final = 3.0  # while nobody types: a run that waits can end, or be interrupted from elsewhere
_TYPED_AHEAD_MAX: Final = 32  # lines
_FRAME_CHARACTERS_MAX: Final = 524_288  # the public client takes no frame above 4 MiB
_RESTARTING: Final = 1012  # then it is we who leave, and the run is not to blame


class First(Execution):
    """What to run."""

    mode: Literal["query", "batch"]


@router.websocket("/stream/session/{reference}/execute")
async def execute(socket: WebSocket, reference: str, caller: Caller, all_: All) -> None:
    """A run."""
    place = await place_of(reference, caller, all_)
    async with way_to(place, caller, all_) as way:
        await socket.accept()
        try:
            await _Run(await _first(socket), socket, way, place).carry_out()
        except WebSocketDisconnect:
            raise
        except Exception as error:
            if (problem := from_error(error)) is not None:
                with suppress(OSError, WebSocketDisconnect):
                    await socket.send_text(_error(problem, socket))
            raise
    await socket.close()


async def _first(socket: WebSocket) -> First:
    """Raises `Problem`, `ValidationError`, `WebSocketDisconnect`."""
    try:
        async with asyncio.timeout(_FIRST_SECONDS):
            message = orjson.loads(refuse_nul((await _heard(socket)).encode()))
    except TimeoutError as error:
        raise Problem(408, "nothing-to-run", "Nothing to run", "the first frame must say what to run") from error
    except orjson.JSONDecodeError as error:
        raise invalid("frame", "json_invalid", f"the first frame is not JSON: {error}") from error
    return First.model_validate(message)


async def _heard(socket: WebSocket) -> str:
    message = await socket.receive()
    if message["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(message.get("code", 1005))
    text: str | None = message.get("text")
    if text is None:
        raise invalid("frame", "text", "frames must be text")
    return text


class _Run:
    """From what to run to the last result."""

    def __init__(self, first: First, socket: WebSocket, way: Way, place: Place) -> None:
        self._first = first
        self._run_id = first.run_id or uuid4().hex  # ours, so that to ask once more is not to run once more
        self._socket = socket
        self._way = way
        self._place = place
        self._typed: asyncio.Queue[str] = asyncio.Queue(_TYPED_AHEAD_MAX)

    async def carry_out(self) -> None:
        """Raises what ended it before its time, `WebSocketDisconnect` for instance."""
        talking = asyncio.create_task(self._talk())
        listening = asyncio.create_task(self._listen())
        try:
            await asyncio.wait({talking, listening}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            talking.cancel()
            listening.cancel()
            ends = await asyncio.gather(talking, listening, return_exceptions=True)
        if ends[0] is None:
            return
        error = next(end for end in ends if isinstance(end, Exception))
        if not (isinstance(error, WebSocketDisconnect) and error.code == _RESTARTING):
            await self._interrupt()
        raise error

    async def _result(self, asking: dict[str, Any]) -> Result:
        """Raises `Problem`."""
        if asking["mode"] == "input":  # a line must not arrive twice, and where it may have, what came of it is asked
            try:
                return await self._asked(partial(self._way.request, again=False), asking)
            except Gone:
                asking = asking | {"mode": "continue", "code": ""}
        return await self._asked(self._way.request, asking)

    async def _asked(self, request: Asking, asking: dict[str, Any]) -> Result:
        return await next_result(request, asking, wait_ms=_WAIT_MS, gather_ms=_GATHER_MS)

    async def _interrupt(self) -> None:
        """If it can be reached."""
        if (runner := self._way.runner) is not None:
            with suppress(Problem):
                await runner.request("interrupt", run_id=self._run_id)

    async def _listen(self) -> None:
        while True:
            text = await _heard(self._socket)
            try:
                self._typed.put_nowait(text)
            except asyncio.QueueFull as error:
                raise invalid("frame", "too_many", "nothing in the session reads what is typed") from error

    async def _talk(self) -> None:
        asking_on = {"mode": "continue", "run_id": self._run_id}
        asking: dict[str, Any] = self._first.fields() | {"run_id": self._run_id}
        seen, is_asked = 0, False
        while True:
            try:
                result = await self._result(asking | {"seen": seen})
            except Problem as problem:
                if problem.kind != "not-waiting":
                    raise
                asking = asking_on  # interrupted from elsewhere while somebody was typing
                continue
            seen, asking = result.number, asking_on
            is_waiting = result.status == "waiting-input"
            if result.console or not (result.status == "continued" or (is_waiting and is_asked)):
                for frame in _frames(shown(result, self._place, self._socket)):
                    await self._socket.send_text(frame)
            if result.is_last:
                return
            is_asked = is_waiting
            if is_waiting:
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ASK_AGAIN_SECONDS):
                        line = await self._typed.get()
                        asking, is_asked = {"mode": "input", "run_id": self._run_id, "code": line}, False


def _frames(told: dict[str, Any]) -> Iterator[str]:
    """A result in as many frames as its console needs; all but the last are `continued`."""
    so_far = told | {"status": "continued", "exitCode": None, "options": None, "files": []}
    items, size = list[Any](), 0
    for item in told["console"]:
        characters = len(item[1]) if isinstance(item[1], str) else len(to_json(item[1]))
        if items and size + characters > _FRAME_CHARACTERS_MAX:
            yield to_json(so_far | {"console": items}).decode()
            items, size = [], 0
        items.append(item)
        size += characters
    yield to_json(told | {"console": items}).decode()


def _error(problem: Problem, socket: WebSocket) -> str:
    """The last result where there can be no other. The public client shows its console."""
    told = {
        "status": "error",
        "exitCode": None,
        "console": [["stderr", f"{problem.detail}\n"]],
        "options": None,
        "files": [],
        "problem": problem.body(socket.url.path),
    }
    return to_json(told).decode()
