"""What a volume is made of. Whoever has a file system with quicker ways, or with quotas, plugs them in here.

Another backend than those of Refold is an entry point of the group `refold.volumes`, named after the scheme by which
settings name it: `{"fast": "vendor:///mnt/fast"}` calls what the entry point `vendor` names with that URL, and gets a
`Backend`. Whatever it is made of, a volume is seen as a folder (`root`), for that is what kernels have mounted.

Every call blocks and comes from a thread, several at once but never two for one folder; every call may come again,
after it was done or half done, for the process may be killed at any moment. Failures are `OSError`s, whose text is read
by whoever asked for the work. Long work says from time to time how much more of it is done (`Tell`), and is ended by
whatever that raises.
"""

from collections.abc import Sequence
from importlib.metadata import entry_points
from pathlib import Path
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from api.storage.disks.directory import DirectoryBackend
from api.storage.disks.figures import Capacity, Usage
from api.storage.disks.walking import Tell
from api.storage.disks.xfs import XfsBackend

ENTRY_POINTS: Final = "refold.volumes"


class BadVolume(ValueError):
    """Settings name a volume that cannot be."""


class Backend(Protocol):
    """One volume. `kind` is what it calls itself; `capabilities` are words for people, such as `quota`."""

    kind: str
    capabilities: Sequence[str]
    root: Path

    def capacity(self) -> Capacity: ...

    def create(self, folder: Path) -> None:
        """Make this empty folder; one that is there is left. It is renamed later, within the root."""

    def beside(self, path: Path, folder: Path) -> None:
        """Make the folder `path`, from which files are moved into `folder`, where moving must cost nothing."""

    def copy(self, source: Path, target: Path, owner: tuple[int, int] | None, tell: Tell) -> None:
        """Make everything below `source` (of any volume) also below `target`, which is there; what is there already
        and the same may be left. Symbolic links are copied, never followed. All of it is on the disk at the end.

        `tell` hears of the bytes.
        """

    def remove(self, folder: Path, tell: Tell) -> None:
        """Delete it and all below it, never through a symbolic link. What is not there is removed already."""

    def measure(self, folder: Path, tell: Tell) -> Usage:
        """What is in it."""

    def limit(self, folder: Path, max_bytes: int | None) -> None:
        """Let the file system refuse more than that; None: it need not. Does nothing where it cannot."""


def backend_of(url: str) -> Backend:
    """The backend that settings name: a folder, or `<scheme>://<folder>`. Raises `BadVolume`."""
    parts = urlsplit(url)
    folder = Path(unquote(parts.path))
    if not parts.scheme or parts.scheme in ("file", "xfs"):
        if not folder.is_absolute() or parts.netloc:
            raise BadVolume(f"{url!r} names no absolute path")
        return XfsBackend(folder) if parts.scheme == "xfs" else DirectoryBackend(folder)
    for point in entry_points(group=ENTRY_POINTS, name=parts.scheme):
        made: Backend = point.load()(url)
        return made
    raise BadVolume(f"there is no backend {parts.scheme!r} for {url!r}: no entry point of {ENTRY_POINTS} has that name")
