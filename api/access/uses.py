"""How often and when keypairs are used, for who looks after them: counted here, and written down now and then.

A keypair that was not used for a minute is written down within a second of its next use, and one that is used all the
time once a minute: so many writes, however many requests there are. What was not written when a process is killed is
lost, and what the database took without saying so is counted twice: it is for people to look at.
"""

import asyncio
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

import structlog

from infra.keypair_uses import KeypairUses, Use
from infra.postgres import Unavailable

EVERY_SECONDS: Final = 60.0
_LOOK_SECONDS: Final = 1.0

_log = structlog.get_logger("api.access.uses")


class Uses:
    """For one process. `now`: seconds since 1970. `run` it for as long as the process lives."""

    def __init__(self, store: KeypairUses, now: Callable[[], float] = time.time) -> None:
        self._store = store
        self._now = now
        self._untold: dict[str, tuple[int, float]] = {}
        self._told_at: dict[str, float] = {}

    def note(self, access_key: str) -> None:
        """It signed a request."""
        count, _ = self._untold.get(access_key, (0, 0.0))
        self._untold[access_key] = (count + 1, self._now())

    async def run(self) -> None:
        """Never returns. What is left is written down when it is cancelled."""
        is_away = False
        try:
            while True:
                await asyncio.sleep(_LOOK_SECONDS)
                try:
                    await self.tell()
                    is_away = False
                except Unavailable as error:
                    if not is_away:
                        _log.warning("uses of keypairs wait to be written down", reason=str(error))
                    is_away = True
        finally:
            self._told_at.clear()
            try:
                await self.tell()
            except Unavailable as error:
                _log.warning("uses of keypairs were not written down", reason=str(error))

    async def tell(self) -> None:
        """Write down those whose turn it is. Raises `Unavailable`: then it is their turn again in a minute."""
        now = self._now()
        self._told_at = {key: at for key, at in self._told_at.items() if now - at < EVERY_SECONDS}
        due = {key: self._untold.pop(key) for key in self._untold.keys() - self._told_at.keys()}
        if not due:
            return
        self._told_at |= dict.fromkeys(due, now)
        try:
            uses = [Use(key, datetime.fromtimestamp(at, UTC), count) for key, (count, at) in due.items()]
            await self._store.add(uses)
        except BaseException:
            for key, (count, at) in due.items():
                more, later = self._untold.get(key, (0, at))
                self._untold[key] = (count + more, later)
            raise
