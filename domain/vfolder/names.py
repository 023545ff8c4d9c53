"""What folders may be called, beyond the form that `FolderName` has."""

import re
from typing import Final

from domain.messages import Refused
from domain.vfolder.mounts import FolderId

_RESERVED: Final = frozenset({".", "..", "_", "invitations"})
"""`/folders/_/…` and `/folders/invitations/…` are places of the api; the dots are of every file system."""

_ID: Final = re.compile(r"[0-9a-f]{8}-?([0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_CANONICAL: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def proper_name(name: str, field: str = "name") -> None:
    """Raises `Refused` for what means something else where a folder is named."""
    if name in _RESERVED:
        raise Refused("reserved_folder_name", f"{name!r} is not for folders", field)
    if _ID.fullmatch(name):
        raise Refused("reserved_folder_name", f"{name!r} looks like the id of a folder", field)


def is_automatic(name: str) -> bool:
    """Whether it is mounted in every session of its owner without being asked for (catalogue VF-7)."""
    return name.startswith(".")


def proper_folder_id(folder_id: FolderId) -> None:
    """It becomes a path: raises `Refused` for what is no UUID in its canonical form."""
    if not _CANONICAL.fullmatch(folder_id):
        raise Refused("bad_id", f"{folder_id[:80]!r} is no UUID in its canonical form", "folder_id")
