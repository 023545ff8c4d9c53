"""Batch mode: up to three shell commands in the home folder, each with its exit code. Any language.

    clean  absent: skipped; `*`: nothing is done                               → `clean-finished`
    build  absent: skipped; `*`: the kernel's own way, by its runtime type     → `build-finished`
    exec   absent: nothing; `*`: the kernel's own way; 127 if building failed  → `finished`

Exit codes are the shell's: 127 where there is no such command, 128 + n where signal n ended it. What a command
leaves running in the background goes on; what that prints later is no part of the run.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable

from .processes import Process, Processes, Pump, close_all
from .run import Run

NOT_BUILT = 127
SHELLS = ("/bin/bash", "/bin/sh")
PYTHON_PROGRAM = """
if [ -f main.py ]; then exec "$PYTHON" main.py; fi
set -- *.py
if [ $# -eq 1 ] && [ -f "$1" ]; then exec "$PYTHON" "$1"; fi
echo 'There is neither a main.py nor a single *.py here: say what to execute.' >&2
exit 127
"""
OWN_WAYS = {  # runtime type: (build, exec)
    "python": ("", PYTHON_PROGRAM),
    "c": ("gcc -o main $(find . -name '*.c') -pthread -lm -lrt -ldl", "exec ./main"),
    "cpp": (
        "g++ -o main $(find . -name '*.cc' -o -name '*.cpp' -o -name '*.cxx') -pthread -lm -lrt -ldl",
        "exec ./main",
    ),
}
OTHER = ("", "exec ./main")


class Batch:
    """One command at a time."""

    def __init__(self, processes: Processes, folder: str, runtime_type: str, python: str) -> None:
        self._processes = processes
        self._folder = folder
        self._own_build, self._own_exec = OWN_WAYS.get(runtime_type, OTHER)
        self._python = python
        self._process: Process | None = None
        self._cancelled = False

    async def carry_out(self, run: Run) -> int:
        """The exit code of the last step."""
        try:
            return await self._steps(run)
        finally:
            self._cancelled = False

    async def _steps(self, run: Run) -> int:
        clean, build, program = (run.options[step] for step in ("clean", "build", "exec"))
        built = 0
        if clean is not None:
            run.step_ended("clean-finished", await self._shell(run, "" if clean == "*" else clean))
        if build is not None:
            built = await self._shell(run, self._own_build if build == "*" else build)
            run.step_ended("build-finished", built)
        if program is None:
            return 0
        if built != 0:
            return NOT_BUILT
        return await self._shell(run, self._own_exec if program == "*" else program)

    def interrupt(self) -> None:
        """The step that is on; those after it are not begun."""
        self._signal(signal.SIGINT)

    def kill(self) -> None:
        """The same, for good."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: int) -> None:
        self._cancelled = True
        if self._process is not None:
            self._process.signal_group(number)

    async def _shell(self, run: Run, command: str) -> int:
        if self._cancelled:
            return 128 + signal.SIGINT
        if not command:
            return 0
        printed, stdout = os.pipe()
        complained, stderr = os.pipe()
        try:
            self._process = self._processes.start(
                (shell(), "-c", command),
                folder=self._folder,
                environ={**os.environ, "PYTHON": self._python},
                stdout=stdout,
                stderr=stderr,
            )
        except BaseException:
            close_all((printed, complained))
            raise
        finally:
            close_all((stdout, stderr))
        pumps = [Pump(printed, _printer(run, "stdout")), Pump(complained, _printer(run, "stderr"))]
        try:
            return await self._process.ended
        finally:
            self._process = None
            for pump in pumps:
                pump.drain()
                pump.sink = _nowhere


def shell() -> str:
    """Commands are bash, where there is one."""
    return next((path for path in SHELLS if os.access(path, os.X_OK)), "sh")


def _printer(run: Run, stream: str) -> Callable[[bytes], None]:
    def print_to_run(data: bytes) -> None:
        run.console.print(stream, data)
        run.has_news()

    return print_to_run


def _nowhere(data: bytes) -> None:
    """Of a process in the background: read, so that it does not die of a closed pipe."""
