"""The first session of an installation, asked for as any client would: what `infra/up` shows, and a health check of all
parts at once."""

import asyncio
import time
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import orjson

from infra.signing import KeypairAuth

_NAME = "first-session"
_LIFETIME_SECONDS = 180.0  # image pulls included; whoever waits longer for an echo has a problem to look at
_Heard = tuple[float, str, dict[str, Any]]
_ENDS = frozenset({"session_terminated", "session_cancelled"})


async def run_first_session(
    endpoint: str, access_key: str, secret_key: str, say: Callable[[str], None], image: str
) -> bool:
    """Run `echo` in a batch session, and `say` each event of its life with the milliseconds since the request.

    True only if it ended by itself with result SUCCESS. What went wrong otherwise is said in a sentence.
    """
    name = f"{_NAME}-{uuid4().hex[:8]}"
    auth = KeypairAuth(access_key, secret_key)
    timeout = httpx.Timeout(20.0, read=_LIFETIME_SECONDS)
    async with httpx.AsyncClient(base_url=endpoint, auth=auth, timeout=timeout) as client:
        try:
            async with asyncio.timeout(_LIFETIME_SECONDS):
                return await _run(client, name, image, say)
        except TimeoutError:
            say(f"the session {name} has not ended after {_LIFETIME_SECONDS:.0f} s")
        except httpx.HTTPError as error:
            say(f"the api does not answer as it should: {type(error).__name__} {error}")
    return False


async def _run(client: httpx.AsyncClient, name: str, image: str, say: Callable[[str], None]) -> bool:
    # Listening comes first: the stream is open before the session exists, and misses nothing of it.
    async with client.stream("GET", "/events/session", params={"sessionName": name}) as stream:
        if stream.status_code != 200:
            await stream.aread()
            say(f"the event stream was refused: {_reason(stream)}")
            return False
        began = time.perf_counter()
        asking = asyncio.create_task(client.post("/session", json=_request(name, image)))
        heard: asyncio.Queue[_Heard | None] = asyncio.Queue()
        listening = asyncio.create_task(_listen(stream, heard))
        try:
            answer = await asking
            if answer.status_code not in {201, 202}:
                say(f"the session was refused: {_reason(answer)}")
                return False
            succeeded = False
            while (told := await heard.get()) is not None:
                at, event, data = told
                say(_line(event, data, (at - began) * 1000))
                succeeded = succeeded or event == "session_success"
                if event in _ENDS:
                    return succeeded
        finally:
            for task in (asking, listening):
                task.cancel()
            await asyncio.gather(asking, listening, return_exceptions=True)
    say("the event stream ended before the session did")
    return False


async def _listen(stream: httpx.Response, heard: "asyncio.Queue[_Heard | None]") -> None:
    """Every event with the time at which it came; None at the end. Each has its data in one line, after its name."""
    name = ""
    try:
        async for line in stream.aiter_lines():
            field, _, text = line.partition(": ")
            if field == "event":
                name = text
            elif field == "data" and name:
                heard.put_nowait((time.perf_counter(), name, orjson.loads(text)))
                name = ""
    finally:
        heard.put_nowait(None)


def _line(event: str, data: dict[str, Any], milliseconds: float) -> str:
    where = f"  {data['clusterRole']}{data['clusterIdx']}" if "clusterRole" in data else ""
    why = f"  {data['reason']}" if data.get("reason") else ""
    how = "" if data.get("exitCode") is None else f"  exit code {data['exitCode']}"
    return f"{milliseconds:8.0f} ms  {event:<20}{where}{why}{how}"


def _reason(answer: httpx.Response) -> str:
    try:
        return f"{answer.status_code} {answer.json()['detail']}"
    except (ValueError, KeyError, TypeError):
        return f"status {answer.status_code}"


def _request(name: str, image: str) -> dict[str, Any]:
    return {
        "image": image,
        "name": name,
        "type": "batch",
        "startupCommand": "echo 'a session ran, from an HTTP command to a process and back, through the log'",
        "enqueueOnly": True,
        "config": {"resources": {"cpu": "0.1", "mem": "64m"}},
    }
