"""The homes of kernels on their host, limited in size where `REFOLD_AGENT_SCRATCH_BYTES_MAX` says so.

    <folder>/<kernel id>/home/       the home, for all incarnations of the kernel
    <folder>/<kernel id>/home.img    where it is limited: a file system of that size, mounted there while it is used

Who fills a limited home learns that there is no space left; the host and the other kernels do not notice. The file
takes only as much of the disk as is written to it, so a disk may be promised more often than it is there. A home that
was begun without a limit goes on without, and one begun with another limit keeps that.

The limit is about the home alone. What a container writes elsewhere can be limited by its daemon (`overlay2.size`, on
an xfs with project quotas).
"""

import os
import shutil
import subprocess
import tempfile
import threading
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

from agents.devices.plugin import Misconfigured

COMMAND_SECONDS_MAX: Final = 60.0
PATH: Final = "/usr/sbin:/usr/bin:/sbin:/bin"


class Homes:
    """Those below one folder. `bytes_max`: the size of a new one; 0 is no limit."""

    def __init__(self, folder: Path, bytes_max: int = 0) -> None:
        self._folder = folder
        self._bytes_max = bytes_max
        self._changing = threading.Lock()  # mounting twice would hide one in the other
        self._used = defaultdict[str, set[int]](set)

    def check(self) -> None:
        """Whether the limit can be kept here, tried out. Raises Misconfigured."""
        if not self._bytes_max:
            return
        if os.geteuid() != 0:
            raise Misconfigured("REFOLD_AGENT_SCRATCH_BYTES_MAX: only root can mount a home of limited size")
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        trial = Path(tempfile.mkdtemp(dir=self._folder, prefix="trial-"))
        try:
            (trial / "home").mkdir()
            _format(trial / "home.img", self._bytes_max, None)
            _mount(trial)
            _unmount(trial)
        except OSError as error:
            raise Misconfigured(f"REFOLD_AGENT_SCRATCH_BYTES_MAX: a home of limited size: {error}") from error
        finally:
            shutil.rmtree(trial, ignore_errors=True)

    def make(self, kernel_id: str, incarnation: int, owner: tuple[int, int] | None) -> Path:
        """The home, there for this incarnation until it is released. `owner`: user and group, if that is not the
        agent's. Raises OSError."""
        place = self._folder / kernel_id
        home, image = place / "home", place / "home.img"
        with self._changing:
            place.mkdir(parents=True, exist_ok=True)
            if not home.exists():
                if self._bytes_max:
                    _format(image, self._bytes_max, owner)
                home.mkdir()
            if image.exists() and not os.path.ismount(home):
                _mount(place)
            for folder in (place, home):
                folder.chmod(0o755)  # whatever the mask is; who may get here is the folder's affair
            if owner is not None:
                os.chown(home, *owner)
            self._used[kernel_id].add(incarnation)
        return home

    def release(self, kernel_id: str, incarnation: int) -> None:
        """It ended. Its files are kept for the next one."""
        with self._changing:
            self._used[kernel_id].discard(incarnation)
            if not self._used[kernel_id]:
                del self._used[kernel_id]
                _unmount(self._folder / kernel_id)

    def delete(self, kernel_id: str) -> None:
        """The kernel is forgotten, with all that is in its folder."""
        with self._changing:
            _unmount(self._folder / kernel_id)
            shutil.rmtree(self._folder / kernel_id, ignore_errors=True)


def _format(image: Path, size: int, owner: tuple[int, int] | None) -> None:
    """Whole under its name, or not there."""
    draft = image.with_suffix(".draft")
    with draft.open("wb") as file:
        file.truncate(size)
    options = [] if owner is None else ["-E", "root_owner={}:{}".format(*owner)]
    _run("mkfs.ext4", "-q", "-F", "-m", "0", *options, str(draft))
    draft.replace(image)


def _mount(place: Path) -> None:
    home = place / "home"
    _run("mount", "-o", "loop,nosuid,nodev,discard", str(place / "home.img"), str(home))
    with suppress(OSError):
        (home / "lost+found").rmdir()


def _unmount(place: Path) -> None:
    """A container that is still there has a mount of its own, and keeps it."""
    if os.path.ismount(place / "home"):
        with suppress(OSError):  # somebody looks into it: it is done with the next occasion
            _run("umount", str(place / "home"))


def _run(*command: str) -> None:
    """Raises OSError with what it says."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_SECONDS_MAX,
            check=False,
            env={"PATH": PATH, "LC_ALL": "C"},
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(str(error)) from error
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines()
        raise OSError(f"{command[0]}: {lines[-1] if lines else f'exit code {done.returncode}'}")
