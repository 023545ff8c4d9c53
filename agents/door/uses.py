"""When was each kernel used last, by whoever comes in through the agent's door?"""

import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime


class Uses:
    """Of this process' life only: an agent that starts anew knows of none."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._last: dict[str, float] = {}
        self.began_at = datetime.fromtimestamp(clock(), UTC)

    def note(self, kernel_id: str) -> None:
        """Somebody does something in the kernel. Called for each message on its way, so it does next to nothing."""
        self._last[kernel_id] = self._clock()

    def last(self, kernel_id: str) -> datetime | None:
        """None: nobody has."""
        at = self._last.get(kernel_id)
        return None if at is None else datetime.fromtimestamp(at, UTC)

    def forget(self, kernels: Collection[str]) -> None:
        """All but these are gone from the host."""
        for kernel_id in self._last.keys() - set(kernels):
            del self._last[kernel_id]
