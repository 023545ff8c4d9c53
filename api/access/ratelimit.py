"""How many requests a caller may make in 15 minutes, whichever api process he asks.

Each process counts by itself, in buckets of 30 seconds, and twice a second exchanges what it counted with the others
(`infra.request_counts`); no request waits for a database. Two bounds follow:

- A request counts for at least 15 minutes and at most 15 minutes and 30 seconds: within no 15 minutes does one process
  let in more than the limit.
- What others let in is known here within a second. So somebody who asks several processes at once may pass the limit by
  what he can ask them within that second, and no further. The clocks of the processes must agree to within 30 seconds.

While the database does not answer, each process goes on with what it knows and counts, and tells the others later. A
request that is refused for being too many counts like any other. Of callers, those seen most recently are remembered.
"""

import asyncio
import math
import time
from array import array
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

import structlog

from api.http.problems import Problem
from infra.postgres import Unavailable
from infra.request_counts import PAGE, Count, RequestCounts

WINDOW_SECONDS: Final = 900
BUCKET_SECONDS: Final = 30
EXCHANGE_SECONDS: Final = 0.5

_BUCKETS: Final = WINDOW_SECONDS // BUCKET_SECONDS + 1  # the first and the last are within the window in part only
_CALLERS_MAX: Final = 50_000  # remembered of each kind, some 600 bytes each
_AHEAD_MAX: Final = 1  # buckets: a row from further ahead is another's wrong clock, and would push out what is counted
_LENGTH_MAX: Final = 128  # of a caller's name

_log = structlog.get_logger("api.access.ratelimit")


class Kind(StrEnum):
    """What a limit is about. Each kind is remembered apart: a flood of addresses makes no access key forgotten."""

    KEYPAIR = "keypair"
    ADDRESS = "address"
    SIGN_IN = "sign-in"


@dataclass(frozen=True, slots=True)
class Standing:
    """How a caller stands once a request of his is counted. `retry_after`: seconds; None where he is within limits."""

    limit: int
    remaining: int
    retry_after: int | None = None

    @property
    def headers(self) -> list[tuple[bytes, bytes]]:
        return [
            (b"x-ratelimit-limit", b"%d" % self.limit),
            (b"x-ratelimit-remaining", b"%d" % self.remaining),
            (b"x-ratelimit-window", b"%d" % WINDOW_SECONDS),
        ]

    def check(self) -> None:
        """Raises `Problem` (429) where he is past the limit."""
        if self.retry_after is not None:
            raise Problem(
                429,
                "rate-limit-exceeded",
                "Too many requests",
                f"{self.limit} requests in {WINDOW_SECONDS // 60} minutes are allowed",
                retryable=True,
                retry_after=self.retry_after,
            )


class Limiter:
    """Counts for one process. `now`: seconds since 1970. `run` it for as long as the process lives."""

    def __init__(self, counts: RequestCounts, now: Callable[[], float] = time.time) -> None:
        self._counts = counts
        self._now = now
        self._windows: dict[Kind, OrderedDict[str, _Window]] = {kind: OrderedDict() for kind in Kind}
        self._untold: set[tuple[Kind, str]] = set()
        self._number = 0
        self._forgotten = 0

    def hit(self, kind: Kind, who: str, limit: int) -> Standing:
        """Count a request."""
        now = self._now()
        bucket = int(now // BUCKET_SECONDS)
        window = self._window(kind, who[:_LENGTH_MAX], bucket)
        window.hit(bucket)
        self._untold.add((kind, who[:_LENGTH_MAX]))
        if window.total <= limit:
            return Standing(limit, limit - window.total)
        free_at = window.free_from(limit) * BUCKET_SECONDS
        return Standing(limit, 0, max(1, math.ceil(free_at - now)))

    async def run(self) -> None:
        """Never returns."""
        alone = False
        while True:
            try:
                while await self.exchange():
                    pass
                if alone:
                    _log.info("requests are counted together again")
                alone = False
            except Unavailable as error:
                if not alone:
                    _log.warning("each process counts requests alone", reason=str(error))
                alone = True
            await asyncio.sleep(EXCHANGE_SECONDS)

    async def exchange(self) -> bool:
        """Tell what was counted here, and learn what was counted elsewhere; whether there is more to learn.

        Raises `Unavailable`. If that happened after all was written, what was told is told again, and counts twice.
        """
        told = self._take_untold()
        try:
            totals, self._number = await self._counts.exchange([count for _, count in told], self._number)
        except BaseException:
            self._untold.update(_place(count.who) for _, count in told)
            raise
        for window, count in told:
            window.told(count.bucket, count.requests)
        self._learn(totals)
        await self._forget()
        return len(totals) >= PAGE

    def _take_untold(self) -> list[tuple["_Window", Count]]:
        told = []
        for kind, who in self._untold:
            if (window := self._windows[kind].get(who)) is not None:
                told += [(window, Count(f"{kind}:{who}", *each)) for each in window.untold()]
        self._untold = set()
        return told

    def _learn(self, totals: Sequence[Count]) -> None:
        newest = int(self._now() // BUCKET_SECONDS)
        for who, bucket, count in totals:
            if newest - _BUCKETS < bucket <= newest + _AHEAD_MAX:
                self._window(*_place(who), bucket).set_shared(bucket, count)

    async def _forget(self) -> None:
        oldest = int(self._now() // BUCKET_SECONDS) - _BUCKETS
        if oldest > self._forgotten:
            self._forgotten = oldest
            for windows in self._windows.values():
                while windows and next(iter(windows.values())).newest < oldest:
                    windows.popitem(last=False)
            await self._counts.forget(oldest)

    def _window(self, kind: Kind, who: str, bucket: int) -> "_Window":
        windows = self._windows[kind]
        window = windows.get(who)
        if window is None:
            window = windows[who] = _Window(bucket)
            if len(windows) > _CALLERS_MAX:
                windows.popitem(last=False)
        else:
            windows.move_to_end(who)
        return window


class _Window:
    """What one caller did: rings of buckets, for what everybody was told and for what they were not told yet."""

    __slots__ = ("_shared", "_untold", "newest", "total")

    def __init__(self, bucket: int) -> None:
        self._shared = array("q", bytes(8 * _BUCKETS))
        self._untold = array("q", bytes(8 * _BUCKETS))
        self.newest = bucket
        self.total = 0

    def hit(self, bucket: int) -> None:
        self._advance(bucket)
        self._untold[self.newest % _BUCKETS] += 1  # a clock that was set back counts where it was
        self.total += 1

    def untold(self) -> list[tuple[int, int]]:
        """Buckets and counts."""
        first = self.newest - _BUCKETS + 1
        return [(b, count) for b in range(first, self.newest + 1) if (count := self._untold[b % _BUCKETS])]

    def told(self, bucket: int, count: int) -> None:
        if bucket > self.newest - _BUCKETS:
            self._untold[bucket % _BUCKETS] -= count
            self._shared[bucket % _BUCKETS] += count

    def set_shared(self, bucket: int, count: int) -> None:
        self._advance(bucket)
        if bucket > self.newest - _BUCKETS:
            self.total += count - self._shared[bucket % _BUCKETS]
            self._shared[bucket % _BUCKETS] = count

    def free_from(self, limit: int) -> int:
        """The bucket in which one more request will be within the limit, if none comes before."""
        left = self.total
        for bucket in range(self.newest - _BUCKETS + 1, self.newest + 1):
            left -= self._shared[bucket % _BUCKETS] + self._untold[bucket % _BUCKETS]
            if left < limit:
                return bucket + _BUCKETS
        return self.newest + _BUCKETS

    def _advance(self, bucket: int) -> None:
        for later in range(max(self.newest + 1, bucket - _BUCKETS + 1), bucket + 1):
            place = later % _BUCKETS
            self.total -= self._shared[place] + self._untold[place]
            self._shared[place] = self._untold[place] = 0
        self.newest = max(self.newest, bucket)


def _place(who: str) -> tuple[Kind, str]:
    kind, _, name = who.partition(":")
    return Kind(kind), name
