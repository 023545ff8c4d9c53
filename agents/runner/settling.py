"""Settling in: what the kernel was given goes to where its user expects it. The agent leaves it all in one folder:

    given/dotfiles.json   [{"path", "mode", "content"}], from home or absolute: written anew at each start
    ssh/id_cluster        copied to ~/id_container, to be downloaded by who wants to log in from elsewhere
    ssh/config            included by ~/.ssh/config, so that `ssh sub1` finds the other kernels of the session; their
                          key is ~/.ssh/id_cluster too, for who looks for it there

This is done in the kernel, as its user: what the home has become since the last start is his affair, and nothing but
what is his can be written to.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress

from .templates import log


def settle(config: str, home: str) -> None:
    """What cannot be done is logged, and keeps nobody waiting."""
    for step in (_write_dotfiles, _hand_out_key, _point_to_peers, _repair_ssh):
        try:
            step(config, home)
        except (OSError, ValueError) as error:
            log(f"cannot settle in: {error}")


def _write_dotfiles(config: str, home: str) -> None:
    try:
        with open(os.path.join(config, "given", "dotfiles.json"), encoding="utf-8") as file:
            files = json.load(file)
    except FileNotFoundError:
        return
    for file in files:
        path = os.path.join(home, file["path"])
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            _put(path, file["content"], int(file["mode"], 8))
        except OSError as error:
            log(f"the dotfile {file['path']} cannot be written: {error.strerror}")


def _hand_out_key(config: str, home: str) -> None:
    try:
        with open(os.path.join(config, "ssh", "id_cluster"), encoding="ascii") as file:
            key = file.read()
    except FileNotFoundError:
        return
    _put(os.path.join(home, "id_container"), key, 0o600)


def _point_to_peers(config: str, home: str) -> None:
    theirs = os.path.join(config, "ssh", "config")
    if not os.path.exists(theirs):
        return
    line = f"Include {theirs}\n"
    path = os.path.join(home, ".ssh", "config")
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    own = ""
    with suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
        own = file.read()
    for name, mode in (("id_cluster", 0o600), ("id_cluster.pub", 0o644)):
        with open(os.path.join(config, "ssh", name), encoding="ascii") as file:
            _put(os.path.join(home, ".ssh", name), file.read(), mode)
    if not own.startswith(line):  # before anything else: a line below a `Host` would be part of that
        _put(path, line + own, 0o600)


def _repair_ssh(_: str, home: str) -> None:
    """OpenSSH believes nothing that others could have written, and uses no key that others can read."""
    folder = os.path.join(home, ".ssh")
    with suppress(FileNotFoundError):
        for name in ["", *os.listdir(folder)]:
            path = os.path.join(folder, name)
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
                continue
            allowed = 0o700 if stat.S_ISDIR(found.st_mode) else 0o644 if name.endswith(".pub") else 0o600
            if stat.S_IMODE(found.st_mode) & ~allowed:
                os.chmod(path, stat.S_IMODE(found.st_mode) & allowed)


def _put(path: str, text: str, mode: int) -> None:
    """In place of what is there, also where that cannot be written to."""
    draft = f"{path}.refold-draft"
    with suppress(FileNotFoundError):
        os.unlink(draft)
    file = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with open(file, "w", encoding="utf-8") as written:
            written.write(text)
            os.fchmod(file, mode)
        os.replace(draft, path)
    except OSError:
        os.unlink(draft)
        raise
