"""What an owner says of himself and of his folders, each by itself."""

from typing import assert_never

from domain.vfolder.messages.common import Member, Work
from domain.vfolder.messages.life import (
    FolderCloneBegun,
    FolderCreated,
    FolderFailed,
    FolderHeld,
    FolderOptionsSet,
    FolderPurging,
    FolderReady,
    FolderReleased,
    FolderRenamed,
    FolderRestored,
    FolderTrashed,
    FolderUsageMeasured,
    QuotaSet,
    ScopeClosed,
    ScopeLimitsSet,
)
from domain.vfolder.messages.sharing import FolderTaken, TransferAborted, TransferBegun
from domain.vfolder.phases import Phase, status
from projections.folders.rows import FOLDERS, JOINED, MEMBERS, SCOPES, FolderRow, MemberRow, ScopeRow
from projections.table import Rows, bounded


def scope(rows: Rows, event: ScopeLimitsSet | QuotaSet | ScopeClosed) -> None:
    known = rows.find(SCOPES, (event.scope,))
    if known is None:
        rows.put(SCOPES, ScopeRow(event.scope, limits=None, quotas={}, closed=False))
    scope = rows.change(SCOPES, (event.scope,))
    match event:
        case ScopeLimitsSet():
            scope.limits = None if event.limits is None else event.limits.model_dump(mode="json")
        case QuotaSet():
            others = {host: quota for host, quota in scope.quotas.items() if host != event.host}
            scope.quotas = others if event.max_bytes is None else others | {event.host: event.max_bytes}
        case ScopeClosed():
            scope.limits, scope.closed = None, True


def begun(rows: Rows, event: FolderCreated | FolderTaken, offset: int) -> None:
    """A folder that this owner did not have yet."""
    kind, _, owner = event.scope.partition(":")
    members: tuple[Member, ...] = ()
    match event:
        case FolderCreated():
            phase = Phase.CREATING if event.source is None else Phase.WAITING
            source, created_at, used_bytes, files = event.source, event.at, 0, 0
        case FolderTaken():
            phase, source, created_at, members = Phase.READY, None, event.created_at, event.members
            used_bytes, files = event.used_bytes, bounded(event.files)
    spec = event.spec
    folder = FolderRow(
        scope=event.scope,
        folder_id=event.folder_id,
        user_id=owner if kind == "user" else None,
        project_id=owner if kind == "project" else None,
        name=event.name,
        host=spec.host,
        usage_mode=spec.usage_mode.value,
        permission=spec.permission.value,
        cloneable=spec.cloneable,
        quota_bytes=spec.quota_bytes,
        unmanaged_path=spec.unmanaged_path,
        creator=spec.creator,
        phase=phase.value,
        status=status(phase, mounted=False).value,
        message=None,
        used_bytes=used_bytes,
        files=files,
        source_scope=source.scope if source else None,
        source_id=source.folder_id if source else None,
        given_to=None,
        mounted_by=[],
        copied_to=[],
        member_ids=[member.user_id for member in members],
        invitation_ids=[],
        created_at=created_at,
        status_changed_at=event.at,
        purge_at=None,
        last_used=None,
        last_offset=offset,
    )
    rows.put(FOLDERS, folder)
    for member in members:
        permission = member.permission.value
        rows.put(MEMBERS, MemberRow(event.scope, event.folder_id, member.user_id, permission, event.at))
    if isinstance(event, FolderTaken):
        rows.remove(JOINED, (event.scope, event.folder_id))  # what was shared with him is his own now


def changed(
    folder: FolderRow,
    event: FolderCloneBegun
    | FolderReady
    | FolderFailed
    | FolderRenamed
    | FolderOptionsSet
    | FolderTrashed
    | FolderRestored
    | FolderPurging
    | FolderUsageMeasured
    | FolderHeld
    | FolderReleased
    | TransferBegun
    | TransferAborted,
) -> None:
    match event:
        case FolderCloneBegun():
            folder.phase = Phase.COPYING.value
        case FolderReady():
            folder.phase = Phase.READY.value
            folder.used_bytes, folder.files = event.used_bytes, bounded(event.files)
        case FolderFailed():
            failed = Phase.PURGE_FAILED if event.work is Work.PURGE else Phase.BROKEN
            folder.phase = failed.value
            folder.message = event.message
        case FolderRenamed():
            folder.name = event.name
        case FolderOptionsSet():
            folder.permission, folder.cloneable = event.permission.value, event.cloneable
        case FolderTrashed():
            folder.phase, folder.purge_at = Phase.TRASHED.value, event.purge_at
        case FolderRestored():
            folder.phase, folder.purge_at, folder.name = Phase.READY.value, None, event.name
        case FolderPurging():
            folder.phase, folder.purge_at, folder.message = Phase.PURGING.value, None, None
        case FolderUsageMeasured():
            folder.used_bytes, folder.files = event.used_bytes, bounded(event.files)
        case FolderHeld():
            folder.copied_to = with_id(folder.copied_to, event.clone.folder_id)
        case FolderReleased():
            folder.copied_to = without_id(folder.copied_to, event.clone_id)
        case TransferBegun():
            folder.phase, folder.given_to = Phase.TRANSFERRING.value, event.to
        case TransferAborted():
            folder.phase, folder.given_to = Phase.READY.value, None
        case _:
            assert_never(event)


def with_id(ids: list[str], each: str) -> list[str]:
    return [*without_id(ids, each), each]


def without_id(ids: list[str], gone: str) -> list[str]:
    return [each for each in ids if each != gone]
