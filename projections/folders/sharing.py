"""With whom owners share their folders, and what users say of the folders of others."""

from domain.vfolder.messages.sharing import (
    FolderFollowed,
    FolderInvited,
    FolderJoined,
    FolderLeft,
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
)
from projections.folders.owned import with_id, without_id
from projections.folders.rows import (
    INVITATIONS,
    JOINED,
    MEMBERS,
    RECEIVED,
    FolderRow,
    InvitationRow,
    JoinedRow,
    MemberRow,
    ReceivedRow,
)
from projections.table import Rows

Sharing = FolderInvited | InvitationChanged | InvitationClosed | MemberAdmitted | MemberSet | MemberRemoved
"""With whom an owner shares."""

OfMembers = (
    InvitationReceived
    | InvitationAmended
    | InvitationAccepted
    | InvitationRejected
    | InvitationWithdrawn
    | FolderJoined
    | FolderFollowed
    | FolderLeft
)
"""What users say of the folders of others."""


def shared(rows: Rows, folder: FolderRow, event: Sharing) -> None:
    match event:
        case FolderInvited():
            invitation = InvitationRow(
                scope=folder.scope,
                invitation_id=event.invitation_id,
                folder_id=folder.folder_id,
                inviter=event.inviter,
                invitee=event.invitee,
                permission=event.permission.value,
                created_at=event.at,
                modified_at=event.at,
            )
            rows.put(INVITATIONS, invitation)
            folder.invitation_ids = with_id(folder.invitation_ids, event.invitation_id)
        case InvitationChanged():
            invitation = rows.change(INVITATIONS, (folder.scope, event.invitation_id))
            invitation.permission, invitation.modified_at = event.permission.value, event.at
        case InvitationClosed():
            _decided(rows, folder, event.invitation_id)
        case MemberAdmitted():
            _decided(rows, folder, event.invitation_id)
            _member(rows, folder, event)
        case MemberSet():
            _member(rows, folder, event)
        case MemberRemoved():
            rows.remove(MEMBERS, (folder.scope, folder.folder_id, event.user_id))
            folder.member_ids = without_id(folder.member_ids, event.user_id)


def _decided(rows: Rows, folder: FolderRow, invitation_id: str) -> None:
    rows.remove(INVITATIONS, (folder.scope, invitation_id))
    folder.invitation_ids = without_id(folder.invitation_ids, invitation_id)


def _member(rows: Rows, folder: FolderRow, event: MemberAdmitted | MemberSet) -> None:
    key = (folder.scope, folder.folder_id, event.user_id)
    known = rows.find(MEMBERS, key)
    rows.put(MEMBERS, MemberRow(*key, event.permission.value, known.since if known else event.at))
    folder.member_ids = with_id(folder.member_ids, event.user_id)


def of_member(rows: Rows, event: OfMembers) -> None:
    match event:
        case InvitationReceived():
            received = ReceivedRow(
                scope=event.scope,
                invitation_id=event.invitation_id,
                folder_id=event.folder.folder_id,
                owner_scope=event.folder.scope,
                host=event.folder.host,
                name=event.name,
                inviter=event.inviter,
                permission=event.permission.value,
                accepted=False,
                received_at=event.at,
                modified_at=event.at,
            )
            rows.put(RECEIVED, received)
        case InvitationAmended():
            received = rows.change(RECEIVED, (event.scope, event.invitation_id))
            received.permission, received.modified_at = event.permission.value, event.at
        case InvitationAccepted():
            received = rows.change(RECEIVED, (event.scope, event.invitation_id))
            received.name, received.accepted, received.modified_at = event.name, True, event.at
        case InvitationRejected() | InvitationWithdrawn():  # also of one that never came to be here
            rows.remove(RECEIVED, (event.scope, event.invitation_id))
        case FolderJoined() | FolderFollowed():
            key = (event.scope, event.folder_id)
            known = rows.find(JOINED, key)
            joined_at = known.joined_at if known else event.at
            rows.put(JOINED, JoinedRow(*key, event.folder.scope, event.name, joined_at))
            if isinstance(event, FolderJoined):
                rows.remove(RECEIVED, (event.scope, event.invitation_id))
        case FolderLeft():
            rows.remove(JOINED, (event.scope, event.folder_id))
