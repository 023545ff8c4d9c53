"""The runner from its start to its exit: arguments, bootstrap, socket, main command, signals.

    1  the image's bootstrap scripts run, one after the other; one that fails is logged and keeps nobody waiting
    2  what the kernel was given is put where its user expects it (`settling.py`)
    3  the owner's bootstrap script runs, if there is one; where it fails, the kernel ends with its exit code
    4  the socket is there: the kernel is ready
    5  the main command runs, if there is one, with its output as the kernel's own; when it ends, the runner
       ends with its exit code (128 + n by signal n, 127 where there is no such command)
    6  without one, the runner waits for a signal, and ends with 128 + its number
    7  whatever still runs is ended

Signals go to the main command's process group; what that makes of them is its affair. Whoever stops the
kernel has a grace of its own and a SIGKILL after it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shlex
import shutil
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .batch import Batch, shell
from .failures import CannotRun, Failure
from .interpreter import OWN_COMPLETE_SECONDS_MAX, Interpreter, jupyter_child, own_child
from .paths import Home
from .processes import Process, Processes
from .runs import Executor, Runs
from .services import Intrinsic, Services
from .serving import Serving
from .settling import settle
from .sshd import Sshd
from .templates import log
from .terminals import Terminals
from .web_terminal import WebTerminal

PROTOCOL = 1
BOOTSTRAP_SECONDS_MAX = 300.0
OWNERS_BOOTSTRAP_SECONDS_MAX = 1500.0  # the control plane gives a start half an hour in all
SSH_PORT = 2200
END_SECONDS = 2.0  # for what still runs when the kernel ends
UPLOAD_BYTES_MAX = 1024 * 1024
FORWARDED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
ENDING = FORWARDED[:4]  # those that end a kernel without a main command
OUTPUT_FOLDER = ".output"


def main(argv: Sequence[str] | None = None) -> None:
    """The program."""
    arguments = _parser().parse_args(argv)
    sys.exit(asyncio.run(Kernel(arguments).run()))


class Kernel:
    """One kernel's life."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._home = os.path.realpath(arguments.home)
        command = arguments.command
        self._command: Sequence[str] = command[1:] if command[:1] == ["--"] else command
        self._main: Process | None = None

    async def run(self) -> int:
        """Its exit code."""
        loop = asyncio.get_event_loop()
        self._processes = Processes()
        self._stopped: asyncio.Future[int] = loop.create_future()
        for number in FORWARDED:
            loop.add_signal_handler(number, self._signalled, number)
        if self._arguments.ssh:  # behind all else: the image's own go before
            os.environ["PATH"] = f"{os.environ.get('PATH', os.defpath)}:{self._arguments.ssh}/bin"
        self._intrinsic = self._intrinsic_services()
        try:
            for script in self._arguments.bootstrap:
                await self._bootstrap(script, BOOTSTRAP_SECONDS_MAX)
            if self._stopped.done():
                return self._stopped.result()
            settle(self._arguments.config, self._home)
            owners = os.path.join(self._arguments.config, "given", "bootstrap.sh")
            exit_code = await self._bootstrap(owners, OWNERS_BOOTSTRAP_SECONDS_MAX)
            if self._stopped.done():
                return self._stopped.result()
            if exit_code != 0:
                return exit_code
            await self._await_peers()
            with _socket(self._arguments.socket) as listening:
                server = await asyncio.start_unix_server(self._serving().connected, sock=listening, limit=1024 * 1024)
                try:
                    return await self._last()
                finally:
                    server.close()
                    with suppress(OSError):
                        os.unlink(self._arguments.socket)
        finally:
            await self._processes.end_all(END_SECONDS)

    async def _last(self) -> int:
        """What the kernel lasts for."""
        if not self._command:
            return await self._stopped
        try:
            self._main = self._processes.start(self._command, folder=self._home, stdin=None)
        except CannotRun as failure:
            log(failure.why)
            return failure.exit_code
        if self._stopped.done():  # between the look and the start
            self._main.signal_group(self._stopped.result() - 128)
        return await self._main.ended

    def _signalled(self, number: int) -> None:
        if self._main is not None:
            self._main.signal_group(number)
        elif number in ENDING and not self._stopped.done():
            self._stopped.set_result(128 + number)

    async def _bootstrap(self, script: str, seconds_max: float) -> int:
        """Its exit code; 0 where there is no such script."""
        if self._stopped.done() or not os.access(script, os.F_OK):
            return 0
        command = (script,) if os.access(script, os.X_OK) else (shell(), script)
        try:
            process = self._processes.start(command, folder=self._home)
        except CannotRun as failure:
            log(f"bootstrap script: {failure.why}")
            return failure.exit_code
        waiting = {process.ended, self._stopped}
        await asyncio.wait(waiting, timeout=seconds_max, return_when=asyncio.FIRST_COMPLETED)
        if process.lives:
            process.signal_group(signal.SIGKILL)
        exit_code = await process.ended
        if exit_code != 0:
            log(f"bootstrap script {script} ended with exit code {exit_code}")
        return exit_code

    def _intrinsic_services(self) -> Mapping[str, Intrinsic]:
        arguments = self._arguments
        if not arguments.ssh:
            return {}
        scratch = os.path.dirname(os.path.abspath(arguments.socket))
        return {"sshd": Sshd(self._processes, arguments.ssh, arguments.config, scratch)}

    async def _await_peers(self) -> None:
        """The other kernels of a session ask nobody before they log in."""
        sshd = self._intrinsic.get("sshd")
        try:
            if sshd is not None and os.access(os.path.join(self._arguments.config, "ssh", "config"), os.F_OK):
                await sshd.start(SSH_PORT)
        except Failure as failure:
            log(f"the other kernels cannot log in here: {failure.why}")

    def _serving(self) -> Serving:
        arguments, processes = self._arguments, self._processes
        python = _runtime(arguments)
        executors: dict[str, Executor] = {}
        interpreter = None
        if "query" in arguments.modes:
            interpreter = self._interpreter(python)
        if interpreter is not None:
            executors["query"] = interpreter
        if "batch" in arguments.modes:
            executors["batch"] = Batch(processes, self._home, arguments.runtime_type, python)
        greeting = {
            "protocol": PROTOCOL,
            "python": platform.python_version(),
            "pid": os.getpid(),
            "home": self._home,
            "modes": sorted(executors),
        }
        terminals = Terminals(processes, self._home)
        intrinsic = {
            **self._intrinsic,
            **({"ttyd": WebTerminal(terminals, arguments.web_terminal)} if arguments.web_terminal else {}),
        }
        return Serving(
            Runs(executors, os.path.join(self._home, OUTPUT_FOLDER)),
            interpreter,
            terminals,
            Services(processes, self._home, arguments.service_defs, python, intrinsic),
            Home(self._home),
            upload_bytes_max=arguments.upload_bytes_max,
            greeting=greeting,
        )

    def _interpreter(self, python: str) -> Interpreter | None:
        """None where nothing here runs code line by line."""
        arguments = self._arguments
        if arguments.query_command:
            try:
                return Interpreter(self._processes, shlex.split(arguments.query_command), self._home)
            except ValueError as error:
                log(f"there is no query mode: {arguments.query_command[:200]!r} is no command: {error}")
                return None
        if arguments.jupyter_kernel:
            return Interpreter(self._processes, jupyter_child(python, arguments.jupyter_kernel), self._home)
        if arguments.runtime_type == "python":
            return Interpreter(self._processes, own_child(python), self._home, OWN_COMPLETE_SECONDS_MAX)
        return None


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="runner", description="Runs inside a session's kernel, for its agent.")
    parser.add_argument("--socket", required=True, help="path of the socket; its folder is made if it is not there")
    parser.add_argument("--home", default=os.environ.get("HOME", "/home/work"), help="the session's home folder")
    parser.add_argument(
        "--runtime-type", default="python", help="the image's: python has query mode; python, c and cpp their own build"
    )
    parser.add_argument("--query-command", help="query mode by this program, which speaks as `interpreter.py` says")
    parser.add_argument(
        "--jupyter-kernel", help="query mode by this kernel of Jupyter, where --runtime-path has jupyter_client"
    )
    parser.add_argument("--runtime-path", help="the session's Python, for query mode and {runtime_path}")
    parser.add_argument(
        "--modes", type=lambda text: text.split(","), default=["query", "batch"], help="of code: query, batch, or both"
    )
    parser.add_argument(
        "--service-defs", action="append", default=[], help="folder of service definitions; the first that has one"
    )
    parser.add_argument(
        "--bootstrap", action="append", default=[], help="script that runs first; skipped if it is not there"
    )
    parser.add_argument("--config", default="/home/config", help="folder of what the kernel was given")
    parser.add_argument("--ssh", help="folder with OpenSSH's programs in bin/: with them there is a service sshd")
    parser.add_argument(
        "--web-terminal", metavar="ADDRESS", help="have a service ttyd there: a shell for whoever reaches its port"
    )
    parser.add_argument("--upload-bytes-max", type=int, default=UPLOAD_BYTES_MAX, help="size of one uploaded file")
    parser.add_argument("command", nargs=argparse.REMAINDER, help="-- and the main command of a batch session")
    return parser


def _runtime(arguments: argparse.Namespace) -> str:
    """The session's own Python before the one that runs us, which may be another."""
    if arguments.runtime_path:
        return str(arguments.runtime_path)
    return shutil.which("python3") or sys.executable or "python3"


def _socket(path: str) -> socket.socket:
    """A socket that only the session's user may speak to. One that is left of an earlier start is replaced."""
    folder, name = os.path.split(os.path.abspath(path))
    os.makedirs(folder, mode=0o700, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        short = f"/proc/self/fd/{handle}/{name}"  # a socket's path has at most 107 bytes
        with suppress(FileNotFoundError):
            os.unlink(short)
        mask = os.umask(0o077)
        try:
            listening.bind(short)
        finally:
            os.umask(mask)
        os.chmod(short, 0o700)
    except BaseException:
        listening.close()
        raise
    finally:
        os.close(handle)
    return listening
