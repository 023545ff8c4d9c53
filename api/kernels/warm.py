"""Connections to runners that stay open for a moment: whoever runs code asks again and again.

Opening one leads through the agent into the kernel, and takes longer than a short run itself. One connection serves
everybody who asks the same kernel, since any number of requests may be under way on it. Only short ones go this way:
for what is long, or waits for a slow reader, `runner.runner_of` opens a connection of its own.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

from api.access.auth import Caller
from api.http.deps import Services
from api.http.problems import Problem
from api.kernels.reaching import Place, counted
from api.kernels.runner import Runner, opened_runner

_IDLE_SECONDS: Final = 5.0  # within which a client asks on, or somebody types the next line
_IDLE_MAX: Final = 256  # connections that nobody uses; those used last are kept
_DOUBTFUL: Final = frozenset({502, 504})

Kernel = tuple[str, str]
"""Its agent's address and its id: a kernel that moved is another one here."""


@dataclass(eq=False)
class _Connection:
    runner: Runner
    stack: AsyncExitStack
    users: int = 0
    cooling: asyncio.TimerHandle | None = field(default=None)
    """Closes it, unless somebody comes before."""


class WarmRunners:
    """Of one api process. `close` it before its event loop ends."""

    def __init__(self) -> None:
        self._connections: dict[Kernel, _Connection] = {}
        self._opening: dict[Kernel, asyncio.Lock] = {}
        self._closing: set[asyncio.Task[None]] = set()

    @asynccontextmanager
    async def of(self, place: Place, caller: Caller, all_: Services) -> AsyncIterator[Runner]:
        """The connection there is, or a new one. Raises `Problem` (429, 501, 502).

        One that broke, or on which no answer came in time, is not given to anybody again.
        """
        kernel = (place.address, place.kernel_id)
        with counted(caller, all_):
            connection = await self._connection(kernel, place, all_)
            connection.users += 1
            try:
                yield connection.runner
            except Problem as problem:
                if problem.status in _DOUBTFUL and self._connections.get(kernel) is connection:
                    self._drop(kernel, connection)
                raise
            finally:
                connection.users -= 1
                self._left(kernel, connection)

    async def close(self) -> None:
        """All of them."""
        for kernel, connection in list(self._connections.items()):
            self._drop(kernel, connection)
        await asyncio.gather(*self._closing)

    async def _connection(self, kernel: Kernel, place: Place, all_: Services) -> _Connection:
        """One that was not seen to end. Whoever comes while it is being opened waits for it."""
        lock = self._opening.setdefault(kernel, asyncio.Lock())
        try:
            async with lock:
                connection = self._connections.get(kernel)
                if connection is not None and connection.runner.is_over:
                    self._drop(kernel, connection)
                    connection = None
                if connection is None:
                    stack = AsyncExitStack()
                    runner = await stack.enter_async_context(opened_runner(place, all_))
                    connection = self._connections[kernel] = _Connection(runner, stack)
        finally:
            if not lock.locked():
                self._opening.pop(kernel, None)
        if connection.cooling is not None:
            connection.cooling.cancel()
            connection.cooling = None
        return connection

    def _left(self, kernel: Kernel, connection: _Connection) -> None:
        if connection.users:
            return
        if self._connections.get(kernel) is not connection:
            self._close(connection)  # it was dropped while somebody used it
            return
        connection.cooling = asyncio.get_running_loop().call_later(_IDLE_SECONDS, self._drop, kernel, connection)
        self._connections[kernel] = self._connections.pop(kernel)  # the last to go
        idle = [(each, one) for each, one in self._connections.items() if not one.users]
        for each, one in idle[: max(0, len(idle) - _IDLE_MAX)]:
            self._drop(each, one)

    def _drop(self, kernel: Kernel, connection: _Connection) -> None:
        del self._connections[kernel]
        if connection.cooling is not None:
            connection.cooling.cancel()
        if not connection.users:
            self._close(connection)

    def _close(self, connection: _Connection) -> None:
        task = asyncio.create_task(connection.stack.aclose())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)
