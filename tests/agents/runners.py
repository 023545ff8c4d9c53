"""The real runner as a process of its own, and a client for its socket."""

import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

RUNNER = Path(__file__).parents[2] / "agents" / "runner"
START_SECONDS_MAX = 30.0


class Refused(Exception):
    """A request that was not carried out."""

    def __init__(self, code: str, why: str) -> None:
        super().__init__(f"{code}: {why}")
        self.code = code
        self.why = why


class Client:
    """One connection. Requests may be sent before earlier ones are answered."""

    def __init__(self, path: Path) -> None:
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.settimeout(30)
        handle = os.open(path.parent, os.O_RDONLY)
        try:
            self.socket.connect(f"/proc/self/fd/{handle}/{path.name}")  # a socket's path has at most 107 bytes
        except OSError:
            self.socket.close()
            raise
        finally:
            os.close(handle)
        self._file = self.socket.makefile("rb")
        self._answers = dict[object, tuple[dict[str, Any], bytes]]()
        self._last_id = 0
        self.greeting, _ = self.receive()

    def send(self, do: str, body: bytes = b"", **fields: Any) -> int:
        """A request; its id."""
        self._last_id += 1
        self.send_raw(json.dumps({"id": self._last_id, "do": do, "with": fields}).encode(), body)
        return self._last_id

    def send_raw(self, text: bytes, body: bytes = b"") -> None:
        """A frame, whatever is in it."""
        self.socket.sendall(struct.pack(">II", len(text), len(body)) + text + body)

    def receive(self) -> tuple[dict[str, Any], bytes]:
        """The next frame."""
        text_bytes, body_bytes = struct.unpack(">II", self._file.read(8))
        return json.loads(self._file.read(text_bytes)), self._file.read(body_bytes)

    def answer(self, request_id: int) -> tuple[dict[str, Any], bytes]:
        """The answer to one request, whatever comes before it."""
        while request_id not in self._answers:
            message, body = self.receive()
            self._answers[message["id"]] = message, body
        message, body = self._answers.pop(request_id)
        if "failed" in message:
            raise Refused(message["failed"]["code"], message["failed"]["why"])
        return message["ok"], body

    def call_raw(self, do: str, body: bytes = b"", **fields: Any) -> tuple[dict[str, Any], bytes]:
        """A request and its answer, with what lies behind it."""
        return self.answer(self.send(do, body, **fields))

    def call(self, do: str, body: bytes = b"", **fields: Any) -> dict[str, Any]:
        """A request and its answer."""
        return self.call_raw(do, body, **fields)[0]

    def run(self, code: str = "", **fields: Any) -> "Outcome":
        """A run to its end, in query mode where no other is named."""
        first = self.call("execute", **{"mode": "query", "code": code, "wait_ms": 5000, **fields})
        return self.rest(first)

    def go_on(self, run_id: str, mode: str = "continue", **fields: Any) -> dict[str, Any]:
        """The next answer of a run."""
        return self.call("execute", mode=mode, run_id=run_id, **{"wait_ms": 5000, **fields})

    def rest(self, first: dict[str, Any]) -> "Outcome":
        """All answers of a run from this one on."""
        results = [first]
        while results[-1]["status"] not in ("finished", "exec-timeout"):
            assert results[-1]["status"] != "waiting-input"
            results.append(self.go_on(first["runId"]))
        return Outcome(results)

    def close(self) -> None:
        """Hang up."""
        self._file.close()
        self.socket.close()


class Outcome:
    """The answers of one run."""

    def __init__(self, results: Sequence[dict[str, Any]]) -> None:
        self.results = results
        self.status: str = results[-1]["status"]
        self.exit_code: int | None = results[-1]["exitCode"]
        self.files: list[dict[str, Any]] = results[-1]["files"]

    @property
    def console(self) -> list[list[Any]]:
        """All items; text of one stream that follows on itself is one."""
        items = list[list[Any]]()
        for kind, content in (item for result in self.results for item in result["console"]):
            if items and items[-1][0] == kind and kind in ("stdout", "stderr"):
                items[-1][1] += content
            else:
                items.append([kind, content])
        return items

    def printed(self, stream: str = "stdout") -> str:
        """All text of one stream."""
        return "".join(content for kind, content in self.console if kind == stream)


class Runner:
    """A runner that is ready."""

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        python: str = sys.executable,
        program: Path = RUNNER,
        command: Sequence[str] = (),
        wait: bool = True,
    ) -> None:
        self.home = folder / "home"
        self.home.mkdir(exist_ok=True)
        self.socket_path = folder / "socket" / "runner.sock"
        self._clients = list[Client]()
        words = [python, "-I", str(program), "--socket", str(self.socket_path), "--home", str(self.home)]
        words += ["--runtime-path", python, *arguments, *(["--", *command] if command else [])]
        environ = {"PATH": os.environ["PATH"], "HOME": str(self.home), "LANG": "C.UTF-8", "SHELL": "/bin/bash"}
        with (folder / "stdout").open("wb") as stdout, (folder / "stderr").open("wb") as stderr:
            self.process = subprocess.Popen(words, stdout=stdout, stderr=stderr, env=environ)
        self.folder = folder
        if wait:
            until(self.socket_path.exists, START_SECONDS_MAX)
            self.client = self.connect()

    def connect(self) -> Client:
        """One more connection."""
        deadline = time.monotonic() + START_SECONDS_MAX
        while True:
            try:
                client = Client(self.socket_path)
                break
            except (ConnectionRefusedError, FileNotFoundError):  # bound, and not listening yet
                assert time.monotonic() < deadline, self.log()
                time.sleep(0.01)
        self._clients.append(client)
        return client

    def log(self) -> str:
        """What the kernel itself printed."""
        return (self.folder / "stdout").read_text() + (self.folder / "stderr").read_text()

    def ended(self) -> int:
        """Its exit code."""
        return self.process.wait(timeout=30)

    def close(self) -> None:
        """It is gone afterwards, and so is all it started."""
        for client in self._clients:
            client.close()
        self.process.terminate()
        try:
            self.process.wait(timeout=10)
        except subprocess.TimeoutExpired:  # the main command of this test ignores signals
            self.process.kill()
            self.process.wait()


@contextmanager
def running(folder: Path, *arguments: str, **options: Any) -> Iterator[Runner]:
    """A runner for the block."""
    runner = Runner(folder, *arguments, **options)
    try:
        yield runner
    finally:
        runner.close()


def until(condition: Callable[[], object], seconds: float = 10.0) -> None:
    """Waits for what another process does."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds:.0f} s"
        time.sleep(0.01)


def pythons() -> list[str]:
    """Every Python 3.8 or newer on this machine, one of each minor version; the one that runs the tests first."""
    found = {sys.version_info[:2]: sys.executable}
    folder = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    candidates = [shutil.which(f"python3.{minor}") for minor in range(8, 20)]
    for candidate in [*map(str, sorted(folder.glob("*/bin/python3"))), *filter(None, candidates)]:
        version = subprocess.run(
            [candidate, "-I", "-c", "import sys; print(*sys.version_info[:2])"], capture_output=True, check=False
        ).stdout.split()
        if len(version) == 2 and (major_minor := (int(version[0]), int(version[1]))) >= (3, 8):
            found.setdefault(major_minor, candidate)
    return list(found.values())
