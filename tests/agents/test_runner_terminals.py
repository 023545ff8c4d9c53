"""Terminals: a real shell with job control, whose output is a log with offsets."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.runners import Client, Refused, Runner, running, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("shared")) as runner:
        yield runner


class Screen:
    """One terminal as its user sees it."""

    def __init__(self, client: Client, **fields: Any) -> None:
        self.client = client
        self.name = client.call("terminal-open", **fields)["terminal"]
        self.text = ""
        self.next = 0
        self.exit_code: int | None = None

    def type(self, text: str) -> None:
        self.client.call("terminal-write", text.encode(), terminal=self.name)

    def read(self, wait_ms: int = 5000) -> str:
        about, data = self.client.call_raw(
            "terminal-read", terminal=self.name, after=self.next, wait_ms=wait_ms, bytes_max=1_000_000
        )
        self.next, self.exit_code = about["next"], about["exitCode"]
        self.text += data.decode(errors="replace")
        return data.decode(errors="replace")

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + 10
        while text not in self.text:
            assert time.monotonic() < deadline, self.text
            self.read(1000)


@pytest.fixture
def screen(shared: Runner) -> Iterator[Screen]:
    opened = Screen(shared.client, command=["/bin/sh"], environ={"PS1": "$ "})
    yield opened
    shared.client.call("terminal-close", terminal=opened.name)


def test_a_shell_has_job_control(shared: Runner) -> None:
    screen = Screen(shared.client, command=["/bin/bash", "--norc", "-i"])
    screen.type("tty; sh -c 'echo be''gan; exec sleep 100'\n")
    screen.wait_for("/dev/pts/")
    screen.wait_for("began")
    screen.type("\x1a")  # Ctrl-Z
    screen.wait_for("Stopped")
    screen.type("kill %1; jobs; echo do''ne\n")
    screen.wait_for("done")
    assert "no job control" not in screen.text
    shared.client.call("terminal-close", terminal=screen.name)


def test_control_c_reaches_the_program(screen: Screen) -> None:
    screen.type("sleep 100; echo en''ded=$?\n")
    time.sleep(0.2)
    screen.type("\x03")
    screen.type("echo a''live\n")
    screen.wait_for("alive")


def test_the_size_is_as_it_was_asked_for_and_can_change(shared: Runner) -> None:
    screen = Screen(shared.client, command=["/bin/sh"], rows=11, cols=55)
    screen.type("stty size\n")
    screen.wait_for("11 55")
    shared.client.call("terminal-resize", terminal=screen.name, rows=22, cols=77)
    screen.type("stty size\n")
    screen.wait_for("22 77")
    screen.client.call("terminal-restart", terminal=screen.name)
    screen.type("stty size; echo a''gain\n")
    screen.wait_for("again")
    assert "22 77" in screen.text.rpartition("stty size")[2]
    shared.client.call("terminal-close", terminal=screen.name)


def test_a_shell_that_exits_says_how_and_can_be_started_again(screen: Screen) -> None:
    screen.type("echo bye; exit 7\n")
    while screen.exit_code is None:
        screen.read()
    assert (screen.exit_code, "bye" in screen.text) == (7, True)
    with pytest.raises(Refused) as refused:
        screen.type("more\n")
    assert refused.value.code == "terminal-ended"
    before = screen.next
    screen.client.call("terminal-restart", terminal=screen.name)
    screen.type("echo b''ack\n")
    screen.wait_for("back")
    assert screen.next > before  # one log, whatever writes to it
    assert screen.exit_code is None


def test_a_restart_ends_what_the_shell_runs(screen: Screen) -> None:
    screen.type("trap '' HUP; echo pid=$$=; sleep 100\n")
    screen.wait_for("=\r\n")
    pid = int(screen.text.rsplit("pid=", 1)[1].split("=")[0])
    screen.client.call("terminal-restart", terminal=screen.name)
    until(lambda: not Path(f"/proc/{pid}").exists())
    screen.type("echo n''ew\n")
    screen.wait_for("new")


def test_a_reader_that_comes_back_goes_on_where_it_was(shared: Runner, screen: Screen) -> None:
    screen.type("echo on''e\n")
    screen.wait_for("one")
    screen.client.send("terminal-read", terminal=screen.name, after=screen.next, wait_ms=60_000)
    again = shared.connect()
    opened = again.call("terminal-open", terminal=screen.name, rows=24, cols=80)
    assert opened["terminal"] == screen.name
    again.call("terminal-write", b"echo tw''o\n", terminal=screen.name)
    second = Screen.__new__(Screen)
    second.client, second.name, second.text, second.next = again, screen.name, "", screen.next
    second.wait_for("two")
    assert "one" not in second.text


def test_to_open_a_terminal_whose_shell_has_ended_starts_another(screen: Screen) -> None:
    for ending in ("echo fir''st; exit 3\n", "exit 4\n"):
        screen.type(ending)
        until(lambda: screen.read(1000) == "" and screen.exit_code is not None)
        assert f"exit {screen.exit_code}" in ending
        assert screen.client.call("terminal-open", terminal=screen.name)["next"] == screen.next
        assert screen.client.call("terminal-open", terminal=screen.name)["next"] >= screen.next  # it is there already
        screen.wait_for("$ ")
    screen.type("echo last\n")
    screen.wait_for("last\r\n")
    assert "first" in screen.text


def test_a_terminal_keeps_its_size_for_who_wants_no_other(shared: Runner) -> None:
    screen = Screen(shared.client, command=["/bin/sh"], rows=11, cols=55)
    shared.client.call("terminal-open", terminal=screen.name)
    screen.type("stty size\n")
    screen.wait_for("11 55")
    shared.client.call("terminal-open", terminal=screen.name, rows=12, cols=44)
    screen.type("stty size\n")
    screen.wait_for("12 44")
    shared.client.call("terminal-close", terminal=screen.name)


def test_a_shell_waits_while_nobody_reads_and_the_last_output_is_kept(screen: Screen, tmp_path: Path) -> None:
    screen.type(f"yes 0123456789 | head -c 2000000; touch {tmp_path}/finished\n")
    until(lambda: screen.client.call("terminal-open", terminal=screen.name)["next"] == 262_144)
    time.sleep(0.2)
    assert not (tmp_path / "finished").exists()  # it is held up
    about, data = screen.client.call_raw("terminal-read", terminal=screen.name, after=0, bytes_max=1_000_000)
    assert about["at"] == 0
    assert len(data) == 262_144
    screen.next = about["next"]
    deadline = time.monotonic() + 20
    while not (tmp_path / "finished").exists():
        assert time.monotonic() < deadline
        screen.read(50)
    about, _ = screen.client.call_raw("terminal-read", terminal=screen.name, after=0)
    assert about["at"] > 1_000_000  # what is older is gone, and the reader is told


def test_much_that_is_typed_arrives_whole(screen: Screen, tmp_path: Path) -> None:
    screen.type(f"stty -echo; cat > {tmp_path}/typed\n")
    time.sleep(0.2)
    line = "x" * 99 + "\n"
    for _ in range(20):
        screen.type(line * 100)
    screen.type("\x04")
    until(lambda: (tmp_path / "typed").stat().st_size == 200_000)


def test_a_read_that_finds_nothing_answers_after_its_wait(screen: Screen) -> None:
    screen.wait_for("$ ")
    before = time.monotonic()
    assert screen.read(wait_ms=200) == ""
    assert 0.15 < time.monotonic() - before < 30


def test_a_closed_terminal_is_gone_and_closing_twice_is_closing_once(shared: Runner) -> None:
    screen = Screen(shared.client, command=["/bin/sh", "-c", "echo pid=$$=; exec sleep 100"])
    screen.wait_for("=\r\n")
    pid = int(screen.text.split("pid=")[1].split("=")[0])
    for _ in range(2):
        shared.client.call("terminal-close", terminal=screen.name)
    assert not Path(f"/proc/{pid}").exists()
    with pytest.raises(Refused) as refused:
        screen.read()
    assert refused.value.code == "unknown-terminal"


def test_a_shell_that_cannot_be_started_is_named(shared: Runner) -> None:
    with pytest.raises(Refused) as refused:
        shared.client.call("terminal-open", command=["/no/such/shell"])
    assert (refused.value.code, "/no/such/shell" in refused.value.why) == ("cannot-run", True)


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"rows": 0}, "rows"),
        ({"cols": "80"}, "cols"),
        ({"environ": {"A": 1}}, "environ"),
        ({"command": "sh"}, "command"),
    ],
)
def test_a_wrong_field_is_refused_by_name(shared: Runner, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        shared.client.call("terminal-open", **fields)
    assert refused.value.code == "bad-request"
    assert refused.value.why.startswith(f"{field}: ")
