"""The life of a folder: where it is in it, which steps are legal, and what clients call that."""

from enum import StrEnum


class Phase(StrEnum):
    CREATING = "creating"
    WAITING = "waiting"
    """A clone whose source is not held for it yet."""
    COPYING = "copying"
    READY = "ready"
    BROKEN = "broken"
    """It could not be made, or not be copied."""
    TRANSFERRING = "transferring"
    """Offered to another owner, whose answer is still to come."""
    TRASHED = "trashed"
    PURGING = "purging"
    PURGE_FAILED = "purge-failed"
    GONE = "gone"
    """Purged, or given to another owner."""


_P = Phase

TRANSITIONS: dict[Phase, frozenset[Phase]] = {
    _P.CREATING: frozenset({_P.READY, _P.BROKEN}),
    _P.WAITING: frozenset({_P.COPYING, _P.BROKEN}),
    _P.COPYING: frozenset({_P.READY, _P.BROKEN}),
    _P.READY: frozenset({_P.TRASHED, _P.TRANSFERRING, _P.PURGING}),
    _P.BROKEN: frozenset({_P.PURGING}),
    _P.TRANSFERRING: frozenset({_P.READY, _P.GONE}),
    _P.TRASHED: frozenset({_P.READY, _P.PURGING}),
    _P.PURGING: frozenset({_P.PURGE_FAILED, _P.GONE}),
    _P.PURGE_FAILED: frozenset({_P.PURGING, _P.GONE}),
    _P.GONE: frozenset(),
}
"""Every legal step. What is not here cannot be written. A ready one is purged at once only with its owner."""

NAMED = frozenset({_P.CREATING, _P.WAITING, _P.COPYING, _P.READY, _P.BROKEN, _P.TRANSFERRING})
"""Where it has its name for itself; in the trash, and after, others may have it."""

DELETED = frozenset({_P.PURGING, _P.PURGE_FAILED, _P.GONE})
"""Where there is no way back."""


class FolderStatus(StrEnum):
    """As clients know it."""

    READY = "ready"
    PERFORMING = "performing"
    CLONING = "cloning"
    MOUNTED = "mounted"
    ERROR = "error"
    DELETE_PENDING = "delete-pending"
    DELETE_ONGOING = "delete-ongoing"
    DELETE_COMPLETE = "delete-complete"
    DELETE_ERROR = "delete-error"


_STATUS = {
    _P.CREATING: FolderStatus.PERFORMING,
    _P.WAITING: FolderStatus.CLONING,
    _P.COPYING: FolderStatus.CLONING,
    _P.READY: FolderStatus.READY,
    _P.BROKEN: FolderStatus.ERROR,
    _P.TRANSFERRING: FolderStatus.PERFORMING,
    _P.TRASHED: FolderStatus.DELETE_PENDING,
    _P.PURGING: FolderStatus.DELETE_ONGOING,
    _P.PURGE_FAILED: FolderStatus.DELETE_ERROR,
    _P.GONE: FolderStatus.DELETE_COMPLETE,
}


def status(phase: Phase, *, mounted: bool) -> FolderStatus:
    """What clients are told. `mounted`: some session has it."""
    return FolderStatus.MOUNTED if phase is Phase.READY and mounted else _STATUS[phase]
