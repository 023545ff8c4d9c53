"""The wire: frames that make no sense, clients that leave, many requests at once."""

import json
import re
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import agents.runner
from agents.runner.failures import CODES
from agents.runner.framing import BODY_BYTES_MAX, OBJECT_BYTES_MAX
from tests.agents.runners import RUNNER, Refused, Runner, running, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    with running(tmp_path_factory.mktemp("shared")) as runner:
        yield runner


def test_the_runner_says_first_who_it_is(shared: Runner) -> None:
    greeting = shared.connect().greeting
    assert greeting["protocol"] == 1
    assert greeting["modes"] == ["batch", "query"]
    assert greeting["home"] == str(shared.home.resolve())


def test_only_the_sessions_user_may_speak_to_it(shared: Runner) -> None:
    assert shared.socket_path.stat().st_mode & 0o777 == 0o700
    assert shared.socket_path.parent.stat().st_mode & 0o777 == 0o700


def test_an_unknown_request_is_refused_by_name(shared: Runner) -> None:
    with pytest.raises(Refused) as refused:
        shared.client.call("fly")
    assert (refused.value.code, "fly" in refused.value.why) == ("unknown-request", True)


@pytest.mark.parametrize(
    ("text", "request_id", "code"),
    [
        (b"{", None, "unreadable"),
        (b"", None, "unreadable"),
        (b"[]", None, "unreadable"),
        (b"\xff{}", None, "unreadable"),
        (b"[" * 100_000, None, "unreadable"),
        (b"{}", None, "bad-request"),
        (b'{"id": null, "do": "services"}', None, "bad-request"),
        (b'{"id": true, "do": "services"}', None, "bad-request"),
        (b'{"id": 1}', 1, "unknown-request"),
        (b'{"id": "a", "do": ["services"]}', "a", "unknown-request"),
        (b'{"id": 2, "do": "services", "with": []}', 2, "bad-request"),
    ],
)
def test_a_frame_that_makes_no_sense_is_answered_and_the_next_is_read(
    shared: Runner, text: bytes, request_id: object, code: str
) -> None:
    client = shared.connect()
    client.send_raw(text)
    message, _ = client.receive()
    assert (message["id"], message["failed"]["code"]) == (request_id, code)
    assert client.call("services") is not None


@pytest.mark.parametrize("lengths", [(OBJECT_BYTES_MAX + 1, 0), (2, BODY_BYTES_MAX + 1), (2**32 - 1, 2**32 - 1)])
def test_a_frame_that_is_too_long_ends_the_connection_and_no_other(shared: Runner, lengths: tuple[int, int]) -> None:
    client = shared.connect()
    client.socket.sendall(struct.pack(">II", *lengths) + b"{}")
    assert client.receive()[0]["failed"]["code"] == "broken"
    assert client.socket.recv(1) == b""
    assert shared.client.call("services") is not None


def test_a_client_that_leaves_in_the_middle_of_a_frame_is_no_trouble(shared: Runner) -> None:
    for part in (b"\0", struct.pack(">II", 100, 0) + b'{"id": 1', struct.pack(">II", 2, 100) + b"{}only this"):
        client = shared.connect()
        client.socket.sendall(part)
        client.close()
    assert shared.client.call("services") is not None


def test_a_run_goes_on_when_its_client_leaves_and_can_be_asked_for_by_another(shared: Runner) -> None:
    client = shared.connect()
    client.send("execute", mode="query", code="import time; print('a'); time.sleep(0.4); print('b')", run_id="left")
    time.sleep(0.1)
    client.close()
    outcome = shared.client.rest(shared.client.go_on("left"))
    assert outcome.printed() == "a\nb\n"
    assert "runner failed" not in shared.log()


def test_a_request_that_waits_holds_up_no_other(shared: Runner) -> None:
    slow = shared.client.send("execute", mode="query", code="import time; time.sleep(60)", wait_ms=50_000)
    shared.client.call("files-list")
    shared.client.call("interrupt")
    assert shared.client.answer(slow)[0]["status"] == "finished"


def test_two_clients_at_once_get_their_own_answers(shared: Runner) -> None:
    clients = [shared.connect() for _ in range(2)]
    sent = [(client, n, client.send("execute", mode="query", code=f"{n}")) for n in range(20) for client in clients]
    for client, n, request in sent:
        first, _ = client.answer(request)
        assert client.rest(first).printed() == f"{n}\n"


def test_too_many_requests_at_once_are_refused_and_not_kept(shared: Runner) -> None:
    client = shared.connect()
    client.send("execute", mode="query", code="import time; time.sleep(1)", run_id="busy")
    waiting = [client.send("execute", mode="continue", run_id="busy", wait_ms=5000) for _ in range(300)]
    refused = []
    for request in waiting:
        try:
            client.answer(request)
        except Refused as error:
            refused.append(error.code)
    assert refused == ["too-many-requests"] * (300 - 255)
    assert client.call("services") is not None


def test_a_client_that_does_not_read_slows_down_nobody_else(shared: Runner) -> None:
    (shared.home / "big").write_bytes(bytes(3_000_000))
    slow = shared.connect()
    download = slow.call("download-open", paths=["big"], single=True)["download"]
    for _ in range(3):
        slow.send("download-read", download=download, bytes_max=1024 * 1024)
    for n in range(5):
        assert shared.client.run(str(n)).printed() == f"{n}\n"
    sizes = [len(slow.receive()[1]) for _ in range(3)]
    assert sum(sizes) == 3_000_000


@pytest.mark.parametrize(
    ("do", "fields", "field"),
    [
        ("execute", {"mode": "fast"}, "mode"),
        ("execute", {"mode": "query", "code": 5}, "code"),
        ("execute", {"mode": "query", "options": []}, "options"),
        ("execute", {"mode": "query", "wait_ms": -1}, "wait_ms"),
        ("execute", {"mode": "query", "wait_ms": True}, "wait_ms"),
        ("execute", {"mode": "continue", "run_id": 5}, "run_id"),
        ("complete", {}, "code"),
        ("terminal-read", {}, "terminal"),
        ("files-list", {"path": 5}, "path"),
        ("files-upload", {"path": "x", "mode": 0o1777}, "mode"),
        ("download-open", {"paths": ["x"], "single": 1}, "single"),
        ("download-read", {"download": "x", "bytes_max": 0}, "bytes_max"),
    ],
)
def test_a_wrong_field_is_refused_by_name(shared: Runner, do: str, fields: dict[str, Any], field: str) -> None:
    with pytest.raises(Refused) as refused:
        shared.client.call(do, **fields)
    assert refused.value.code == "bad-request"
    assert refused.value.why.startswith(f"{field}: ")


def test_the_protocols_description_names_every_request_and_every_failure() -> None:
    described = agents.runner.__doc__ or ""
    source = "\n".join(path.read_text() for path in RUNNER.glob("*.py") if path.name != "__init__.py")
    handled = re.findall(r'^            "([a-z-]+)": self\._', (RUNNER / "serving.py").read_text(), re.MULTILINE)
    assert len(handled) > 15
    codes = re.findall(r'(?:Failure|_failed)\((?:[a-z_\[\]0-9]+\.?[a-z("]*[^"]*?, )?"([a-z-]+)"', source)
    codes += [code for code, _ in CODES.values()]
    assert len(set(codes)) > 30
    assert [word for word in sorted({*handled, *codes}) if word not in described] == []


def test_a_request_may_be_as_large_as_its_limit(shared: Runner) -> None:
    client = shared.connect()
    code = "x" * (OBJECT_BYTES_MAX - 200)
    text = json.dumps({"id": 1, "do": "complete", "with": {"code": f" .{code[:0]}"}, "ignored": code}).encode()
    client.send_raw(text)
    assert client.receive()[0] == {"id": 1, "ok": {"result": []}}


def test_a_long_socket_path_is_no_trouble(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    with running(deep) as runner:
        assert runner.client.run("1").printed() == "1\n"


def test_a_socket_that_was_left_behind_is_replaced(tmp_path: Path) -> None:
    with running(tmp_path) as runner:
        runner.process.kill()
        runner.ended()
        assert runner.socket_path.exists()
    with running(tmp_path) as runner:
        assert runner.client.run("1").printed() == "1\n"
    until(lambda: not runner.socket_path.exists())
