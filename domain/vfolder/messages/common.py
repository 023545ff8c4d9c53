"""What the messages of folders are made of."""

from enum import StrEnum
from typing import Annotated, ClassVar, NewType

from pydantic import Field

from domain.directory.messages.common import HostPermissions
from domain.directory.messages.tasks import TaskId
from domain.messages import AccessKey, Command, Event, UserId, Value
from domain.vfolder.mounts import FolderId, Host, Permission, Scope, UsageMode

InvitationId = NewType("InvitationId", str)

Bytes = Annotated[int, Field(ge=0, le=2**63 - 1)]

Moves = Annotated[int, Field(ge=0)]
"""How often a folder has changed hands. Words of two owners come in no order: the one with the higher number counts."""

Seconds = Annotated[float, Field(ge=0, le=10 * 366 * 86400)]

Words = Annotated[str, Field(max_length=2000)]


class ScopeLimits(Value):
    """What policies allow an owner. `hosts`: host → what he may do there (`create-vfolder`, `mount-in-session`, …).

    `max_folders`, `max_bytes` (on each host, over all his folders there): 0 is no limit.
    """

    max_folders: int = Field(0, ge=0)
    max_bytes: Bytes = 0
    hosts: HostPermissions = Field({})


class FolderSpec(Value):
    """`permission`: what the members of a project have in its folders, if nothing else was said.

    `quota_bytes`: of this folder alone; None: only its owner's counts. `unmanaged_path`: where it lies, instead of in a
    volume; nothing of it is ever made or deleted. `creator`: his email, as it was.
    """

    host: Host
    usage_mode: UsageMode = UsageMode.GENERAL
    permission: Permission = Permission.RW
    cloneable: bool = False
    quota_bytes: Bytes | None = None
    unmanaged_path: Annotated[str, Field(pattern=r"^/", max_length=4096)] | None = None
    creator: str = Field("", max_length=320)


class Work(StrEnum):
    """What a storage service does to a folder."""

    CREATE = "create"
    CLONE = "clone"
    PURGE = "purge"


class PurgeTask(Value):
    """The background task in which `asker` sees how far a purge is. Each attempt has another."""

    asker: AccessKey
    task_id: TaskId


class ScopeCommand(Command):
    """`scope`: whose folders, or whose invitations."""

    by_users: ClassVar[bool] = False
    """Whether people may send it; everything else comes from other owners, contexts and storage services."""

    scope: Scope

    @property
    def key(self) -> str:
        return self.scope

    @property
    def subject(self) -> str:
        return self.scope


class FolderCommand(ScopeCommand):
    folder_id: FolderId

    @property
    def subject(self) -> str:
        return self.folder_id


class InvitationCommand(ScopeCommand):
    invitation_id: InvitationId

    @property
    def subject(self) -> str:
        return self.invitation_id


class Member(Value):
    user_id: UserId
    permission: Permission


class ScopeEvent(Event):
    scope: Scope

    @property
    def subject(self) -> str:
        return self.scope


class FolderEvent(ScopeEvent):
    folder_id: FolderId

    @property
    def subject(self) -> str:
        return self.folder_id


class InvitationEvent(ScopeEvent):
    invitation_id: InvitationId

    @property
    def subject(self) -> str:
        return self.invitation_id
