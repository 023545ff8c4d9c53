"""Query mode, the runner's side: a program that lives on between runs, in a process of its own.

It is the child here: our own Python (`child.py`), one that has a kernel of Jupyter do the work (`jupyter.py`), or
any other that keeps to what follows.


The query protocol, version 1
=============================

The child is started when it is first needed, in the session's home folder, as the first of a process group. Its
last two arguments are numbers of open files: from the first it reads what is asked of it, to the second it writes
what it has to say, one JSON object a line, in UTF-8. Its standard output and error are pipes of their own, so that
also what a C library or a subprocess prints is seen; its standard input is empty. It keeps none of the four for the
programs it starts but output and error.

To the child, one at a time, the next one when the last is answered:

    {"run": code, "name": name}   run this; `name` is a file name for tracebacks. Answered by `began` once an
                                  interrupt would reach the code, and by `ended` when it is over, whatever came of
                                  it: errors are printed to stderr
    {"complete": code}            what the code up to the cursor may go on as. Answered by `completions`
    {"line": text, "ask": n}      the answer to the question of that number, without a newline

From the child:

    {"ready": true}               first of all, within a minute: it waits for work
    {"began": true}   {"ended": true}   {"completions": [name, …]}
    {"ask": n, "is_password": bool}   the code waits for a line; n counts up. The prompt, if there is one, was printed
    {"show": ["html", text]}      a value that is more than text; or "media", [type, data], where data of a text or XML
                                  type (SVG) is plain, and else a data URI

Unknown messages and fields are to be passed over. When the first file ends, the runner is gone, and the child ends.

*State* is the child's: what a run defines is there in the next one. *Echo*: it prints the value of a last expression
by itself. *Interrupt*: SIGINT to its process group, at most once it said `began`; then the code ends, and the child
says `ended`. One that does not is killed some seconds later. *Death*: it ends the run with the child's exit code and a
sentence on stderr, and the next run gets a new child. *Order*: the four pipes are read independently. Who cares for the
order of what is printed and shown waits until one pipe is read empty (FIONREAD on the writing end) before it writes to
another or starts a program that prints, as `channel.py` does; else only the order within each holds.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from .console import Console
from .failures import CannotRun, Failure
from .framing import Object
from .processes import Process, Processes, Pump, close_all
from .run import Run

START_SECONDS_MAX = 60.0  # a cold disk, a host with many containers that start at once
OWN_COMPLETE_SECONDS_MAX = 1.0
COMPLETE_SECONDS_MAX = 10.0  # Jupyter's may load a library for it the first time
COMPLETIONS_MAX = 1000
MESSAGE_BYTES_MAX = 64 * 1024 * 1024
HERE = os.path.dirname(os.path.abspath(__file__))
BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv[1]); from importlib import import_module as load; "
    "side = load(sys.argv[2] + '.' + sys.argv[3]); del sys.path[0], load; side.main()"
)


def own_child(python: str) -> Sequence[str]:
    """The command of a Python that is run by this one."""
    return [python, "-c", BOOTSTRAP, *os.path.split(HERE), "child"]


def jupyter_child(python: str, kernel: str) -> Sequence[str]:
    """The command of a Python that has a kernel of Jupyter of that name do the work."""
    return [python, "-c", BOOTSTRAP, *os.path.split(HERE), "jupyter", kernel]


class Interpreter:
    """One child at a time, started when it is first needed. `child`: its command, without the two numbers."""

    def __init__(
        self,
        processes: Processes,
        child: Sequence[str],
        folder: str,
        complete_seconds: float = COMPLETE_SECONDS_MAX,
    ) -> None:
        self._processes = processes
        self._child = child
        self._complete_seconds = complete_seconds
        self._folder = folder
        self._turn = asyncio.Lock()
        self._run: Run | None = None
        self._runs_begun = 0
        self._between = Console()  # printed by threads and subprocesses while nothing ran
        self._process: Process | None = None
        self._to_child = -1
        self._pumps: dict[str, Pump] = {}
        self._received = bytearray()
        self._answer: asyncio.Future[Object] | None = None
        self._began = False
        self._interrupt_wanted = False
        self._typing: asyncio.Future[None] | None = None  # the loop itself does not hold on to a task

    async def carry_out(self, run: Run) -> int:
        """Always 0, since the interpreter goes on; else the exit code of the interpreter that died."""
        async with self._turn:
            self._run = run
            self._began = False
            try:
                run.console.put_back(self._between.take())
                await self._alive()
                self._runs_begun += 1
                ended = await self._ask_child({"run": run.code, "name": f"<run {self._runs_begun}>"})
                if ended is not None:
                    return 0
                exit_code = self._buried()
                self._tell(f"The interpreter {_end(exit_code)}; its state is lost. The next run gets a new one.")
                return exit_code
            finally:
                self._run = None
                self._interrupt_wanted = False

    def interrupt(self) -> None:
        """Once the code began; before, it is remembered."""
        self._interrupt_wanted = True
        if self._began and self._process is not None:
            if self._run is not None:
                self._run.question_may_be_over()
            self._process.signal_group(signal.SIGINT)

    def kill(self) -> None:
        """State and all."""
        if self._process is not None:
            self._process.signal_group(signal.SIGKILL)

    async def complete(self, code: str) -> list[str]:
        """What the last name in the code could go on as. Nothing while something runs."""
        if self._turn.locked():
            return []
        async with self._turn:
            await self._alive()
            self._began = False
            answering = asyncio.ensure_future(self._ask_child({"complete": code}))
            await asyncio.wait({answering}, timeout=self._complete_seconds)
            if not answering.done() and self._process is not None:
                self._process.signal_group(signal.SIGINT)  # an attribute that takes its time to be looked up
                await asyncio.wait({answering}, timeout=self._complete_seconds)
                if not answering.done():
                    self.kill()
            answer = await answering
            if answer is None:
                self._buried()
                return []
            return [str(name) for name in answer.get("completions", ())][:COMPLETIONS_MAX]

    async def _alive(self) -> None:
        """A child that waits for work."""
        if self._process is not None and not self._process.lives:
            exit_code = self._buried()
            self._tell(f"The interpreter had {_end(exit_code)} since the last run; its state is lost.")
        if self._process is None:
            await self._start()

    async def _start(self) -> None:
        requests, to_child = os.pipe()
        from_child, replies = os.pipe()
        printed, stdout = os.pipe()
        complained, stderr = os.pipe()
        command = [*self._child, str(requests), str(replies)]
        try:
            self._process = self._processes.start(
                command, folder=self._folder, stdout=stdout, stderr=stderr, pass_fds=(requests, replies)
            )
        except CannotRun:
            close_all((to_child, from_child, printed, complained))
            raise
        finally:
            close_all((requests, replies, stdout, stderr))
        os.set_blocking(to_child, False)
        self._to_child = to_child
        self._received.clear()
        self._pumps = {
            "replies": Pump(from_child, self._receive),
            "stdout": Pump(printed, lambda data: self._printed("stdout", data)),
            "stderr": Pump(complained, lambda data: self._printed("stderr", data)),
        }
        ready = asyncio.ensure_future(self._ask_child(None))
        await asyncio.wait({ready}, timeout=START_SECONDS_MAX)
        if not ready.done():
            self.kill()
        if await ready is None:
            exit_code = self._buried()
            raise Failure("cannot-run", f"{self._child[0]}: the interpreter did not start, it {_end(exit_code)}")

    async def _ask_child(self, message: Object | None) -> Object | None:
        """Its answer; None if it died instead."""
        process = self._process
        assert process is not None
        answer: asyncio.Future[Object] = asyncio.get_event_loop().create_future()
        self._answer = answer
        if message is not None:
            await self._send(message)
        waiting: set[asyncio.Future[Any]] = {answer, process.ended}
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        self._answer = None
        if answer.done():
            return answer.result()
        self._pumps["replies"].drain()
        return None

    async def _send(self, message: Object) -> None:
        data = memoryview(json.dumps(message).encode() + b"\n")
        loop = asyncio.get_event_loop()
        process = self._process
        while data and process is not None and process.lives:
            try:
                data = data[os.write(self._to_child, data) :]
            except BlockingIOError:  # longer than a pipe holds; the child is reading it
                writable = asyncio.Event()
                loop.add_writer(self._to_child, writable.set)
                waiting: set[asyncio.Future[Any]] = {asyncio.ensure_future(writable.wait()), process.ended}
                await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
                loop.remove_writer(self._to_child)
            except BrokenPipeError:
                return

    def _receive(self, data: bytes) -> None:
        self._received += data
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if not newline:
                if len(line) > MESSAGE_BYTES_MAX:
                    self.kill()  # the program wrote into a pipe that is not its own
                return
            self._received = bytearray(rest)
            try:
                message = json.loads(line)
            except ValueError:
                self.kill()
                return
            self._received_message(message)

    def _received_message(self, message: Object) -> None:
        if "began" in message:
            self._began = True
            if self._interrupt_wanted:
                self.interrupt()
        elif "show" in message:
            self._console.show(*message["show"])
            self._news()
        elif "ask" in message and self._run is not None:
            self._run.ask(bool(message["is_password"]), lambda text: self._answered(message["ask"], text))
        elif self._answer is not None and not self._answer.done():
            self._began = False
            self._answer.set_result(message)

    def _answered(self, ask: int, text: str) -> None:
        self._typing = asyncio.ensure_future(self._send({"line": text, "ask": ask}))

    def _printed(self, stream: str, data: bytes) -> None:
        self._console.print(stream, data)
        self._news()

    def _tell(self, sentence: str) -> None:
        self._console.print_text("stderr", sentence + "\n")

    def _news(self) -> None:
        if self._run is not None:
            self._run.has_news()

    @property
    def _console(self) -> Console:
        return self._between if self._run is None else self._run.console

    def _buried(self) -> int:
        """What it printed to its end is read, and what it leaves behind goes too. Its exit code."""
        process, self._process = self._process, None
        assert process is not None
        process.signal_group(signal.SIGKILL)
        for pump in self._pumps.values():
            pump.drain()
            pump.close()
        close_all((self._to_child,))
        return process.ended.result()


def _end(exit_code: int) -> str:
    if exit_code > 128:
        with suppress(ValueError):
            return f"was ended by {signal.Signals(exit_code - 128).name}"
    return f"ended with exit code {exit_code}"
