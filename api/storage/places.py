"""What uploads, downloads and file operations need to know of volumes; `api.storage.volumes` knows it."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from domain.vfolder.mounts import FolderRef


class NoSuchFolder(Exception):
    """It is on no volume of this service, not made yet, or purged."""


class NoRoom(Exception):
    """A limit would be passed. `rule` names which one, `limit_bytes` says how much it allows."""

    def __init__(self, rule: str, limit_bytes: int) -> None:
        super().__init__(f"not more than {limit_bytes} bytes may be kept here")
        self.rule = rule
        self.limit_bytes = limit_bytes


@dataclass(frozen=True)
class Place:
    """Where a folder lies. In `uploads`, on the same disk but outside of every folder, is what is not whole yet or is
    being deleted."""

    root: Path
    uploads: Path


class Places(Protocol):
    """The folders of the volumes of this service."""

    def place(self, folder: FolderRef) -> Place:
        """Both directories of it are there. Raises `NoSuchFolder`."""

    def uploads(self) -> Sequence[Path]:
        """Of all places."""

    async def admit(self, folder: FolderRef, more: int) -> None:
        """Asked before so many bytes are written there. Raises `NoRoom`, `NoSuchFolder`."""

    def changed(self, folder: FolderRef) -> None:
        """Told after something was written or deleted there."""

    async def describe(self) -> list[dict[str, Any]]:
        """The volumes: name, backend, capabilities, capacity_bytes, used_bytes."""

    async def usage(self, folder: FolderRef) -> tuple[int, int]:
        """Bytes and files in it. Raises `NoSuchFolder`."""
