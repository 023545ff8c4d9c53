"""The ways in and out of the interpreter: what is printed, what is asked, messages to and from the runner.

In the user's process, like `child.py`. Order is kept by waiting for one pipe to be read empty before another is
used; a message is never cut by an interrupt.
"""

from __future__ import annotations

import fcntl
import functools
import io
import json
import os
import signal
import sys
import termios
import threading
import time
from collections.abc import Callable
from typing import Any

NOBODY = -1  # no file of ours was the last that was written to
DRAIN_SECONDS_MAX = 1.0  # order is worth a wait, but not to hang for a runner that is busy


class Channel:
    """Whatever leaves the interpreter: what is printed, and messages to the runner."""

    def __init__(self, replies: int) -> None:
        self._replies = replies
        self._last = replies
        self._files = (1, 2, replies)
        self._lock = threading.Lock()
        self._sending = False
        self._interrupted = False
        self.interruptible = False
        signal.signal(signal.SIGINT, self.interrupt)

    def interrupt(self, *_: object) -> None:
        """SIGINT: breaks user code only, and no message in the middle."""
        if self._sending:
            self._interrupted = True
        elif self.interruptible:
            raise KeyboardInterrupt

    def turn_to(self, file: int) -> None:
        """Wait until the runner has read what was written elsewhere."""
        if self._last == file:
            return
        self._last = file
        for other in self._files:
            if other != file:
                _drained(other)

    def settle(self, *_: object) -> None:
        """Before a program starts that prints by itself: all that was printed so far is read, and whatever is
        printed here next waits for what that program prints."""
        self._last = NOBODY
        for file in self._files:
            _drained(file)

    def settle_before(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with that done first."""

        @functools.wraps(function)
        def settled(*args: Any, **kwargs: Any) -> Any:
            self.settle()
            return function(*args, **kwargs)

        return settled

    def send(self, message: dict[str, Any]) -> None:
        """One message, whole."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        in_main = threading.current_thread() is threading.main_thread()
        with self._lock:
            self._sending = in_main or self._sending
            try:
                self.turn_to(self._replies)
                while data:
                    data = data[os.write(self._replies, data) :]
            finally:
                if in_main:
                    self._sending = False
        if in_main and self._interrupted:
            self._interrupted = False
            if self.interruptible:
                raise KeyboardInterrupt


class Printed(io.FileIO):
    """Under `sys.stdout` and `sys.stderr`: bytes go out as they are written, in order with everything else."""

    def __init__(self, file: int, channel: Channel) -> None:
        super().__init__(file, "w", closefd=False)
        self._channel = channel

    def write(self, data: Any) -> int:
        """All of it, after the things printed before."""
        self._channel.turn_to(self.fileno())
        left = memoryview(data).cast("B")
        size = len(left)
        while left:
            left = left[super().write(left) or 0 :]
        return size


def text_stream(file: int, channel: Channel) -> io.TextIOWrapper:
    """For the place of `sys.stdout` or `sys.stderr`. Unbuffered, so that a fork cannot print the same text twice."""
    raw: Any = Printed(file, channel)
    return io.TextIOWrapper(raw, encoding="utf-8", errors="backslashreplace", newline="\n", write_through=True)


class Typed(io.TextIOBase):
    """`sys.stdin`: each line is asked for."""

    encoding = "utf-8"

    def __init__(self, asked: Asked) -> None:
        self._asked = asked

    def readable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """Of the empty file behind it: what reads file descriptor 0 itself finds its end."""
        return 0

    def readline(self, size: int = -1) -> str:  # type: ignore[override]
        """One line, whatever the size."""
        line = self._asked.line("", is_password=False) + "\n"
        return line if size is None or size < 0 else line[:size]

    def read(self, size: int | None = -1) -> str:
        """There is no end to it, so it is one line."""
        return self.readline(-1 if size is None else size)


class Asked:
    """Lines typed by the user, by way of the runner."""

    def __init__(self, requests: int, channel: Channel) -> None:
        self._requests = requests
        self._channel = channel
        self._received = b""
        self._asks = 0

    def request(self) -> dict[str, Any]:
        """The next message from the runner. Ends the process when there is no runner any more."""
        while b"\n" not in self._received:
            data = os.read(self._requests, 65536)
            if not data:
                os._exit(0)
            self._received += data
        line, _, self._received = self._received.partition(b"\n")
        message: dict[str, Any] = json.loads(line)
        return message

    def line(self, prompt: object, *, is_password: bool) -> str:
        """What `input()` returns."""
        if threading.current_thread() is not threading.main_thread():
            raise RuntimeError("input() works in the main thread only")
        sys.stdout.write(str(prompt))
        self._asks += 1
        self._channel.send({"ask": self._asks, "is_password": is_password})
        while True:
            message = self.request()
            if message.get("ask") == self._asks:  # not the answer to a question that was interrupted
                return str(message["line"])

    def input(self, prompt: object = "", /) -> str:
        """In place of the builtin."""
        return self.line(prompt, is_password=False)

    def getpass(self, prompt: str = "Password: ", stream: object = None) -> str:  # noqa: ARG002
        """In place of `getpass.getpass`."""
        return self.line(prompt, is_password=True)


def _drained(pipe: int) -> None:
    deadline = time.monotonic() + DRAIN_SECONDS_MAX
    pause = 0.0
    while time.monotonic() < deadline:
        try:
            unread = fcntl.ioctl(pipe, termios.FIONREAD, b"\0\0\0\0")
        except OSError:  # the program put something else in its place
            return
        if not any(unread):
            return
        time.sleep(pause)
        pause = min(pause + 0.00005, 0.002)
