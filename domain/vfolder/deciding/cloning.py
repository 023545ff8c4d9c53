"""A clone, on both sides: the source is held while it is copied, and released whatever comes of it."""

from domain.messages import Unneeded
from domain.vfolder.deciding.common import Events, unless_closed
from domain.vfolder.messages.between import BeginClone, HoldForClone, RefuseClone, ReleaseClone
from domain.vfolder.messages.common import Work
from domain.vfolder.messages.life import FolderCloneBegun, FolderFailed, FolderHeld, FolderHoldRefused, FolderReleased
from domain.vfolder.mounts import FolderId
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders


def hold(command: HoldForClone, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is not None and command.clone.folder_id in folder.held_for:
        raise Unneeded("held_already", "the folder is held for that clone")
    refusal = _why_not(folder)
    if folder is None or refusal is not None:
        return [
            FolderHoldRefused(
                at=command.at,
                scope=command.scope,
                folder_id=command.folder_id,
                clone=command.clone,
                message=refusal or "",
            )
        ]
    return [
        FolderHeld(
            at=command.at,
            scope=command.scope,
            folder_id=folder.folder_id,
            clone=command.clone,
            used_bytes=folder.used_bytes,
        )
    ]


def begin(command: BeginClone, state: Folders) -> Events:
    """One for which its owner has no room is given up."""
    folder = _waiting(command.folder_id, state)
    allowed = state.max_bytes(folder.host)
    if allowed is not None and state.used_bytes(folder.host) + command.used_bytes > allowed:
        message = f"{command.used_bytes} bytes more are over the {allowed} that are allowed on {folder.host}"
        return _failed(command, state, message)
    return [FolderCloneBegun(at=command.at, scope=command.scope, folder_id=folder.folder_id)]


def refuse(command: RefuseClone, state: Folders) -> Events:
    _waiting(command.folder_id, state)
    return _failed(command, state, command.message)


def release(command: ReleaseClone, state: Folders) -> Events:
    folder = state.folders.get(command.folder_id)
    if folder is None or command.clone_id not in folder.held_for:
        raise Unneeded("not_held", "the folder is not held for that clone")
    released = FolderReleased(at=command.at, scope=command.scope, folder_id=folder.folder_id, clone_id=command.clone_id)
    return unless_closed(state, command.scope, released, folder.folder_id)


def _why_not(folder: Folder | None) -> str | None:
    if folder is None:
        return "there is no such folder (any more)"
    if folder.phase is not Phase.READY:
        return f"it is {folder.status.value}"
    if not folder.spec.cloneable:
        return "it may not be cloned"
    return "it does not lie in a volume" if folder.spec.unmanaged_path is not None else None


def _waiting(folder_id: FolderId, state: Folders) -> Folder:
    folder = state.folders.get(folder_id)
    if folder is None or folder.phase is not Phase.WAITING:
        raise Unneeded("not_waiting", "the folder does not wait for its source (any more)")
    return folder


def _failed(command: BeginClone | RefuseClone, state: Folders, message: str) -> Events:
    failed = FolderFailed(
        at=command.at, scope=command.scope, folder_id=command.folder_id, work=Work.CLONE, message=message
    )
    return unless_closed(state, command.scope, failed, command.folder_id)
