"""Query mode: an interpreter that lives on between runs."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.runners import Client, Outcome, Refused, Runner, running, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One for all tests that leave no trace but names of their own."""
    with running(tmp_path_factory.mktemp("shared")) as runner:
        yield runner


@pytest.fixture
def client(shared: Runner) -> Client:
    return shared.client


@pytest.fixture
def runner(tmp_path: Path) -> Iterator[Runner]:
    """One for a test that breaks something."""
    with running(tmp_path) as own:
        yield own


def test_state_is_kept_and_the_last_expression_is_echoed(client: Client) -> None:
    assert client.run("kept = 20\nkept + 1").console == [["stdout", "21\n"]]
    assert client.run("kept * 2").console == [["stdout", "40\n"]]
    assert client.run("_ + 2").console == [["stdout", "42\n"]]
    assert client.run("1; 2\nnothing = 3").console == []
    assert client.run("None").console == []
    assert client.run("").console == []


def test_a_run_answers_with_its_id_and_always_exits_with_zero(client: Client) -> None:
    result = client.call("execute", mode="query", code="1", run_id="chosen")
    assert (result["runId"], result["status"], result["exitCode"]) == ("chosen", "finished", 0)
    assert client.run("1/0").exit_code == 0
    assert client.run("import sys; sys.exit(3)").exit_code == 0
    assert client.run("sys.exit('so long')").console == [["stderr", "so long\n"]]


def test_an_exception_ends_the_run_with_a_traceback_of_the_users_frames_only(client: Client) -> None:
    code = "def broken():\n    raise ValueError('from here')\ntry:\n    1/0\nexcept ZeroDivisionError:\n    broken()"
    outcome = client.run(code)
    [[stream, trace]] = outcome.console
    assert (stream, outcome.status) == ("stderr", "finished")
    assert "ZeroDivisionError" in trace
    assert "raise ValueError('from here')" in trace  # the line itself, though it is in no file
    assert trace.endswith("ValueError: from here\n")
    assert "runner" not in trace
    assert "child.py" not in trace


def test_code_that_is_no_python_says_where(client: Client) -> None:
    trace = client.run("def f(:").printed("stderr")
    assert "SyntaxError" in trace
    assert "^" in trace
    assert "runner" not in trace


def test_input_waits_for_a_line_and_passwords_are_marked(client: Client) -> None:
    asked = client.call("execute", mode="query", code="name = input('Who? ')\nname")
    assert (asked["status"], asked["options"], asked["exitCode"]) == ("waiting-input", {"is_password": False}, None)
    assert asked["console"] == [["stdout", "Who? "]]
    assert client.go_on(asked["runId"])["status"] == "waiting-input"  # asking again changes nothing
    assert client.go_on(asked["runId"], "input", code="Ann")["console"] == [["stdout", "'Ann'\n"]]

    asked = client.call("execute", mode="query", code="import getpass, sys\ngetpass.getpass()\nsys.stdin.readline()")
    assert asked["options"] == {"is_password": True}
    asked = client.go_on(asked["runId"], "input", code="secret")
    assert (asked["status"], asked["options"]) == ("waiting-input", {"is_password": False})
    assert client.go_on(asked["runId"], "input", code="line")["console"] == [["stdout", "'line\\n'\n"]]


def test_input_that_nobody_waits_for_is_refused(client: Client) -> None:
    done = client.call("execute", mode="query", code="1")
    with pytest.raises(Refused) as refused:
        client.go_on(done["runId"], "input", code="x")
    assert refused.value.code == "not-waiting"


@pytest.mark.parametrize(
    "code",
    [
        "import time; time.sleep(60)",
        "while True: pass",
        "input()",
        "import subprocess; subprocess.run(['sleep', '60'])",
    ],
)
def test_an_interrupt_ends_the_run_and_not_the_interpreter(client: Client, code: str) -> None:
    client.run("survivor = 'here'")
    result = client.call("execute", mode="query", code=code + "\ntime.sleep(60)", wait_ms=100)
    client.call("interrupt")
    outcome = client.rest(client.go_on(result["runId"]))
    assert "KeyboardInterrupt" in outcome.printed("stderr")
    assert client.run("survivor").printed() == "'here'\n"


def test_an_interrupt_that_comes_before_the_code_began_is_not_lost(runner: Runner) -> None:
    run = runner.client.send("execute", mode="query", code="import time; time.sleep(60)", wait_ms=20_000)
    runner.client.call("services")  # it is the run's turn now, and the interpreter is just starting
    runner.client.call("interrupt")
    result, _ = runner.client.answer(run)
    assert result["status"] == "finished"
    assert "KeyboardInterrupt" in Outcome([result]).printed("stderr")


def test_an_interrupt_while_nothing_runs_is_quiet(client: Client) -> None:
    client.call("interrupt")
    assert client.run("1").printed() == "1\n"


@pytest.mark.parametrize(
    ("code", "exit_code", "end"),
    [
        ("import os; os._exit(7)", 7, "ended with exit code 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", 139, "was ended by SIGSEGV"),
        ("import os; os.closerange(3, 100); os._exit(0)", 0, "ended with exit code 0"),
    ],
)
def test_an_interpreter_that_dies_ends_the_run_and_the_next_gets_a_new_one(
    client: Client, code: str, exit_code: int, end: str
) -> None:
    outcome = client.run("print('last words')\n" + code)
    assert (outcome.status, outcome.exit_code) == ("finished", exit_code)
    assert outcome.printed() == "last words\n"
    assert outcome.printed("stderr") == f"The interpreter {end}; its state is lost. The next run gets a new one.\n"
    assert client.run("'anew'").console == [["stdout", "'anew'\n"]]


def test_an_interpreter_that_died_between_two_runs_is_told(client: Client) -> None:
    pid = int(client.run("import os, threading\nthreading.Timer(0.05, os._exit, [5]).start()\nos.getpid()").printed())
    until(lambda: not Path(f"/proc/{pid}").exists())
    outcome = client.run("'anew'")
    assert outcome.printed() == "'anew'\n"
    assert "ended with exit code 5 since the last run" in outcome.printed("stderr")


def test_a_request_that_is_sent_again_is_run_once(client: Client) -> None:
    client.run("times = 0")
    for _ in range(2):
        assert client.run("times += 1\ntimes", run_id="once").console == [["stdout", "1\n"]]
    with pytest.raises(Refused) as refused:
        client.run("times += 2", run_id="once")
    assert refused.value.code == "run-exists"


def test_an_answer_that_was_lost_is_given_again(client: Client) -> None:
    first = client.call("execute", mode="query", code="print('a'); x = input(); print(x)")
    assert client.go_on(first["runId"], seen=0) == first
    second = client.go_on(first["runId"], "input", code="b", seen=1)
    assert second["console"] == [["stdout", "b\n"]]
    assert client.go_on(first["runId"], seen=1) == second
    assert client.go_on(first["runId"], seen=2) == second  # nothing will ever follow it


def test_a_run_nobody_knows_is_refused(client: Client) -> None:
    for run_id in ("no-such-run", None):
        with pytest.raises(Refused) as refused:
            client.call("execute", mode="continue", run_id=run_id)
        assert refused.value.code == "unknown-run"


def test_runs_that_overlap_wait_for_their_turn(shared: Runner) -> None:
    first, second = shared.connect(), shared.connect()
    first.run("order = []")
    slow = first.send("execute", mode="query", code="import time; time.sleep(0.3); order.append('first')", wait_ms=5000)
    time.sleep(0.05)
    waiting = second.call("execute", mode="query", code="order.append('second'); order", wait_ms=50)
    assert (waiting["status"], waiting["console"]) == ("continued", [])
    assert first.answer(slow)[0]["status"] == "finished"
    assert second.rest(waiting).printed() == "['first', 'second']\n"


def test_a_run_that_waits_for_its_turn_can_be_cancelled(client: Client) -> None:
    slow = client.call("execute", mode="query", code="import time; time.sleep(0.3)", wait_ms=20)
    waiting = client.call("execute", mode="query", code="never = 1", wait_ms=20)
    client.call("interrupt", run_id=waiting["runId"])
    outcome = client.rest(client.go_on(waiting["runId"]))
    assert (outcome.status, outcome.exit_code) == ("finished", 130)
    assert "cancelled" in outcome.printed("stderr")
    assert client.rest(client.go_on(slow["runId"])).printed("stderr") == ""
    assert "NameError" in client.run("never").printed("stderr")


def test_a_run_that_takes_too_long_is_interrupted(client: Client) -> None:
    client.run("survivor = 1")
    outcome = client.run("import time; time.sleep(60)", options={"timeout_seconds": 0.2})
    assert (outcome.status, outcome.exit_code) == ("exec-timeout", None)
    assert client.run("survivor").printed() == "1\n"


def test_a_run_that_takes_too_long_and_does_not_obey_is_killed(client: Client) -> None:
    code = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\ntime.sleep(60)"
    outcome = client.run(code, options={"timeout_seconds": 0.1})
    assert outcome.status == "exec-timeout"
    assert "SIGKILL" in outcome.printed("stderr")
    assert client.run("'anew'").printed() == "'anew'\n"


def test_a_name_is_completed_from_what_is_there(client: Client) -> None:
    client.run("import sys\nlong_name_of_mine = {'a': 1}")
    assert client.call("complete", code="x = long_name_of")["result"] == ["long_name_of_mine"]
    assert "sys.stdout" in client.call("complete", code="print(sys.std")["result"]
    assert client.call("complete", code="nothing_like_it")["result"] == []
    assert client.call("complete", code="f(")["result"] == []


def test_completing_does_not_wait_for_a_run_and_cannot_hang(client: Client) -> None:
    running_code = client.call("execute", mode="query", code="import time; time.sleep(60)", wait_ms=20)
    assert client.call("complete", code="ti")["result"] == []
    client.call("interrupt")
    client.rest(client.go_on(running_code["runId"]))
    client.run("class Slow:\n    @property\n    def inner(self): time.sleep(60)\nslow = Slow()\nkept = 1")
    assert client.call("complete", code="slow.inner.a")["result"] == []
    assert client.run("kept").printed() == "1\n"


def test_the_user_does_not_see_us(shared: Runner) -> None:
    (shared.home / "runner.py").write_text("mine = True")
    assert shared.client.run("import runner; runner.mine").printed() == "True\n"
    code = "import sys; sorted(k for k in sys.modules if 'refold' in k), sys.argv, sys.path[0], __name__"
    assert shared.client.run(code).printed() == "([], [''], '', '__main__')\n"
    assert shared.client.run("import os; os.getcwd() == os.path.realpath(os.environ['HOME'])").printed() == "True\n"
    code = "import pickle\nclass Mine: pass\ntype(pickle.loads(pickle.dumps(Mine()))) is Mine"
    assert shared.client.run(code).printed() == "True\n"


def test_a_fork_that_runs_out_of_the_code_answers_nothing(client: Client) -> None:
    outcome = client.run(
        "import os\npid = os.fork()\nif pid: x = os.waitpid(pid, 0)\nprint('parent' if pid else 'child')"
    )
    assert sorted(outcome.printed().split()) == ["child", "parent"]
    assert client.run("'one answer each'").printed() == "'one answer each'\n"


def test_processes_of_multiprocessing_work(client: Client) -> None:
    code = "import multiprocessing as m\nwith m.get_context('fork').Pool(2) as pool: out = pool.map(abs, [-1, -2])\nout"
    assert client.run(code).printed() == "[1, 2]\n"


def test_code_longer_than_a_pipe_holds_is_run(client: Client) -> None:
    assert client.run(f"len('{'x' * 300_000}')").printed() == "300000\n"


def test_a_future_import_holds_from_then_on(runner: Runner) -> None:
    runner.client.run("from __future__ import annotations")
    assert runner.client.run("def f(x: undefined_name): pass\nf.__annotations__['x']").printed() == "'undefined_name'\n"


def test_a_python_that_cannot_be_started_is_named(tmp_path: Path) -> None:
    with running(tmp_path, "--runtime-path", "/no/such/python") as runner:
        outcome = runner.client.run("1")
        assert (outcome.status, outcome.exit_code) == ("finished", -1)
        assert "/no/such/python" in outcome.printed("stderr")


def test_a_kernel_without_query_mode_says_so(tmp_path: Path) -> None:
    with running(tmp_path, "--modes", "batch") as runner:
        assert runner.client.greeting["modes"] == ["batch"]
        with pytest.raises(Refused) as refused:
            runner.client.run("1")
        assert refused.value.code == "unsupported-mode"
        assert runner.client.call("complete", code="pri") == {"result": []}
