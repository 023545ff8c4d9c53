"""Which of a user's own folders come into all his sessions, remembered: each request for a session asks for them.

What was read is good until the log says something that could change it. Nobody waits here for the projection to fold
that: who has made a folder was answered when it had. Nor does a session wait long for a database that is away.
"""

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from api.known import Known
from domain.messages import UserId
from domain.vfolder.mounts import Scope, user_scope
from infra.log import Position, Record
from infra.postgres import Unavailable
from projections.folders.rows import FolderRow

_KEPT_SECONDS: Final = 60.0
"""The projection may have lain further behind than this process looked back in the log when it began."""

_PATIENCE_SECONDS: Final = 1.0

_KEPT_MAX: Final = 10_000
"""Users. Beyond, all are asked for anew."""

_CHANGING: Final = frozenset(
    {
        "FolderCreated",
        "FolderReady",
        "FolderFailed",
        "FolderRenamed",
        "FolderTrashed",
        "FolderRestored",
        "FolderPurging",
        "TransferBegun",
        "TransferAborted",
        "FolderTaken",
        "FolderGiven",
    }
)


@dataclass(frozen=True, slots=True)
class _Kept:
    rows: Sequence[FolderRow]
    until: float


class DotFolders:
    """Of all users, as far as this process was asked."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: dict[Scope, _Kept] = {}
        self._changed: dict[Scope, Position] = {}

    def take(self, record: Record, headers: Mapping[str, bytes]) -> None:
        """A record of the folders' events topic."""
        if headers["ce_type"].decode() in _CHANGING:
            scope = record.key.decode()
            self._kept.pop(scope, None)
            self._changed[scope] = Position({record.partition: record.offset + 1})

    async def of(self, user_id: UserId, known: Known) -> Sequence[FolderRow]:
        """By name, as the projection knows them. Raises `Unavailable`."""
        scope = user_scope(user_id)
        kept = self._kept.get(scope)
        if kept is not None and self._clock() < kept.until:
            return kept.rows
        changed = self._changed.get(scope)
        try:
            async with asyncio.timeout(_PATIENCE_SECONDS):
                is_folded = changed is None or await known.wait_for(changed, 0)
                rows = await known.folders.automatic(user_id)
        except TimeoutError:
            raise Unavailable(f"no answer within {_PATIENCE_SECONDS} s") from None
        if is_folded and self._changed.get(scope) is changed:
            self._keep(scope, rows)
        return rows

    def _keep(self, scope: Scope, rows: Sequence[FolderRow]) -> None:
        if len(self._kept) >= _KEPT_MAX:
            self._kept.clear()
        self._kept[scope] = _Kept(rows, self._clock() + _KEPT_SECONDS)
        self._changed.pop(scope, None)
