"""Kafka's jars: a pinned list with hashes, fetched once from Maven's central repository by jgo."""

import contextlib
import hashlib
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from jgo.maven import MavenContext, PythonResolver
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from infra.embedded.folder import CannotStart

LOCK = Path(__file__).parent / "jars.lock"
TIMEOUT_SECONDS = 20  # without any byte from the repository


@dataclass(frozen=True)
class Jar:
    """One line of the lock file."""

    group: str
    artifact: str
    version: str
    sha256: str
    size: int

    @property
    def file(self) -> str:
        """Its name in the jars folder."""
        return f"{self.artifact}-{self.version}.jar"

    def is_at(self, path: Path) -> bool:
        """Whether this very jar, every byte of it, lies there."""
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            return False
        return len(data) == self.size and hashlib.sha256(data).hexdigest() == self.sha256


def locked(lock: Path = LOCK) -> list[Jar]:
    """Every jar of the list, in its order."""
    jars = []
    for line in lock.read_text().splitlines():
        if not line.startswith("#"):
            coordinate, sha256, size = line.split()
            group, artifact, version = coordinate.split(":")
            jars.append(Jar(group, artifact, version, sha256, int(size)))
    return jars


def fetch(folder: Path, jars: Sequence[Jar]) -> list[Path]:
    """Where the jars are, after fetching what is missing or damaged. Shows a progress bar on stderr."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        missing = [jar for jar in jars if not jar.is_at(folder / jar.file)]
        if missing:
            _fetch(folder, missing)
    except (OSError, RuntimeError) as error:  # network errors are OSErrors; RuntimeError: no such jar there
        if shutil.disk_usage(folder).free < sum(jar.size for jar in jars):
            raise CannotStart(f"no space left in {folder} for Kafka's jars") from error
        raise CannotStart(
            f"cannot fetch Kafka's jars: is there a way to Maven's central repository? ({_short(error)})"
        ) from error
    return [folder / jar.file for jar in jars]


def _fetch(folder: Path, jars: Sequence[Jar]) -> None:
    for left_over in folder.glob(".partial-*"):
        if left_over.stat().st_mtime < time.time() - 3600:  # a younger one may be in use
            shutil.rmtree(left_over, ignore_errors=True)
    needed = sum(jar.size for jar in jars)
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    # Downloads land in a folder of their own and move only when whole, so a partial one never counts.
    with (
        tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as partial,
        Progress(*columns, console=Console(stderr=True)) as progress,
        ThreadPoolExecutor(4) as threads,
    ):
        bar = progress.add_task("Fetching Apache Kafka (once)", total=needed)

        @contextlib.contextmanager
        def count(_file: str, _size: int) -> Iterator[Callable[[int], None]]:
            yield lambda size: progress.advance(bar, size)

        maven = MavenContext(
            resolver=PythonResolver(progress_callback=count),
            repo_cache=Path(partial),
            timeout=TIMEOUT_SECONDS,
        )
        fetching = [threads.submit(_fetch_one, maven, folder, jar) for jar in jars]
        try:
            for done in fetching:
                done.result()
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            raise


def _fetch_one(maven: MavenContext, folder: Path, jar: Jar) -> None:
    path = maven.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
    if not jar.is_at(path):
        raise CannotStart(f"{jar.file} was fetched, but it is not the one in jars.lock (its hash differs)")
    os.replace(path, folder / jar.file)


def _short(error: BaseException) -> str:
    """What lies at the bottom of the layers that network libraries wrap an error in."""
    inner = error.args[0] if error.args else error
    text = str(getattr(inner, "reason", inner)).rpartition(": ")[2]
    return text if len(text) <= 160 else text[:159] + "…"
