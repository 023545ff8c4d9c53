"""How a reader sees what he wrote: he waits until the projections he asks have folded up to his position.

One waiter serves a whole process, and asks the database nothing for a request: each commit's notification says which
checkpoints it moved. Only when it begins, and where one said too much for a notification, it reads them all.

A position names events partitions, or commands partitions: those are reached when everything up to that command has
its outcome folded. It must come from a record's offset (the offset after it), not from the end of a partition, which
may lie beyond a control record that nobody folds.
"""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass

import structlog
from psycopg import AsyncConnection

from infra.log import Partition, Position
from infra.postgres import Connection, translated
from infra.settings import Settings
from infra.topics import commands, events
from projections.catalogue import PROJECTIONS
from projections.reading import commands_of
from projections.store import CHANNEL, Checkpoints, moved, read_checkpoints

_log = structlog.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""While somebody waits, the checkpoints are read this often even so: a connection that died unseen tells nothing."""

_RECONNECT_SECONDS = 0.5


class NotYet(Exception):
    """The projections have not reached the position in time."""


@dataclass(eq=False)
class _Waiter:
    position: Position
    projections: Sequence[str]
    done: asyncio.Future[None]


class Waiting:
    """`wait_for` may be called by any number of tasks at once, while `run` is running in another."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reached: dict[tuple[str, Partition], int] = {}
        self._waiters: set[_Waiter] = set()
        self._look = asyncio.Event()
        self._topics = {
            projection.name: frozenset(
                settings.topic_prefix + topic
                for context in projection.contexts
                for topic in (events(context), commands(context))
            )
            for projection in PROJECTIONS.values()
        }

    async def wait_for(self, position: Position, projections: Sequence[str], timeout: float) -> None:
        """Return once all of these projections have folded up to the position; at most `timeout` seconds.

        Partitions that a projection is not folded from do not concern it. Raises `NotYet`.
        """
        if self._is_reached(position, projections):
            return
        waiter = _Waiter(position, projections, asyncio.get_running_loop().create_future())
        self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout):
                await waiter.done
        except TimeoutError:
            raise NotYet(f"not folded up to there within {timeout} s: {', '.join(projections)}") from None
        finally:
            self._waiters.discard(waiter)

    async def run(self) -> None:
        """Answer those who wait, until cancelled. While Postgres does not answer, nothing counts as reached."""
        while True:
            try:
                await self._listen()
            except Exception as error:
                _log.warning("cannot see how far the projections are", reason=str(error))
            self._reached.clear()
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self) -> None:
        # Connections of their own, outside the pool: one listens as long as the process lives, the other looks.
        with translated():
            async with await self._connect() as listener, await self._connect() as looking:
                await listener.execute(f"LISTEN {CHANNEL}")
                await self._read(looking)
                hearing = asyncio.create_task(self._hear(listener))
                hearing.add_done_callback(lambda _: self._look.set())
                try:
                    while not hearing.done():
                        with suppress(TimeoutError):
                            async with asyncio.timeout(_LOOK_SECONDS):
                                await self._look.wait()
                        if self._waiters or self._look.is_set():
                            self._look.clear()
                            await self._read(looking)
                    hearing.result()
                finally:
                    hearing.cancel()
                    await asyncio.gather(hearing, return_exceptions=True)

    async def _connect(self) -> Connection:
        url = self._settings.database.get_secret_value()
        return await AsyncConnection.connect(url, autocommit=True, connect_timeout=5)

    async def _hear(self, listener: Connection) -> None:
        async for notification in listener.notifies():
            checkpoints = moved(notification.payload)
            if checkpoints is None:
                self._look.set()
            else:
                self._note(checkpoints)

    async def _read(self, db: Connection) -> None:
        self._note(await read_checkpoints(db, PROJECTIONS))

    def _note(self, checkpoints: Checkpoints) -> None:
        """A checkpoint never goes back, so the higher number is the newer one, whichever way it came."""
        for (projection, partition), checkpoint in checkpoints.items():
            for place, offset in (
                (partition, checkpoint.next_offset),
                (commands_of(partition), checkpoint.command_offset),
            ):
                self._reached[projection, place] = max(offset, self._reached.get((projection, place), 0))
        for waiter in self._waiters:
            if not waiter.done.done() and self._is_reached(waiter.position, waiter.projections):
                waiter.done.set_result(None)

    def _is_reached(self, position: Position, projections: Sequence[str]) -> bool:
        return all(
            self._reached.get((projection, partition), 0) >= offset
            for projection in projections
            for partition, offset in position.offsets.items()
            if partition.topic in self._topics[projection]
        )


@asynccontextmanager
async def waiting(settings: Settings) -> AsyncIterator[Waiting]:
    """A `Waiting` that works as long as the block."""
    one = Waiting(settings)
    running = asyncio.create_task(one.run())
    try:
        yield one
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
