"""A client of the event stream, for tests: what came, with ids."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
import orjson
from httpx_sse import ServerSentEvent, aconnect_sse


class Heard:
    """Everything that has come so far."""

    def __init__(self) -> None:
        self.events: list[ServerSentEvent] = []
        self.ended = asyncio.Event()
        self._more = asyncio.Event()

    def add(self, event: ServerSentEvent) -> None:
        self.events.append(event)
        self._more.set()

    @property
    def names(self) -> list[str]:
        return [event.event for event in self.events]

    @property
    def data(self) -> list[dict[str, Any]]:
        return [orjson.loads(event.data) for event in self.events]

    async def until(self, is_enough: "Callable[[Heard], bool] | str", seconds: float = 10) -> None:
        """Wait for a name, or until the function says so."""
        enough = (lambda heard: is_enough in heard.names) if isinstance(is_enough, str) else is_enough
        async with asyncio.timeout(seconds):
            while not enough(self):
                self._more.clear()
                await self._more.wait()


@asynccontextmanager
async def listening(
    client: httpx.AsyncClient, last_id: str | None = None, path: str = "/events/session", **params: str
) -> AsyncIterator[Heard]:
    """A stream, open for the block."""
    heard = Heard()
    opened = asyncio.Event()

    async def listen() -> None:
        headers = {} if last_id is None else {"Last-Event-ID": last_id}
        async with aconnect_sse(client, "GET", path, params=params, headers=headers) as source:
            source.response.raise_for_status()
            opened.set()
            async for event in source.aiter_sse():
                if event.data:
                    heard.add(event)
        heard.ended.set()

    task = asyncio.create_task(listen())
    waiting = asyncio.create_task(opened.wait())
    await asyncio.wait([task, waiting], return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    try:
        if task.done():
            await task
        yield heard
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
