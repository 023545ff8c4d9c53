"""Folders and invitations as clients are told of them, in the spellings of each generation."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson

from api.folders.finding import Found
from api.folders.storage import File
from domain.directory.state import Directory
from domain.messages import ProjectId, UserId
from domain.vfolder.messages.requests import CloneFolder, CreateFolder
from domain.vfolder.mounts import FolderId
from projections.folders.rows import FolderRow, MemberRow, ReceivedRow
from projections.folders.seen import SentInvitation

Json = dict[str, Any]

_LAST_SECOND: Final = 253_402_300_799.0  # of the year 9999


def hex_of(folder_id: str) -> str:
    return folder_id.replace("-", "")


def entry(found: Found, directory: Directory) -> Json:
    """In a list."""
    row = found.row
    kind = "group" if found.of_project else "user"
    return {
        "id": hex_of(row.folder_id),
        "name": row.name,
        "quota_scope_id": row.scope,
        "host": row.host,
        "status": row.status,
        "usage_mode": row.usage_mode,
        "created_at": _time(row.created_at),
        "last_used": _time(row.last_used),
        "is_owner": found.is_owner,
        "permission": found.permission,
        "user": row.user_id,
        "group": row.project_id,
        "creator": row.creator,
        "user_email": None if row.user_id is None else email_of(row.user_id, directory),
        "group_name": None if row.project_id is None else _project_name(row.project_id, directory),
        "ownership_type": kind,
        "type": kind,
        "unmanaged_path": row.unmanaged_path,
        "cloneable": row.cloneable,
        "max_files": 0,
        "max_size": row.quota_bytes,
        "cur_size": row.used_bytes,
    }


def detail(found: Found, directory: Directory) -> Json:
    """One of them. `message`: why it is in error, `purge_at`: until when it lies in the trash."""
    row = found.row
    return entry(found, directory) | {
        "num_files": row.files,
        "numFiles": row.files,
        "used_bytes": row.used_bytes,
        "created": _time(row.created_at),
        "status_changed": _time(row.status_changed_at),
        "purge_at": _time(row.purge_at),
        "message": row.message,
        "mounted_by": row.mounted_by,
    }


def made(command: CreateFolder | CloneFolder, status: str) -> Json:
    """One that was just made."""
    spec = command.spec
    owner, _, owner_id = command.scope.partition(":")
    kind = "user" if owner == "user" else "group"
    return {
        "id": hex_of(command.folder_id),
        "name": command.name,
        "quota_scope_id": command.scope,
        "host": spec.host,
        "status": status,
        "usage_mode": spec.usage_mode,
        "permission": spec.permission,
        "max_size": spec.quota_bytes or 0,
        "creator": spec.creator,
        "ownership_type": kind,
        "type": kind,
        "is_owner": True,
        "user": owner_id if kind == "user" else None,
        "group": owner_id if kind == "group" else None,
        "unmanaged_path": spec.unmanaged_path,
        "cloneable": spec.cloneable,
    }


def listing(files: Sequence[File]) -> Json:
    """`items`, and for older clients the same as text in `files`."""
    items = [
        {
            "name": each.name,
            "type": each.type,
            "size": each.size,
            "mode": f"{each.mode & 0o777:o}",
            "created": _moment(each.created),
            "modified": _moment(each.modified),
            **({} if each.target is None else {"target": each.target}),
        }
        for each in files
    ]
    older = [
        {
            "filename": each.name,
            "mode": each.mode,
            "size": each.size,
            "ctime": each.created,
            "mtime": each.modified,
            "atime": each.accessed,
        }
        for each in files
    ]
    return {"items": items, "files": orjson.dumps(older).decode()}


# -- others ------------------------------------------------------------------------------------------------------------


def received(rows: Iterable[ReceivedRow], user_id: str, directory: Directory) -> list[Json]:
    """Invitations that the user has yet to decide about."""
    return [
        {
            "id": row.invitation_id,
            "inviter": email_of(row.inviter, directory),
            "invitee": email_of(user_id, directory),
            "inviter_user_email": email_of(row.inviter, directory),
            "invitee_user_email": email_of(user_id, directory),
            "mount_permission": row.permission,
            "perm": row.permission,
            "permission": row.permission,
            "state": "pending",
            "status": "pending",
            "created_at": _time(row.received_at),
            "modified_at": _time(row.modified_at),
            "vfolder_id": hex_of(row.folder_id),
            "vfolder_name": row.name,
        }
        for row in rows
        if not row.accepted
    ]


def sent(rows: Iterable[SentInvitation], directory: Directory) -> list[Json]:
    """Invitations that others have yet to decide about."""
    return [
        {
            "id": row.invitation_id,
            "inviter": email_of(row.inviter, directory),
            "invitee": email_of(row.invitee, directory),
            "perm": row.permission,
            "permission": row.permission,
            "state": "pending",
            "status": "pending",
            "created_at": _time(row.created_at),
            "modified_at": _time(row.modified_at),
            "vfolder_id": hex_of(row.folder_id),
            "vfolder_name": row.folder_name,
        }
        for row in rows
    ]


def shared(members: Iterable[MemberRow], folders: dict[FolderId, FolderRow], directory: Directory) -> list[Json]:
    """With whom folders are shared. The manual spells `shared-to` so, clients `shared_to`."""
    told = []
    for member in members:
        row = folders[FolderId(member.folder_id)]
        to = {"uuid": member.user_id, "email": email_of(member.user_id, directory)}
        owner = email_of(row.user_id, directory) if row.user_id else _project_name(row.project_id or "", directory)
        told.append(
            {
                "vfolder_id": row.folder_id,
                "vfolder_name": row.name,
                "owner": owner,
                "shared_by": owner,
                "status": row.status,
                "type": "user" if row.user_id else "project",
                "shared_to": to,
                "shared-to": to,
                "perm": member.permission,
            }
        )
    return told


def email_of(user_id: str, directory: Directory) -> str | None:
    user = directory.users.get(UserId(user_id))
    return None if user is None else user.email


def _project_name(project_id: str, directory: Directory) -> str | None:
    project = directory.projects.get(ProjectId(project_id))
    return None if project is None else project.name


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _moment(seconds: float) -> str:
    """Files may claim to be of any time."""
    return datetime.fromtimestamp(min(max(seconds, 0.0), _LAST_SECOND), UTC).isoformat()
