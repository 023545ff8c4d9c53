"""Every process the runner starts, and those it inherits.

The runner is the first process of its container, so whatever loses its parent there becomes its child and must
be collected. It therefore waits for *any* child in one place, and no other code (not `subprocess` either) may
wait for one. Where it is not process 1, it asks the system to be treated alike (a "subreaper"), so that both
ways of running it leave nothing behind.

There are no threads in the runner: `preexec_fn` is safe only without.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from .failures import CannotRun

PR_SET_CHILD_SUBREAPER = 36
READ_BYTES = 65536


class Process:
    """One program that was started here. It leads a process group of its own."""

    def __init__(self, popen: subprocess.Popen[bytes]) -> None:
        self._popen = popen
        self.pid = popen.pid
        self.ended: asyncio.Future[int] = asyncio.get_event_loop().create_future()  # its exit code, 128 + n by signal n

    @property
    def lives(self) -> bool:
        """Until it was collected."""
        return not self.ended.done()

    def signal_group(self, number: int) -> None:
        """To it and all it started that did not leave its group; quiet where nobody is left."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, number)

    def signal(self, number: int) -> None:
        """To it alone."""
        if self.lives:  # not collected yet, so the number is still its own
            os.kill(self.pid, number)

    def collected(self, exit_code: int) -> None:
        """Called once, by whoever waits for children."""
        self._popen.returncode = exit_code  # else Popen would look for it itself
        if not self.ended.done():
            self.ended.set_result(exit_code)


class Processes:
    """Starts and collects."""

    def __init__(self) -> None:
        self._known: dict[int, Process] = {}
        _adopt_orphans()
        asyncio.get_event_loop().add_signal_handler(signal.SIGCHLD, self.collect)

    def start(
        self,
        command: Sequence[str],
        *,
        folder: str | None = None,
        environ: Mapping[str, str] | None = None,
        stdin: int | None = subprocess.DEVNULL,
        stdout: int | None = None,
        stderr: int | None = None,
        pass_fds: Sequence[int] = (),
        before: Callable[[], None] | None = None,
    ) -> Process:
        """In a session, and so a process group, of its own. `before` runs in the child just before the
        program."""
        try:
            popen = subprocess.Popen(
                list(command),
                cwd=folder,
                env=None if environ is None else dict(environ),
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                pass_fds=pass_fds,
                start_new_session=True,
                preexec_fn=before,
            )
        except (OSError, ValueError) as error:  # ValueError: a NUL in an argument
            system = error if isinstance(error, OSError) else OSError(0, str(error))
            raise CannotRun(str(command[0]), system) from error
        process = self._known[popen.pid] = Process(popen)
        return process

    def collect(self) -> None:
        """Whoever has died, ours and orphans."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            process = self._known.pop(pid, None)
            if process is not None:
                process.collected(_exit_code(status))

    async def end_all(self, grace_seconds: float) -> None:
        """SIGTERM (and SIGHUP, which interactive shells obey), time to go, SIGKILL."""
        told: set[int] = set()
        deadline = time.monotonic() + grace_seconds
        while time.monotonic() < deadline:
            living = set(_children())
            if not living:
                return
            for pid in living - told:  # also those whose parent ended just now
                for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGCONT):
                    with suppress(ProcessLookupError, PermissionError):
                        (os.killpg if pid in self._known else os.kill)(pid, number)
            told |= living
            await asyncio.sleep(0.01)
            self.collect()
        deadline = time.monotonic() + 2  # whoever does not die of SIGKILL hangs in the system itself
        while time.monotonic() < deadline:
            pids = _children()
            if not pids:
                return
            for pid in pids:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(pid, signal.SIGKILL)
            await asyncio.sleep(0.005)
            self.collect()


class Pump:
    """Hands on what arrives in a pipe, in the order of arrival, until its end; then closes it."""

    def __init__(self, file: int, sink: Callable[[bytes], None]) -> None:
        self._file = file
        self.sink = sink
        self.ended = False
        os.set_blocking(file, False)
        asyncio.get_event_loop().add_reader(file, self._ready)

    def drain(self) -> None:
        """What is there now."""
        while not self.ended and self._ready():
            pass

    def close(self) -> None:
        """No more is wanted."""
        if not self.ended:
            self.ended = True
            asyncio.get_event_loop().remove_reader(self._file)
            os.close(self._file)

    def _ready(self) -> bool:
        try:
            data = os.read(self._file, READ_BYTES)
        except BlockingIOError:
            return False
        except OSError:
            data = b""
        if data:
            self.sink(data)
        else:
            self.close()
        return bool(data)


def close_all(files: Iterable[int]) -> None:
    """Those that are open."""
    for file in files:
        with suppress(OSError):
            os.close(file)


def _exit_code(status: int) -> int:
    return 128 + os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def _children() -> list[int]:
    """Of this process, dead ones that nobody collected yet included."""
    me = os.getpid()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError, ValueError):
            with open(f"/proc/{name}/stat", "rb") as file:
                after_name = file.read().rpartition(b")")[2].split()
            if int(after_name[1]) == me:
                found.append(int(name))
    return found


def _adopt_orphans() -> None:
    if os.getpid() == 1:
        return
    try:
        import ctypes
    except ImportError:  # a Python without libffi: orphans then go to whoever is above us
        return
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
