"""One run: what was asked for, and what came of it so far.

It lives in the runner, not in a connection: whoever knows its id may ask on, also over another connection after
the first one broke. Each answer is numbered. Who asks on says which one it has `seen`; if an answer was lost on
its way, it is given again.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable, Mapping
from typing import Any

from .console import Console
from .failures import Failure
from .framing import Object


class Run:
    """From its request to its last answer."""

    def __init__(self, run_id: str, mode: str, code: str, options: Mapping[str, Any]) -> None:
        self.run_id = run_id
        self.mode = mode
        self.code = code
        self.options = options
        self.console = Console()
        self.is_over = False
        self._steps: deque[Object] = deque()  # those that ended and were not answered yet
        self._question: tuple[bool, Callable[[str], None]] | None = None
        self._is_asking = False
        self._last: Object | None = None
        self._number = 0
        self._waiting: set[asyncio.Future[None]] = set()

    def is_same(self, mode: str, code: str, options: Mapping[str, Any]) -> bool:
        """Whether the same was asked for: then it is the same request once more."""
        return (self.mode, self.code, self.options) == (mode, code, options)

    def has_news(self) -> None:
        """Somebody may be waiting for it."""
        for waiting in self._waiting:
            if not waiting.done():
                waiting.set_result(None)

    def step_ended(self, status: str, exit_code: int | None, files: list[Object] | None = None) -> None:
        """What was printed since the step before belongs to this one."""
        last = status in ("finished", "exec-timeout")
        self._steps.append(
            {
                "status": status,
                "exitCode": exit_code,
                "console": self.console.take(last=last),
                "options": None,
                "files": files or [],
            }
        )
        if last:
            self.is_over = True
            self._question, self._is_asking = None, False
        self.has_news()

    def ask(self, is_password: bool, answer: Callable[[str], None]) -> None:
        """The program waits for a line; `answer` is called with it."""
        self._question, self._is_asking = (is_password, answer), True
        self.has_news()

    def answer(self, text: str) -> None:
        """The line the program waits for."""
        if self._question is None:
            raise Failure("not-waiting", f"run {self.run_id} does not wait for input")
        _, answer = self._question
        self._question, self._is_asking = None, False
        answer(text)

    def question_may_be_over(self) -> None:
        """It was interrupted: the question is not put to anybody any more, but may still be answered, since a
        program can ignore an interrupt."""
        self._is_asking = False

    async def result(self, seen: int | None, wait_seconds: float, gather_seconds: float) -> Object:
        """The next answer: at once if a step has ended or the program asks for input, `gather_seconds` after
        the first output, and after `wait_seconds` in any case."""
        if self._last is not None and seen == self._number - 1:
            return self._last
        deadline = time.monotonic() + wait_seconds
        while not self._steps and not self._is_asking and not self.console.is_full and not self.is_over:
            moment = deadline
            if self.console.since is not None:
                moment = min(moment, self.console.since + gather_seconds)
            left = moment - time.monotonic()
            if left <= 0:
                break
            await self._news(left)
        return self._next()

    def _next(self) -> Object:
        if self._steps:
            result = self._steps.popleft()
        elif self.is_over and self._last is not None:
            return self._last  # nothing will ever follow it
        else:
            question = self._question if self._is_asking else None
            result = {
                "status": "continued" if question is None else "waiting-input",
                "exitCode": None,
                "console": self.console.take(),
                "options": None if question is None else {"is_password": question[0]},
                "files": [],
            }
        self._number += 1
        self._last = {"runId": self.run_id, "number": self._number, **result}
        return self._last

    async def _news(self, seconds: float) -> None:
        waiting: asyncio.Future[None] = asyncio.get_event_loop().create_future()
        self._waiting.add(waiting)
        try:
            await asyncio.wait({waiting}, timeout=seconds)
        finally:
            self._waiting.discard(waiting)
