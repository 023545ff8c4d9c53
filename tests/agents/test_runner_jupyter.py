"""Query mode by a kernel of Jupyter, where the session's Python has one."""

from collections.abc import Iterator

import pytest

from tests.agents.runners import Client, Runner, running


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    arguments = ("--jupyter-kernel", "python3", "--runtime-type", "other")
    with running(tmp_path_factory.mktemp("shared"), *arguments) as runner:
        yield runner


@pytest.fixture
def client(shared: Runner) -> Client:
    return shared.client


def test_state_is_kept_and_the_last_expression_is_echoed(client: Client) -> None:
    assert client.run("kept = 20\nkept + 1").console == [["stdout", "21\n"]]
    assert client.run("kept * 2").console == [["stdout", "40\n"]]


def test_streams_errors_and_rich_values_arrive(client: Client) -> None:
    code = "import sys\nprint('a', flush=True)\nprint('b', file=sys.stderr)\n1/0"
    outcome = client.run(code)
    assert (outcome.printed(), outcome.exit_code) == ("a\n", 0)
    assert "ZeroDivisionError" in outcome.printed("stderr")
    client.run("class Table:\n    def _repr_html_(self): return '<table/>'")
    assert client.run("Table()").console == [["html", "<table/>"]]


def test_input_waits_for_a_line_and_passwords_are_marked(client: Client) -> None:
    asked = client.call("execute", mode="query", code="import getpass\ninput('Who? '), getpass.getpass()", wait_ms=9000)
    assert (asked["status"], asked["options"]) == ("waiting-input", {"is_password": False})
    asked = client.go_on(asked["runId"], "input", code="Ann")
    assert (asked["status"], asked["options"]) == ("waiting-input", {"is_password": True})
    assert client.rest(client.go_on(asked["runId"], "input", code="pw")).printed() == "('Ann', 'pw')\n"


@pytest.mark.parametrize("code", ["import time; time.sleep(60)", "input()"])
def test_an_interrupt_ends_the_run_and_not_the_kernel(client: Client, code: str) -> None:
    client.run("survivor = 1")
    first = client.call("execute", mode="query", code=code, wait_ms=300)
    client.call("interrupt")
    assert "KeyboardInterrupt" in client.rest(client.go_on(first["runId"])).printed("stderr")
    assert client.run("survivor").printed() == "1\n"


def test_a_name_is_completed(client: Client) -> None:
    client.run("%config IPCompleter.use_jedi = False\nlong_name_of_mine = 1")  # jedi takes seconds the first time
    assert client.call("complete", code="long_name_of")["result"] == ["long_name_of_mine"]


def test_a_kernel_that_dies_ends_the_run_and_the_next_gets_a_new_one(client: Client) -> None:
    outcome = client.run("import os; os._exit(7)")
    assert (outcome.status, outcome.exit_code) == ("finished", 1)
    assert "its state is lost" in outcome.printed("stderr")
    assert client.run("'anew'").printed() == "'anew'\n"
