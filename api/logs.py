"""`GET /session/{id}/logs`: the output of a session's main kernel, straight from the agent that keeps it."""

import codecs
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Final

import httpx
import orjson
import structlog
from fastapi import APIRouter
from starlette.responses import Response, StreamingResponse

from api.answers import json
from api.deps import All, Caller, Known, Services
from api.kernels.reaching import Unreachable
from api.sessions import found
from domain.messages import KernelId
from infra.secrets import internal_token

router = APIRouter(tags=["sessions"])

_TIMEOUT: Final = httpx.Timeout(10.0, connect=3.0)

_log = structlog.get_logger("api.logs")


@router.get("/session/{reference}/logs")
async def logs(reference: str, caller: Caller, all_: All, known: Known) -> Response:
    """All that is kept of it: `{"result": {"logs": "…"}}`. It outlives the container."""
    session = await found(reference, caller, all_)
    kernels = await known.kernels(session)
    if not kernels or kernels[0].agent_id is None:
        return json({"result": {"logs": ""}})  # it has not had a place yet
    agent = await known.agent(kernels[0].agent_id)
    if agent is None:
        raise Unreachable(kernels[0].agent_id)
    answer = await _asked(all_, agent.agent_id, agent.address, KernelId(kernels[0].kernel_id))
    if answer is None:
        return json({"result": {"logs": ""}})
    return StreamingResponse(_as_json(answer), media_type="application/json")


async def _asked(all_: Services, agent_id: str, address: str, kernel_id: KernelId) -> httpx.Response | None:
    """The agent's answer, its body still to be read; None if it keeps nothing of this kernel. Raises `Problem`."""
    request = all_.http.build_request(
        "GET",
        f"{address.rstrip('/')}/kernels/{kernel_id}/logs",
        headers={"Authorization": f"Bearer {internal_token(all_.settings, kernel_id)}"},
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
        pieces: AsyncIterator[bytes] = answer.aiter_bytes()
        async with aclosing(pieces) as chunks:  # type: ignore[type-var]  # it is a generator
            async for chunk in chunks:
                yield _escaped(decoder.decode(chunk))
        yield _escaped(decoder.decode(b"", final=True)) + b'"}}'
    except httpx.HTTPError as error:
        _log.warning("output broke off", error=repr(error))
        raise
    finally:
        await answer.aclose()


def _escaped(text: str) -> bytes:
    return orjson.dumps(text)[1:-1]
