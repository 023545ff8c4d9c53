"""Running code by WebSocket: `/stream/session/{id}/execute`."""

import asyncio
from typing import Any

import orjson
import pytest

from api.kernels import live_runs, ways
from api.kernels.failures import Gone
from api.kernels.runner import Answer, Runner
from tests.api.kernels import Denied, Kernels, line, printed

QUERY = {"mode": "query", "options": {}}


def stream(session: str) -> str:
    return f"/stream/session/{session}/execute"


async def test_results_come_as_they_are_and_the_last_one_closes(kernels: Kernels) -> None:
    code = "import time\nprint('one', flush=True); time.sleep(0.5); print('two')"
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": code})
        frames = await ada.hear_until("finished")
        assert await ada.closed() == 1000
    assert [frame["status"] for frame in frames] == ["continued", "finished"]
    assert [printed([frame]) for frame in frames] == ["one\n", "two\n"]
    assert frames[-1]["exitCode"] == 0


async def test_what_is_typed_goes_in_as_it_is(kernels: Kernels) -> None:
    code = "a = input('? '); b = input(); print(a, b)"
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": code})
        asked = await ada.hear_until("waiting-input")
        assert (printed(asked), asked[-1]["options"]) == ("? ", {"is_password": False})
        await ada.say('{"mode": "query"}')
        await ada.hear_until("waiting-input")
        await ada.say("zwei")
        assert printed(await ada.hear_until("finished")) == '{"mode": "query"} zwei\n'


async def test_a_batch_goes_step_by_step(kernels: Kernels) -> None:
    options = {"clean": None, "build": "*", "buildLog": False, "exec": "echo done; exit 3"}
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say({"mode": "batch", "code": "", "options": options})
        frames = await ada.hear_until("finished")
    assert [frame["status"] for frame in frames if frame["status"] != "continued"] == ["build-finished", "finished"]
    assert frames[-1]["exitCode"] == 3


async def test_who_leaves_interrupts_the_run(kernels: Kernels) -> None:
    session = await kernels.session()
    async with line(kernels.world, stream(session)) as ada:
        await ada.say(QUERY | {"code": "print('on', flush=True)\nwhile True: pass"})
        await ada.hear()
    async with line(kernels.world, stream(session)) as ada:
        await ada.say(QUERY | {"code": "print('next')"})
        assert printed(await ada.hear_until("finished")) == "next\n"


async def test_a_run_is_taken_up_again_when_its_agent_is_back(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ways, "_RETRY_SECONDS", 0.05)
    code = "import time\nfor n in range(20):\n    print(n, flush=True); time.sleep(0.1)"
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": code})
        frames = [await ada.hear()]
        await kernels.close_door()
        await asyncio.sleep(0.3)
        await kernels.open_door()
        frames += await ada.hear_until("finished")
    assert printed(frames) == "".join(f"{n}\n" for n in range(20))


async def test_an_answer_that_was_lost_on_its_way_is_asked_for_again(
    kernels: Kernels, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost = list[dict[str, Any]]()
    request = Runner.request

    async def losing(runner: Runner, do: str, *args: Any, **options: Any) -> Answer:
        answer = await request(runner, do, *args, **options)
        if len(lost) < 2:
            lost.append(answer[0])
            raise Gone
        return answer

    monkeypatch.setattr(Runner, "request", losing)
    monkeypatch.setattr(ways, "_RETRY_SECONDS", 0.01)
    code = "import time\nfor n in range(4):\n    print(n, flush=True); time.sleep(0.2)"
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": code})
        assert printed(await ada.hear_until("finished")) == "0\n1\n2\n3\n"
    assert printed(lost)


async def test_a_line_whose_answer_was_lost_is_typed_once(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    lost = list[Answer]()
    request = Runner.request

    async def losing(runner: Runner, do: str, *args: Any, **options: Any) -> Answer:
        answer = await request(runner, do, *args, **options)
        if options.get("mode") == "input" and not lost:
            lost.append(answer)
            raise Gone
        return answer

    monkeypatch.setattr(Runner, "request", losing)
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": "a = input(); b = input(); print(a, b)"})
        for typed in ("x", "y"):
            await ada.hear_until("waiting-input")
            await ada.say(typed)
        assert printed(await ada.hear_until("finished")) == "x y\n"
    assert lost


async def test_an_agent_that_stays_away_is_an_error(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_runs, "_WAIT_MS", 100)
    monkeypatch.setattr(ways, "_AWAY_SECONDS", 0.2)
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": "import time; print(1, flush=True); time.sleep(60)"})
        await ada.hear()
        await kernels.close_door()
        frames = await ada.hear_until("error")
        assert "does not answer" in printed(frames, "stderr")
        assert frames[-1]["problem"]["type"].endswith("agent-unreachable")
        assert await ada.closed() == 4502
    await kernels.open_door()


def test_no_frame_is_larger_than_the_public_client_takes() -> None:
    """4 MiB: aiohttp's default."""
    console = [("stdout", "\U0001f600" * 524_288), ("stderr", "\x01" * 524_288), ("log", ["info", "", "", ""])]
    told = {"runId": "r", "status": "finished", "exitCode": 0, "console": console, "options": None, "files": ["f"]}
    frames = list(live_runs._frames(told))
    assert max(len(frame.encode()) for frame in frames) < 4 * 1024 * 1024
    results = [orjson.loads(frame) for frame in frames]
    assert [tuple(item) for result in results for item in result["console"]] == console
    ends = [(result["status"], result["exitCode"], result["files"]) for result in results]
    assert ends == [("continued", None, []), ("continued", None, []), ("finished", 0, ["f"])]


@pytest.mark.parametrize(
    ("frame", "code", "field"),
    [
        ("no JSON", 4400, "frame"),
        ("[]", 4400, "body"),
        ({"mode": "continue", "code": ""}, 4400, "mode"),
        ({"mode": "query", "code": 1}, 4400, "code"),
    ],
)
async def test_a_first_frame_that_says_nothing_is_an_error(
    kernels: Kernels, frame: str | dict[str, Any], code: int, field: str
) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(frame)
        told = await ada.hear()
        assert (told["status"], told["problem"]["field"]) == ("error", field)
        assert await ada.closed() == code


async def test_who_says_nothing_does_not_stay(kernels: Kernels, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live_runs, "_FIRST_SECONDS", 0.1)
    async with line(kernels.world, stream(await kernels.session())) as ada:
        assert (await ada.hear())["problem"]["type"].endswith("nothing-to-run")
        assert await ada.closed() == 4408


async def test_more_than_anybody_reads_is_not_taken(kernels: Kernels) -> None:
    async with line(kernels.world, stream(await kernels.session())) as ada:
        await ada.say(QUERY | {"code": "while True: pass"})
        for _ in range(40):
            await ada.say("x")
        await ada.hear_until("error")
        assert await ada.closed() == 4400


@pytest.mark.parametrize(
    ("who", "session", "status", "kind"),
    [
        ("ada", "nothing", 404, "session-not-found"),
        ("eve", "mysess", 404, "session-not-found"),
        ("ada", "mysess", 501, "no-runner"),
    ],
)
async def test_what_cannot_be_had_is_refused_before_a_socket_is_open(
    kernels: Kernels, who: str, session: str, status: int, kind: str
) -> None:
    await kernels.session(has_runner=False)
    with pytest.raises(Denied) as denied:
        async with line(kernels.world, stream(session), who):
            pass
    answer = denied.value.response
    assert (answer.status_code, answer.headers["Content-Type"]) == (status, "application/problem+json")
    assert answer.json()["type"].endswith(kind)
    assert answer.headers["X-RateLimit-Limit"]
