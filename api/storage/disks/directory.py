"""Folders of any file system that Linux can mount."""

import os
from collections.abc import Sequence
from pathlib import Path

from api.storage.disks import copying, walking
from api.storage.disks.figures import Capacity, Usage
from api.storage.disks.walking import Tell


class DirectoryBackend:
    """`root`: a folder. Quotas are kept on uploads and copies, not by the file system."""

    kind = "vfs"
    capabilities: Sequence[str] = ("vfolder",)

    def __init__(self, root: Path) -> None:
        self.root = root

    def capacity(self) -> Capacity:
        its = os.statvfs(self.root)
        return Capacity(its.f_blocks * its.f_frsize, (its.f_blocks - its.f_bfree) * its.f_frsize)

    def create(self, folder: Path) -> None:
        folder.mkdir(exist_ok=True)

    def beside(self, path: Path, folder: Path) -> None:  # noqa: ARG002
        path.mkdir(exist_ok=True)

    def copy(self, source: Path, target: Path, owner: tuple[int, int] | None, tell: Tell) -> None:
        copying.copy(source, target, owner, tell)

    def remove(self, folder: Path, tell: Tell) -> None:
        walking.remove(folder, tell)

    def measure(self, folder: Path, tell: Tell) -> Usage:
        return walking.measure(folder, tell)

    def limit(self, folder: Path, max_bytes: int | None) -> None:
        pass
