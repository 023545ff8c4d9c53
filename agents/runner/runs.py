"""Runs take turns: one after the other, in the order in which they were asked for.

How code is run is an `Executor`'s affair: `interpreter.py` for query mode, `batch.py` for batch mode. Another
kind of kernel plugs in as another one.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Protocol

from .failures import BadRequest, Failure
from .framing import Object
from .run import Run

QUEUED_RUNS_MAX = 100
ENDED_RUNS_KEPT = 64
INTERRUPT_SECONDS = 2.0  # between the interrupt and the kill of a run that ran too long
PLATFORM_FAULT = -1  # a negative exit code: the platform is at fault, not the program
FILES_MAX = 1000


class Executor(Protocol):
    """Runs code of one mode."""

    async def carry_out(self, run: Run) -> int:
        """Returns the exit code once the run is over. What it prints goes to `run.console` (then
        `run.has_news()`), a step that ended before the last to `run.step_ended`, a question to `run.ask`."""

    def interrupt(self) -> None:
        """As Ctrl-C would. Quiet when nothing runs."""

    def kill(self) -> None:
        """The run did not obey. Quiet when nothing runs; `carry_out` returns soon after."""


class Runs:
    """One run at a time, in the order in which they were asked for."""

    def __init__(self, executors: Mapping[str, Executor], output_folder: str) -> None:
        self._executors = executors
        self._output_folder = output_folder
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._queue: deque[Run] = deque()
        self._current: Run | None = None
        self._worker: asyncio.Task[None] | None = None

    def start(self, run_id: str | None, mode: str, code: str, options: Mapping[str, Any]) -> Run:
        """A new run; or the one that is there, if the same was asked for before under this id."""
        if run_id is None:
            run_id = os.urandom(8).hex()
        run = self._runs.get(run_id)
        if run is not None:
            if not run.is_same(mode, code, options):
                raise Failure("run-exists", f"run {run_id} is another one")
            return run
        if mode not in self._executors:
            raise Failure("unsupported-mode", f"this kernel has no {mode} mode")
        if len(self._queue) >= QUEUED_RUNS_MAX:
            raise Failure("too-many-runs", f"{QUEUED_RUNS_MAX} runs are waiting for their turn already")
        run = self._runs[run_id] = Run(run_id, mode, code, options)
        self._queue.append(run)
        if self._worker is None or self._worker.done():
            self._worker = asyncio.ensure_future(self._work())
        return run

    def find(self, run_id: str | None) -> Run:
        """By its id; the one that is on where none is given."""
        if run_id is None:
            if self._current is None:
                raise Failure("unknown-run", "nothing is running")
            return self._current
        try:
            return self._runs[run_id]
        except KeyError:
            raise Failure("unknown-run", f"there is no run {run_id}, or it is long over") from None

    def interrupt(self, run_id: str | None) -> None:
        """Interrupts the run that is on, or takes one that waits out of the queue."""
        if self._current is not None and run_id in (None, self._current.run_id):
            self._executors[self._current.mode].interrupt()
        elif run_id is not None:
            self._cancel(self.find(run_id))
        elif self._queue:
            self._cancel(self._queue[0])  # it is about to begin

    def _cancel(self, run: Run) -> None:
        if run in self._queue:
            self._queue.remove(run)
            run.console.print_text("stderr", "The run was cancelled while it waited for its turn.\n")
            run.step_ended("finished", 128 + signal.SIGINT)
            self._forget()

    async def _work(self) -> None:
        while self._queue:
            run = self._current = self._queue.popleft()
            try:
                await self._carry_out(run)
            finally:
                self._current = None
                self._forget()

    async def _carry_out(self, run: Run) -> None:
        executor = self._executors[run.mode]
        seconds = run.options.get("timeout_seconds")
        before = output_files(self._output_folder)
        task = asyncio.ensure_future(executor.carry_out(run))
        status = "finished"
        await asyncio.wait({task}, timeout=seconds)
        if not task.done():
            status = "exec-timeout"
            executor.interrupt()
            await asyncio.wait({task}, timeout=INTERRUPT_SECONDS)
            if not task.done():
                executor.kill()
        try:
            exit_code: int | None = await task
        except Failure as failure:
            run.console.print_text("stderr", f"{failure.why}\n")
            exit_code = PLATFORM_FAULT
        except Exception as error:
            run.console.print_text("stderr", f"The runner failed: {type(error).__name__}: {error}\n")
            exit_code = PLATFORM_FAULT
        after = output_files(self._output_folder)
        files: list[Object] = [
            {"name": name, "bytes": stamp[0]} for name, stamp in sorted(after.items()) if before.get(name) != stamp
        ]
        run.step_ended(status, exit_code if status == "finished" else None, files)

    def _forget(self) -> None:
        ended = [run_id for run_id, run in self._runs.items() if run.is_over]
        for run_id in ended[:-ENDED_RUNS_KEPT]:
            del self._runs[run_id]


def output_files(folder: str) -> Mapping[str, tuple[int, int]]:
    """Size and time of change of the ordinary files under a folder, by their path in it."""
    found: dict[str, tuple[int, int]] = {}
    for parent, folders, names in os.walk(folder):  # does not follow links
        folders.sort()
        for name in sorted(names):
            if len(found) == FILES_MAX:
                return found
            path = os.path.join(parent, name)
            with suppress(OSError):
                about = os.lstat(path)
                if os.path.isfile(path) and not os.path.islink(path):
                    found[os.path.relpath(path, folder)] = (about.st_size, about.st_mtime_ns)
    return found


def options_of(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The options of a run, checked: the commands of batch mode and the time it may take."""
    options: dict[str, Any] = {}
    for name in ("clean", "build", "exec"):
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            raise BadRequest(f"options.{name}", "must be a string")
        options[name] = value or None
    seconds = fields.get("timeout_seconds")
    if seconds is not None and (isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not seconds > 0):
        raise BadRequest("options.timeout_seconds", "must be a number of seconds above 0")
    options["timeout_seconds"] = seconds
    return options
