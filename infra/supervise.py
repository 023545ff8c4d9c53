"""Child processes: on a leash, their output in rotated files, restarted when they crash, stopped in order.

`Process` is one run of a `Child`; `Supervisor` keeps several children running.
"""

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

READ_BYTES = 1 << 16
LOG_BYTES_MAX = 16 * 1024 * 1024  # two such files per child: enough to see the crash before last
BACK_OFF_SECONDS = (0.2, 0.5, 1.0, 2.0, 5.0)
STOP_SECONDS_MAX = 10.0  # for all children together: people wait for Ctrl-C
CALM_SECONDS = 30.0  # a child that ran this long before it crashed starts again without back-off


def leashed(argv: Sequence[str], orphan_signal: signal.Signals, user: str | None = None) -> tuple[str, ...]:
    """The command that runs `argv` so that it gets this signal when we die; see leash.py."""
    leash = (sys.executable, "-I", "-S", str(Path(__file__).parent / "leash.py"))
    return (*leash, str(os.getpid()), str(int(orphan_signal)), user or "-", *argv)


@dataclass(frozen=True)
class Child:
    """What to run. `before` runs ahead of every start, also after a crash; `stop_seconds` is its grace."""

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=lambda: dict(os.environ))
    cwd: Path | None = None
    user: str | None = None
    before: Callable[[], Awaitable[None]] | None = None
    stop_signal: signal.Signals = signal.SIGTERM
    stop_seconds: float = 5.0
    orphan_signal: signal.Signals = signal.SIGKILL


class Process:
    """One running child. Its output goes to `<logs>/<name>.log`, the older part of it to `<name>.log.1`."""

    def __init__(self, child: Child, process: asyncio.subprocess.Process, log: "_Log") -> None:
        self.child = child
        self._log = log
        self.pid = process.pid
        self._process = process

    @classmethod
    async def start(cls, child: Child, logs: Path) -> "Process":
        """Starts the child. That its program exists is found out by its exit code (1), not here."""
        if child.before is not None:
            await child.before()
        await asyncio.to_thread(logs.mkdir, mode=0o700, parents=True, exist_ok=True)
        reading, writing = os.pipe()
        try:
            log = _Log(reading, logs / f"{child.name}.log")
            process = await asyncio.create_subprocess_exec(
                *leashed(child.argv, child.orphan_signal, child.user),
                env=dict(child.env),
                cwd=child.cwd,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=writing,
                stderr=writing,
                start_new_session=True,  # Ctrl-C in the terminal is for the parent: it stops them in order
            )
        finally:
            os.close(writing)  # the child has its own
        return cls(child, process, log)

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    async def wait(self) -> int:
        """Returns its exit code once it has ended. All it wrote is in its log then."""
        code = await self._process.wait()
        self._log.finish()
        return code

    async def stop(self, seconds_max: float = STOP_SECONDS_MAX) -> int:
        """Asks it to stop, and kills it when its grace is over. Stopping what has ended is done already."""
        self._send(self.child.stop_signal)
        try:
            return await asyncio.wait_for(self.wait(), min(self.child.stop_seconds, seconds_max))
        except TimeoutError:
            return await self.kill()

    async def kill(self) -> int:
        """Ends it with -9."""
        self._send(signal.SIGKILL)
        return await self.wait()

    def _send(self, number: signal.Signals) -> None:
        if self.exit_code is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)


class _Log:
    """Copies a pipe into a file. It ends with the child, whose own children may hold the pipe for much longer."""

    def __init__(self, pipe: int, path: Path) -> None:
        self._pipe = pipe
        self._path = path
        self._file: BinaryIO = path.open("ab", buffering=0)
        os.set_blocking(pipe, False)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(pipe, self._copy)

    def finish(self) -> None:
        """Copies what is still in the pipe, and closes it. Finishing twice is finishing once."""
        while not self._file.closed and self._copy():
            pass
        self._close()

    def _copy(self) -> bool:
        try:
            data = os.read(self._pipe, READ_BYTES)
        except BlockingIOError:
            return False
        if not data:
            self._close()
            return False
        with contextlib.suppress(OSError):  # a full disk must not stop the child too
            if self._file.tell() + len(data) > LOG_BYTES_MAX:
                self._path.replace(self._path.with_name(self._path.name + ".1"))
                with self._file:
                    self._file = self._path.open("ab", buffering=0)
            self._file.write(data)
        return True

    def _close(self) -> None:
        if not self._file.closed:
            self._loop.remove_reader(self._pipe)
            os.close(self._pipe)
            self._file.close()


def last_words(logs: Path, name: str, lines: int = 3) -> str:
    """The last lines a child wrote, for a message about its end."""
    try:
        with (logs / f"{name}.log").open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 4096))
            text = file.read().decode(errors="replace")
    except OSError:
        return ""
    return " | ".join(line.strip() for line in text.strip().splitlines()[-lines:])


@dataclass(frozen=True)
class Crash:
    """A child ended that should not have, or (no exit code) could not be started. It is tried again."""

    name: str
    exit_code: int | None
    last_words: str
    back_off_seconds: float

    def __str__(self) -> str:
        code = self.exit_code
        if code is None:
            how = f"could not be started ({self.last_words})"
        elif code < 0:
            how = f"was killed by {_signal(-code)}"
        else:
            how = f"ended with code {code} (it last said: {self.last_words or 'nothing'})"
        return f"{self.name} {how}; starting it again in {self.back_off_seconds:g} s"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


@dataclass
class _Kept:
    child: Child
    process: Process | None = None
    task: asyncio.Task[None] | None = None
    restarts: int = 0


class Supervisor:
    """Keeps children running until `stop`. Crashes are told to `report`, which must not block.

    Use it as `async with`: leaving the block, also by cancellation, stops the children, the last started
    first.
    """

    def __init__(self, logs: Path, report: Callable[[Crash], None]) -> None:
        self.logs = logs
        self._report = report
        self._kept: dict[str, _Kept] = {}

    async def __aenter__(self) -> "Supervisor":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def start(self, child: Child) -> None:
        """Starts a child and keeps it running from then on. Returns once its first process exists."""
        if child.name in self._kept:
            raise ValueError(f"a child {child.name} is kept already")
        kept = self._kept[child.name] = _Kept(child)
        await self._start(kept)
        kept.task = asyncio.create_task(self._keep(kept), name=f"keep {child.name}")

    def is_up(self, name: str) -> bool:
        """Whether the child's process exists now (not: whether it is ready)."""
        process = self._kept[name].process
        return process is not None and process.exit_code is None

    def pid(self, name: str) -> int | None:
        """The child's process id; None while it waits to be started again."""
        process = self._kept[name].process
        return process.pid if process is not None and process.exit_code is None else None

    def restarts(self, name: str) -> int:
        """How many times it crashed and was started again."""
        return self._kept[name].restarts

    async def stop(self) -> None:
        """Stops all children, the last started first, each within its grace. None starts again after this."""
        end = time.monotonic() + STOP_SECONDS_MAX
        while self._kept:
            _, kept = self._kept.popitem()
            if kept.task is not None:
                kept.task.cancel()
                await asyncio.wait([kept.task])
            if kept.process is not None:
                await kept.process.stop(max(0.0, end - time.monotonic()))

    async def _start(self, kept: _Kept) -> None:
        # Shielded: a process that was started while we are cancelled must be known to `stop`.
        starting = asyncio.ensure_future(Process.start(kept.child, self.logs))
        try:
            kept.process = await asyncio.shield(starting)
        except asyncio.CancelledError:
            kept.process = await starting
            raise

    async def _keep(self, kept: _Kept) -> None:
        crashes_in_a_row = 0
        while True:
            assert kept.process is not None
            started = time.monotonic()
            code = await kept.process.wait()
            if time.monotonic() - started > CALM_SECONDS:
                crashes_in_a_row = 0
            back_off = BACK_OFF_SECONDS[min(crashes_in_a_row, len(BACK_OFF_SECONDS) - 1)]
            crashes_in_a_row += 1
            self._report(Crash(kept.child.name, code, last_words(self.logs, kept.child.name), back_off))
            await asyncio.sleep(back_off)
            kept.restarts += 1
            while True:
                if await self._started_again(kept):
                    break
                await asyncio.sleep(BACK_OFF_SECONDS[-1])

    async def _started_again(self, kept: _Kept) -> bool:
        try:
            await self._start(kept)
        except Exception as error:  # whatever it is, it may pass: no disk space, no free process
            self._report(Crash(kept.child.name, None, str(error), BACK_OFF_SECONDS[-1]))
            return False
        return True
