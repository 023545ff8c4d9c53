"""A folder that changes hands, on both sides. Who had it has it until the other one has said that he has it."""

from domain.messages import Refused, Unneeded
from domain.vfolder.deciding.common import Events, free_name, idle, may_have_another, own, uninvited, unless_closed
from domain.vfolder.messages import FolderEvents
from domain.vfolder.messages.between import AbortTransfer, ConfirmTransfer, TakeFolder
from domain.vfolder.messages.requests import TransferFolder
from domain.vfolder.messages.sharing import (
    FolderGiven,
    FolderTaken,
    InvitationWithdrawn,
    TakingRefused,
    TransferAborted,
    TransferBegun,
)
from domain.vfolder.mounts import FolderId, Scope, user_scope
from domain.vfolder.phases import Phase
from domain.vfolder.state import Folder, Folders


def transfer(command: TransferFolder, state: Folders) -> Events:
    if command.to == command.scope:
        own(state, command.folder_id)
        return []
    folder = idle(state, command.folder_id)
    if _kind(command.to) != _kind(command.scope):
        raise Refused("wrong_owner", "a user's folder can be given to a user only, and a project's to a project", "to")
    begun = TransferBegun(at=command.at, scope=command.scope, folder_id=folder.folder_id, to=command.to)
    return [*uninvited(state, command.scope, folder, command.at), begun]


def take(command: TakeFolder, state: Folders) -> Events:
    if command.folder_id in state.folders:
        raise Unneeded("taken_already", "the folder is this owner's already")
    if (message := _why_not(command, state)) is not None:
        return [
            TakingRefused(
                at=command.at,
                scope=command.scope,
                folder_id=command.folder_id,
                giver=command.giver,
                message=message,
            )
        ]
    taken = FolderTaken(
        at=command.at,
        scope=command.scope,
        folder_id=command.folder_id,
        giver=command.giver,
        name=command.name,
        spec=command.spec,
        members=tuple(each for each in command.members if user_scope(each.user_id) != command.scope),
        used_bytes=command.used_bytes,
        files=command.files,
        created_at=command.created_at,
        moves=command.moves,
    )
    return [*_invitations_over(command, state), taken]


def confirm_transfer(command: ConfirmTransfer, state: Folders) -> Events:
    folder = _on_its_way(command.folder_id, state)
    assert folder.to is not None
    return [FolderGiven(at=command.at, scope=command.scope, folder_id=folder.folder_id, to=folder.to)]


def abort_transfer(command: AbortTransfer, state: Folders) -> Events:
    folder = _on_its_way(command.folder_id, state)
    aborted = TransferAborted(at=command.at, scope=command.scope, folder_id=folder.folder_id, message=command.message)
    return unless_closed(state, command.scope, aborted, folder.folder_id)


def _why_not(command: TakeFolder, state: Folders) -> str | None:
    try:
        may_have_another(state, command.spec.host)
        # What he joined, or was about to, under that name is this folder itself.
        free_name(state, command.name, command.folder_id)
    except Refused as refused:
        return refused.reason
    allowed = state.max_bytes(command.spec.host)
    if allowed is not None and state.used_bytes(command.spec.host) + command.used_bytes > allowed:
        return f"{command.used_bytes} bytes more are over the {allowed} that are allowed on {command.spec.host}"
    return None


def _invitations_over(command: TakeFolder, state: Folders) -> list[FolderEvents]:
    """He needs no invitation to his own folder; the answer to one that he accepted may still be on its way."""
    return [
        InvitationWithdrawn(
            at=command.at, scope=command.scope, invitation_id=invitation_id, folder_id=command.folder_id
        )
        for invitation_id, received in sorted(state.received.items(), key=lambda each: each[0])
        if received.folder.folder_id == command.folder_id
    ]


def _on_its_way(folder_id: FolderId, state: Folders) -> Folder:
    folder = state.folders.get(folder_id)
    if folder is None or folder.phase is not Phase.TRANSFERRING:
        raise Unneeded("not_transferring", "the folder is not being given away (any more)")
    return folder


def _kind(scope: Scope) -> str:
    return scope.partition(":")[0]
