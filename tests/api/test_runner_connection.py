"""What the api makes of a runner: it is the session's user who may be speaking there."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.kernels import runner
from tests.api.kernels import Kernels

LENGTHS = struct.Struct(">II")
GREETING = {"protocol": 1}
RESULT = {
    "runId": "r",
    "number": 1,
    "status": "finished",
    "exitCode": 0,
    "console": [["stdout", "x"]],
    "options": None,
    "files": [],
}

Frames = list[bytes]


def frame(message: Any, body: bytes = b"") -> bytes:
    text = message if isinstance(message, bytes) else json.dumps(message).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


class Liar:
    """Says what a test wants: at first, and to each request."""

    def __init__(self, socket_path: Path, first: bytes, answer: Callable[[dict[str, Any]], bytes]) -> None:
        self.socket_path = socket_path
        self._first = first
        self._answer = answer

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            writer.write(self._first)
            while True:
                text_bytes, body_bytes = LENGTHS.unpack(await reader.readexactly(8))
                request = json.loads(await reader.readexactly(text_bytes))
                await reader.readexactly(body_bytes)
                writer.write(self._answer(request))
                await writer.drain()
        writer.close()

    def close(self) -> None:
        """Nothing of it is left once its block ends."""


Ask = Callable[[], Awaitable[httpx.Response]]


@asynccontextmanager
async def lying(
    kernels: Kernels, answer: Callable[[dict[str, Any]], bytes], first: bytes = frame(GREETING)
) -> AsyncIterator[Ask]:
    """Asks such a runner to run something."""
    session = await kernels.session(has_runner=False)
    liar = Liar(kernels.runners.folder / "liar.sock", first, answer)
    kernels.runners.of_kernel[session] = liar  # type: ignore[assignment]  # as good, for who asks for the socket
    liar.socket_path.parent.mkdir(parents=True, exist_ok=True)
    async with await asyncio.start_unix_server(liar.serve, liar.socket_path), kernels.world.client() as ada:
        yield lambda: ada.post(f"/session/{session}", json={"mode": "query", "code": "1"})


def ok(result: Any) -> Callable[[dict[str, Any]], bytes]:
    return lambda request: frame({"id": request["id"], "ok": result})


@pytest.mark.parametrize(
    "first",
    [frame({"protocol": 2}), frame(b"[]"), frame(b"{"), frame(b"\xff"), frame(b"[" * 100_000)],
    ids=["another protocol", "a list", "half", "no UTF-8", "too deep"],
)
async def test_who_greets_otherwise_is_no_runner(kernels: Kernels, first: bytes) -> None:
    async with lying(kernels, ok(RESULT), first) as ask:
        answer = await ask()
    assert answer.status_code == 502
    assert answer.json()["type"].endswith("runner-broken")


@pytest.mark.parametrize(
    "lie",
    [
        {},
        RESULT | {"status": "sleeping"},
        RESULT | {"console": [["stdout"]]},
        RESULT | {"console": [["shout", "x"]]},
        RESULT | {"console": 1},
        RESULT | {"console": [1]},
        RESULT | {"number": "one"},
        RESULT | {"files": [{"name": 1, "bytes": 1}]},
        RESULT | {"options": []},
    ],
)
async def test_a_result_that_is_none_is_not_handed_on(kernels: Kernels, lie: Any) -> None:
    async with lying(kernels, ok(lie)) as ask:
        answer = await ask()
    assert answer.status_code == 502
    assert answer.json()["type"].endswith("runner-broken")


@pytest.mark.parametrize(
    "lie", [b"", b"[]", b'{"id": 1}', b'{"id": 1, "ok": 5}', b'{"id": [], "ok": {}}', b'{"id": 1, "failed": "x"}']
)
async def test_an_answer_that_is_none_is_a_502(kernels: Kernels, lie: bytes) -> None:
    async with lying(kernels, lambda _: frame(lie)) as ask:
        answer = await ask()
    assert answer.status_code == 502, answer.text


async def test_what_nobody_asked_for_is_passed_over(kernels: Kernels) -> None:
    async with lying(kernels, lambda request: frame({"id": 99, "ok": {}}) + ok(RESULT)(request)) as ask:
        answer = await ask()
    assert answer.json()["result"] == RESULT


async def test_a_runner_that_says_nothing_is_not_waited_for_without_end(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runner, "_ANSWER_SECONDS", 0.2)
    monkeypatch.setattr("api.kernels.execution._WAIT_MS", 0)
    async with lying(kernels, lambda _: b"") as ask:
        answer = await ask()
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (504, "runner-silent")


@pytest.mark.parametrize(
    ("code", "status", "kind"),
    [
        ("unknown-run", 404, "unknown-run"),
        ("too-many-runs", 429, "too-many-runs"),
        ("bad-request", 400, "invalid-api-params"),
        ("fault", 502, "runner-broken"),
        ("no-such-code-of-ours", 502, "runner-broken"),
        (["unknown-run"], 502, "runner-broken"),
    ],
)
async def test_a_failure_is_a_problem_in_so_many_words(kernels: Kernels, code: Any, status: int, kind: str) -> None:
    failure = {"code": code, "why": "mode: " + "long " * 10_000}
    async with lying(kernels, lambda request: frame({"id": request["id"], "failed": failure})) as ask:
        answer = await ask()
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, kind)
    assert len(answer.content) < 4096
