"""Services in a session: started when first wanted, by their definition in the image."""

import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.agents.runners import Refused, Runner, running, until

SERVER = """
import http.server, json, os, sys, time
time.sleep(float(os.environ.get("SLOW", "0")))
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers()
        self.wfile.write(json.dumps({"pid": os.getpid(), "argv": sys.argv[1:], "environ": dict(os.environ)}).encode())
    def log_message(self, *_): pass
http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Image:
    """A runner whose image defines services."""

    def __init__(self, runner: Runner, folder: Path) -> None:
        self.runner = runner
        self.folder = folder
        (runner.home / "server.py").write_text(SERVER)

    def define(self, name: str, **definition: Any) -> None:
        (self.folder / f"{name}.json").write_text(json.dumps(definition))

    def start(self, name: str, port: int, **fields: Any) -> dict[str, Any]:
        return self.runner.client.call("service-start", service=name, ports=[port], **{"wait_ms": 15_000, **fields})

    def refused(self, name: str, port: int, **fields: Any) -> Refused:
        with pytest.raises(Refused) as refused:
            self.start(name, port, **fields)
        return refused.value


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Image]:
    folder = tmp_path_factory.mktemp("shared")
    (folder / "defs").mkdir()
    (folder / "more").mkdir()
    with running(folder, "--service-defs", str(folder / "defs"), "--service-defs", str(folder / "more")) as runner:
        yield Image(runner, folder / "defs")


def test_a_definition_says_what_may_be_said_to_its_service(image: Image) -> None:
    image.define("told", command=["x"], url_template="{protocol}://{host}:{port}/?t=1", allowed_envs=["A"])
    image.define("silent", command=["x"], allowed_arguments=None)
    (image.folder / "broken.json").write_text("{")
    (image.folder.parent / "outside.json").write_text('{"allowed_envs": []}')
    names = ["told", "silent", "broken", "absent", "../outside", ""]
    assert image.runner.client.call("services", names=names)["definitions"] == {
        "told": {"url_template": "{protocol}://{host}:{port}/?t=1", "allowed_envs": ["A"]},
        "silent": {},
    }


@pytest.fixture
def port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def ask(port: int) -> dict[str, Any]:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    found: dict[str, Any] = json.loads(answer.partition(b"\r\n\r\n")[2])
    return found


def test_a_service_starts_when_it_is_wanted_and_is_answered_once_it_listens(image: Image, port: int) -> None:
    image.define(
        "web", command=["{runtime_path}", "server.py", "{ports[0]}"], env={"SLOW": "0.2", "WHERE": "at {ports[0]}"}
    )
    started = image.start("web", port)
    assert started == {"service": "web", "ports": [port], "running": True, "starts": 1, "exitCode": None}
    about = ask(port)
    assert about["environ"]["WHERE"] == f"at {port}"
    assert about["environ"]["HOME"] == str(image.runner.home)


def test_a_service_that_runs_is_not_started_again(image: Image, port: int) -> None:
    slow = [{"action": "run_command", "args": {"command": ["sleep", "0.3"]}}]
    image.define("twice", prestart=slow, command=[sys.executable, "server.py", "{ports[0]}"], env={"SLOW": "0.2"})
    first = image.runner.client.send("service-start", service="twice", ports=[port])
    second = image.runner.connect().call("service-start", service="twice", ports=[port])
    assert image.runner.client.answer(first)[0]["starts"] == second["starts"] == 1
    assert image.start("twice", port)["starts"] == 1


def test_a_service_that_died_is_started_again_when_it_is_next_wanted(image: Image, port: int) -> None:
    image.define("mortal", command=[sys.executable, "server.py", "{ports[0]}"])
    image.start("mortal", port)
    os.kill(ask(port)["pid"], signal.SIGKILL)

    def described() -> dict[str, Any]:
        return next(one for one in image.runner.client.call("services")["services"] if one["service"] == "mortal")

    until(lambda: not described()["running"])
    assert described()["exitCode"] == 137
    assert image.start("mortal", port)["starts"] == 2
    assert ask(port)["pid"]


def test_a_stopped_service_is_gone_and_stopping_twice_is_stopping_once(image: Image, port: int) -> None:
    image.define("stopped", command=f"trap '' TERM; {sys.executable} server.py {{ports[0]}}")
    image.start("stopped", port)
    pid = ask(port)["pid"]
    for _ in range(2):
        image.runner.client.call("service-stop", service="stopped")
    until(lambda: not Path(f"/proc/{pid}").exists())
    image.runner.client.call("service-stop", service="never-started")


def test_prestart_actions_are_carried_out_in_order_and_hand_on_what_they_return(image: Image, port: int) -> None:
    image.define(
        "prepared",
        prestart=[
            {"action": "mkdir", "args": {"path": "made/{ports[0]}/deep"}},
            {
                "action": "write_file",
                "args": {"filename": "made/{ports[0]}/conf", "body": ["port={ports[0]}", "{{x}}"]},
            },
            {
                "action": "write_file",
                "args": {"filename": "made/{ports[0]}/conf", "body": ["+"], "append": True, "mode": "640"},
            },
            {"action": "write_tempfile", "args": {"body": ["temporary"]}, "ref": "temp"},
            {"action": "run_command", "args": {"command": ["sh", "-c", "echo out; echo err >&2"]}, "ref": "ran"},
            {"action": "log", "args": {"body": "hello {ran[out]}", "debug": True}},
        ],
        command=[sys.executable, "server.py", "{ports[0]}", "{temp}", "{ran[out]}", "{ran[err]}"],
    )
    image.start("prepared", port)
    _, temp, out, err = ask(port)["argv"]
    assert (out, err) == ("out\n", "err\n")
    assert Path(temp).read_text() == "temporary"
    assert Path(temp).stat().st_mode & 0o777 == 0o755
    conf = image.runner.home / "made" / str(port) / "conf"
    assert conf.read_text() == f"port={port}\n{{x}}+"
    assert conf.stat().st_mode & 0o777 == 0o640
    assert (conf.parent / "deep").is_dir()
    assert "DEBUG hello out" in image.runner.log()
    Path(temp).unlink()


def test_the_spelling_of_model_definitions_is_understood(image: Image, port: int) -> None:
    image.define(
        "model",
        prestart=[
            {"action": "write_file", "arg/filename": "model.txt", "body": "one text"},
            {"action": "log", "args": {"message": "as a message"}},
        ],
        command=[sys.executable, "server.py", "{ports[0]}"],
    )
    image.start("model", port)
    assert (image.runner.home / "model.txt").read_text() == "one text"
    assert "INFO as a message" in image.runner.log()


def test_a_script_is_a_command_whose_own_braces_stay(image: Image, port: int) -> None:
    script = 'NAME=v; f() { echo "${NAME}"; }; exec "{runtime_path}" server.py {ports[0]} "$(f)" "{unknown}" "$HOME"'
    image.define("script", command=script)
    image.start("script", port)
    assert ask(port)["argv"] == [str(port), "v", "{unknown}", str(image.runner.home)]


def test_only_arguments_and_variables_the_definition_allows_are_taken(image: Image, port: int) -> None:
    image.define(
        "options",
        command=[sys.executable, "server.py", "{ports[0]}"],
        allowed_envs=["COLOR"],
        allowed_arguments=["--lines", "--dirs", "-v"],
        default_arguments={"--lines": "5", "--fixed": None},
    )
    assert image.refused("options", port, environ={"LD_PRELOAD": "x"}).code == "forbidden-variable"
    assert image.refused("options", port, arguments={"--eval": "x"}).code == "forbidden-argument"
    image.start("options", port, environ={"COLOR": "red"}, arguments={"--lines": "9", "--dirs": ["a", "b"], "-v": None})
    about = ask(port)
    assert about["argv"] == [str(port), "--lines", "9", "--fixed", "--dirs", "a", "b", "-v"]
    assert about["environ"]["COLOR"] == "red"


def test_a_port_somebody_listens_on_needs_no_definition(image: Image) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        answer = image.start("by-hand", listening.getsockname()[1])
    assert (answer["starts"], answer["running"]) == (0, False)


def test_a_second_folder_of_definitions_fills_in(image: Image, port: int) -> None:
    folder = image.folder.parent / "more"
    (folder / "intrinsic.json").write_text(json.dumps({"command": [sys.executable, "server.py", "{ports[0]}"]}))
    assert image.start("intrinsic", port)["running"]


@pytest.mark.parametrize(
    ("definition", "code", "why"),
    [
        ({"command": ["/no/such/program"]}, "cannot-run", "/no/such/program"),
        ({"command": ["sh", "-c", "exit 3"]}, "service-died", "exit code 3"),
        ({"command": ["sleep", "60"]}, "service-silent", "does not listen"),
        ({"command": []}, "bad-definition", "command"),
        ({"command": ["x", "{portz[0]}"]}, "bad-definition", "portz"),
        ({"command": ["x", "{ports[9]}"]}, "bad-definition", "{ports[9]}"),
        ({"command": ["x", "{"]}, "bad-definition", "'{'"),
        ({"command": ["x"], "prestart": {}}, "bad-definition", "prestart"),
        ({"command": ["x"], "prestart": ["x"]}, "bad-definition", "an action is an object"),
        ({"command": ["x"], "prestart": [{"action": "fly"}]}, "bad-definition", "fly"),
        ({"command": ["x"], "prestart": [{"action": "mkdir", "args": {}}]}, "bad-definition", "path"),
        (
            {
                "command": ["x"],
                "prestart": [{"action": "write_file", "args": {"filename": "a", "body": [], "mode": "9"}}],
            },
            "bad-definition",
            "octal",
        ),
        (
            {"command": ["x"], "prestart": [{"action": "mkdir", "args": {"path": "/proc/x/y"}}]},
            "prestart-failed",
            "/proc/x",
        ),
        (
            {"command": ["x"], "prestart": [{"action": "run_command", "args": {"command": ["/none"]}}]},
            "prestart-failed",
            "/none",
        ),
    ],
)
def test_what_is_wrong_with_a_service_is_said(
    image: Image, port: int, definition: dict[str, Any], code: str, why: str
) -> None:
    image.define("wrong", **definition)
    refused = image.refused("wrong", port, wait_ms=300)
    image.runner.client.call("service-stop", service="wrong")
    assert refused.code == code
    assert why in refused.why


def test_a_definition_that_cannot_be_read_names_its_file(image: Image, port: int) -> None:
    (image.folder / "garbled.json").write_text("{")
    assert "garbled.json" in image.refused("garbled", port).why
    (image.folder / "list.json").write_text("[]")
    assert image.refused("list", port).code == "bad-definition"


@pytest.mark.parametrize("name", ["unheard-of", "../defs/web", "", "a b", "web\0"])
def test_a_service_nobody_defined_is_unknown_and_its_name_no_path(image: Image, port: int, name: str) -> None:
    assert image.refused(name, port).code == "unknown-service"


@pytest.mark.parametrize("ports", [[], [0], ["80"], [65536], None])
def test_ports_are_checked(image: Image, ports: object) -> None:
    with pytest.raises(Refused) as refused:
        image.runner.client.call("service-start", service="web", ports=ports)
    assert (refused.value.code, refused.value.why.startswith("ports: ")) == ("bad-request", True)
