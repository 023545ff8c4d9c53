"""What a newcomer meets first: the environment is made once, and every mistake is answered with one sentence."""

import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from infra import bootstrap, launch
from infra.embedded import status_line
from infra.embedded.folder import held
from infra.embedded.storage import own_storage
from infra.settings import Settings
from infra.supervise import Child, Supervisor

ELSEWHERE = {"REFOLD_KAFKA": "kafka.invalid:9092", "REFOLD_DATABASE": "postgresql://refold@db.invalid/refold"}


def refused(*args: str) -> str:
    """What `infra/up` says when it refuses to start with these arguments."""
    done = CliRunner().invoke(launch.app, args, env=ELSEWHERE)
    assert (done.exit_code, done.stdout) == (1, "")
    return done.stderr.removesuffix("\n")


def test_a_port_in_use_is_one_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert refused("--data-dir", str(tmp_path), "--port", str(port)) == (
            f"infra/up: port {port} is in use by another program; choose another one with --port"
        )


def test_a_second_start_on_the_same_data_is_one_sentence(tmp_path: Path) -> None:
    with held(tmp_path):
        said = refused("--data-dir", str(tmp_path))
    assert said.startswith(f"infra/up: the data folder {tmp_path} is in use by another Refold")
    assert "\n" not in said


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    said = refused("--data-dir", str(tmp_path / "file" / "data"))
    assert said == f"infra/up: cannot write to the data folder {tmp_path}/file/data: Not a directory"


def test_a_storage_service_and_an_agent_on_one_machine_share_its_volumes(tmp_path: Path) -> None:
    chosen = Settings.model_validate(own_storage(tmp_path, Settings()))
    assert chosen.agent_volumes == {chosen.vfolder_host: chosen.storage_volumes["volume1"]}
    assert Path(chosen.storage_volumes["volume1"]).is_dir()
    given = Settings(storage_volumes={"fast": str(tmp_path / "fast"), "far": "s3://bucket"}, storage_name="here")
    chosen = Settings.model_validate(own_storage(tmp_path, given))
    assert chosen.agent_volumes == {"here:fast": str(tmp_path / "fast")}  # nothing of the other is a folder
    assert chosen.storage_volumes == given.storage_volumes
    assert (chosen.vfolder_host, list(chosen.storage)) == ("here:fast", ["here"])


async def test_the_status_line_tells_what_is_up_and_how_many_sessions_there_are(tmp_path: Path) -> None:
    async with Supervisor(tmp_path, report=lambda _: None) as supervisor:
        await supervisor.start(Child("api", (sys.executable, "-c", "import signal; signal.pause()")))
        shown = status_line.line(supervisor, ["api"], {"RUNNING": 2, "PENDING": 1}, seconds=3_720).plain
    assert shown == "● api  │ 2 running, 1 pending  │ up 1:02  │ Ctrl-C stops"


def test_the_environment_is_made_anew_only_when_the_lock_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "requirements.lock"
    lock.write_text("")
    larger = tmp_path / "tests.lock"
    larger.write_text("# and more\n")
    commands = list[list[str]]()
    carried_out = bootstrap._command

    def command(argv: list[str], steps: int = 0) -> None:
        commands.append(argv)
        carried_out(argv, steps)

    monkeypatch.setattr(bootstrap, "_command", command)
    python = bootstrap._ready(tmp_path / "venv", (lock, larger))
    assert subprocess.run([python, "-c", "import pip"], check=False).returncode == 0
    assert len(commands) == 2  # venv, pip
    bootstrap._ready(tmp_path / "venv", (lock, larger))
    assert len(commands) == 2
    lock.write_text("# changed\n")
    bootstrap._ready(tmp_path / "venv", (lock, larger))
    bootstrap._ready(tmp_path / "venv", (larger,))
    bootstrap._ready(tmp_path / "venv", (lock, larger))  # one that has more is as good
    assert [argv[-1] for argv in commands] == [str(tmp_path / "venv"), str(lock), str(lock), str(larger)]


def test_the_environment_of_the_tests_has_all_that_runs_in_the_same_versions() -> None:
    runs, tests = (
        set(re.findall(r"^[\w.-]+==\S+", lock.read_text(), re.MULTILINE))
        for lock in (bootstrap.LOCK, bootstrap.LOCK_OF_TESTS)
    )
    assert runs < tests


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        ("ERROR: [Errno 28] No space left on device", "no space left on the disk for the Python packages"),
        ("Retrying: NewConnectionError('[Errno 111]')\nERROR: No matching distribution", "cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM", "its hash differs"),
        ("ERROR: No matching distribution found for x==1", "No matching distribution found for x==1"),
    ],
)
def test_what_pip_says_becomes_one_sentence(output: str, sentence: str) -> None:
    assert sentence in bootstrap._why(output)


def test_an_old_python_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 9, 1))
    with pytest.raises(bootstrap.CannotPrepare, match=r"needs Python 3\.11 or newer, and this is Python 3\.9"):
        bootstrap._ready(tmp_path, (bootstrap.LOCK,))
