"""The volumes of a storage service: where a folder lies, and how one is made, copied and deleted without half-way.

    <root>/<2>/<2>/<28 digits>      a folder (`domain.vfolder.mounts.folder_path`)
    <root>/.refold/volume           the volume's host: a root without it is not the volume, but what it is mounted on
    <root>/.refold/making/<id>      a folder that is being made; it is renamed when it is whole
    <root>/.refold/purging/<id>     a folder that was renamed away, and is being deleted
    <root>/.refold/uploads/<id>/    what is being uploaded into a folder

What a kernel or a client sees is therefore whole or not there. All of this blocks, and raises `OSError`
and what `tell` raises, which hears how much more is done.
"""

import fcntl
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from api.storage.disks.backend import Backend, BadVolume, backend_of
from api.storage.disks.figures import Usage
from api.storage.disks.walking import Tell
from domain.vfolder.mounts import FolderId, FolderRef, Host, folder_path
from infra.settings import Settings

OWN: Final = ".refold"
_HOST: Final = re.compile(r"[a-z0-9][a-z0-9-]{0,62}:[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_INTO: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


class NotThere(OSError):
    """The root of a volume is not there, or is not the volume's: whatever should be mounted there is not."""


class NoVolume(LookupError):
    """No volume of this service."""


class Volume:
    """One volume. `owner`: whose the files in it are; None where this process may not give them away."""

    def __init__(self, host: Host, backend: Backend, owner: tuple[int, int] | None) -> None:
        self.host = host
        self.backend = backend
        self.owner = owner

    @property
    def name(self) -> str:
        return self.host.partition(":")[2]

    def folder(self, folder_id: FolderId) -> Path:
        """Where the folder lies, whether it is there or not."""
        return self.backend.root / folder_path(folder_id)

    def uploads(self, folder_id: FolderId) -> Path:
        """Where files for the folder lie until they are renamed into it; made if it is missing."""
        path = self._own("uploads", folder_id)
        if not path.is_dir():
            self.backend.beside(path, self.folder(folder_id))
        return path

    def all_uploads(self) -> list[Path]:
        """Those of all folders that are there."""
        try:
            return sorted((self.backend.root / OWN / "uploads").iterdir())
        except FileNotFoundError:
            return []

    # -- the volume itself -------------------------------------------------------------------------------------------

    @property
    def is_there(self) -> bool:
        try:
            return (self.backend.root / OWN / "volume").read_text() == self.host
        except OSError:
            return False

    def open(self, *, new: bool) -> None:
        """Make what the volume needs beside folders. `new`: nothing was ever kept there. Raises `NotThere`."""
        if not self.is_there:
            if not new or not self.backend.root.is_dir():
                raise NotThere(f"{self.host} is not at {self.backend.root}")
            self.mark()
        for each in ("making", "purging", "uploads"):
            (self.backend.root / OWN / each).mkdir(exist_ok=True)

    def mark(self) -> None:
        """From now on, what is at the root is this volume."""
        own = self.backend.root / OWN
        own.mkdir(mode=0o700, exist_ok=True)
        marked = own / "volume.new"
        marked.write_text(self.host)
        _sync(marked)
        marked.rename(own / "volume")
        _sync(own)

    @contextmanager
    def alone(self) -> Iterator[bool]:
        """Whether nobody else has it for himself now; if so, it is this process' for the block."""
        with (self.backend.root / OWN / "lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True

    # -- folders -----------------------------------------------------------------------------------------------------

    def create(self, folder_id: FolderId) -> None:
        """It is there, empty, unless it was there already."""
        if not self.folder(folder_id).is_dir():
            self._publish(folder_id, self._begin(folder_id))

    def clone(self, folder_id: FolderId, source: Path, tell: Tell) -> None:
        """It is there and holds what is in `source`, unless it was there already."""
        if not self.folder(folder_id).is_dir():
            making = self._begin(folder_id)
            self.backend.copy(source, making, self.owner, tell)
            self._publish(folder_id, making)

    def purge(self, folder_id: FolderId, tell: Tell) -> None:
        """Nothing is left of it, of what was uploaded for it, nor of what was made of it."""
        purging = self._own("purging", folder_id)
        self.backend.remove(purging, tell)
        folder = self.folder(folder_id)
        if folder.is_dir():
            folder.rename(purging)
            self.backend.remove(purging, tell)
        for each in ("making", "uploads"):
            self.backend.remove(self._own(each, folder_id), tell)
        if folder.parent.is_dir():
            _sync(folder.parent)

    def give_up(self, folder_id: FolderId, tell: Tell) -> None:
        """Nothing is left of what was made of a folder that will not be."""
        self.backend.remove(self._own("making", folder_id), tell)

    def measure(self, folder_id: FolderId, tell: Tell) -> Usage:
        """What is in it, and the bytes of what is being uploaded into it."""
        used, files = self.backend.measure(self.folder(folder_id), tell)
        uploads = self._own("uploads", folder_id)
        return Usage(used + (self.backend.measure(uploads, tell).used_bytes if uploads.is_dir() else 0), files)

    def limit(self, folder_id: FolderId, max_bytes: int | None) -> None:
        self.backend.limit(self.folder(folder_id), max_bytes)

    def found(self) -> Iterator[FolderId]:
        """The folders that are there, by what their places say."""
        for one in _digits(self.backend.root, 2):
            for two in _digits(one, 2):
                for rest in _digits(two, 28):
                    yield _folder_id(one.name + two.name + rest.name)

    def unfinished(self) -> Mapping[str, list[FolderId]]:
        """What is `making`, `purging` and `uploads` now."""
        own = self.backend.root / OWN
        return {
            each: [FolderId(path.name) for path in sorted((own / each).iterdir())]
            for each in ("making", "purging", "uploads")
            if (own / each).is_dir()
        }

    def _own(self, what: str, folder_id: FolderId) -> Path:
        return self.backend.root / OWN / what / folder_id

    def _begin(self, folder_id: FolderId) -> Path:
        making = self._own("making", folder_id)
        self.backend.create(making)
        if self.owner:
            os.chown(making, *self.owner)
        making.chmod(0o755)
        return making

    def _publish(self, folder_id: FolderId, making: Path) -> None:
        folder = self.folder(folder_id)
        folder.parent.mkdir(parents=True, exist_ok=True)
        making.rename(folder)
        for above in folder.parents[:3]:
            _sync(above)


class Volumes:
    """Those of one storage service, by their hosts."""

    def __init__(self, service: str, volumes: Mapping[Host, Volume]) -> None:
        self.service = service
        self._volumes = volumes

    @classmethod
    def from_settings(cls, settings: Settings) -> "Volumes":
        """Raises `BadVolume`."""
        owner = owner_of(settings)
        made: dict[Host, Volume] = {}
        for name, where in settings.storage_volumes.items():
            host = f"{settings.storage_name}:{name}"
            if not _HOST.fullmatch(host):
                raise BadVolume(f"{name!r} is no name of a volume")
            made[host] = Volume(host, backend_of(where), owner)
        return cls(settings.storage_name, made)

    def __iter__(self) -> Iterator[Volume]:
        return iter(self._volumes.values())

    def __contains__(self, host: Host) -> bool:
        return host in self._volumes

    def at(self, host: Host) -> Volume:
        """Raises `NoVolume`."""
        if host not in self._volumes:
            raise NoVolume(f"{host} is not a volume of the storage service {self.service}")
        return self._volumes[host]

    def folder(self, ref: FolderRef) -> Path:
        """Where a folder lies. Raises `NoVolume`."""
        return self.at(ref.host).folder(ref.folder_id)


def owner_of(settings: Settings) -> tuple[int, int] | None:
    """User and group of all that is made in folders; None where this process may give nothing away."""
    user, group = (int(number) for number in settings.storage_owner.split(":"))
    return (user, group) if os.geteuid() == 0 else None


def _digits(folder: Path, length: int) -> Iterator[Path]:
    for path in folder.iterdir():
        if re.fullmatch(rf"[0-9a-f]{{{length}}}", path.name) and path.is_dir():
            yield path


def _folder_id(digits: str) -> FolderId:
    return FolderId(f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
