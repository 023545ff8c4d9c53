"""Words about folders that sessions, agents and storage services share: what one is called, and how it is used."""

from enum import StrEnum
from typing import Annotated, NewType

from pydantic import Field

from domain.messages import UserId, Value

FolderId = NewType("FolderId", str)
"""A UUID in its canonical form. Clients may leave out the dashes."""

Scope = Annotated[str, Field(pattern=r"^(user|project):[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
"""Whose folders: `user:<user id>` or `project:<project id>`. The boundary key: names, counts and quota are one's."""

Host = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}:[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""Where a folder lies: `<storage service>:<volume>`, e.g. `local:volume1`."""

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._][A-Za-z0-9._-]{0,63}$")]
"""What is more to it says `domain.vfolder.names`."""

Subpath = Annotated[str, Field(max_length=4096)]
"""Below the folder, with `/`, neither absolute nor with `..`; empty: the folder itself."""


class Permission(StrEnum):
    """What may be done in a folder. `wd` means also to delete; today whoever may write may delete (catalogue VF-4)."""

    RO = "ro"
    RW = "rw"
    WD = "wd"

    @property
    def writes(self) -> bool:
        return self is not Permission.RO


RANK = {Permission.RO: 0, Permission.RW: 1, Permission.WD: 2}


def least(one: Permission, other: Permission) -> Permission:
    """The lesser of the two."""
    return min(one, other, key=RANK.__getitem__)


class UsageMode(StrEnum):
    """What a folder is for: services take their models from `model`, and mount others only beside it."""

    GENERAL = "general"
    DATA = "data"
    MODEL = "model"


class FolderRef(Value):
    """Which folder. `scope` is its owner's."""

    scope: Scope
    folder_id: FolderId
    host: Host


class Mount(Value):
    """A folder, or what is below `subpath` in it, at the absolute `path` of every kernel of a session.

    `name`: as whoever asked for it calls the folder. `user_id`: by whose right; `by_project`: because he is in the
    project whose folder it is. `unmanaged_path`: of a folder that is no folder of a volume.
    """

    folder: FolderRef
    user_id: UserId
    by_project: bool = False
    name: FolderName
    subpath: Subpath = ""
    path: str = Field(pattern=r"^/", max_length=4096)
    permission: Permission
    unmanaged_path: str | None = None


def folder_path(folder_id: FolderId) -> str:
    """Where a folder lies in its volume, whoever owns it: two levels of folders keep each of them short."""
    digits = folder_id.replace("-", "")
    return f"{digits[:2]}/{digits[2:4]}/{digits[4:]}"
