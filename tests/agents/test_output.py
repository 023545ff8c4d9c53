"""The output that is kept: bounded on disk, the latest part of it, whole where it was not cut."""

from pathlib import Path
from threading import Thread

from agents.output import OutputStore

KERNEL = "k"


def on_disk(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_fits_is_kept_whole(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 1000)
    with store.writer(KERNEL, 1) as writer:
        writer.write(b"one\n")
        writer.write(b"two\n")
    assert store.read(KERNEL) == b"one\ntwo\n"


def test_at_most_the_bound_is_on_disk_and_at_least_half_of_it_is_kept(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 1000)
    everything = b"".join(b"line %d\n" % number for number in range(3000))
    with store.writer(KERNEL, 1) as writer:
        for at in range(0, len(everything), 77):
            writer.write(everything[at : at + 77])
            assert on_disk(tmp_path) <= 1000
    kept = store.read(KERNEL)
    assert 500 <= len(kept) <= 1000
    assert everything.endswith(kept)


def test_a_later_writer_goes_on_where_the_first_stopped(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 1000)
    for text in (b"before\n", b"after\n"):
        with store.writer(KERNEL, 1) as writer:
            writer.write(text)
    assert store.read(KERNEL) == b"before\nafter\n"


def test_incarnations_follow_each_other_and_old_ones_make_room(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 100)
    for incarnation in range(1, 12):
        with store.writer(KERNEL, incarnation) as writer:
            writer.write(b"incarnation %4d\n" % incarnation * 4)
    assert store.read(KERNEL).endswith(b"incarnation   10\n" + b"incarnation   11\n" * 4)
    assert len(store.read(KERNEL)) <= 100
    assert on_disk(tmp_path) <= 300


def test_putting_twice_is_putting_once(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 100)
    store.put(KERNEL, 1, b"first\n")
    store.put(KERNEL, 2, b"second\n")
    store.put(KERNEL, 1, b"first\n")
    assert store.read(KERNEL) == b"first\nsecond\n"


def test_the_end_of_what_is_put_counts(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 10)
    store.put(KERNEL, 1, b"0123456789abcdef")
    assert store.read(KERNEL) == b"6789abcdef"


def test_what_somebody_else_has_counts_instead(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 100)
    store.put(KERNEL, 1, b"first\n")
    store.put(KERNEL, 2, b"sec")
    assert store.read(KERNEL, {2: b"second\n", 3: b"third\n"}) == b"first\nsecond\nthird\n"


def test_a_reader_sees_whole_output_while_files_are_rotated(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 4096)
    lines = [b"%015d\n" % number for number in range(40_000)]

    def write() -> None:
        with store.writer(KERNEL, 1) as writer:
            for line in lines:
                writer.write(line)

    thread = Thread(target=write)
    thread.start()
    while thread.is_alive():
        numbers = [int(line) for line in store.read(KERNEL).splitlines()]
        assert numbers == list(range(numbers[0], numbers[0] + len(numbers))) if numbers else True
    thread.join()


def test_kernels_are_apart(tmp_path: Path) -> None:
    store = OutputStore(tmp_path, 100)
    store.put("a", 1, b"a")
    store.put("b", 1, b"b")
    assert (store.read("a"), store.read("b"), store.read("c")) == (b"a", b"b", b"")
