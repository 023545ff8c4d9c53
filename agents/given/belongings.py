"""The folder in which a kernel finds what it was given; it can read it, and change nothing in it.

    resource.txt          amounts of its slots, and the share of each device
    ssh/id_cluster        by which the kernels of the session, and its owner, log in; .pub beside it
    ssh/authorized_keys   who may log in
    ssh/host_key          by which the kernels are known; the same for all of a session
    ssh/config            for `ssh sub1`: where the others are, and that they are who they say
    ssh/known_hosts
    given/dotfiles.json   [{"path", "mode", "content"}]: the runner puts them into the home, as the kernel's user
    given/bootstrap.sh    which it runs before anything of the owner's

Only the kernel's user may read what is secret, and it is deleted with the incarnation that it was written for.
"""

import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import orjson

from agents.runtime import Task
from domain.outfits import Outfit, SshIdentity
from domain.slots import show

SSH_PORT: Final = 2200
USER: Final = "work"
_ALIAS: Final = "refold-session"
"""Under this name the kernels of a session know each other's host key."""
_INCARNATION: Final = ".incarnation"


@dataclass(frozen=True)
class _File:
    path: str
    text: str
    mode: int = 0o444


def write(folder: Path, task: Task, *, place: str, owner: tuple[int, int] | None) -> None:
    """`place`: where the kernel sees the folder; `owner`: its user and group, if that is not the agent's.

    An outfit without an identity is that of a kernel that runs already: what it has stays.
    """
    files = [_File("resource.txt", resource_text(task)), _File(_INCARNATION, str(task.incarnation))]
    if task.outfit.ssh is not None:
        files += [*_ssh(task.outfit.ssh, task, place), *_given(task.outfit)]
    for parent in (folder, folder / "ssh", folder / "given"):
        parent.mkdir(exist_ok=True)
        parent.chmod(0o755)  # whatever the mask is
    for file in files:
        _write(folder / file.path, file, owner)


def forget(folder: Path, incarnation: int) -> None:
    """This incarnation has ended: what was secret goes, unless the next one has it."""
    if _of(folder) == incarnation:
        for secret in ("ssh", "given"):
            shutil.rmtree(folder / secret, ignore_errors=True)


def _of(folder: Path) -> int | None:
    with suppress(FileNotFoundError, ValueError):
        return int((folder / _INCARNATION).read_text())
    return None


def _ssh(identity: SshIdentity, task: Task, place: str) -> Iterator[_File]:
    yield _File("ssh/id_cluster", identity.private.get_secret_value(), 0o400)
    yield _File("ssh/id_cluster.pub", identity.public + "\n")
    yield _File("ssh/host_key", identity.host_private.get_secret_value(), 0o400)
    yield _File("ssh/authorized_keys", "".join(f"{key}\n" for key in (identity.public, *identity.authorized)))
    yield _File("ssh/known_hosts", f"{_ALIAS} {identity.host_public}\n")
    if task.peers:
        yield _File("ssh/config", _client_config([peer.hostname for peer in task.peers], place))


def _client_config(names: list[str], place: str) -> str:
    lines = [
        f"Host {' '.join(names)}",
        f"Port {SSH_PORT}",
        f"User {USER}",
        f"IdentityFile {place}/ssh/id_cluster",
        f"HostKeyAlias {_ALIAS}",
        f"UserKnownHostsFile {place}/ssh/known_hosts",
        "StrictHostKeyChecking yes",
        "LogLevel ERROR",
    ]
    return "\n    ".join(lines) + "\n"


def _given(outfit: Outfit) -> Iterator[_File]:
    files = [
        {"path": file.path, "mode": file.mode, "content": file.content.get_secret_value()} for file in outfit.dotfiles
    ]
    yield _File("given/dotfiles.json", orjson.dumps(files).decode(), 0o400)
    if outfit.bootstrap_script is not None:
        script = outfit.bootstrap_script.get_secret_value()
        yield _File("given/bootstrap.sh", script, 0o500 if script.startswith("#!") else 0o400)


def _write(path: Path, file: _File, owner: tuple[int, int] | None) -> None:
    """In place of what was there before: a kernel that runs may be reading it, and another start be writing it."""
    handle, draft = tempfile.mkstemp(prefix=path.name, suffix=".draft", dir=path.parent)
    with open(handle, "wb") as written:
        written.write(file.text.encode())
        os.fchmod(handle, file.mode)
        if owner is not None:
            os.fchown(handle, *owner)
    os.replace(draft, path)


def resource_text(task: Task) -> str:
    """What a kernel was given, for programs in it: amounts of its slots, and the share of each device."""
    slots = show({"cpu": task.cpu_millis, "mem": task.mem_bytes}) | {
        slot: show({slot: sum(devices.values())})[slot] for slot, devices in task.devices.items()
    }
    lines = [f"SLOTS={json.dumps(slots)}"]
    for slot, devices in task.devices.items():
        shares = ",".join(f"{device}:{show({slot: units})[slot]}" for device, units in devices.items())
        lines.append(f"{slot.upper()}_SHARES={shares}")
    return "\n".join(lines) + "\n"
