"""Folds the events of folders into their tables: what an owner says of his, and what users say of those of others.

Mirrors the context's own account (`domain.vfolder.folding`).
"""

from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.common import FolderEvent
from domain.vfolder.messages.life import (
    FolderCreated,
    FolderHoldRefused,
    FolderMounted,
    FolderMountRefused,
    FolderPurged,
    FolderUnmounted,
    QuotaSet,
    ScopeClosed,
    ScopeLimitsSet,
)
from domain.vfolder.messages.sharing import (
    AdmissionRefused,
    FolderFollowed,
    FolderGiven,
    FolderInvited,
    FolderJoined,
    FolderLeft,
    FolderTaken,
    InvitationAccepted,
    InvitationAmended,
    InvitationChanged,
    InvitationClosed,
    InvitationReceived,
    InvitationRejected,
    InvitationWithdrawn,
    MemberAdmitted,
    MemberRemoved,
    MemberSet,
    TakingRefused,
)
from domain.vfolder.phases import Phase, status
from infra.decoding import Told
from projections.folders import owned, sharing
from projections.folders.owned import with_id, without_id
from projections.folders.rows import (
    FOLDERS,
    INVITATIONS,
    JOINED,
    MEMBERS,
    MOUNTS,
    RECEIVED,
    SCOPES,
    TABLES,
    FolderRow,
    MountRow,
)
from projections.table import Keys, Projection, Rows

Events = FolderEvents | ShardOpened | CommandRefused | CommandUnneeded

Elsewhere = FolderMountRefused | FolderHoldRefused | AdmissionRefused | TakingRefused
"""Answers to others: with the folder, which need not be there, nothing happens."""


def keys(told: Told, rows: Rows) -> Keys:
    event: Events = told.event  # type: ignore[assignment]
    match event:
        case ShardOpened() | CommandRefused() | CommandUnneeded():
            return
        case ScopeLimitsSet() | QuotaSet() | ScopeClosed():
            yield SCOPES, (event.scope,)
        case FolderJoined() | FolderFollowed() | FolderLeft():
            yield JOINED, (event.scope, event.folder_id)
            if isinstance(event, FolderJoined):
                yield RECEIVED, (event.scope, event.invitation_id)
        case (
            InvitationReceived()
            | InvitationAmended()
            | InvitationAccepted()
            | InvitationRejected()
            | InvitationWithdrawn()
        ):
            yield RECEIVED, (event.scope, event.invitation_id)
        case FolderMountRefused() | FolderHoldRefused() | AdmissionRefused() | TakingRefused():
            return
        case _:
            yield from _keys_of_owner(event, rows)


def _keys_of_owner(event: FolderEvent | InvitationChanged | InvitationClosed, rows: Rows) -> Keys:
    key = (event.scope, event.folder_id)
    yield FOLDERS, key
    match event:
        case FolderMounted() | FolderUnmounted():
            yield MOUNTS, (*key, event.session_id)
        case FolderInvited() | InvitationChanged() | InvitationClosed():
            yield INVITATIONS, (event.scope, event.invitation_id)
        case MemberAdmitted():
            yield INVITATIONS, (event.scope, event.invitation_id)
            yield MEMBERS, (*key, event.user_id)
        case MemberSet() | MemberRemoved():
            yield MEMBERS, (*key, event.user_id)
        case FolderTaken():
            yield JOINED, key
            yield from ((MEMBERS, (*key, member.user_id)) for member in event.members)
        case FolderPurged() | FolderGiven():
            if (folder := rows.peek(FOLDERS, key)) is not None:
                yield from _all_of(folder)


def _all_of(folder: FolderRow) -> Keys:
    """What belongs to the folder in other tables."""
    key = (folder.scope, folder.folder_id)
    yield from ((MEMBERS, (*key, user_id)) for user_id in folder.member_ids)
    yield from ((MOUNTS, (*key, session_id)) for session_id in folder.mounted_by)
    yield from ((INVITATIONS, (folder.scope, invitation_id)) for invitation_id in folder.invitation_ids)


def fold(rows: Rows, told: Told) -> None:
    event: Events = told.event  # type: ignore[assignment]
    if isinstance(event, ShardOpened | CommandRefused | CommandUnneeded | Elsewhere):
        return
    if isinstance(event, ScopeLimitsSet | QuotaSet | ScopeClosed):
        owned.scope(rows, event)
    elif isinstance(event, sharing.OfMembers):
        sharing.of_member(rows, event)
    elif isinstance(event, FolderCreated | FolderTaken):
        owned.begun(rows, event, told.record.offset)
    elif isinstance(event, FolderGiven):
        folder = rows.get(FOLDERS, (event.scope, event.folder_id))
        _clear(rows, folder)
        rows.remove(FOLDERS, (event.scope, event.folder_id))
    else:
        folder = rows.change(FOLDERS, (event.scope, event.folder_id))
        folder.last_offset = told.record.offset
        if isinstance(event, sharing.Sharing):
            sharing.shared(rows, folder, event)
        elif isinstance(event, FolderMounted | FolderUnmounted):
            _used(rows, folder, event)
        elif isinstance(event, FolderPurged):
            _clear(rows, folder)
            folder.phase = Phase.GONE.value
            folder.used_bytes = folder.files = 0
        else:
            owned.changed(folder, event)
        now = status(Phase(folder.phase), mounted=bool(folder.mounted_by)).value
        if now != folder.status:
            folder.status, folder.status_changed_at = now, event.at


PROJECTION = Projection("folders", contexts=("vfolder",), tables=TABLES, keys=keys, fold=fold)


def _used(rows: Rows, folder: FolderRow, event: FolderMounted | FolderUnmounted) -> None:
    key = (folder.scope, folder.folder_id, event.session_id)
    if isinstance(event, FolderMounted):
        rows.put(MOUNTS, MountRow(*key, event.owner, event.permission.value, event.at))
        folder.mounted_by = with_id(folder.mounted_by, event.session_id)
    else:
        rows.remove(MOUNTS, key)
        folder.mounted_by = without_id(folder.mounted_by, event.session_id)
    folder.last_used = event.at


def _clear(rows: Rows, folder: FolderRow) -> None:
    """Nobody has it from this owner any more."""
    for table, key in _all_of(folder):
        rows.remove(table, key)
    folder.member_ids, folder.mounted_by, folder.invitation_ids = [], [], []
