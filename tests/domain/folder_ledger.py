"""An auditor of folders: adds up by itself what the events of all owners say; complains at the first that cannot be.

It knows nothing of the deciders: what was granted to whom it takes from the words of owners only.
"""

from dataclasses import dataclass, field

from domain.messages import SessionId
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderMounted,
    FolderOptionsSet,
    FolderPurged,
    FolderPurging,
    FolderReady,
    FolderTrashed,
    FolderUnmounted,
    FolderUsageMeasured,
)
from domain.vfolder.messages.sharing import (
    FolderGiven,
    FolderInvited,
    FolderTaken,
    InvitationChanged,
    MemberAdmitted,
    MemberRemoved,
    MemberSet,
    TransferBegun,
)
from domain.vfolder.mounts import RANK, Permission


@dataclass(frozen=True)
class Asked:
    """What a session wanted, and for whom."""

    user_id: str
    by_project: bool


@dataclass
class FolderLedger:
    asked: dict[SessionId, Asked] = field(default_factory=dict)
    owners: dict[str, list[str]] = field(default_factory=dict)
    """Folder → its owner, the last one here, after those who have yet to hear that it is no longer theirs."""
    granted: dict[tuple[str, str], Permission] = field(default_factory=dict)
    """Folder and user → what its owner said last."""
    default: dict[str, Permission] = field(default_factory=dict)
    offered: dict[str, tuple[str, str, Permission]] = field(default_factory=dict)
    """Invitation → folder, invitee and permission."""
    mounted: dict[str, set[SessionId]] = field(default_factory=dict)
    sizes: dict[str, int] = field(default_factory=dict)

    def note(self, event: FolderEvents) -> None:
        match event:
            case FolderCreated():
                self.owners[event.folder_id] = [event.scope]
                self.default[event.folder_id] = event.spec.permission
            case FolderOptionsSet():
                self.default[event.folder_id] = event.permission
            case FolderReady() | FolderUsageMeasured():
                self.sizes[event.folder_id] = event.used_bytes
            case FolderInvited():
                self.offered[event.invitation_id] = (event.folder_id, event.invitee, event.permission)
            case InvitationChanged():
                self.offered[event.invitation_id] = (*self.offered[event.invitation_id][:2], event.permission)
            case MemberAdmitted():
                offer = self.offered.pop(event.invitation_id)
                assert offer == (event.folder_id, event.user_id, event.permission), "not what was offered"
                self.granted[event.folder_id, event.user_id] = event.permission
            case MemberSet():
                self.granted[event.folder_id, event.user_id] = event.permission
            case MemberRemoved():
                if self.owners[event.folder_id][-1] == event.scope:  # whoever gave it away may hear late that one left
                    del self.granted[event.folder_id, event.user_id]
            case FolderTrashed() | FolderPurging() | TransferBegun():
                assert not self.mounted.get(event.folder_id), f"{type(event).__name__}, but mounted"
            case FolderPurged():
                assert self.owners[event.folder_id].pop() == event.scope, "purged under its owner's hands"
                self.sizes.pop(event.folder_id, None)
                assert not [user for folder_id, user in self.granted if folder_id == event.folder_id]
            case FolderTaken():
                self._taken(event)
            case FolderGiven():
                self.owners[event.folder_id].remove(event.scope)
            case FolderMounted():
                self._mounted(event)
            case FolderUnmounted():
                self.mounted[event.folder_id].remove(event.session_id)
            case _:
                pass

    def _taken(self, event: FolderTaken) -> None:
        assert self.owners[event.folder_id][-1] == event.giver, "taken from who does not have it"
        self.owners[event.folder_id].append(event.scope)
        assert event.used_bytes == self.sizes[event.folder_id], "bytes were lost on the way"
        new_owner = event.scope.partition(":")[2]
        self.granted.pop((event.folder_id, new_owner), None)
        told = {member.user_id: member.permission for member in event.members}
        for user_id, permission in told.items():
            # Whoever left since the folder was offered is named again, and will say so again.
            was = self.granted.setdefault((event.folder_id, user_id), permission)
            assert was is permission, f"{user_id} gets {permission} of {was}"

    def _mounted(self, event: FolderMounted) -> None:
        asked = self.asked[event.session_id]
        may = self.granted.get((event.folder_id, asked.user_id))
        if event.scope == f"user:{asked.user_id}":
            may = Permission.WD
        elif may is None and event.scope.startswith("project:") and asked.by_project:
            may = self.default[event.folder_id]
        assert may is not None, f"{asked.user_id} has what nobody gave him"
        assert RANK[event.permission] <= RANK[may], f"{asked.user_id} has {event.permission}, was granted {may}"
        self.mounted.setdefault(event.folder_id, set()).add(event.session_id)
