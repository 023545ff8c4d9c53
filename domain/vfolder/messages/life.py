"""Events in the life of a folder, and of what its owner may have."""

from typing import Literal

from domain.messages import AccessKey, Instant, SessionId
from domain.vfolder.messages.common import (
    Bytes,
    FolderEvent,
    FolderSpec,
    PurgeTask,
    ScopeEvent,
    ScopeLimits,
    Words,
    Work,
)
from domain.vfolder.mounts import FolderId, FolderName, FolderRef, Host, Permission


class ScopeLimitsSet(ScopeEvent):
    type: Literal["ScopeLimitsSet"] = "ScopeLimitsSet"
    limits: ScopeLimits | None


class QuotaSet(ScopeEvent):
    type: Literal["QuotaSet"] = "QuotaSet"
    host: Host
    max_bytes: Bytes | None


class ScopeClosed(ScopeEvent):
    """Folders that are mounted are purged when they no longer are."""

    type: Literal["ScopeClosed"] = "ScopeClosed"


class FolderCreated(FolderEvent):
    """Its storage service is to make it. Of a clone (`source`): to wait until FolderCloneBegun."""

    type: Literal["FolderCreated"] = "FolderCreated"
    name: FolderName
    spec: FolderSpec
    source: FolderRef | None = None
    asker: AccessKey | None = None


class FolderCloneBegun(FolderEvent):
    """The source is held: its storage service is to copy it."""

    type: Literal["FolderCloneBegun"] = "FolderCloneBegun"


class FolderReady(FolderEvent):
    """It is there and can be used."""

    type: Literal["FolderReady"] = "FolderReady"
    used_bytes: Bytes = 0
    files: int = 0


class FolderFailed(FolderEvent):
    """It could not be made or copied (it is in error), or not be purged."""

    type: Literal["FolderFailed"] = "FolderFailed"
    work: Work
    message: Words


class FolderRenamed(FolderEvent):
    type: Literal["FolderRenamed"] = "FolderRenamed"
    name: FolderName


class FolderOptionsSet(FolderEvent):
    """As they are now."""

    type: Literal["FolderOptionsSet"] = "FolderOptionsSet"
    permission: Permission
    cloneable: bool


class FolderTrashed(FolderEvent):
    type: Literal["FolderTrashed"] = "FolderTrashed"
    purge_at: Instant


class FolderRestored(FolderEvent):
    type: Literal["FolderRestored"] = "FolderRestored"
    name: FolderName


class FolderPurging(FolderEvent):
    """Its storage service is to delete it. `task`: of whoever asked for it; None: its time was over, or its owner's."""

    type: Literal["FolderPurging"] = "FolderPurging"
    task: PurgeTask | None = None


class FolderPurged(FolderEvent):
    type: Literal["FolderPurged"] = "FolderPurged"


class FolderUsageMeasured(FolderEvent):
    type: Literal["FolderUsageMeasured"] = "FolderUsageMeasured"
    used_bytes: Bytes
    files: int


class FolderMounted(FolderEvent):
    """A session has it until FolderUnmounted, from before it has its places."""

    type: Literal["FolderMounted"] = "FolderMounted"
    session_id: SessionId
    owner: AccessKey
    permission: Permission


class FolderMountRefused(FolderEvent):
    """The session cannot have it, and ends."""

    type: Literal["FolderMountRefused"] = "FolderMountRefused"
    session_id: SessionId
    owner: AccessKey
    message: Words


class FolderUnmounted(FolderEvent):
    type: Literal["FolderUnmounted"] = "FolderUnmounted"
    session_id: SessionId


class FolderHeld(FolderEvent):
    """It is being copied into `clone`."""

    type: Literal["FolderHeld"] = "FolderHeld"
    clone: FolderRef
    used_bytes: Bytes = 0


class FolderHoldRefused(FolderEvent):
    type: Literal["FolderHoldRefused"] = "FolderHoldRefused"
    clone: FolderRef
    message: Words


class FolderReleased(FolderEvent):
    type: Literal["FolderReleased"] = "FolderReleased"
    clone_id: FolderId
