"""Who may write how much more: asked before each piece, also where the file system asks nothing.

What a folder holds is what was measured last, and what was let in since. The room is measured anew before anybody is
turned away, since files may have been deleted meanwhile.
"""

import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Final

from api.storage.disks.figures import Usage
from api.storage.effects.wanted import Wanted, has_to_be_there
from api.storage.places import NoRoom, NoSuchFolder
from domain.vfolder.mounts import FolderId, Scope
from domain.vfolder.phases import DELETED
from domain.vfolder.state import Folder

_LONG_SECONDS: Final = 0.2
_REST: Final = 3.0
"""So many times as long as a long measurement took, nobody who is turned away has it repeated."""


class Quotas:
    """`measure` finds out what a folder holds now."""

    def __init__(self, wanted: Wanted, measure: Callable[[Folder], Awaitable[Usage]]) -> None:
        self._wanted = wanted
        self._measure = measure
        self._let_in: Counter[FolderId] = Counter()
        self._measured: dict[FolderId, int] = {}
        self._stale: set[FolderId] = set()
        self._rests_until: dict[FolderId, float] = {}

    async def claim(self, folder_id: FolderId, more: int) -> None:
        """So many bytes are about to be written into it. Raises `NoRoom`, `NoSuchFolder`."""
        scope, folder = self._living(folder_id)
        if self._room(scope, folder) < more:
            await self._look_again(scope, folder)
            if self._room(scope, folder) < more:
                raise self._refusal(scope, folder)
        self._let_in[folder_id] += more

    def touched(self, folder_id: FolderId) -> None:
        """Something in it was changed."""
        self._stale.add(folder_id)

    @property
    def stale(self) -> frozenset[FolderId]:
        """What was changed since it was measured."""
        return frozenset(self._stale)

    def forget(self, folder_id: FolderId) -> None:
        """It is gone."""
        self._let_in.pop(folder_id, None)
        self._measured.pop(folder_id, None)
        self._stale.discard(folder_id)
        self._rests_until.pop(folder_id, None)

    async def measure(self, folder: Folder) -> Usage:
        """What it holds now. What is let in meanwhile may be counted twice until the next time. Raises `OSError`."""
        before = self._let_in[folder.folder_id]
        self._stale.discard(folder.folder_id)
        began = time.monotonic()
        usage = await self._measure(folder)
        took = time.monotonic() - began
        if took > _LONG_SECONDS:
            self._rests_until[folder.folder_id] = time.monotonic() + _REST * took
        self._measured[folder.folder_id] = usage.used_bytes
        self._let_in[folder.folder_id] -= min(before, self._let_in[folder.folder_id])
        return usage

    def most(self, scope: Scope, folder: Folder) -> int | None:
        """Where a file system is to stop: what the folder may grow to while the others stay as they are."""
        if folder.spec.quota_bytes is None and self._wanted.limit(scope, folder.host) is None:
            return None
        return max(0, self._used(folder) + self._room(scope, folder))

    def _living(self, folder_id: FolderId) -> tuple[Scope, Folder]:
        found = self._wanted.folder(folder_id)
        if found is None or found[1].phase in DELETED:
            raise NoSuchFolder(f"there is no folder {folder_id} to write into")
        return found

    def _used(self, folder: Folder) -> int:
        return self._measured.get(folder.folder_id, folder.used_bytes) + self._let_in[folder.folder_id]

    def _of_scope(self, scope: Scope, folder: Folder) -> int | None:
        """What is left of what the owner's folders there may have together."""
        limit = self._wanted.limit(scope, folder.host)
        if limit is None:
            return None
        return limit - sum(self._used(each) for each in self._wanted.together(scope, folder.host))

    def _of_folder(self, folder: Folder) -> int | None:
        """What is left of what the folder alone may have."""
        return None if folder.spec.quota_bytes is None else folder.spec.quota_bytes - self._used(folder)

    def _room(self, scope: Scope, folder: Folder) -> int:
        rooms = [self._of_scope(scope, folder), self._of_folder(folder)]
        return min((room for room in rooms if room is not None), default=2**63 - 1)

    def _refusal(self, scope: Scope, folder: Folder) -> NoRoom:
        of_folder = self._of_folder(folder)
        of_scope = self._of_scope(scope, folder)
        if of_folder is not None and (of_scope is None or of_folder < of_scope):
            return NoRoom("quota_bytes", folder.spec.quota_bytes or 0)
        return NoRoom("quota_scope", self._wanted.limit(scope, folder.host) or 0)

    async def _look_again(self, scope: Scope, folder: Folder) -> None:
        """At the folder, and at those that count with it and were changed."""
        for each in self._wanted.together(scope, folder.host):
            concerned = each.folder_id == folder.folder_id or each.folder_id in self._stale
            rests = self._rests_until.get(each.folder_id, 0.0) > time.monotonic()
            if concerned and has_to_be_there(each) and not rests:
                await self.measure(each)
