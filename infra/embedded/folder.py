"""The data folder: who holds it, which ports were chosen, and what a crash may have left running in it."""

import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Iterator
from pathlib import Path

DISK_BYTES_MIN = 300_000_000  # Kafka and Postgres reserve about 200 MB for their logs as soon as they start


class CannotStart(Exception):
    """Something the user can put right. Its text is the one sentence they are shown."""


def make_folder(path: Path) -> Path:
    """The folder as an absolute path, made if need be and known to be writable and to have space."""
    path = path.absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe = path / f".probe-{os.getpid()}"
        probe.write_bytes(b"")
        probe.unlink()
    except OSError as error:
        raise CannotStart(f"cannot write to the data folder {path}: {error.strerror}") from error
    if shutil.disk_usage(path).free < DISK_BYTES_MIN:
        raise CannotStart(f"less than {DISK_BYTES_MIN // 1_000_000} MB are free on the disk of {path}")
    return path


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """Holds the data folder for this process alone; the system lets go of it however the process ends."""
    with (path / "lock").open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise CannotStart(
                f"the data folder {path} is in use by another Refold (process {holder}); "
                "stop that one, or choose another folder with --data-dir"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)
    with os.fdopen(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)


def is_free(port: int, host: str = "127.0.0.1") -> bool:
    """Whether a server could listen there now. TIME_WAIT does not count: servers ignore it too."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
        return True


def ports(path: Path, *names: str) -> dict[str, int]:
    """One local port per name, the same as last time (`ports.json`) unless somebody else has taken it."""
    file = path / "ports.json"
    try:
        chosen: dict[str, int] = json.loads(file.read_text())
    except (FileNotFoundError, ValueError):
        chosen = {}
    for name in names:
        if name not in chosen or not is_free(chosen[name]):
            others = {port for other, port in chosen.items() if other != name}
            chosen[name] = next(port for port in _candidates() if port not in others and is_free(port))
    file.write_text(json.dumps(chosen, indent=1) + "\n")
    return {name: chosen[name] for name in names}


def _candidates() -> Iterator[int]:
    # Below the range from which the system takes ports for outgoing connections. Inside it, a client that
    # keeps calling a server which is just restarting can be given the server's own port and so keep it.
    while True:
        yield random.randrange(20_000, 32_000)


def end_left_overs(folder: Path, seconds: float = 10.0) -> None:
    """Ends processes of an earlier run that still work in a server's folder.

    Each embedded server has its own data folder as working folder, which says whose it is more surely than a
    pid file does. Only called while the data folder is held, so nobody else's server can be meant.
    """
    folder = folder.resolve()
    end = time.monotonic() + seconds
    politely = signal.SIGQUIT  # Postgres: stop at once; Java: only a thread dump, so SIGKILL follows
    while pids := _working_in(folder):
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, politely)
        if time.monotonic() > end:
            raise CannotStart(f"processes {pids} of an earlier run still work in {folder}: end them first")
        time.sleep(0.2)
        politely = signal.SIGKILL


def _working_in(folder: Path) -> list[int]:
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (entry / "cwd").readlink() == folder and _state(entry) != "Z":
                found.append(int(entry.name))
    return found


def _state(entry: Path) -> str:
    return (entry / "stat").read_text().rpartition(")")[2].split()[0]
