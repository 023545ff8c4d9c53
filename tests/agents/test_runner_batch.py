"""Batch mode: shell commands with exact statuses, for any language."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.runners import Client, Outcome, Refused, Runner, running, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("shared")) as runner:
        yield runner


@pytest.fixture
def client(shared: Runner) -> Client:
    return shared.client


def batch(client: Client, **options: object) -> Outcome:
    return client.run(mode="batch", options=options)


def statuses(outcome: Outcome) -> list[tuple[str, int | None]]:
    return [(result["status"], result["exitCode"]) for result in outcome.results if result["status"] != "continued"]


def test_each_step_ends_with_its_status_its_exit_code_and_its_own_output(client: Client) -> None:
    outcome = batch(client, clean="echo c; exit 3", build="echo b >&2", exec="echo x; exit 5")
    assert statuses(outcome) == [("clean-finished", 3), ("build-finished", 0), ("finished", 5)]
    assert [result["console"] for result in outcome.results] == [
        [["stdout", "c\n"]],
        [["stderr", "b\n"]],
        [["stdout", "x\n"]],
    ]


def test_steps_that_are_absent_are_skipped(client: Client) -> None:
    assert statuses(batch(client, exec="true")) == [("finished", 0)]
    assert statuses(batch(client, build="true", exec="")) == [("build-finished", 0), ("finished", 0)]
    assert statuses(batch(client, clean="*", build=None)) == [("clean-finished", 0), ("finished", 0)]
    assert statuses(batch(client)) == [("finished", 0)]


def test_nothing_is_executed_when_building_failed(client: Client, shared: Runner) -> None:
    outcome = batch(client, build="exit 2", exec="touch executed")
    assert statuses(outcome) == [("build-finished", 2), ("finished", 127)]
    assert not (shared.home / "executed").exists()


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [("no-such-command-here", 127), ("kill -KILL $$", 137), ("/etc/passwd", 126), ("exit 255", 255)],
)
def test_an_exit_code_is_the_shells(client: Client, command: str, exit_code: int) -> None:
    assert statuses(batch(client, exec=command)) == [("finished", exit_code)]


def test_commands_run_in_the_home_folder_without_input(client: Client, shared: Runner) -> None:
    assert batch(client, exec="pwd; cat").printed() == f"{shared.home.resolve()}\n"


def test_output_is_told_while_it_comes(client: Client) -> None:
    result = client.call(
        "execute", mode="batch", options={"exec": "echo first; sleep 0.5; echo second"}, wait_ms=5000, gather_ms=0
    )
    assert (result["status"], result["console"]) == ("continued", [["stdout", "first\n"]])
    assert client.rest(client.go_on(result["runId"])).printed() == "second\n"


def test_an_interrupt_ends_the_step_and_those_after_it(client: Client, shared: Runner) -> None:
    result = client.call(
        "execute",
        mode="batch",
        options={"build": "trap 'exit 0' INT; while :; do sleep 0.05; done", "exec": "touch after"},
        wait_ms=300,
    )
    client.call("interrupt")
    outcome = client.rest(client.go_on(result["runId"]))
    assert statuses(outcome) == [("build-finished", 0), ("finished", 130)]
    assert not (shared.home / "after").exists()


def test_a_program_that_takes_too_long_is_ended_with_what_it_started(client: Client) -> None:
    outcome = batch(client, exec="trap '' INT; sleep 61 & wait; sleep 61", timeout_seconds=0.2)
    assert statuses(outcome) == [("exec-timeout", None)]
    assert not [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\0" + b"61" in _read(path)]


def test_what_goes_on_in_the_background_does_not_hold_up_the_run(client: Client, shared: Runner) -> None:
    outcome = batch(client, exec="(sleep 0.3; echo late; touch done) & echo now")
    assert statuses(outcome) == [("finished", 0)]
    assert outcome.printed() == "now\n"
    until((shared.home / "done").exists)  # and a closed pipe did not end it
    assert batch(client, exec="echo next").printed() == "next\n"


def test_both_modes_wait_for_each_other(shared: Runner) -> None:
    slow = shared.client.send("execute", mode="batch", options={"exec": "sleep 0.2; touch made"}, wait_ms=5000)
    assert shared.connect().run("import os; os.path.exists('made')").printed() == "True\n"
    assert shared.client.answer(slow)[0]["status"] == "finished"


def test_python_has_its_own_way_to_execute(tmp_path: Path) -> None:
    with running(tmp_path) as runner:
        outcome = batch(runner.client, clean="*", build="*", exec="*")
        assert statuses(outcome) == [("clean-finished", 0), ("build-finished", 0), ("finished", 127)]
        (runner.home / "only.py").write_text("import sys; print('only'); sys.exit(4)")
        outcome = batch(runner.client, exec="*")
        assert (outcome.printed(), outcome.exit_code) == ("only\n", 4)
        (runner.home / "main.py").write_text("print('main')")
        assert batch(runner.client, exec="*").printed() == "main\n"


@pytest.mark.skipif(shutil.which("gcc") is None, reason="this machine has no C compiler")
def test_c_has_its_own_way_to_build(tmp_path: Path) -> None:
    with running(tmp_path, "--runtime-type", "c") as runner:
        assert runner.client.greeting["modes"] == ["batch"]
        (runner.home / "deep").mkdir()
        (runner.home / "deep" / "f.c").write_text("int f(void) { return 9; }")
        (runner.home / "program.c").write_text("int f(void); int main() { return f(); }")
        assert statuses(batch(runner.client, build="*", exec="*")) == [("build-finished", 0), ("finished", 9)]
        (runner.home / "program.c").write_text("no C at all")
        assert statuses(batch(runner.client, build="*", exec="*")) == [("build-finished", 1), ("finished", 127)]


@pytest.mark.parametrize(
    "options", [{"exec": 5}, {"build": ["make"]}, {"timeout_seconds": 0}, {"timeout_seconds": "1"}]
)
def test_options_of_the_wrong_kind_are_refused_by_name(client: Client, options: dict[str, object]) -> None:
    with pytest.raises(Refused) as refused:
        client.call("execute", mode="batch", options=options)
    assert refused.value.code == "bad-request"
    assert f"options.{next(iter(options))}" in refused.value.why


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""
