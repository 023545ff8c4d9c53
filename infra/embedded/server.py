"""What the two embedded servers have in common: prepare, start, wait until it answers, stop, kill."""

import asyncio
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path

from infra.embedded.folder import CannotStart
from infra.supervise import Child, Process, Supervisor, last_words

READY_SECONDS_MAX = 60.0  # Kafka reads its whole log after a crash; on a slow disk that takes a while
STARTS_MAX = 3  # under a supervisor: a first start that failed so often fails for a reason


class Server(ABC):
    """One server over one data folder. Either use it by itself, or let a Supervisor run its `child()`."""

    name: str

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir.absolute()
        self.folder = self.data_dir / self.name
        self.logs = self.data_dir / "logs"
        self.process: Process | None = None

    @abstractmethod
    async def prepare(self) -> None:
        """Makes what a first start needs. Done once; repeating it is quick."""

    @abstractmethod
    def child(self) -> Child:
        """The process to run, after `prepare`."""

    @abstractmethod
    async def answers(self) -> bool:
        """Whether the server serves requests now."""

    async def start(self) -> None:
        """Prepares and starts the server. Returns before it answers: see `ready`."""
        await self.prepare()
        self.process = await Process.start(self.child(), self.logs)

    async def run_by(self, supervisor: Supervisor) -> None:
        """Prepares the server and lets the supervisor keep it running; returns once it answers."""
        await self.prepare()
        await supervisor.start(self.child())
        await self._ready(lambda: supervisor.restarts(self.name) >= STARTS_MAX, READY_SECONDS_MAX)

    async def ready(self, timeout: float = READY_SECONDS_MAX) -> None:
        """Returns once the server answers a request; CannotStart when it ended or `timeout` passed."""
        process = self.process
        await self._ready(lambda: process is not None and process.exit_code is not None, timeout)

    async def _ready(self, has_failed: Callable[[], bool], timeout: float) -> None:
        end = time.monotonic() + timeout
        while not await self.answers():
            if has_failed():
                raise CannotStart(f"{self.name} ended at its start: {self._last_words()}")
            if time.monotonic() > end:
                raise CannotStart(f"{self.name} did not answer within {timeout:g} s: {self._last_words()}")
            await asyncio.sleep(0.1)

    async def stop(self) -> None:
        """Stops it gracefully, within a bound."""
        if self.process is not None:
            await self.process.stop()

    async def kill(self) -> None:
        """Ends it with -9, as a crash would."""
        if self.process is not None:
            await self.process.kill()

    def _last_words(self) -> str:
        return last_words(self.logs, self.name, lines=5) or f"see {self.logs / self.name}.log"
