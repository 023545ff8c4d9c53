"""`GET /session/{id}/logs`, `/session/_/logs`: the output of a kernel, straight from the agent that keeps it."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing
from typing import Final

import httpx
import orjson
import structlog
from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response, StreamingResponse

from api.http.answers import json
from api.http.deps import All, Caller, Known, Services
from api.http.parameters import Parameters, in_query
from api.http.problems import refused
from api.kernels.reaching import Unreachable
from api.known import Known as Projections
from api.sessions.routes import found
from domain.messages import AgentId, KernelId
from infra.secrets import internal_token
from projections.session_list import KernelRow

router = APIRouter(tags=["sessions"])

_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)

_log = structlog.get_logger("api.sessions.logs")


class OfTask(Parameters):
    task_id: str = Field(alias="taskId", min_length=1, max_length=64, description="Id of a batch session.")


class OfSession(Parameters):
    kernel_id: str | None = Field(
        None, max_length=64, validation_alias=AliasChoices("kernel_id", "kernelId"), description="The main one's."
    )


@router.get("/session/_/logs", openapi_extra=in_query(OfTask))
async def task_logs(request: Request, caller: Caller, all_: All, known: Known) -> Response:
    """All that is kept of what its command printed, as it is."""
    session = await found(OfTask.of(request).task_id, caller, all_)
    answer = await _output(await known.kernels(session), None, all_, known)
    media_type = "application/octet-stream"
    return Response(media_type=media_type) if answer is None else StreamingResponse(_raw(answer), media_type=media_type)


@router.get("/session/{reference}/logs", openapi_extra=in_query(OfSession))
async def logs(reference: str, request: Request, caller: Caller, all_: All, known: Known) -> Response:
    """All that is kept of it: `{"result": {"logs": "…"}}`. It outlives the container."""
    session = await found(reference, caller, all_)
    answer = await _output(await known.kernels(session), OfSession.of(request).kernel_id, all_, known)
    if answer is None:
        return json({"result": {"logs": ""}})
    return StreamingResponse(_as_json(answer), media_type="application/json")


async def _output(
    kernels: Sequence[KernelRow], kernel_id: str | None, all_: Services, known: Projections
) -> httpx.Response | None:
    """Of one of a session's kernels, without an id of the main one; its body still to be read. None: there is none yet.

    Raises `Problem`.
    """
    kernel = next((each for each in kernels if kernel_id in (None, each.kernel_id)), None)
    if kernel is None and kernel_id is not None:
        raise refused("unknown_kernel", f"the session has no kernel {kernel_id}", "kernel_id")
    if kernel is None or kernel.agent_id is None:
        return None  # it has not had a place yet
    agent = await known.agent(kernel.agent_id)
    if agent is None:
        raise Unreachable(kernel.agent_id)
    return await _asked(all_, agent.agent_id, agent.address, KernelId(kernel.kernel_id))


async def _asked(all_: Services, agent_id: str, address: str, kernel_id: KernelId) -> httpx.Response | None:
    """The agent's answer, its body still to be read; None if it keeps nothing of this kernel. Raises `Problem`."""
    request = all_.http.build_request(
        "GET",
        f"{address.rstrip('/')}/kernels/{kernel_id}/logs",
        headers={"Authorization": f"Bearer {internal_token(all_.settings, AgentId(agent_id), kernel_id)}"},
        timeout=_TIMEOUT,
    )
    try:
        answer = await all_.http.send(request, stream=True)
    except httpx.HTTPError as error:
        _log.warning("agent does not answer", agent=agent_id, error=repr(error))
        raise Unreachable(agent_id) from error
    if answer.status_code == 200:
        return answer
    await answer.aclose()
    if answer.status_code == 404:
        return None
    _log.warning("agent refused", agent=agent_id, status=answer.status_code)
    raise Unreachable(agent_id)


async def _as_json(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    """The raw output as the text of a JSON string, piece by piece; bytes that are no UTF-8 become U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        yield b'{"result":{"logs":"'
        async with aclosing(_raw(answer)) as chunks:
            async for chunk in chunks:
                yield _escaped(decoder.decode(chunk))
        yield _escaped(decoder.decode(b"", final=True)) + b'"}}'
    finally:
        await answer.aclose()  # also where nobody listened as far as to the output


async def _raw(answer: httpx.Response) -> AsyncGenerator[bytes, None]:
    try:
        pieces: AsyncIterator[bytes] = answer.aiter_bytes()
        async with aclosing(pieces) as chunks:  # type: ignore[type-var]  # it is a generator
            async for chunk in chunks:
                yield chunk
    except httpx.HTTPError as error:
        _log.warning("output broke off", error=repr(error))
        raise
    finally:
        await answer.aclose()


def _escaped(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]
