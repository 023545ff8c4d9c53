"""Folders of the people behind the admin API: one of ada's, and one of her project's in which a model lies."""

from typing import Final

from domain.messages import Command, UserId
from domain.vfolder.messages.common import FolderSpec, ScopeLimits
from domain.vfolder.messages.reports import ReportFolderReady, SetScopeLimits
from domain.vfolder.messages.requests import CreateFolder
from domain.vfolder.mounts import FolderId, UsageMode, project_scope, user_scope
from tests.whole import an_id, now

HOST: Final = "shelf:volume1"
"""Of a storage service that is away."""


def folder_id(name: str) -> FolderId:
    return FolderId(an_id(f"folder {name}"))


def made(scope: str, name: str, usage_mode: UsageMode = UsageMode.GENERAL) -> list[Command]:
    """A folder that is ready, as its storage service says."""
    spec = FolderSpec(host=HOST, usage_mode=usage_mode, creator="ada@example.org", quota_bytes=2**30)
    limits = ScopeLimits(max_bytes=2**40, hosts={HOST: ("create-vfolder",)})
    each = folder_id(name)
    return [
        SetScopeLimits(at=now(), scope=scope, limits=limits),
        CreateFolder(at=now(), scope=scope, folder_id=each, name=name, spec=spec),
        ReportFolderReady(at=now(), scope=scope, folder_id=each, used_bytes=1000, files=3),
    ]


def folders(ada: UserId, project_id: str) -> list[Command]:
    return [
        *made(user_scope(ada), "folder-of-ada"),
        *made(project_scope(project_id), "folder-of-home", UsageMode.MODEL),
    ]
