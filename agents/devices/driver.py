"""A thread for a driver's library, which may block for a long time, or for ever with a device that fell off its bus."""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import TypeVar

from agents.devices.plugin import Unanswered

T = TypeVar("T")


class Driver:
    """Asks one question at a time. A question that was given up blocks those after it until it is answered, but
    neither the event loop nor the end of the process."""

    def __init__(self, name: str, seconds_max: float = 10.0) -> None:
        self._name = name
        self._seconds_max = seconds_max
        self._turn = asyncio.Lock()
        self._idle = threading.Event()
        self._idle.set()

    async def ask(self, question: Callable[[], T]) -> T:
        """What the question returns or raises. Raises Unanswered."""
        async with self._turn:
            if not self._idle.is_set():
                raise Unanswered(f"{self._name} has yet to answer an earlier question")
            loop = asyncio.get_running_loop()
            answer: asyncio.Future[T] = loop.create_future()
            self._idle.clear()

            def settle(result: Callable[[], None]) -> None:
                if not answer.done():  # else it was given up
                    result()

            def work() -> None:
                try:
                    result = partial(answer.set_result, question())
                except BaseException as error:
                    result = partial(answer.set_exception, error)
                self._idle.set()
                with suppress(RuntimeError):  # the loop is closed: nobody listens any more
                    loop.call_soon_threadsafe(settle, result)

            # Not from a pool: the interpreter waits for those when it exits.
            threading.Thread(target=work, name=self._name, daemon=True).start()
            try:
                async with asyncio.timeout(self._seconds_max):
                    return await answer
            except TimeoutError as error:
                raise Unanswered(f"{self._name} did not answer within {self._seconds_max:g} s") from error
