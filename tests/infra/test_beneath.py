"""No step of a path leads out of the folder it began in: with the system's own means, and without them."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra import beneath
from infra.beneath import make_folders, open_beneath, open_folder

FOLDER = os.O_PATH | os.O_DIRECTORY


@pytest.fixture(params=["openat2", "walk"], autouse=True)
def _way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the call, and as on a system that lacks it."""
    if request.param == "walk":
        monkeypatch.setattr(beneath, "_OPENAT2", 100_000)


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A folder with something in it, and with links that lead out."""
    (tmp_path / "secret").write_text("secret")
    (tmp_path / "root" / "a" / "b").mkdir(parents=True)
    (tmp_path / "root" / "a" / "file").write_text("inside")
    (tmp_path / "root" / "out").symlink_to(tmp_path)
    (tmp_path / "root" / "a" / "up").symlink_to("../..")
    (tmp_path / "root" / "a" / "in").symlink_to("b")
    (tmp_path / "root" / "a" / "name").symlink_to("file")
    found = os.open(tmp_path / "root", FOLDER)
    yield found
    os.close(found)


def opened(root: int, path: str) -> str:
    found = open_beneath(root, path, os.O_RDONLY)
    with open(found) as file:
        return file.read()


def test_what_is_there_is_opened(root: int) -> None:
    assert [opened(root, path) for path in ("a/file", "./a//file", "a/./file")] == ["inside"] * 3
    for path in ("", ".", "a", "a/b/"):
        os.close(open_beneath(root, path, FOLDER))
    made = open_beneath(root, "a/new", os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o640)
    assert os.fstat(made).st_mode & 0o777 == 0o640
    os.close(made)


@pytest.mark.parametrize(
    ("path", "errors"),
    [
        ("../secret", {errno.EXDEV}),
        ("/etc/passwd", {errno.EXDEV}),
        ("a/../../secret", {errno.EXDEV}),
        ("out/secret", {errno.ELOOP}),
        ("a/up/secret", {errno.ELOOP}),
        ("a/in", {errno.ELOOP}),
        ("a/name", {errno.ELOOP}),
        ("a/file\0", {errno.EINVAL}),
        ("a/nothing", {errno.ENOENT}),
        ("a/file/x", {errno.ENOTDIR}),
        ("x" * 300, {errno.ENAMETOOLONG}),
        ("x/" * 5000, {errno.ENAMETOOLONG, errno.ENOENT}),
    ],
)
def test_what_is_elsewhere_is_not(root: int, path: str, errors: set[int]) -> None:
    for flags in (os.O_RDONLY, os.O_PATH, FOLDER):
        with pytest.raises(OSError, match="Errno") as refused:
            open_beneath(root, path, flags)
        assert refused.value.errno in errors | ({errno.ENOTDIR} if path == "a/name" and flags == FOLDER else set())


@pytest.mark.usefixtures("root")
def test_each_step_stays_in_the_one_before(tmp_path: Path) -> None:
    os.close(open_folder(tmp_path / "root", "a", "b"))
    for steps in (("a", ".."), ("a", "../a/b"), ("a/b", "../.."), ("out",)):
        with pytest.raises(OSError, match="Errno"):
            open_folder(tmp_path / "root", *steps)


def test_folders_are_made_where_nothing_is_in_the_way(root: int, tmp_path: Path) -> None:
    for _ in range(2):
        os.close(make_folders(root, "a/c/d"))
    assert (tmp_path / "root" / "a" / "c" / "d").is_dir()
    for path in ("out/x", "a/up/x", "a/file/x", "../x", "/x"):
        with pytest.raises(OSError, match="Errno"):
            make_folders(root, path)
    assert sorted(os.listdir(tmp_path)) == ["root", "secret"]


def test_a_folder_that_becomes_a_link_meanwhile_leads_nowhere(root: int, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "file").write_text("secret")
    (tmp_path / "root" / "a" / "b" / "file").write_text("inside")
    place, over = tmp_path / "root" / "a", threading.Event()

    def swap() -> None:
        while not over.is_set():
            os.rename(place / "b", place / "aside")
            os.symlink(tmp_path / "b", place / "b")
            os.unlink(place / "b")
            os.rename(place / "aside", place / "b")
            over.wait(0.0001)  # the folder is itself for a moment, too

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        told: list[str] = []
        while len(told) < 3000 or "inside" not in told:
            told.append(_told(root))
    finally:
        over.set()
        swapping.join()
    assert "secret" not in told


def _told(root: int) -> str:
    try:
        return opened(root, "a/b/file")
    except OSError as error:
        return errno.errorcode[error.errno or 0]
