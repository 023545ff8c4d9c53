"""What a run shows: everything in order, in time, as what it is, and not too much of it."""

import base64
import time
from collections.abc import Iterator

import pytest

from tests.agents.runners import Client, Runner, running, until


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Runner]:
    """One for all tests: they leave no trace but names of their own."""
    with running(tmp_path_factory.mktemp("shared")) as runner:
        yield runner


@pytest.fixture
def client(shared: Runner) -> Client:
    return shared.client


def test_what_is_printed_by_whomever_comes_in_order(client: Client) -> None:
    outcome = client.run(
        "import os, sys, subprocess\n"
        "print('a')\n"
        "print('b', file=sys.stderr)\n"
        "os.system('echo c')\n"
        "subprocess.run(['sh', '-c', 'echo d'])\n"
        "print('e', file=sys.stderr)\n"
        "sys.stdout.buffer.write(b'f\\n')\n"
        "print('g')"
    )
    assert outcome.console == [
        ["stdout", "a\n"],
        ["stderr", "b\n"],
        ["stdout", "c\nd\n"],
        ["stderr", "e\n"],
        ["stdout", "f\ng\n"],
    ]


def test_streams_that_alternate_keep_their_order(client: Client) -> None:
    outcome = client.run("import sys\nfor n in range(200):\n    print(n)\n    print(n, file=sys.stderr)")
    assert outcome.console == [[stream, f"{n}\n"] for n in range(200) for stream in ("stdout", "stderr")]


def test_output_that_is_no_utf_8_is_shown_all_the_same(client: Client) -> None:
    outcome = client.run(
        "import sys, os\nsys.stdout.buffer.write(b'\\xff ')\n"
        "os.write(1, 'é'.encode()[:1])\nos.write(1, 'é'.encode()[1:])\nprint()"
    )
    assert outcome.printed() == "\N{REPLACEMENT CHARACTER} é\n"


def test_a_run_that_takes_longer_is_continued_and_each_answer_holds_what_is_new(client: Client) -> None:
    code = "import time\nfor n in range(3):\n    print(n)\n    time.sleep(0.3)"
    result = client.call("execute", mode="query", code=code, wait_ms=5000, gather_ms=0)
    seen = [result]
    while seen[-1]["status"] == "continued":
        seen.append(client.go_on(result["runId"], gather_ms=0))
    texts = ["".join(content for _, content in part["console"]) for part in seen]
    assert "".join(texts) == "0\n1\n2\n"
    assert len([text for text in texts if text.strip()]) == 3
    assert [part["number"] for part in seen] == list(range(1, len(seen) + 1))
    assert seen[0]["exitCode"] is None


def test_a_run_without_output_is_continued_after_the_wait(client: Client) -> None:
    before = time.monotonic()
    result = client.call("execute", mode="query", code="import time; time.sleep(60)", wait_ms=100)
    assert (result["status"], result["console"]) == ("continued", [])
    assert 0.09 < time.monotonic() - before < 30
    client.call("interrupt")
    assert client.rest(client.go_on(result["runId"])).status == "finished"


def test_much_output_is_answered_before_the_wait_is_over(client: Client) -> None:
    code = "print('x' * 300_000)\nimport time; time.sleep(20)"
    result = client.call("execute", mode="query", code=code, wait_ms=15_000, gather_ms=15_000)
    assert len(result["console"][0][1]) >= 262_144
    client.call("interrupt")
    client.rest(client.go_on(result["runId"]))


def test_a_stream_is_cut_at_its_limit_and_the_console_says_so(shared: Runner) -> None:
    client = shared.client
    code = "print('é' * 600_000, end='')\nimport sys; print('kept', file=sys.stderr)\nopen('printed', 'w').close()"
    result = client.call("execute", mode="query", code="import time; time.sleep(0.3)\n" + code, wait_ms=1)
    until((shared.home / "printed").exists)  # nobody asks meanwhile
    time.sleep(0.2)
    result = client.go_on(result["runId"])
    assert [kind for kind, _ in result["console"]] == ["stdout", "stderr", "log"]
    assert result["console"][0][1] == "é" * 524_288
    assert result["console"][1][1] == "kept\n"
    level, _, name, message = result["console"][2][1]
    assert (level, name, message) == ("warning", "refold", "stdout: 75712 characters left out")


def test_values_are_shown_as_they_want_to_be(client: Client) -> None:
    client.run(
        "class Table:\n    def _repr_html_(self): return '<table/>'\n"
        "class Picture:\n    def _repr_png_(self): return b'png'\n"
        "class Drawing:\n    def _repr_svg_(self): return '<svg/>'\n"
        "class Bundle:\n    def _repr_mimebundle_(self): return {'text/html': '<p/>', 'text/plain': 'p'}\n"
        "class Broken:\n    def _repr_html_(self): 1/0\n    def __repr__(self): return 'fallback'\n"
    )
    assert client.run("print('before')\nTable()").console == [["stdout", "before\n"], ["html", "<table/>"]]
    png = "data:image/png;base64," + base64.b64encode(b"png").decode()
    assert client.run("Picture()").console == [["media", ["image/png", png]]]
    assert client.run("Drawing()").console == [["media", ["image/svg+xml", "<svg/>"]]]
    assert client.run("Bundle()").console == [["html", "<p/>"]]
    assert client.run("Broken()").console == [["stdout", "fallback\n"]]
    assert client.run("Table").printed().startswith("<class ")


def test_a_figure_of_matplotlib_arrives_as_a_picture(client: Client) -> None:
    client.run("import matplotlib.pyplot as plt", wait_ms=60_000)
    for code in ("plt.plot([1, 2]); plt.show()\nprint('after')", "figure = plt.figure()\nfigure", "x = plt.plot([1])"):
        items = client.run(code, wait_ms=60_000).console
        [[mime, data]] = [content for kind, content in items if kind == "media"]
        assert mime == "image/png"
        assert base64.b64decode(data.partition(",")[2]).startswith(b"\x89PNG")
        assert items[-1] == ["stdout", "after\n"] or "after" not in code
    assert client.run("import os; 'MPLBACKEND' in os.environ, plt.get_fignums()").printed() == "(False, [])\n"


def test_files_put_into_the_output_folder_are_listed(shared: Runner) -> None:
    outcome = shared.client.run(
        "import os\nos.makedirs('.output/deep', exist_ok=True)\n"
        "open('.output/deep/a.txt', 'w').write('12345')\nopen('elsewhere.txt', 'w').close()\n"
        "os.symlink('/etc/passwd', '.output/link')"
    )
    assert outcome.files == [{"name": "deep/a.txt", "bytes": 5}]
    assert shared.client.run("1").files == []
    assert shared.client.run("x = open('.output/deep/a.txt', 'a').write('6')").files == [
        {"name": "deep/a.txt", "bytes": 6}
    ]


def test_what_a_thread_prints_later_comes_with_the_next_run(client: Client) -> None:
    client.run("import threading\nthreading.Timer(0.05, print, ['later']).start()")
    time.sleep(0.3)
    assert client.run("print('now')").printed() == "later\nnow\n"


def test_pictures_sent_while_interrupted_stay_whole(client: Client) -> None:
    client.run("survivor = 1\nclass Big:\n    def _repr_html_(self): return 'x' * 300_000")
    code = "import sys\nwhile True: sys.displayhook(Big())"
    result = client.call("execute", mode="query", code=code, wait_ms=100)
    client.call("interrupt")
    outcome = client.rest(client.go_on(result["runId"]))
    assert {len(content) for kind, content in outcome.console if kind == "html"} == {300_000}
    assert "KeyboardInterrupt" in outcome.printed("stderr")
    assert client.run("survivor").printed() == "1\n"  # a message cut in two would have cost the interpreter
