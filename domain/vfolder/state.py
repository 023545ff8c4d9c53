"""What a decision about the folders of one owner needs to know, and what may be asked of it.

Folded by `domain.vfolder.folding`, also by the storage services, which so know what is to be on their disks.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime

from immutables import Map

from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey, SessionId, UserId
from domain.vfolder.messages.common import FolderSpec, InvitationId, PurgeTask, ScopeLimits
from domain.vfolder.mounts import FolderId, FolderRef, Host, Permission, Scope
from domain.vfolder.phases import DELETED, FolderStatus, Phase, status


@dataclass(frozen=True, slots=True)
class Folder:
    """One of the owner's. `members`: of a user's folder, those who joined; of a project's, those who have other rights
    there than all. `held_for`: the clones that are being made of it. `moves`: how often it changed hands.

    `spec`: with its options as they are now. `source`, `asker`: of a clone. `to`: who it is being given to.
    `purge_task`: of the purge that is under way, or was tried last.
    """

    folder_id: FolderId
    name: str
    spec: FolderSpec
    phase: Phase
    created_at: datetime
    source: FolderRef | None = None
    asker: AccessKey | None = None
    moves: int = 0
    members: Map[UserId, Permission] = field(default_factory=Map)
    mounts: Map[SessionId, AccessKey] = field(default_factory=Map)
    held_for: Map[FolderId, FolderRef] = field(default_factory=Map)
    used_bytes: int = 0
    files: int = 0
    purge_at: datetime | None = None
    purge_task: PurgeTask | None = None
    to: Scope | None = None
    message: str = ""
    """Why it is in error."""

    @property
    def host(self) -> Host:
        return self.spec.host

    @property
    def in_use(self) -> bool:
        """Whether it has to stay as it is: a session has it, or it is being copied."""
        return bool(self.mounts or self.held_for)

    @property
    def task_id(self) -> TaskId | None:
        """Of the background task that says how far it is with what is being done to it, if somebody asked for that."""
        if self.phase in (Phase.WAITING, Phase.COPYING):
            return TaskId(self.folder_id) if self.asker is not None else None
        return self.purge_task.task_id if self.phase is Phase.PURGING and self.purge_task is not None else None

    @property
    def status(self) -> FolderStatus:
        return status(self.phase, mounted=bool(self.mounts))

    def ref(self, scope: Scope) -> FolderRef:
        return FolderRef(scope=scope, folder_id=self.folder_id, host=self.host)


@dataclass(frozen=True, slots=True)
class Invitation:
    """As it stands with the folder's owner."""

    invitation_id: InvitationId
    folder_id: FolderId
    inviter: UserId
    invitee: UserId
    permission: Permission


@dataclass(frozen=True, slots=True)
class Received:
    """An invitation as its invitee has it. `accepted`: the folder's owner has yet to answer; its name is taken."""

    invitation_id: InvitationId
    folder: FolderRef
    name: str
    inviter: UserId
    permission: Permission
    moves: int
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class Joined:
    """Another's folder that this user has, and what he calls it."""

    folder: FolderRef
    name: str
    moves: int


@dataclass(frozen=True, slots=True)
class Folders:
    """Everything inside one boundary key: an owner's folders, and what others share with him.

    `limits`: None where he may make no folders. `closed`: the owner was purged. `quotas`: where they are others than
    his policy's. `names`: of his own folders and of those he joined or is about to.
    """

    limits: ScopeLimits | None = None
    closed: bool = False
    quotas: Map[Host, int] = field(default_factory=Map)
    folders: Map[FolderId, Folder] = field(default_factory=Map)
    names: Map[str, FolderId] = field(default_factory=Map)
    invitations: Map[InvitationId, Invitation] = field(default_factory=Map)
    received: Map[InvitationId, Received] = field(default_factory=Map)
    joined: Map[FolderId, Joined] = field(default_factory=Map)

    @property
    def count(self) -> int:
        """How many count against the limit: what is in the trash still does."""
        return sum(folder.phase not in DELETED for folder in self.folders.values())

    def used_bytes(self, host: Host) -> int:
        """What his folders there have together, as it was last measured."""
        return sum(folder.used_bytes for folder in self.folders.values() if folder.host == host)

    def max_bytes(self, host: Host) -> int | None:
        """How much his folders there may have together; None: no limit."""
        if (quota := self.quotas.get(host)) is not None:
            return quota
        return (self.limits.max_bytes or None) if self.limits is not None else None

    def invitations_to(self, folder_id: FolderId) -> Iterator[Invitation]:
        """Those that stand, in the order of their ids."""
        standing = sorted(self.invitations.values(), key=lambda each: each.invitation_id)
        return (each for each in standing if each.folder_id == folder_id)

    def accepted(self, folder_id: FolderId) -> Received | None:
        """The invitation to it that was accepted, while its owner has not answered."""
        return next((e for e in self.received.values() if e.accepted and e.folder.folder_id == folder_id), None)
