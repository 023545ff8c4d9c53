"""The public client in an environment of its own, and a Refold of processes for it to talk to."""

import asyncio
import fcntl
import hashlib
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from infra.settings import settings
from tests.secrecy import places_of
from tests.stack import Stack, running_stack

LOCK = Path(__file__).parent / "requirements.lock"
_INSTALL_SECONDS = 600.0
_ENDING_SECONDS = 5.0


@dataclass(frozen=True)
class Client:
    """`backend.ai`, as a user has it: with the endpoint and his keys in the environment."""

    program: Path
    environment: dict[str, str]
    home: Path

    async def run(self, *arguments: str, ends_with: int | None = 0, seconds: float = 60, typed: str = "") -> str:
        """What it printed. `ends_with`: the exit code it must have. `typed`: what it reads where it asks."""
        process = await self.start(*arguments)
        async with asyncio.timeout(seconds):
            output, _ = await process.communicate(typed.encode())
        text = output.decode()
        assert ends_with is None or process.returncode == ends_with, text
        return text

    async def run_to(self, last: str, *arguments: str, seconds: float = 60) -> str:
        """What it printed up to these words, after which it has to end.

        The tunnel below `ssh` is ended by one interrupt, and loses it if that comes while it passes on the last bytes:
        then both would stay for ever, but for one more as by Ctrl-C.
        """
        process = await self.start(*arguments)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        text = ""
        async with asyncio.timeout(seconds):
            while not text.endswith(last):
                line = await process.stdout.readline()
                assert line, text
                text += line.decode()
        try:
            async with asyncio.timeout(_ENDING_SECONDS):
                assert await process.wait() == 0
        except TimeoutError:
            os.killpg(process.pid, signal.SIGINT)
            async with asyncio.timeout(_ENDING_SECONDS):
                await process.wait()
        return text

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            *(str(self.program), *arguments),
            env=self.environment,
            cwd=self.home,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,  # without a terminal a password is read from where everything else is
        )


@pytest.fixture(scope="session")
def program() -> Path:
    """Installed once for each version of the lock file: it wants other versions of our libraries than we do."""
    wanted = hashlib.sha256(LOCK.read_bytes()).hexdigest()[:16]
    venv = (Path(os.environ.get("REFOLD_TEST_CLIENT") or settings().data_dir / f"client-{wanted}")).absolute()
    marker = venv / "installed"
    venv.parent.mkdir(parents=True, exist_ok=True)
    with venv.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process may be just installing it
        if not marker.exists():
            _install(venv)
            marker.touch()
    return venv / "bin" / "backend.ai"


def _install(venv: Path) -> None:
    for command in (
        [sys.executable, "-m", "venv", "--clear", str(venv)],
        [*_pip(venv), "install", "-q", "--require-hashes", "-r", str(LOCK)],
    ):
        done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


def _pip(venv: Path) -> list[str]:
    return [str(venv / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stack(kafka: str, database: str, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    async with running_stack(kafka, database, tmp_path_factory.mktemp("stack")) as running:
        yield running
        assert running.crashes == []
        assert await places_of(running, running.secrets) == []


@pytest.fixture(scope="module")
def client(stack: Stack, program: Path, tmp_path_factory: pytest.TempPathFactory) -> Client:
    home = tmp_path_factory.mktemp("home")
    environment = {
        "PATH": "/usr/bin:/bin",
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "BACKEND_ENDPOINT": stack.endpoint,
        "BACKEND_ENDPOINT_TYPE": "api",
        "BACKEND_ACCESS_KEY": stack.admin.access_key,
        "BACKEND_SECRET_KEY": stack.admin.secret_key,
        "BACKEND_DOMAIN": "default",
        "BACKEND_GROUP": "default",
    }
    return Client(program, environment, home)
