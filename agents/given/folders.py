"""Folders that a kernel has mounted: where they lie on this host, and that they do.

A volume is a folder of the host, mounted there by its operator from wherever it is (`REFOLD_AGENT_VOLUMES`). What is
below it on the way to a folder only the storage service changes; but whoever has a folder may put a symbolic link
anywhere in it, at any moment, so what is below a folder is reached by `infra.beneath` alone. The same goes for
unmanaged folders (`REFOLD_AGENT_UNMANAGED_PATHS`), of which nobody knows who may change them.
"""

import errno
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import Final

from pydantic import TypeAdapter, ValidationError

from agents.devices.plugin import Misconfigured
from agents.runtime import MountRefused, StartFailed
from domain.vfolder.mounts import HOME, UNMANAGED, Host, Mount, capability_of, folder_path
from infra.beneath import open_folder

_NOT_THERE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EXDEV})
_HOSTS: Final[TypeAdapter[str]] = TypeAdapter(Host)


@dataclass(frozen=True)
class Place:
    """A folder of this host: `part` of what is at `path` below `root`.

    `settled`: nobody who has the folder can change what is on the way to it, so its whole path may be told to others.
    """

    root: Path
    path: str
    settled: bool
    part: str = ""

    def open(self) -> int:
        """A descriptor (O_PATH). Raises OSError."""
        return open_folder(self.root, self.path, self.part)


class Folders:
    """Those of one host. `volumes`: host of folders → its root here; `unmanaged`: below which others may lie."""

    def __init__(self, volumes: Mapping[str, Path] | None = None, unmanaged: Sequence[Path] = ()) -> None:
        self._volumes = dict(volumes or {})
        self._unmanaged = tuple(unmanaged)

    @classmethod
    def of(cls, volumes: Mapping[str, str], unmanaged: str) -> "Folders":
        """As the settings have it. Raises Misconfigured."""
        for host in volumes:
            try:
                _HOSTS.validate_python(host)
            except ValidationError:
                raise Misconfigured(f"REFOLD_AGENT_VOLUMES: {host!r} is no host of folders, as local:volume1") from None
        roots = {host: Path(path) for host, path in volumes.items()}
        others = [Path(path.strip()) for path in unmanaged.split(",") if path.strip()]
        for name, paths in (("VOLUMES", roots.values()), ("UNMANAGED_PATHS", others)):
            for path in paths:
                if not path.is_absolute():
                    raise Misconfigured(f"REFOLD_AGENT_{name}: {path} does not begin with a slash")
        return cls(roots, others)

    def capabilities(self) -> Sequence[str]:
        """Which folders kernels can have here, in the words of `AgentProfile.capabilities`."""
        unmanaged = (UNMANAGED,) if self._unmanaged else ()
        return (*map(capability_of, self._volumes), *unmanaged)

    def find(self, mount: Mount) -> Place:
        """Where it is. Raises StartFailed, and MountRefused for a part of it that is not there (or not a folder)."""
        whole = self._whole(mount)
        _check(mount, whole)
        if not mount.subpath:
            return whole
        part = replace(whole, settled=False, part=mount.subpath)
        _check(mount, part)
        return part

    def _whole(self, mount: Mount) -> Place:
        if mount.unmanaged_path is None:
            root = self._volumes.get(mount.folder.host)
            if root is None:
                raise StartFailed(f"the volume {mount.folder.host} is not on this host, so {mount.name} is not")
            return Place(root, folder_path(mount.folder.folder_id), settled=True)
        path = PurePosixPath(mount.unmanaged_path)
        for root in self._unmanaged:
            if path.is_relative_to(root):
                return Place(root, str(path.relative_to(root)), settled=False)
        raise StartFailed(f"no unmanaged folder may lie at {path} on this host")


def in_home(mount: Mount) -> str | None:
    """Where it goes below the kernel's home; None if it goes elsewhere."""
    path = PurePosixPath(mount.path)
    return str(path.relative_to(HOME)) if path.is_relative_to(HOME) else None


def _check(mount: Mount, place: Place) -> None:
    try:
        os.close(place.open())
    except OSError as error:
        if place.part and error.errno in _NOT_THERE:
            raise MountRefused(f"there is no folder {place.part} in {mount.name}") from error
        where = mount.unmanaged_path or mount.folder.host
        raise StartFailed(f"{mount.name} cannot be found in {where}: {error.strerror}") from error
