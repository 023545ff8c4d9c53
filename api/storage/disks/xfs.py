"""Folders of an XFS file system mounted with `prjquota`: it refuses itself what is beyond a folder's limit.

Each folder is a project of its own; the numbers are in `<root>/.refold/projects`. What is uploaded into a folder is of
its project too, for XFS moves no file from one project to another.
"""

import os
import subprocess
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from api.storage.disks.directory import DirectoryBackend
from api.storage.disks.walking import Tell

_PROGRAM: Final = "xfs_quota"
_FIRST: Final = 100_000  # below are what people number themselves
_LIMIT_SECONDS: Final = 60.0


class XfsBackend(DirectoryBackend):
    """`root` lies in the file system; needs the program `xfs_quota`, and to be root."""

    kind = "xfs"
    capabilities: Sequence[str] = ("vfolder", "quota")

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._projects = root / ".refold" / "projects"
        self._numbering = threading.Lock()

    def beside(self, path: Path, folder: Path) -> None:
        super().beside(path, folder)
        if number := self._known(folder):
            self._quota(f"project -s -p {path} {number}")

    def remove(self, folder: Path, tell: Tell) -> None:
        super().remove(folder, tell)
        if number := self._known(folder):
            self._quota(f"limit -p bhard=0 {number}")
            self._key(folder).unlink(missing_ok=True)

    def limit(self, folder: Path, max_bytes: int | None) -> None:
        number = self._known(folder)
        if number is None:
            number = self._number(folder)
            self._quota(f"project -s -p {folder} {number}")
        self._quota(f"limit -p bhard={max_bytes or 0} {number}")

    def _key(self, folder: Path) -> Path:
        """By its digits, wherever it lies: it is made and deleted elsewhere than where it lives."""
        digits = "".join(folder.parts[-3:]) if len(folder.name) == 28 else folder.name.replace("-", "")
        return self._projects / digits

    def _known(self, folder: Path) -> str | None:
        try:
            return os.readlink(self._key(folder))
        except FileNotFoundError:
            return None

    def _number(self, folder: Path) -> str:
        """One that no folder has. A link is made as a whole or not at all."""
        with self._numbering:
            self._projects.mkdir(exist_ok=True)
            number = max((int(os.readlink(each)) for each in self._projects.iterdir()), default=_FIRST) + 1
            self._key(folder).symlink_to(str(number))
            return str(number)

    def _quota(self, command: str) -> None:
        """Raises `OSError` with what the program says."""
        mounted = next(path for path in (self.root, *self.root.parents) if path.is_mount())
        try:
            done = subprocess.run(
                [_PROGRAM, "-x", "-c", command, str(mounted)],
                check=False,
                capture_output=True,
                text=True,
                timeout=_LIMIT_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{_PROGRAM} takes longer than {_LIMIT_SECONDS:.0f} seconds") from error
        if done.returncode or done.stderr.strip():
            raise OSError(f"{_PROGRAM}: {done.stderr.strip()[-500:] or done.returncode}")
