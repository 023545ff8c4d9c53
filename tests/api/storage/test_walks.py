"""A walk through a folder stays in it, whatever is done to the folder meanwhile."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from api.storage.disks import copying, walking


def _nothing(_: int) -> None:
    pass


@contextmanager
def _swapping(folder: Path, outside: Path) -> Iterator[list[int]]:
    """`swapped` is by turns a folder with a file, and a link to a folder outside; counted is how often."""
    done = threading.Event()
    count = [0]
    inside, link, name = folder / "inside", folder / "link", folder / "swapped"
    inside.mkdir()
    (inside / "file").write_text("inside")
    link.symlink_to(outside)

    def swap() -> None:
        while not done.is_set():
            for one in (inside, link):
                one.rename(name)
                name.rename(one)
                count[0] += 1

    swapping = threading.Thread(target=swap)
    swapping.start()
    try:
        yield count
    finally:
        done.set()
        swapping.join()


def test_a_folder_swapped_for_a_link_while_it_is_walked_leads_nowhere(tmp_path: Path) -> None:
    outside, folder, target = tmp_path / "outside", tmp_path / "folder", tmp_path / "target"
    outside.mkdir()
    folder.mkdir()
    (outside / "secret").write_bytes(b"s" * 1_000_000)
    walks = 0
    with _swapping(folder, outside) as swaps:
        until = time.monotonic() + 0.5
        while time.monotonic() < until or walks < 10:
            target.mkdir()
            with suppress(walking.Moved, FileNotFoundError, NotADirectoryError):
                copying.copy(folder, target, None, _nothing)
            assert list(target.rglob("secret")) == []
            walking.remove(target)
            with suppress(walking.Moved, FileNotFoundError):
                assert walking.measure(folder).used_bytes < 1_000_000
            walks += 1
    assert swaps[0] > walks
    walking.remove(folder)
    assert (outside / "secret").exists()


def test_what_is_a_link_when_it_is_to_be_entered_is_not_entered(tmp_path: Path) -> None:
    outside, folder, target = tmp_path / "outside", tmp_path / "folder", tmp_path / "target"
    for each in (outside, folder / "sub", target):
        each.mkdir(parents=True)
    (outside / "secret").touch()
    (folder / "file").touch()

    def swap(_: int) -> None:
        if not (folder / "sub").is_symlink():
            (folder / "sub").rmdir()
            (folder / "sub").symlink_to(outside)

    copying.copy(folder, target, None, swap)
    assert [path.name for path in target.rglob("*")] == ["file"]


def test_a_walk_that_was_taken_elsewhere_ends(tmp_path: Path) -> None:
    (tmp_path / "folder" / "a" / "b").mkdir(parents=True)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "secret").touch()
    found = []
    with suppress(walking.Moved):
        for step in walking.walk(tmp_path / "folder"):
            found.append(step.name)
            if (step.what, step.name) == ("entered", "b"):
                (tmp_path / "folder" / "a" / "b").rename(elsewhere / "b")
    assert found == ["a", "b"]


def test_no_other_file_system_is_entered() -> None:
    """In /dev there are some."""
    home = Path("/dev").stat().st_dev
    assert {step.stat.st_dev for step in walking.walk(Path("/dev")) if step.what == "entered"} <= {home}


def test_a_copy_begun_again_passes_over_what_is_there_and_repairs_what_is_half_there(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    for name in ("done", "half"):
        (source / name).write_text("as it is")
    copying.copy(source, target, None, _nothing)
    (target / "half").write_text("as it ..")
    before = {path.name: path.stat().st_ctime_ns for path in target.iterdir()}
    told: list[int] = []
    copying.copy(source, target, None, told.append)
    after = {path.name: path.stat().st_ctime_ns for path in target.iterdir()}
    assert before["done"] == after["done"]
    assert (target / "half").read_text() == "as it is"
    assert sum(told) == 16
