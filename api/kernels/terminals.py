"""WebSocket `/stream/session/{id}/pty`: a shell in the session, with a terminal of its own.

Frames are text, each a JSON object. From the client:

    {"type": "stdin", "chars": <base64>}          typed
    {"type": "resize", "rows": 25, "cols": 80}
    {"type": "ping"}                              somebody is there: the session is in use
    {"type": "restart"}                           the shell and what it runs are ended; another one starts

To the client:

    {"type": "out", "data": <base64>}             what there is to see
    {"type": "error", "data": <text>}             what went wrong; the terminal goes on

A session has one terminal for its shell and one for each service of the protocol `pty`, and any number of people may
look at one and type. Who comes, or comes back, sees its latest 256 KiB first. A shell that ends is followed by another.
"""

import asyncio
import base64
import binascii
import time
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError
from starlette.websockets import WebSocket, WebSocketDisconnect
from typing_extensions import TypedDict  # pydantic cannot read Python's own before 3.12

from api.http.deps import All, Caller, Directory
from api.http.problems import Problem, from_error, invalid
from api.kernels.apps import NAME_MAX, service_of
from api.kernels.failures import Gone, broken
from api.kernels.reaching import Unreachable, place_of
from api.kernels.runner import to_json
from api.kernels.ways import Way, way_to

router = APIRouter(tags=["terminals"])

_WAIT_MS: Final = 20_000
_OUT_BYTES: Final = 64 * 1024
_TYPING_SECONDS: Final = 5.0  # for which what is typed waits for a program that does not read
_RETRY_SECONDS: Final = 0.1
_LIFE_SECONDS_MIN: Final = 1.0  # of a shell: one that ends at once is not started over and over


class Typed(BaseModel):
    type: Literal["stdin"]
    chars: str


class Resized(BaseModel):
    type: Literal["resize"]
    rows: int = Field(ge=1, le=2000)
    cols: int = Field(ge=1, le=2000)


class Other(BaseModel):
    type: Literal["ping", "restart"]


class Shown(TypedDict):
    type: Literal["out"]
    data: str


class Wrong(TypedDict):
    type: Literal["error"]
    data: str


class Output(BaseModel):
    """What the runner says about bytes of the terminal: from which offset to which. `exitCode`: the shell's end."""

    model_config = ConfigDict(strict=True)

    at: int
    next: int
    exitCode: int | None  # noqa: N815


_FRAME: Final = TypeAdapter[Typed | Resized | Other](
    Annotated[Typed | Resized | Other, Field(discriminator="type")],
)


@router.websocket("/stream/session/{reference}/pty")
async def terminal(
    socket: WebSocket,
    reference: str,
    caller: Caller,
    all_: All,
    directory: Directory,
    app: Annotated[str, Query(max_length=NAME_MAX)] = "",
) -> None:
    """`app`: a service of the protocol `pty`; the session's shell if there is none."""
    place = await place_of(reference, caller, all_)
    if app and service_of(place, app, directory).protocol != "pty":
        raise invalid("app", "protocol", f"the service {app} is no terminal")
    async with way_to(place, caller, all_) as way:
        shown = _Terminal(socket, way, f"pty/{app}")
        await shown.open()
        await socket.accept()
        await shown.carry_out()


class _Terminal:
    """As one client sees it."""

    def __init__(self, socket: WebSocket, way: Way, name: str) -> None:
        self._socket = socket
        self._way = way
        self._name = name

    async def open(self) -> None:
        """As it is, if it is there; with another shell, if its last one has ended. Raises `Problem`."""
        await self._way.request("terminal-open", terminal=self._name)

    async def carry_out(self) -> None:
        """Raises what ended it: `WebSocketDisconnect`, `Problem`."""
        both = [asyncio.create_task(self._show()), asyncio.create_task(self._listen())]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in both:
                task.cancel()
            ends = await asyncio.gather(*both, return_exceptions=True)
        raise next(end for end in ends if isinstance(end, Exception))

    async def _show(self) -> None:
        after, began = 0, time.monotonic()
        while True:
            output, data = await self._read(after)
            if 0 < after < output.at:
                await self._tell(f"{output.at - after} bytes were not shown: they came faster than they were read")
            if data:
                await self._say({"type": "out", "data": base64.b64encode(data).decode()})
            elif output.exitCode is None:
                await asyncio.sleep(_RETRY_SECONDS)  # whatever the kernel means by it, we do not run in circles
            after = output.next
            if output.exitCode is not None:
                await asyncio.sleep(began + _LIFE_SECONDS_MIN - time.monotonic())
                began = time.monotonic()
                await self.open()

    async def _read(self, after: int) -> tuple[Output, bytes]:
        told, data = await self._way.request(
            "terminal-read",
            seconds=_WAIT_MS / 1000,
            terminal=self._name,
            after=after,
            wait_ms=_WAIT_MS,
            bytes_max=_OUT_BYTES,
        )
        try:
            return Output.model_validate(told), data
        except ValidationError as error:
            raise broken("its runner tells of a terminal in words that are not agreed") from error

    async def _listen(self) -> None:
        while True:
            message = await self._socket.receive()
            if message["type"] == "websocket.disconnect":
                raise WebSocketDisconnect(message.get("code", 1005))
            try:
                await self._heed(message.get("text"))
            except Gone:
                await self._tell("the connection to the session broke: what was typed last may be lost")
            except Exception as error:
                problem = from_error(error)
                if problem is None or isinstance(problem, Unreachable):
                    raise
                await self._tell(problem.detail)

    async def _heed(self, text: str | None) -> None:
        """Raises `Problem`, `ValidationError`."""
        match _frame(text):
            case Typed(chars=chars):
                await self._type(_decoded(chars))
            case Resized(rows=rows, cols=cols):
                await self._way.request("terminal-resize", terminal=self._name, rows=rows, cols=cols)
            case Other(type="ping"):
                await self._way.request("ping")  # on the host, that is use of the session
            case Other(type="restart"):
                await self._way.request("terminal-restart", terminal=self._name, again=False)

    async def _type(self, data: bytes) -> None:
        """Waits a while for a program that is slow to read, and for the next shell."""
        give_up_at = time.monotonic() + _TYPING_SECONDS
        while True:
            try:
                await self._way.request("terminal-write", data, terminal=self._name, again=False)
                return
            except Problem as problem:
                if problem.kind not in {"terminal-busy", "terminal-ended"} or time.monotonic() > give_up_at:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)

    async def _tell(self, what: str) -> None:
        await self._say({"type": "error", "data": what})

    async def _say(self, frame: Shown | Wrong) -> None:
        await self._socket.send_text(to_json(frame).decode())


def _frame(text: str | None) -> Typed | Resized | Other:
    """Raises `Problem`, `ValidationError`."""
    if text is None:
        raise invalid("frame", "text", "frames are text")
    try:
        return _FRAME.validate_json(text)
    except ValidationError as error:
        if error.errors()[0]["type"] == "json_invalid":
            raise invalid("frame", "json_invalid", "a frame is a JSON object") from error
        raise


def _decoded(chars: str) -> bytes:
    try:
        return base64.b64decode(chars, validate=True)
    except binascii.Error as error:
        raise invalid("chars", "base64", f"chars is not base64: {error}") from error
