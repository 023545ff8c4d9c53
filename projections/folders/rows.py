"""The tables of folders."""

from dataclasses import dataclass
from datetime import datetime

from projections.table import Index, Json, Table


@dataclass(slots=True)
class FolderRow:
    """A folder, as its owner has it. What is purged stays, as `delete-complete`.

    `user_id` or `project_id`: the owner, as in `scope`. `permission`: what members of its project have there, if
    nothing else was said. `status`: in the clients' words (`domain.vfolder.status`), `message`: why it is in error.
    `used_bytes` and `files` are what was measured last. `source_id`: of which folder it is a copy. `given_to`: the
    scope that is to take it. `mounted_by`: ids of sessions, `copied_to`: of clones that are being made of it.
    `last_used`: when a session last had it.
    """

    scope: str
    folder_id: str
    user_id: str | None
    project_id: str | None
    name: str
    host: str
    usage_mode: str
    permission: str
    cloneable: bool
    quota_bytes: int | None
    unmanaged_path: str | None
    creator: str
    phase: str
    status: str
    message: str | None
    used_bytes: int
    files: int
    source_scope: str | None
    source_id: str | None
    given_to: str | None
    mounted_by: list[str]
    copied_to: list[str]
    member_ids: list[str]
    invitation_ids: list[str]
    created_at: datetime
    status_changed_at: datetime
    purge_at: datetime | None
    last_used: datetime | None
    last_offset: int

    @property
    def deleted(self) -> bool:
        """Whether it is in the trash, or beyond: its name is free."""
        return self.status.startswith("delete-")


@dataclass(slots=True)
class MemberRow:
    """In the owner's words: what one user may do there. In a project's folder: instead of what its members may."""

    scope: str
    folder_id: str
    user_id: str
    permission: str
    since: datetime


@dataclass(slots=True)
class InvitationRow:
    """In the owner's words: one that stands."""

    scope: str
    invitation_id: str
    folder_id: str
    inviter: str
    invitee: str
    permission: str
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class ReceivedRow:
    """In the invitee's words: one that stands. `accepted`: the folder's owner has yet to say so."""

    scope: str
    invitation_id: str
    folder_id: str
    owner_scope: str
    host: str
    name: str
    inviter: str
    permission: str
    accepted: bool
    received_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class JoinedRow:
    """In a member's words: another's folder, and what he calls it."""

    scope: str
    folder_id: str
    owner_scope: str
    name: str
    joined_at: datetime


@dataclass(slots=True)
class MountRow:
    """A session has it. `owner`: the access key whose session it is."""

    scope: str
    folder_id: str
    session_id: str
    owner: str
    permission: str
    since: datetime


@dataclass(slots=True)
class ScopeRow:
    """An owner. `limits`: the fields of his `ScopeLimits`, None: he may make no folders. `quotas`: host → bytes."""

    scope: str
    limits: Json | None
    quotas: Json
    closed: bool


FOLDERS = Table(
    "folders",
    FolderRow,
    key=("scope", "folder_id"),
    indexes=(
        Index("by_id", "folder_id"),
        Index("by_name", "name, folder_id"),
        Index("by_project", "project_id", where="project_id IS NOT NULL"),
    ),
)
MEMBERS = Table(
    "folder_members",
    MemberRow,
    key=("scope", "folder_id", "user_id"),
    indexes=(Index("by_user", "user_id"), Index("by_folder", "folder_id")),
)
INVITATIONS = Table(
    "folder_invitations",
    InvitationRow,
    key=("scope", "invitation_id"),
    indexes=(Index("by_id", "invitation_id"), Index("by_inviter", "inviter")),
)
RECEIVED = Table("received_invitations", ReceivedRow, key=("scope", "invitation_id"))
JOINED = Table("joined_folders", JoinedRow, key=("scope", "folder_id"))
MOUNTS = Table(
    "folder_mounts",
    MountRow,
    key=("scope", "folder_id", "session_id"),
    indexes=(Index("by_session", "session_id"),),
)
SCOPES = Table("folder_scopes", ScopeRow, key=("scope",))

TABLES = (FOLDERS, MEMBERS, INVITATIONS, RECEIVED, JOINED, MOUNTS, SCOPES)
