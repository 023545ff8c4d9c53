"""Words about folders that sessions, agents and storage services share: what one is called, and how it is used."""

from enum import StrEnum
from typing import Annotated, Final, NewType

from pydantic import Field

from domain.messages import UserId, Value

FolderId = NewType("FolderId", str)
"""A UUID in its canonical form. Clients may leave out the dashes."""

Scope = Annotated[str, Field(pattern=r"^(user|project):[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
"""Whose folders: `user:<user id>` or `project:<project id>`. The boundary key: names, counts and quota are one's."""

Host = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9-]{0,62}:[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")]
"""Where a folder lies: `<storage service>:<volume>`, e.g. `local:volume1`."""

FolderName = Annotated[str, Field(pattern=r"^[A-Za-z0-9._][A-Za-z0-9._-]{0,63}$")]
"""What is more to it says `domain.vfolder.names`."""

Subpath = Annotated[str, Field(max_length=4096)]
"""Below the folder, with `/`, neither absolute nor with `..`; empty: the folder itself."""


HOME: Final = "/home/work"
"""The home and working directory of a kernel, wherever the kernel has a file system of its own. Folders go there."""


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

    @property
    def needs(self) -> str:
        """What an agent must be able to do, in the words of `AgentProfile.capabilities`."""
        return UNMANAGED if self.unmanaged_path is not None else capability_of(self.folder.host)


UNMANAGED: Final = "unmanaged-folders"
"""The capability of an agent on whose host folders of no volume may lie."""


def capability_of(host: Host) -> str:
    """That of an agent on whose host this volume is."""
    return f"volume:{host}"


def user_scope(user_id: str) -> str:
    """Whose own folders are a user's."""
    return f"user:{user_id}"


def project_scope(project_id: str) -> str:
    """Whose folders are shared by the members of a project."""
    return f"project:{project_id}"


def folder_path(folder_id: FolderId) -> str:
    """Where a folder lies in its volume, whoever owns it: two levels of folders keep each of them short."""
    digits = folder_id.replace("-", "")
    return f"{digits[:2]}/{digits[2:4]}/{digits[4:]}"
