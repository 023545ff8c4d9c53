"""What folders are told by the directory, sessions, the clock and storage services."""

from typing import Literal

from pydantic import Field

from domain.messages import AccessKey, Instant, SessionId, UserId
from domain.vfolder.messages.common import Bytes, FolderCommand, ScopeCommand, ScopeLimits, Words, Work
from domain.vfolder.mounts import Permission


class SetScopeLimits(ScopeCommand):
    """When the owner, or a policy of his, changes. None: he may make no (more) folders."""

    type: Literal["SetScopeLimits"] = "SetScopeLimits"
    limits: ScopeLimits | None


class CloseScope(ScopeCommand):
    """The owner was purged: so are his folders, each as soon as nothing has it mounted; and he leaves others'."""

    type: Literal["CloseScope"] = "CloseScope"


class MountFolder(FolderCommand):
    """A session asks for it, for `user_id`.

    `by_project`: he may have what the members of the project may whose folder it is, which the api vouches for.
    """

    type: Literal["MountFolder"] = "MountFolder"
    session_id: SessionId
    owner: AccessKey
    user_id: UserId
    permission: Permission
    by_project: bool = False


class UnmountFolder(FolderCommand):
    """The session has ended."""

    type: Literal["UnmountFolder"] = "UnmountFolder"
    session_id: SessionId


class PassTrashDeadline(FolderCommand):
    """It lay in the trash long enough."""

    type: Literal["PassTrashDeadline"] = "PassTrashDeadline"
    deadline: Instant


class ReportFolderReady(FolderCommand):
    """The folder was made, or is the copy that it was to be."""

    type: Literal["ReportFolderReady"] = "ReportFolderReady"
    used_bytes: Bytes = 0
    files: int = Field(0, ge=0)


class ReportFolderPurged(FolderCommand):
    """Nothing is left of it."""

    type: Literal["ReportFolderPurged"] = "ReportFolderPurged"


class ReportFolderFailed(FolderCommand):
    """The work on it cannot be done, and trying again without anybody's help is of no use."""

    type: Literal["ReportFolderFailed"] = "ReportFolderFailed"
    work: Work
    message: Words


class ReportFolderUsage(FolderCommand):
    """What was measured."""

    type: Literal["ReportFolderUsage"] = "ReportFolderUsage"
    used_bytes: Bytes
    files: int = Field(ge=0)
