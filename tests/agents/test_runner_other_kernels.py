"""Query mode by a program that is neither our Python nor Jupyter's, but keeps to the protocol of `interpreter.py`."""

import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.agents.runners import Client, Refused, Runner, running

CALCULATOR = r"""
import json, os, signal, sys
requests, replies = (int(number) for number in sys.argv[-2:])
known, asks, received = {}, 0, b""

def say(**message):
    os.write(replies, json.dumps(message).encode() + b"\n")

def heard():
    global received
    while b"\n" not in received:
        data = os.read(requests, 65536)
        if not data:
            sys.exit()
        received += data
    line, _, received = received.partition(b"\n")
    return json.loads(line)

def ask():
    global asks
    asks += 1
    say(ask=asks, is_password=True)
    while (answer := heard()).get("ask") != asks:
        pass
    return answer["line"]

def run(code):
    word, _, rest = code.partition(" ")
    if word == "let":
        name, _, value = rest.partition("=")
        known[name.strip()] = ask() if value.strip() == "?" else value.strip()
    elif word == "plot":
        say(show=["html", f"<b>{known[rest]}</b>"])
    elif word == "wait":
        signal.pause()
    elif word == "die":
        os._exit(7)
    else:
        print(known[word], flush=True)

signal.signal(signal.SIGINT, signal.SIG_IGN)
say(ready=True, dialect="of a later version")
while True:
    message = heard()
    if "complete" in message:
        say(completions=[name for name in known if name.startswith(message["complete"])])
    elif "run" in message:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            say(began=True)
            run(message["run"])
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr, flush=True)
        except KeyError as error:
            print(f"{message['name']}: nothing is called {error}", file=sys.stderr, flush=True)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        say(ended=True)
"""


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    folder = tmp_path_factory.mktemp("calculator")
    program = folder / "the calculator.py"
    program.write_text(CALCULATOR)
    command = shlex.join([sys.executable, str(program), "--as", "a kernel"])
    with running(folder, "--runtime-type", "calculator", f"--query-command={command}") as started:
        yield started


@pytest.fixture
def client(runner: Runner) -> Client:
    return runner.client


def test_it_has_query_mode_whatever_its_runtime_type(client: Client) -> None:
    assert client.greeting["modes"] == ["batch", "query"]


def test_its_state_is_kept_and_what_it_prints_and_shows_arrives(client: Client) -> None:
    assert client.run("let x = 42").console == []
    assert client.run("x").console == [["stdout", "42\n"]]
    assert client.run("plot x").console == [["html", "<b>42</b>"]]
    assert client.run("y").console == [["stderr", "<run 4>: nothing is called 'y'\n"]]


def test_it_asks_for_lines(client: Client) -> None:
    asked = client.call("execute", mode="query", code="let secret = ?", wait_ms=9000)
    assert (asked["status"], asked["options"]) == ("waiting-input", {"is_password": True})
    client.rest(client.go_on(asked["runId"], "input", code="sesame"))
    assert client.run("secret").printed() == "sesame\n"


def test_it_completes_names(client: Client) -> None:
    client.run("let long_name = 1")
    assert client.call("complete", code="long_")["result"] == ["long_name"]


def test_an_interrupt_ends_its_run_and_not_the_program(client: Client) -> None:
    client.run("let survivor = 1")
    first = client.call("execute", mode="query", code="wait", wait_ms=300)
    client.call("interrupt")
    assert client.rest(client.go_on(first["runId"])).printed("stderr") == "interrupted\n"
    assert client.run("survivor").printed() == "1\n"


def test_when_it_dies_the_run_ends_with_its_exit_code_and_the_next_gets_a_new_one(client: Client) -> None:
    outcome = client.run("die")
    assert (outcome.status, outcome.exit_code) == ("finished", 7)
    client.run("let x = 1")
    assert client.run("x").printed() == "1\n"


def test_a_label_that_is_no_command_costs_query_mode_and_nothing_else(tmp_path: Path) -> None:
    with running(tmp_path, "--query-command='") as started:
        assert started.client.greeting["modes"] == ["batch"]
        with pytest.raises(Refused, match="unsupported-mode"):
            started.client.run("x")
        assert "is no command" in started.log()
