"""For how long has the log heard nothing of this agent? Some kernels must not run on for ever then.

A session may ask for it (`fence_after_seconds`): once its agent could append nothing for so long, the agent ends its
kernels itself, and says so (`fenced`) as soon as it can. So whoever has heard nothing of an agent for that long, and
for `GRACE_SECONDS` more, knows that such a kernel does not run, although nobody could ask: it may be started elsewhere.
(As long as there is an agent: one that is dead ends nothing, until it is started again.)
"""

import time
from datetime import timedelta
from typing import Final

GRACE_SECONDS: Final = 10.0
"""Between SIGTERM and SIGKILL for kernels that are fenced."""


def boot_time() -> float:
    """Seconds; goes on while the host sleeps, as the lives of others do."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Heard:
    """When this agent was heard last. What counts is the beginning of an append that succeeded: later is not sure."""

    def __init__(self) -> None:
        self._last = boot_time()

    def not_since(self, silence: timedelta) -> None:
        """It had been silent for so long already when this process began."""
        self._last -= max(silence.total_seconds(), 0.0)

    def now(self) -> float:
        """To be taken before an append, and handed to `at` after it."""
        return boot_time()

    def at(self, began: float) -> None:
        """An append that began then has succeeded."""
        self._last = max(self._last, began)

    @property
    def silence(self) -> float:
        """Seconds since."""
        return boot_time() - self._last
