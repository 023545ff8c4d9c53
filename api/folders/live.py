"""What happens to folders right now, for those who wait for it: a request is often answered only by what another owner,
or a storage service, says next.
"""

import asyncio
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final, NamedTuple

from domain.vfolder.mounts import Scope
from infra.log import Position, Record

_UNNEEDED: Final = frozenset({"ShardOpened", "CommandRefused", "CommandUnneeded"})


class Awaited(NamedTuple):
    """An event of this type, in this owner's words, about this folder or invitation."""

    scope: Scope
    kind: str
    subject: str


@dataclass(frozen=True, slots=True)
class Happened:
    """The first of those that somebody waited for."""

    kind: str
    record: Record

    @property
    def position(self) -> Position:
        return Position({self.record.partition: self.record.offset + 1})


Future = asyncio.Future[Happened]


class FolderWatch:
    """Who waits for which event. Wait before the command is sent: nothing is kept for later."""

    def __init__(self) -> None:
        self._waiting: dict[Awaited, list[Future]] = {}

    @property
    def waiting(self) -> int:
        return sum(len(futures) for futures in self._waiting.values())

    @contextmanager
    def expecting(self, *awaited: Awaited) -> Iterator[Future]:
        """Done with the first of these that happens meanwhile."""
        future: Future = asyncio.get_running_loop().create_future()
        for each in awaited:
            self._waiting.setdefault(each, []).append(future)
        try:
            yield future
        finally:
            for each in awaited:
                waiting = self._waiting[each]
                waiting.remove(future)
                if not waiting:
                    del self._waiting[each]

    def take(self, record: Record, headers: Mapping[str, bytes]) -> None:
        """A record of the folders' events topic."""
        kind = headers["ce_type"].decode()
        if not self._waiting or kind in _UNNEEDED:
            return
        awaited = Awaited(record.key.decode(), kind, headers["ce_subject"].decode())
        for future in self._waiting.get(awaited, ()):
            if not future.done():
                future.set_result(Happened(kind, record))
