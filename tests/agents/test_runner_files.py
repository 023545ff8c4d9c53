"""Files of a session: listed, put and fetched, and never a step out of the home folder."""

import io
import os
import socket
import stat
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.runners import Client, Refused, Runner, running

OUTSIDE = "nobody may see this"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "outside").mkdir()
    (folder / "outside" / "secret").write_text(OUTSIDE)
    with running(folder) as runner:
        yield runner


@pytest.fixture
def client(shared: Runner) -> Client:
    return shared.client


@pytest.fixture
def home(shared: Runner, request: pytest.FixtureRequest) -> Path:
    """A folder of the test's own below the home folder, whose name is the test's."""
    folder = shared.home / str(request.node.name).partition("[")[0][-60:]
    folder.mkdir(exist_ok=True)
    return folder


def refused(client: Client, do: str, body: bytes = b"", **fields: Any) -> str:
    with pytest.raises(Refused) as error:
        client.call(do, body, **fields)
    return error.value.code


def fetch(client: Client, *paths: str, single: bool = False, bytes_max: int = 100_000) -> bytes:
    download = client.call("download-open", paths=list(paths), single=single)["download"]
    content = b""
    while True:
        about, data = client.call_raw("download-read", download=download, bytes_max=bytes_max)
        assert len(data) <= bytes_max
        content += data
        if about["last"]:
            return content


def unpack(archive: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {entry.name: entry for entry in tar}


def test_a_folder_is_listed_with_what_is_to_know(client: Client, home: Path) -> None:
    (home / "b.txt").write_text("12345")
    (home / "a").mkdir()
    (home / "l").symlink_to("/etc/passwd")
    os.mkfifo(home / "p")
    listed = client.call("files-list", path=home.name)
    assert (listed["folder"], listed["left_out"]) == (str(home), 0)
    entries = [(entry["name"], entry["kind"]) for entry in listed["entries"]]
    assert entries == [("a", "folder"), ("b.txt", "file"), ("l", "link"), ("p", "other")]
    file = listed["entries"][1]
    assert (file["bytes"], file["mode"]) == (5, "-rw-r--r--")
    assert abs(file["mtime"] - time.time()) < 60
    assert client.call("files-list", path=str(home)) == listed  # absolute is as good


def test_one_file_lists_as_itself_and_the_home_folder_as_default(client: Client, home: Path) -> None:
    (home / "f").write_text("x")
    assert [entry["name"] for entry in client.call("files-list", path=f"{home.name}/f")["entries"]] == ["f"]
    assert home.name in [entry["name"] for entry in client.call("files-list")["entries"]]
    assert client.call("files-list", path=".")["folder"] == str(home.parent)


def test_names_that_are_no_utf_8_are_listed(client: Client, home: Path) -> None:
    (home / os.fsdecode(b"\xff\xfe")).write_text("")
    [entry] = client.call("files-list", path=home.name)["entries"]
    assert os.fsencode(entry["name"]) == b"\xff\xfe"


def test_an_upload_is_there_whole_with_its_folders(client: Client, home: Path) -> None:
    about = client.call("files-upload", b"content", path=f"{home.name}/new/deep/f.txt")
    assert about == {"path": f"{home}/new/deep/f.txt", "bytes": 7}
    assert (home / "new/deep/f.txt").read_bytes() == b"content"
    client.call("files-upload", b"", path=f"{home}/new/deep/f.txt", mode=0o600)
    assert (home / "new/deep/f.txt").read_bytes() == b""
    assert stat.S_IMODE((home / "new/deep/f.txt").stat().st_mode) == 0o600
    assert os.listdir(home / "new/deep") == ["f.txt"]  # and no draft


def test_an_upload_beyond_the_limit_is_refused(client: Client, home: Path) -> None:
    client.call("files-upload", bytes(1024 * 1024), path=f"{home.name}/f")
    assert refused(client, "files-upload", bytes(1024 * 1024 + 1), path=f"{home.name}/f") == "too-large"


def test_an_upload_that_cannot_be_made_leaves_nothing(client: Client, home: Path) -> None:
    (home / "folder" / "full").mkdir(parents=True)
    assert refused(client, "files-upload", b"x", path=f"{home.name}/folder") == "is-a-folder"
    assert refused(client, "files-upload", b"x", path=f"{home.name}/folder/") == "is-a-folder"
    assert refused(client, "files-upload", b"x", path="") == "is-a-folder"
    (home / "file").write_text("")
    assert refused(client, "files-upload", b"x", path=f"{home.name}/file/below") == "not-a-folder"
    assert refused(client, "files-upload", b"x", path=f"{home.name}/{'n' * 300}") == "name-too-long"
    assert refused(client, "files-upload", b"x", path=f"{home.name}/a\0b") == "bad-path"
    assert sorted(os.listdir(home)) == ["file", "folder"]
    assert os.listdir(home / "folder") == ["full"]


@pytest.mark.parametrize(
    "path",
    [
        "../outside/secret",
        "../../../../../../etc/passwd",
        "{0}/../../outside/secret",
        "/etc/passwd",
        "/",
        "{home}-other/secret",
        "{0}/to_outside/secret",
        "{0}/to_file",
        "{0}/up/outside/secret",
        "{0}/chain/secret",
    ],
)
def test_no_path_leads_out_of_the_home_folder(client: Client, home: Path, path: str) -> None:
    for name, target in {
        "to_outside": f"{home.parent.parent}/outside",
        "to_file": f"{home.parent.parent}/outside/secret",
        "up": "../..",
        "chain": "to_outside",
    }.items():
        if not (home / name).is_symlink():
            (home / name).symlink_to(target)
    path = path.format(home.name, home=home.parent)
    assert refused(client, "files-list", path=path) == "outside-home"
    assert refused(client, "download-open", paths=[path]) == "outside-home"
    assert refused(client, "download-open", paths=[path], single=True) == "outside-home"
    if path.rpartition("/")[2] != "to_file":  # a link in the place of an upload is replaced
        assert refused(client, "files-upload", b"x", path=path) == "outside-home"
    assert (home.parent.parent / "outside" / "secret").read_text() == OUTSIDE


def test_an_upload_takes_the_place_of_a_link_and_does_not_follow_it(client: Client, home: Path) -> None:
    target = home.parent.parent / "outside" / "secret"
    (home / "link").symlink_to(target)
    client.call("files-upload", b"mine", path=f"{home.name}/link")
    assert not (home / "link").is_symlink()
    assert (home / "link").read_text() == "mine"
    assert target.read_text() == OUTSIDE


def test_links_that_stay_inside_are_followed(client: Client, home: Path) -> None:
    (home / "real" / "deep").mkdir(parents=True)
    (home / "real" / "f").write_text("inside")
    (home / "relative").symlink_to("real/deep/..")
    (home / "absolute").symlink_to(home / "real")
    for name in ("relative", "absolute"):
        assert fetch(client, f"{home.name}/{name}/f", single=True) == b"inside"
        client.call("files-upload", b"put", path=f"{home.name}/{name}/{name}")
        assert (home / "real" / name).read_bytes() == b"put"
    assert client.call("files-list", path=f"{home.name}/relative")["folder"] == str(home / "real")


def test_links_that_go_round_end(client: Client, home: Path) -> None:
    (home / "a").symlink_to("b")
    (home / "b").symlink_to("a")
    assert refused(client, "files-list", path=f"{home.name}/a") == "too-many-links"


def test_a_folder_swapped_for_a_link_while_it_is_walked_leads_nowhere(client: Client, home: Path) -> None:
    """The race that checking first and opening then loses."""
    (home / "real").mkdir()
    (home / "real" / "secret").write_text("own")
    outside = home.parent.parent / "outside"
    stop = threading.Event()
    seen, codes = set[bytes](), set[str]()

    def swap() -> None:
        while not stop.is_set():
            (home / "real").rename(home / "aside")
            (home / "real").symlink_to(outside)
            (home / "real").unlink()
            (home / "aside").rename(home / "real")

    thread = threading.Thread(target=swap)
    thread.start()
    try:
        for _ in range(400):
            try:
                seen.add(fetch(client, f"{home.name}/real/secret", single=True))
            except Refused as error:
                codes.add(error.code)
    finally:
        stop.set()
        thread.join()
    assert seen == {b"own"}
    assert codes <= {"no-such-path", "outside-home", "changed", "not-a-folder"}


def test_an_archive_holds_files_folders_and_links_by_their_paths(
    client: Client, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "folder" / "empty").mkdir(parents=True)
    (home / "folder" / "ä").write_text("umlaut")
    (home / "folder" / "run.sh").write_bytes(b"x" * 700_000)
    (home / "folder" / "run.sh").chmod(0o755)
    (home / "folder" / "link").symlink_to("/etc/passwd")
    os.mkfifo(home / "folder" / "pipe")
    with socket.socket(socket.AF_UNIX) as listening:
        monkeypatch.chdir(home)  # a socket's path has at most 107 bytes
        listening.bind("folder/socket")
    (home / "single").write_text("1")
    archive = fetch(client, f"{home.name}/folder", f"{home.name}/single")
    assert len(archive) % 512 == 0
    entries = unpack(archive)
    assert sorted(name.removeprefix(f"{home.name}/") for name in entries) == [
        *("folder", "folder/empty", "folder/link", "folder/run.sh", "folder/ä", "single")
    ]
    assert entries[f"{home.name}/folder/link"].linkname == "/etc/passwd"  # the link, not what it names
    assert entries[f"{home.name}/folder/run.sh"].mode == 0o755
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        file = tar.extractfile(f"{home.name}/folder/run.sh")
        assert file is not None
        assert file.read() == b"x" * 700_000


def test_an_archive_of_the_whole_home_folder_can_be_made(client: Client, home: Path) -> None:
    (home / "f").write_text("x")
    assert f"{home.name}/f" in unpack(fetch(client, "."))


@pytest.mark.parametrize("change", [b"", b"longer" * 100_000])
def test_a_file_that_changes_while_it_is_fetched_does_not_break_the_archive(
    client: Client, home: Path, change: bytes
) -> None:
    (home / "changing").write_bytes(b"y" * 600_000)
    (home / "next").write_text("next")
    download = client.call("download-open", paths=[f"{home.name}/changing", f"{home.name}/next"])["download"]
    archive = client.call_raw("download-read", download=download, bytes_max=1000)[1]
    (home / "changing").write_bytes(change)
    last = False
    while not last:
        about, data = client.call_raw("download-read", download=download, bytes_max=100_000)
        archive, last = archive + data, about["last"]
    entries = unpack(archive)
    assert entries[f"{home.name}/changing"].size == 600_000
    assert entries[f"{home.name}/next"].size == 4


@pytest.mark.parametrize("bytes_max", [1, 512, 100_000])
def test_one_file_is_fetched_as_it_is(client: Client, home: Path, bytes_max: int) -> None:
    (home / "f").write_bytes(bytes(range(256)) * 5)
    opened = client.call("download-open", paths=[f"{home.name}/f"], single=True)
    assert opened["bytes"] == 1280
    assert fetch(client, f"{home.name}/f", single=True, bytes_max=bytes_max) == bytes(range(256)) * 5


def test_what_is_not_there_or_no_file_is_said_before_anything_is_fetched(client: Client, home: Path) -> None:
    (home / "there").write_text("")
    os.mkfifo(home / "pipe")
    assert refused(client, "files-list", path=f"{home.name}/none") == "no-such-path"
    assert refused(client, "download-open", paths=[f"{home.name}/there", f"{home.name}/none"]) == "no-such-path"
    assert refused(client, "download-open", paths=[home.name], single=True) == "is-a-folder"
    assert refused(client, "download-open", paths=[f"{home.name}/pipe"], single=True) == "not-a-file"  # and no hang
    assert refused(client, "download-open", paths=[]) == "bad-request"
    assert refused(client, "download-open", paths=["a", "b"], single=True) == "bad-request"


def test_a_download_ends_with_its_connection_and_leaves_nothing_open(shared: Runner, home: Path) -> None:
    (home / "big").write_bytes(bytes(2_000_000))

    def open_files() -> int:
        return len(os.listdir(f"/proc/{shared.process.pid}/fd"))

    before = open_files()
    other = shared.connect()
    for _ in range(5):
        download = other.call("download-open", paths=[f"{home.name}/big"])["download"]
        other.call_raw("download-read", download=download, bytes_max=1000)
    assert refused(shared.client, "download-read", download=download) == "unknown-download"
    other.call("download-close", download=download)
    assert refused(other, "download-read", download=download) == "unknown-download"
    assert open_files() > before
    other.close()
    deadline = time.monotonic() + 5
    while open_files() > before:
        assert time.monotonic() < deadline
        time.sleep(0.01)
