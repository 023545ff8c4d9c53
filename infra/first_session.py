"""The first session of an installation, asked for as any client would: what `infra/up` shows, and a health check of all
parts at once."""

import asyncio
import time
from collections.abc import Callable
from uuid import uuid4

import httpx
import orjson

from infra.signing import KeypairAuth

_NAME = "first-session"
_LIFETIME_SECONDS = 180.0  # image pulls included; whoever waits longer for an echo has a problem to look at
_ENDS = frozenset({"session_terminated", "session_cancelled"})


async def run_first_session(
    endpoint: str, access_key: str, secret_key: str, say: Callable[[str], None], image: str = "refold/base"
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
        try:
            asking.add_done_callback(lambda _: None)
            succeeded = False
            async for event, data in _events(stream, asking):
                if event is None:
                    say(f"the session was refused: {_reason(asking.result())}")
                    return False
                say(_line(event, data, (time.perf_counter() - began) * 1000))
                succeeded = succeeded or (event == "session_success" and data.get("result") == "SUCCESS")
                if event in _ENDS:
                    return succeeded and event == "session_terminated"
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
    say("the event stream ended before the session did")
    return False
