"""Terminals: a shell on a pty of its own, so that job control, full-screen programs and Ctrl-C work.

What a terminal puts out is a log with offsets. A reader says from where on it wants to read, so a reader that
lost its connection goes on where it was, and several may look at one terminal. The last 256 KiB are kept; once
so much is unread, the shell has to wait.
"""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import pty
import signal
import struct
import termios
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress

from .failures import Failure
from .framing import Object
from .processes import READ_BYTES, Process, Processes

KEPT_BYTES = 256 * 1024
TYPED_BYTES_MAX = 1024 * 1024
TERMINALS_MAX = 32
SIZE = (24, 80)  # rows and columns
HANGUP_SECONDS = 1.0  # between a shell's SIGHUP and its end by force
SHELLS = ("/bin/bash", "/bin/ash", "/bin/sh")


class Terminal:
    """One pty. Its shell may be started again; the log goes on."""

    def __init__(self, processes: Processes, folder: str, command: Sequence[str], environ: Mapping[str, str]) -> None:
        self._processes = processes
        self._folder = folder
        self._command = command
        self._environ = {**os.environ, **environ}
        self._environ.setdefault("TERM", "xterm-256color")
        self._log = bytearray()
        self._start = 0  # offset of the first byte kept
        self._read_to = 0  # the furthest anybody has read
        self._typed = bytearray()
        self._waiting: set[asyncio.Future[None]] = set()
        self._pty = -1
        self._process: Process | None = None
        self._size = SIZE
        self._is_restarting = False

    def start(self, rows: int, cols: int) -> None:
        """A shell in a session of its own, with the pty as its controlling terminal."""
        ours, theirs = pty.openpty()
        try:
            _set_size(ours, rows, cols)
            self._process = self._processes.start(
                self._command,
                folder=self._folder,
                environ=self._environ,
                stdin=theirs,
                stdout=theirs,
                stderr=theirs,
                before=_take_terminal,
            )
        except BaseException:
            os.close(ours)
            raise
        finally:
            os.close(theirs)
        self._size = (rows, cols)
        os.set_blocking(ours, False)
        self._pty = ours
        self._process.ended.add_done_callback(lambda _: self._news())
        self._see_to_reading()

    @property
    def end(self) -> int:
        """Offset after the last byte."""
        return self._start + len(self._log)

    @property
    def exit_code(self) -> int | None:
        """Of the shell; None while it runs."""
        process = self._process
        return process.ended.result() if process is not None and not process.lives else None

    def resize(self, rows: int, cols: int) -> None:
        """The programs in it are told by SIGWINCH."""
        self._size = (rows, cols)
        if self._pty >= 0:
            _set_size(self._pty, rows, cols)

    async def read(self, after: int, bytes_max: int, wait_seconds: float) -> tuple[Object, bytes]:
        """What there is from an offset on; waits for something, or for the shell's end. A reader that asks for
        what is not kept any more gets what is: `at` says where it starts."""
        deadline = time.monotonic() + wait_seconds
        while after >= self.end and self.exit_code is None:
            left = deadline - time.monotonic()
            if left <= 0:
                break
            await self._change(left)
        if self.exit_code is not None:
            self._receive()  # its last words may still be in the pty
        at = min(max(after, self._start), self.end)
        data = bytes(self._log[at - self._start : at - self._start + bytes_max])
        self._read_to = max(self._read_to, at + len(data))
        self._see_to_reading()
        exit_code = self.exit_code if at + len(data) == self.end else None
        return {"at": at, "next": at + len(data), "exitCode": exit_code}, data

    def type(self, data: bytes) -> None:
        """Bytes from a keyboard."""
        if self._pty < 0 or self.exit_code is not None:
            raise Failure("terminal-ended", "the shell has ended; restart the terminal")
        if len(self._typed) + len(data) > TYPED_BYTES_MAX:
            raise Failure("terminal-busy", "what was typed before is not read yet")
        self._typed += data
        self._send()

    def revive(self) -> None:
        """Another shell, if the last one has ended. What it left running is hung up."""
        if self.exit_code is not None and not self._is_restarting:
            self._receive()
            self._close_pty()
            self.start(*self._size)

    async def restart(self) -> None:
        """The shell and what it runs are ended, and a new one starts in its place."""
        if self._is_restarting:
            return
        self._is_restarting = True
        try:
            await self.hang_up()
            self.start(*self._size)
        finally:
            self._is_restarting = False
        self._news()

    async def hang_up(self) -> None:
        """As if the line were cut: SIGHUP to the shell and to what runs in the foreground, then by force."""
        self._close_pty()
        process = self._process
        if process is not None and process.lives:
            for number in (signal.SIGHUP, signal.SIGCONT):
                process.signal(number)
            await asyncio.wait({process.ended}, timeout=HANGUP_SECONDS)
            if process.lives:
                process.signal_group(signal.SIGKILL)
                await process.ended
        self._news()

    def _receive(self) -> None:
        while self._pty >= 0 and self._room > 0:
            try:
                data = os.read(self._pty, min(READ_BYTES, self._room))
            except BlockingIOError:
                return
            except OSError as error:  # EIO: nobody has the other side open any more
                if error.errno != errno.EIO:
                    raise
                data = b""
            if not data:
                self._close_pty()
                break
            self._log += data
            excess = len(self._log) - KEPT_BYTES
            if excess > 0:
                del self._log[:excess]
                self._start += excess
            self._news()
        self._see_to_reading()

    @property
    def _room(self) -> int:
        return KEPT_BYTES - (self.end - max(self._read_to, self._start))

    def _see_to_reading(self) -> None:
        if self._pty >= 0:
            if self._room > 0:
                asyncio.get_event_loop().add_reader(self._pty, self._receive)
            else:
                asyncio.get_event_loop().remove_reader(self._pty)

    def _send(self) -> None:
        loop = asyncio.get_event_loop()
        with suppress(OSError):  # BlockingIOError: the rest later; any other: reading will find the end
            while self._typed:
                del self._typed[: os.write(self._pty, self._typed)]
        if self._typed:
            loop.add_writer(self._pty, self._send)
        else:
            loop.remove_writer(self._pty)

    def _close_pty(self) -> None:
        if self._pty >= 0:
            loop = asyncio.get_event_loop()
            loop.remove_reader(self._pty)
            loop.remove_writer(self._pty)
            os.close(self._pty)
            self._pty = -1
            self._typed.clear()

    def _news(self) -> None:
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    async def _change(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            self._waiting.discard(waiting)


class Terminals:
    """By the names their openers gave them."""

    def __init__(self, processes: Processes, folder: str) -> None:
        self._processes = processes
        self._folder = folder
        self._terminals: dict[str, Terminal] = {}

    def open(
        self,
        name: str | None,
        size: tuple[int, int] | None,
        command: Sequence[str] | None,
        environ: Mapping[str, str],
    ) -> tuple[str, Terminal]:
        """The one of that name if it is there, else a new one. `size`: rows and columns, if it is to be another."""
        if name is not None and name in self._terminals:
            if size is not None:
                self._terminals[name].resize(*size)
            self._terminals[name].revive()
            return name, self._terminals[name]
        if len(self._terminals) >= TERMINALS_MAX:
            raise Failure("too-many-terminals", f"{TERMINALS_MAX} terminals are open already")
        name = name or os.urandom(8).hex()
        terminal = Terminal(self._processes, self._folder, command or (login_shell(),), environ)
        terminal.start(*(size or SIZE))
        self._terminals[name] = terminal
        return name, terminal

    def find(self, name: str) -> Terminal:
        """By its name."""
        try:
            return self._terminals[name]
        except KeyError:
            raise Failure("unknown-terminal", f"there is no terminal {name}") from None

    async def close(self, name: str) -> None:
        """Closing what is not there is done already."""
        terminal = self._terminals.pop(name, None)
        if terminal is not None:
            await terminal.hang_up()


def login_shell() -> str:
    """The user's own, if there is one."""
    own = os.environ.get("SHELL", "")
    return next((path for path in (own, *SHELLS) if path and os.access(path, os.X_OK)), "sh")


def _set_size(terminal: int, rows: int, cols: int) -> None:
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)  # in the child, which leads a new session by now
