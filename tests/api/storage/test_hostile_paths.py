"""Whatever path is asked for, and whatever is put in its way meanwhile: nothing outside of the folder is read, written
or told of."""

import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from api.storage import trees
from api.storage.archives import archived
from api.storage.listing import listed
from api.storage.paths import FOLDER, BadPath, opened_root
from api.storage.trees import Refused
from infra import beneath
from infra.beneath import open_beneath
from tests.api.storage.service import Service

SECRET: Final = b"nobody may read this"
MARK: Final = "nobody-may-see-this"
ATTEMPTS: Final = 10_000

PARTS: Final = [
    "..",
    "...",
    ".. ",
    " ..",
    "..\\",
    "\\..\\",
    "%2e%2e",
    "%2e%2e%2f",
    "..%2f",
    "..%c0%af",
    "\u2025",  # two dots in one character
    "\uff0e\uff0e",  # full-width dots
    "..\u2215",  # a slash that is none
    "\u202e..",
    ".\u200b.",
    "\0",
    "..\0",
    "\ud800",
    ".",
    "",
    "~",
    "~root",
    "proc",
    "self",
    "root",
    "a",
    "file",
    "directory",
    "out",
    "up",
    "absolute",
    "fd",
    "loop",
    "secret",
    "outside",
    "x" * 255,
    "x" * 256,
    "\u00fc" * 128,
    "CON",
    "a:b",
    "-rf",
    "$(id)",
    "`id`",
    "\n",
    "\r\nX: y",
]


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda _: None)


@contextmanager
def surroundings(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    """A folder with links of all kinds that lead out of it, and what lies around it. The latter is the same after."""
    outside = tmp_path / "outside"
    folder = tmp_path / "volume" / "ab" / "folder"
    uploads = tmp_path / "volume" / ".refold"
    for each in (outside / "directory", folder / "directory" / "directory", uploads):
        each.mkdir(parents=True)
    for each in (outside, outside / "directory", tmp_path, folder.parent, folder.parents[1]):
        for name in ("file", "secret", MARK):
            (each / name).write_bytes(SECRET)
    (folder / "file").write_text("mine")
    (folder / "out").symlink_to(outside)
    (folder / "up").symlink_to("../..")
    (folder / "absolute").symlink_to("/")
    (folder / "root").symlink_to("/proc/self/root")
    (folder / "fd").symlink_to("/proc/self/fd")
    (folder / "loop").symlink_to("loop")
    (folder / "directory" / "out").symlink_to("../../../../outside")
    (folder / "secret").symlink_to("../../../outside/secret")
    before = _seen(tmp_path, folder, uploads)
    yield folder, uploads
    assert _seen(tmp_path, folder, uploads) == before


def _seen(tmp_path: Path, *besides: Path) -> dict[str, bytes | str]:
    return {
        str(path): os.readlink(path) if path.is_symlink() else path.read_bytes() if path.is_file() else "directory"
        for path in tmp_path.rglob("*")
        if not any(path.is_relative_to(folder) for folder in besides)
    }


def attempt(root: int, uploads: Path, operation: str, path: str, other: str) -> None:
    """What it reads is never what is outside."""
    match operation:
        case "content":
            assert SECRET not in trees.content(root, path, 1_000_000)
        case "list":
            names = {entry["name"] for entry in listed(root, path, 1000, None)[0]}
            assert MARK not in names
        case "mkdir":
            trees.make_directory(root, path, None, parents=True, exist_ok=True)
        case "touch":
            trees.make_empty(root, path, uploads, None)
        case "rename":
            trees.rename(root, path, other, is_dir=True)
        case "move":
            trees.move(root, path, other, None)
        case "delete":
            trees.remove(trees.take_away(root, [path], uploads, recursive=True))


OPERATIONS: Final = ["content", "list", "mkdir", "touch", "rename", "move", "delete"]


@pytest.mark.parametrize("kernel", ["with openat2", "without"])
def test_no_generated_path_leads_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str) -> None:
    if kernel == "without":
        monkeypatch.setattr(beneath, "_OPENAT2", 100_000)
    draw = random.Random(7)
    done = refused = 0
    with surroundings(tmp_path) as (folder, uploads):
        for number in range(ATTEMPTS // 2):
            path = "/".join(draw.choices(PARTS, k=draw.randint(1, 6)))
            if draw.random() < 0.2:
                path = "/" + path
            other = "/".join(draw.choices(PARTS, k=draw.randint(1, 4)))
            with opened_root(folder) as root:
                try:
                    attempt(root, uploads, OPERATIONS[number % len(OPERATIONS)], path, other)
                    done += 1
                except (BadPath, Refused, OSError):
                    refused += 1
            assert folder.is_dir()
    assert done > 100, "hardly anything was tried that could work"
    assert refused > 1000


SWAPPING: Final = """
import ctypes, os, sys
os.chdir(sys.argv[1])
rename = ctypes.CDLL(None).renameat2
while True:
    rename(-100, b"moving", -100, b"other", 2)  # AT_FDCWD, RENAME_EXCHANGE
"""
"""`moving` is now a directory, now a link to what is outside."""


@pytest.mark.parametrize("kernel", ["with openat2", "without"])
def test_no_link_that_is_put_there_meanwhile_leads_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kernel: str
) -> None:
    if kernel == "without":
        monkeypatch.setattr(beneath, "_OPENAT2", 100_000)
    with surroundings(tmp_path) as (folder, uploads):
        (folder / "moving").mkdir()
        (folder / "other").symlink_to(folder.parents[2] / "outside")
        met: Counter[bool] = Counter()
        with opened_root(folder) as root, subprocess.Popen([sys.executable, "-c", SWAPPING, str(folder)]) as swapping:
            try:
                for number in range(1200):
                    operation = ["touch", "content", "list", "archive", "mkdir", "delete", "touch", "move"][number % 8]
                    path = {"list": "moving", "mkdir": "moving/new", "archive": "moving"}.get(operation, "moving/file")
                    try:
                        if operation == "archive":
                            assert SECRET not in archive_of(root, path)
                        else:
                            attempt(root, uploads, operation, path, "moved")
                        met[True] += 1
                    except (Refused, OSError):
                        met[False] += 1
            finally:
                swapping.kill()
    assert min(met[True], met[False]) > 10, "it was hardly ever met in between"


def archive_of(root: int, path: str) -> bytes:
    handle = open_beneath(root, path, FOLDER, follow=True)
    try:
        return b"".join(archived(handle, "tar"))
    finally:
        os.close(handle)


async def test_no_path_of_a_request_leads_out(storage: Service, tmp_path: Path) -> None:
    (tmp_path / "secret").write_bytes(SECRET)
    (storage.root / "up").symlink_to("../../../..")
    draw = random.Random(11)
    before = _seen(tmp_path, storage.root, *storage.volume.uploads())
    for number in range(60):
        path = "/".join(draw.choices([part for part in PARTS if part != "\ud800"], k=draw.randint(1, 6)))
        match number % 4:
            case 0:
                answer = await storage.get(path)
            case 1:
                answer = await storage.patch(storage.upload("a", 1), 0, b"1", dst_dir=path)
            case 2:
                answer = await storage.patch(storage.upload(path, 1), 0, b"1")
            case _:
                answer = await storage.files(path)
        assert answer.status_code < 500, answer.text
        assert SECRET not in answer.content
    assert _seen(tmp_path, storage.root, *storage.volume.uploads()) == before
