"""What sessions and storage services say about folders."""

from domain.messages import Unneeded
from domain.vfolder.deciding.common import Events, granted, unless_closed
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.life import (
    FolderFailed,
    FolderMounted,
    FolderMountRefused,
    FolderPurged,
    FolderReady,
    FolderUnmounted,
    FolderUsageMeasured,
)
from domain.vfolder.messages.reports import (
    MountFolder,
    ReportFolderFailed,
    ReportFolderPurged,
    ReportFolderReady,
    ReportFolderUsage,
    UnmountFolder,
)
from domain.vfolder.mounts import RANK
from domain.vfolder.phases import DELETED, Phase
from domain.vfolder.state import Folder, Folders

_UNDER_WAY = {Work.CREATE: Phase.CREATING, Work.CLONE: Phase.COPYING, Work.PURGE: Phase.PURGING}


def mount(command: MountFolder, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is not None and command.session_id in folder.mounts:
        raise Unneeded("mounted_already", "the session has the folder")
    if folder is None or (message := _why_not(folder, command)) is not None:
        return [
            FolderMountRefused(
                at=command.at,
                scope=command.scope,
                folder_id=command.folder_id,
                session_id=command.session_id,
                owner=command.owner,
                message="a folder is not there (any more)" if folder is None else message or "",
            )
        ]
    return [
        FolderMounted(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            session_id=command.session_id,
            owner=command.owner,
            permission=command.permission,
        )
    ]


def unmount(command: UnmountFolder, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or command.session_id not in folder.mounts:
        raise Unneeded("not_mounted", "the session does not have the folder")
    unmounted = FolderUnmounted(
        at=command.at, scope=command.scope, folder_id=folder.folder_id, session_id=command.session_id
    )
    return unless_closed(state, command.scope, unmounted, folder.folder_id)


def made(command: ReportFolderReady, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or folder.phase not in (Phase.CREATING, Phase.COPYING):
        raise Unneeded("not_under_way", "the folder is not being made (any more)")
    made = FolderReady(
        at=command.at,
        scope=command.scope,
        folder_id=folder.folder_id,
        used_bytes=command.used_bytes,
        files=command.files,
    )
    return unless_closed(state, command.scope, made, folder.folder_id)


def purged(command: ReportFolderPurged, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or folder.phase not in DELETED:
        raise Unneeded("not_under_way", "the folder is not being purged (any more)")
    return [FolderPurged(at=command.at, scope=command.scope, folder_id=folder.folder_id)]


def failed(command: ReportFolderFailed, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or folder.phase is not _UNDER_WAY[command.work]:
        raise Unneeded("not_under_way", "that work on the folder is not under way (any more)")
    event = FolderFailed(
        at=command.at,
        scope=command.scope,
        folder_id=folder.folder_id,
        work=command.work,
        message=command.message,
    )
    return unless_closed(state, command.scope, event, folder.folder_id)


def measured(command: ReportFolderUsage, state: Folders) -> Events:
    """Of a folder that is just changing hands it counts with neither: whoever has it then is told again."""
    folder = state.folders.get(command.folder_id)
    if folder is None or folder.phase not in (Phase.READY, Phase.TRASHED):
        raise Unneeded("not_there", "the folder is not there to be measured")
    if (folder.used_bytes, folder.files) == (command.used_bytes, command.files):
        return []
    return [
        FolderUsageMeasured(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            used_bytes=command.used_bytes,
            files=command.files,
        )
    ]


def _why_not(folder: Folder, command: MountFolder) -> str | None:
    if folder.phase is not Phase.READY:
        return f"folder {folder.name} is {folder.status.value}"
    allowed = granted(folder, command.scope, command.user_id, by_project=command.by_project)
    if allowed is None:
        return "a folder is not for this user (any more)"
    if RANK[command.permission] > RANK[allowed]:
        return f"folder {folder.name} may be mounted {allowed.value} only, not {command.permission.value}"
    return None
