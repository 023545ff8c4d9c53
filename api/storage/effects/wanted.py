"""The folders of this storage service as the log has them: what is to be done to each, and how much it may hold."""

from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final

from domain.vfolder.folding import evolve
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.life import QuotaSet, ScopeLimitsSet
from domain.vfolder.mounts import FolderId, Host, Scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders

_WORKS: Final = {Phase.CREATING: Work.CREATE, Phase.COPYING: Work.CLONE, Phase.PURGING: Work.PURGE}

KEPT: Final = frozenset({Phase.READY, Phase.TRANSFERRING, Phase.TRASHED})
"""Where it is as its users left it."""


def has_to_be_there(folder: Folder) -> bool:
    """Whether it has to be in its volume."""
    return folder.phase in KEPT and folder.spec.unmanaged_path is None


@dataclass(frozen=True, slots=True)
class Job:
    """Something that is to be done to a folder. `asked`: the event that asks for it."""

    work: Work
    scope: Scope
    folder: Folder
    asked: str


class Wanted:
    """Folded from events. `hosts` are the service's; of other folders it says nothing.

    The events of two owners have no common order: while a transfer is read, its folder may be in both their scopes, or
    in none.
    """

    def __init__(self, hosts: Collection[Host]) -> None:
        self._hosts = hosts
        self._states: defaultdict[Scope, Folders] = defaultdict(Folders)
        self._scopes: defaultdict[FolderId, list[Scope]] = defaultdict(list)
        self._jobs: dict[tuple[Scope, FolderId], Job] = {}
        self._relimited: dict[Host, set[Scope]] = {host: set() for host in hosts}

    def take(self, event: FolderEvents, event_id: str) -> None:
        scope = event.scope
        self._states[scope] = evolve(self._states[scope], event)
        if isinstance(event, QuotaSet | ScopeLimitsSet):
            for scopes in self._relimited.values():
                scopes.add(scope)
        folder_id = getattr(event, "folder_id", None)
        if folder_id is not None:
            self._look(scope, folder_id, event_id)

    def _look(self, scope: Scope, folder_id: FolderId, event_id: str) -> None:
        folder = self._states[scope].folders.get(folder_id)
        if folder is not None and folder.host not in self._hosts:
            return
        key = (scope, folder_id)
        managed = folder is not None and folder.spec.unmanaged_path is None  # nothing is done to others
        work = _WORKS.get(folder.phase) if folder and managed else None
        if folder is None or work is None:
            self._jobs.pop(key, None)
        else:
            before = self._jobs.get(key)
            asked = before.asked if before and before.work is work else event_id
            self._jobs[key] = Job(work, scope, folder, asked)
        scopes = self._scopes[folder_id]
        if folder is None and scope in scopes:
            scopes.remove(scope)
        elif folder is not None and scope not in scopes:
            scopes.append(scope)
        if not scopes:
            del self._scopes[folder_id]

    # -- what is asked -----------------------------------------------------------------------------------------------

    def jobs(self, host: Host) -> list[Job]:
        """What is to be done there."""
        return [job for job in self._jobs.values() if job.folder.host == host]

    def folder(self, folder_id: FolderId) -> tuple[Scope, Folder] | None:
        """It and whose it is: of two, who has had it from another more often."""
        found = [(scope, self._states[scope].folders[folder_id]) for scope in self._scopes.get(folder_id, ())]
        return max(found, key=lambda each: each[1].moves, default=None)

    def folders(self, host: Host) -> Iterator[tuple[Scope, Folder]]:
        """All there, as they are now."""
        for folder_id in list(self._scopes):
            found = self.folder(folder_id)
            if found and found[1].host == host:
                yield found

    def together(self, scope: Scope, host: Host) -> list[Folder]:
        """The folders whose sum is limited."""
        return [each for each in self._states[scope].folders.values() if each.host == host]

    def relimited(self, host: Host) -> set[Scope]:
        """Whose limit there may be another than when this was asked last."""
        scopes, self._relimited[host] = self._relimited[host], set()
        return scopes

    def limit(self, scope: Scope, host: Host) -> int | None:
        """The bytes that those may have together, or None."""
        return self._states[scope].max_bytes(host)
