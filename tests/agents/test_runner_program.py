"""The runner as a kernel's main process: bootstrap, main command, signals, orphans, exit codes, any Python."""

import ast
import os
import shutil
import signal
import subprocess
import sys
import time
import zipapp
from pathlib import Path

import pytest

from tests.agents.runners import RUNNER, Refused, pythons, running, until


def children(pid: int) -> list[str]:
    """States of a process's children."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            after_name = stat.read_bytes().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(after_name[1]) == pid:
            found.append(after_name[0].decode())
    return found


@pytest.mark.parametrize(
    ("command", "exit_code"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 42"], 42),
        (["sh", "-c", "kill -SEGV $$"], 139),
        (["/no/such/command"], 127),
        (["/etc/passwd"], 126),
    ],
)
def test_the_kernel_ends_with_its_main_commands_exit_code(tmp_path: Path, command: list[str], exit_code: int) -> None:
    with running(tmp_path, command=command, wait=False) as runner:
        assert runner.ended() == exit_code
    assert not runner.socket_path.exists()


def test_the_main_commands_output_is_the_kernels_own(tmp_path: Path) -> None:
    with running(tmp_path, command=["sh", "-c", "pwd; echo e >&2"], wait=False) as runner:
        runner.ended()
        assert runner.log() == f"{runner.home.resolve()}\ne\n"


def test_the_kernel_can_be_used_while_its_main_command_runs(tmp_path: Path) -> None:
    with running(tmp_path, command=["sh", "-c", "while [ ! -e go ]; do sleep 0.02; done; exit 3"]) as runner:
        assert runner.client.run("open('go', 'w').close()").status == "finished"
        assert runner.ended() == 3


def test_a_signal_is_the_main_commands_affair(tmp_path: Path) -> None:
    script = "trap 'echo told; exit 9' TERM; trap 'echo used' USR1; echo ready; while :; do sleep 0.02; done"
    with running(tmp_path, command=["sh", "-c", script]) as runner:
        until(lambda: "ready" in runner.log())
        runner.process.send_signal(signal.SIGUSR1)
        until(lambda: "used" in runner.log())
        runner.process.send_signal(signal.SIGTERM)
        assert runner.ended() == 9
        assert "told" in runner.log()


def test_a_signal_also_reaches_what_the_main_commands_shell_runs(tmp_path: Path) -> None:
    with running(tmp_path, command=["sh", "-c", "trap 'exit 5' TERM; echo ready; sleep 100; exit 1"]) as runner:
        until(lambda: "ready" in runner.log())
        time.sleep(0.1)
        runner.process.send_signal(signal.SIGTERM)
        assert runner.ended() == 5  # a shell sees to its trap once the program in the foreground has ended


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_kernel_without_a_main_command_ends_at_a_signal_with_all_it_started(
    tmp_path: Path, number: signal.Signals
) -> None:
    with running(tmp_path) as runner:
        code = (
            "import os, subprocess\np = subprocess.Popen(['sleep', '100'], start_new_session=True)\nos.getpid(), p.pid"
        )
        pids = ast.literal_eval(runner.client.run(code).printed())
        runner.client.call("terminal-open")
        runner.process.send_signal(number)
        assert runner.ended() == 128 + number
        for pid in pids:
            assert not Path(f"/proc/{pid}").exists()


def test_what_lost_its_parent_is_collected(tmp_path: Path) -> None:
    with running(tmp_path) as runner:
        runner.client.run("an_interpreter = 'that stays'")
        runner.client.run(mode="batch", options={"exec": "for i in 1 2 3; do (setsid sleep 0.2 &) ; done"})
        assert len(children(runner.process.pid)) == 4  # they are the runner's now
        until(lambda: len(children(runner.process.pid)) == 1)  # and not even dead ones stay


@pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"]).returncode
    != 0,
    reason="this machine gives no namespace of processes",
)
def test_it_is_a_good_process_1(tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    script = "echo I am $PPID\nfor i in 1 2 3; do (setsid sleep 0.05 &); done\n"
    script += "sleep 0.4\ncat /proc/1/task/1/children\nexit 7"
    words = [
        "unshare",
        "--user",
        "--map-root-user",
        "--pid",
        "--fork",
        "--mount-proc",
        sys.executable,
        "-I",
        str(RUNNER),
    ]
    words += ["--socket", str(tmp_path / "s" / "r.sock"), "--home", str(tmp_path / "home"), "--", "bash", "-c", script]
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 7, done.stderr
    first, left = done.stdout.splitlines()
    assert first == "I am 1"
    assert len(left.split()) == 1  # the script itself


def test_bootstrap_scripts_run_before_the_socket_is_there(tmp_path: Path) -> None:
    for name, text in (
        ("first", "sleep 0.3; echo 1 >> $HOME/order"),
        ("second", "#!/bin/sh\necho 2 >> $HOME/order; exit 5"),
    ):
        (tmp_path / name).write_text(text)
    (tmp_path / "second").chmod(0o755)
    arguments = [word for name in ("first", "absent", "second") for word in ("--bootstrap", str(tmp_path / name))]
    with running(tmp_path, *arguments) as runner:
        assert (runner.home / "order").read_text() == "1\n2\n"
        assert "second ended with exit code 5" in runner.log()
        assert "absent" not in runner.log()


def test_a_signal_during_the_bootstrap_ends_it(tmp_path: Path) -> None:
    (tmp_path / "slow").write_text("echo began; sleep 100")
    with running(tmp_path, "--bootstrap", str(tmp_path / "slow"), command=["echo", "never"], wait=False) as runner:
        until(lambda: "began" in runner.log())
        runner.process.terminate()
        assert runner.ended() == 143
        assert "never" not in runner.log()


@pytest.mark.parametrize("python", pythons(), ids=lambda path: Path(path).parents[1].name)
def test_any_python_from_3_8_on_runs_all_of_it(tmp_path: Path, python: str) -> None:
    with running(tmp_path, python=python) as runner:
        client = runner.client
        version = ".".join(map(str, ast.literal_eval(client.run("import sys; tuple(sys.version_info[:2])").printed())))
        assert client.greeting["python"].startswith(version)
        assert client.run("print('a', file=sys.stderr)\n1 + 1").console == [["stderr", "a\n"], ["stdout", "2\n"]]
        trace = client.run("def f(): return 1/0\nf()").printed("stderr")
        assert "line 1, in f" in trace
        assert "child.py" not in trace
        asked = client.call("execute", mode="query", code="input()")
        assert client.go_on(asked["runId"], "input", code="x")["console"] == [["stdout", "'x'\n"]]
        sleeping = client.call("execute", mode="query", code="import time; time.sleep(60)", wait_ms=50)
        client.call("interrupt")
        assert "KeyboardInterrupt" in client.rest(client.go_on(sleeping["runId"])).printed("stderr")
        assert client.call("complete", code="sys.version_i")["result"] == ["sys.version_info"]
        assert client.run("import os; os._exit(3)").exit_code == 3
        assert client.run(mode="batch", options={"build": "echo b", "exec": "exit 4"}).exit_code == 4
        terminal = client.call("terminal-open", command=["sh", "-c", "echo in a terminal"])["terminal"]
        until(lambda: b"in a terminal" in client.call_raw("terminal-read", terminal=terminal, after=0)[1])
        client.call("files-upload", b"up", path="deep/up.txt")
        assert [entry["name"] for entry in client.call("files-list", path="deep")["entries"]] == ["up.txt"]
        download = client.call("download-open", paths=["deep"])["download"]
        assert client.call_raw("download-read", download=download)[0] == {"last": True}
        with pytest.raises(Refused) as refused:
            client.call("service-start", service="none", ports=[1])
        assert refused.value.code == "unknown-service"


def test_it_runs_from_one_zip_file(tmp_path: Path) -> None:
    shutil.copytree(RUNNER, tmp_path / "source" / "runner", ignore=shutil.ignore_patterns("__pycache__"))
    zipapp.create_archive(tmp_path / "source", tmp_path / "runner.pyz", main="runner.program:main")
    with running(tmp_path, program=tmp_path / "runner.pyz") as runner:
        assert runner.client.run("x = 20\nx + 1").printed() == "21\n"
        assert "child.py" not in runner.client.run("1/0").printed("stderr")


def test_it_runs_from_a_folder_nobody_may_write_to_under_any_name(tmp_path: Path) -> None:
    shutil.copytree(RUNNER, tmp_path / "some-name", ignore=shutil.ignore_patterns("__pycache__"))
    for path in (*(tmp_path / "some-name").iterdir(), tmp_path / "some-name"):
        path.chmod(0o555)
    with running(tmp_path, program=tmp_path / "some-name") as runner:
        assert runner.client.run("1 + 1").printed() == "2\n"
    (tmp_path / "some-name").chmod(0o755)


def test_it_needs_nothing_but_the_standard_library() -> None:
    for path in sorted(RUNNER.glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(), feature_version=(3, 8))):
            if isinstance(node, ast.Import):
                assert {alias.name.partition(".")[0] for alias in node.names} <= sys.stdlib_module_names, path
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 1 or (node.module or "").partition(".")[0] in sys.stdlib_module_names, path


def test_its_environment_is_what_its_programs_find(tmp_path: Path) -> None:
    with running(tmp_path) as runner:
        code = "import os; {k: os.environ.get(k) for k in ('HOME', 'LANG', 'MPLBACKEND', 'PYTHONPATH')}"
        found = ast.literal_eval(runner.client.run(code).printed())
        assert found == {"HOME": str(runner.home), "LANG": "C.UTF-8", "MPLBACKEND": None, "PYTHONPATH": None}
        assert os.environ["PATH"] in runner.client.run(mode="batch", options={"exec": "echo $PATH"}).printed()
