"""`POST /session/{id}`: run code in a session, and hear what it prints.

A run is asked for once, and then asked on with the same `runId` until its status is `finished`; each answer comes
within a few seconds and holds what was printed since the one before.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal
from urllib.parse import quote

from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.requests import HTTPConnection
from starlette.responses import Response

from api.http.deps import All, Caller
from api.http.door import client_of
from api.http.parameters import Parameters, answers, in_body
from api.kernels.failures import broken
from api.kernels.reaching import Place, place_of
from api.kernels.runner import Answer, to_json

router = APIRouter(tags=["code"])

Asking = Callable[..., Awaitable[Answer]]
"""`request` of a runner, or of a way to one."""

_WAIT_MS: Final = 2000
_GATHER_MS: Final = 100
_RUN_ID_MAX: Final = 128
_COMMAND_MAX: Final = 65_536


class Options(Parameters):
    """`clean`, `build`, `exec`: the commands of batch mode; `*` is the kernel's own way, nothing skips the step.

    `timeout_seconds`: from the run's turn on. Then it is interrupted, and its status is `exec-timeout`.
    """

    clean: str | None = Field(None, max_length=_COMMAND_MAX)
    build: str | None = Field(None, max_length=_COMMAND_MAX)
    exec: str | None = Field(None, max_length=_COMMAND_MAX)
    timeout_seconds: float | None = Field(None, gt=0, le=10**9)


class Execution(Parameters):
    """`code`: the source (query), what was typed (input), or nothing. `runId` is given out with the first answer.

    `seen`: number of the last answer that arrived. If a later one was lost, it is given again.
    """

    mode: Literal["query", "batch", "continue", "continued", "input"]
    code: str | None = None
    run_id: str | None = Field(None, alias="runId", min_length=1, max_length=_RUN_ID_MAX)
    options: Options | None = None
    seen: int | None = Field(None, ge=0, le=2**53)

    def fields(self) -> dict[str, Any]:
        """For the runner's `execute`."""
        options = None if self.options is None else self.options.model_dump()
        return {
            "mode": self.mode,
            "code": self.code or "",
            "run_id": self.run_id,
            "options": options,
            "seen": self.seen,
        }


class Completion(Parameters):
    """`code`: up to the cursor. Its place among the lines, which the public client sends along, is not needed."""

    code: str


class Interruption(Parameters):
    """Without a `runId`: what runs now."""

    run_id: str | None = Field(None, alias="runId", min_length=1, max_length=_RUN_ID_MAX)


class File(BaseModel):
    """In `~/.output`, new or changed by the run."""

    name: str
    bytes: int


class Result(BaseModel):
    """One answer of a run, as its kernel tells it."""

    model_config = ConfigDict(strict=True)

    runId: str  # noqa: N815
    number: int
    status: Literal["continued", "waiting-input", "finished", "clean-finished", "build-finished", "exec-timeout"]
    exitCode: int | None  # noqa: N815
    console: list[tuple[Literal["stdout", "stderr", "media", "html", "log"], Any]]
    options: dict[str, Any] | None
    files: list[File]

    @property
    def is_last(self) -> bool:
        return self.status in {"finished", "exec-timeout"}


@router.post(
    "/session/{reference}",
    openapi_extra=in_body(Execution, mode="query", code="print(1 + 1)"),
    responses=answers(
        {
            "result": {
                "runId": "5d4c8e9a0b7f6e21",
                "number": 1,
                "status": "finished",
                "exitCode": 0,
                "console": [["stdout", "2\n"]],
                "options": None,
                "files": [],
            }
        },
        "What was printed since the answer before, and how the run stands.",
    ),
)
async def execute(reference: str, request: Request, caller: Caller, all_: All) -> Response:
    """Run code (`query`), run commands (`batch`), ask on (`continue`), or answer what a program asks (`input`)."""
    asked = Execution.of(request)
    place = await place_of(reference, caller, all_)
    async with all_.warm_runners.of(place, caller, all_) as runner:
        result = await next_result(runner.request, asked.fields(), wait_ms=_WAIT_MS, gather_ms=_GATHER_MS)
    return _json({"result": shown(result, place, request)})


@router.post(
    "/session/{reference}/complete",
    openapi_extra=in_body(Completion, code="import os; os.pa"),
    responses=answers({"result": ["os.pardir", "os.path", "os.pathconf", "os.pathconf_names", "os.pathsep"]}),
)
async def complete(reference: str, request: Request, caller: Caller, all_: All) -> Response:
    """What code may go on as at the cursor; nothing while something runs."""
    asked = Completion.of(request)
    place = await place_of(reference, caller, all_)
    async with all_.warm_runners.of(place, caller, all_) as runner:
        told, _ = await runner.request("complete", code=asked.code)
    names = told.get("result")
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise broken("its runner completes code with what are no names")
    return _json({"result": names})


@router.post("/session/{reference}/interrupt", status_code=204)
async def interrupt(reference: str, request: Request, caller: Caller, all_: All) -> Response:
    """As Ctrl-C would; a program may do as if nothing had happened. Quiet where nothing runs."""
    asked = Interruption.of(request)
    place = await place_of(reference, caller, all_)
    async with all_.warm_runners.of(place, caller, all_) as runner:
        await runner.request("interrupt", run_id=asked.run_id)
    return Response(None, 204)


async def next_result(asking: Asking, fields: Mapping[str, Any], *, wait_ms: int, gather_ms: int) -> Result:
    """Answered at the latest after `wait_ms`, and `gather_ms` after the first output. `asking`: a `request`.

    Raises `Problem`.
    """
    told, _ = await asking("execute", seconds=wait_ms / 1000, wait_ms=wait_ms, gather_ms=gather_ms, **fields)
    try:
        return Result.model_validate(told | {"console": [tuple(item) for item in told["console"]]})
    except (ValidationError, KeyError, TypeError) as error:
        raise broken("its runner tells of a run in words that are not agreed") from error


def shown(result: Result, place: Place, connection: HTTPConnection) -> dict[str, Any]:
    """As clients know it: a file has the address where it can be had."""
    scheme = "https" if client_of(connection.scope).is_secure else "http"
    at = f"{scheme}://{connection.headers.get('host', '')}/session/{place.session_id}/download_single?file="
    told = result.model_dump()
    for file in told["files"]:
        file["url"] = at + quote(f".output/{file['name']}", safe="/", errors="surrogateescape")
    return told


def _json(body: Any) -> Response:
    return Response(to_json(body), 200, media_type="application/json")
