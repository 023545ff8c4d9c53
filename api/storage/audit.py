"""What was changed in folders, told to the log: one record for each change, which workers keep for people to look at.

Whoever changes files does not wait for it. While the log does not answer, changes wait here; where they become too
many, the newest are dropped, counted and told of in the end. What is told twice has one id, and is kept once.
"""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from sys import getsizeof
from typing import Final
from uuid import uuid4

import structlog
from prometheus_client import Counter

from api.storage.guarding import Audit
from domain.vfolder.operations import FileOperation
from infra.envelope import Cause, record_of
from infra.log import Log, LogError, NewRecord
from infra.settings import Settings
from infra.topics import AUDIT, partition_of

WAITING_BYTES_MAX: Final = 32 * 1024 * 1024
_OPERATION_BYTES: Final = 1000  # that one takes beside its paths
_AT_ONCE: Final = 500
_RETRY_SECONDS: Final = 1.0
_STOP_SECONDS: Final = 5.0

_log = structlog.get_logger("api.storage")
_dropped = Counter("refold_storage_audit_dropped", "Changes of files that nobody was told of.")


class Trail:
    """Of one storage service. `note` is called in the event loop in which `run` runs."""

    def __init__(self, settings: Settings, log: Log) -> None:
        self._settings = settings
        self._log = log
        self._source = f"storage/{settings.storage_name}"
        self._waiting: deque[FileOperation] = deque()
        self._waiting_bytes = 0
        self._leaving: Sequence[NewRecord] = ()
        self._dropped = 0
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        """Changes that the log does not have yet, as far as it is known."""
        return len(self._waiting) + len(self._leaving)

    def note(self, operation: FileOperation) -> None:
        """Neither waits nor raises."""
        size = _size(operation)
        if self._waiting_bytes + size > WAITING_BYTES_MAX:
            if not self._dropped:
                _log.warning("changes of files are dropped: too many wait to be told", waiting=self.waiting)
            self._drop(1)
            return
        self._waiting.append(operation)
        self._waiting_bytes += size
        self._news.set()

    async def run(self) -> None:
        """Never returns."""
        is_away = False
        while True:
            await self._news.wait()
            self._news.clear()
            try:
                await self.tell()
                is_away = False
            except LogError as error:
                if not is_away:
                    _log.warning("changes of files wait to be told", reason=str(error))
                is_away = True
                await asyncio.sleep(_RETRY_SECONDS)
                self._news.set()

    async def tell(self) -> None:
        """Everything that waits. Raises `LogError`: then the rest still waits."""
        while self._leaving or self._waiting:
            if not self._leaving:
                self._leaving = self._next()
            await self._log.append(self._leaving)
            self._leaving = ()
        if self._dropped:
            _log.error("changes of files were not told of", dropped=self._dropped)
            self._dropped = 0

    async def end(self) -> None:
        """Tell what is left, as far as that takes a moment only."""
        try:
            async with asyncio.timeout(_STOP_SECONDS):
                await self.tell()
        except (LogError, TimeoutError) as error:
            self._drop(self.waiting)
            _log.error("changes of files were not told of", dropped=self._dropped, reason=str(error))

    def _drop(self, count: int) -> None:
        self._dropped += count
        _dropped.inc(count)

    def _next(self) -> list[NewRecord]:
        operations = [self._waiting.popleft() for _ in range(min(_AT_ONCE, len(self._waiting)))]
        self._waiting_bytes -= sum(map(_size, operations))
        return [self._record(each) for each in operations]

    def _record(self, operation: FileOperation) -> NewRecord:
        message_id = str(uuid4())
        cause = Cause(operation.actor, message_id, message_id)
        place = partition_of(self._settings, AUDIT, operation.key)
        return record_of(operation, message_id, self._source, cause, place, operation.key)


def _size(operation: FileOperation) -> int:
    return _OPERATION_BYTES + getsizeof(operation.path) + getsizeof(operation.target)


@asynccontextmanager
async def trail(settings: Settings, log: Log) -> AsyncIterator[Audit]:
    """What is to be called with each change, in the block."""
    kept = Trail(settings, log)
    running = asyncio.create_task(kept.run())
    try:
        yield kept.note
    finally:
        running.cancel()
        await asyncio.wait([running])
        await kept.end()
