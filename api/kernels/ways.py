"""A way to the runner of a kernel that outlives its connections: another is opened where one breaks, as when the agent
is restarted. What runs in the kernel does not notice."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

from api.access.auth import Caller
from api.http.deps import Services
from api.kernels.failures import Gone
from api.kernels.reaching import Place, Unreachable, present
from api.kernels.runner import Answer, Runner, runner_of

_AWAY_SECONDS: Final = 30.0  # for which an agent may be away
_RETRY_SECONDS: Final = 0.5


@asynccontextmanager
async def way_to(place: Place, caller: Caller, all_: Services) -> AsyncIterator["Way"]:
    """Open for the block. Raises `Problem`."""
    way = Way(place, caller, all_)
    try:
        await way.open()
        yield way
    finally:
        await way.close()


class Way:
    """Any number of requests may be under way."""

    def __init__(self, place: Place, caller: Caller, all_: Services) -> None:
        self._place = place
        self._caller = caller
        self._all = all_
        self._turn = asyncio.Lock()
        self._stack = AsyncExitStack()
        self._is_lost = False
        self.runner: Runner | None = None
        """The connection there is; it may be broken already."""

    async def open(self) -> Runner:
        """The connection there is, or a new one. Raises `Problem`."""
        async with self._turn:
            if self.runner is None:
                if self._is_lost:
                    self._place = await present(self._place, self._all)
                self.runner = await self._stack.enter_async_context(runner_of(self._place, self._caller, self._all))
            return self.runner

    async def close(self, broken: Runner | None = None) -> None:
        """`broken`: only if it still leads there."""
        async with self._turn:
            if broken is None or self.runner is broken:
                self.runner = None
                await self._stack.aclose()

    async def request(
        self, do: str, body: bytes = b"", *, again: bool = True, seconds: float = 0.0, **fields: Any
    ) -> Answer:
        """As `Runner.request`, but asked again as long as the way is broken. Raises `Problem`.

        Not `again`: what must not happen twice, so an answer that is lost raises `Gone`.
        """
        give_up_at = time.monotonic() + seconds + _AWAY_SECONDS
        while True:
            runner: Runner | None = None
            try:
                runner = await self.open()
                return await runner.request(do, body, seconds=seconds, **fields)
            except (Gone, Unreachable):
                self._is_lost = True
                if runner is not None:
                    await self.close(runner)
                if (runner is not None and not again) or time.monotonic() > give_up_at:
                    raise
            await asyncio.sleep(_RETRY_SECONDS)
