"""Running code by `POST /session/{id}`."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.api.kernels import Kernels, printed
from tests.api.world import World


@pytest.fixture
async def ada(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with world.client() as client:
        yield client


async def ran(client: httpx.AsyncClient, session: str, code: str | None = "", **more: Any) -> list[dict[str, Any]]:
    """All results of a run, to its end or its first question."""
    answer = await client.post(f"/session/{session}", json={"mode": "query", "code": code} | more)
    assert answer.status_code == 200, answer.text
    results: list[dict[str, Any]] = [answer.json()["result"]]
    while results[-1]["status"] not in ("finished", "waiting-input", "exec-timeout"):
        body = {"mode": "continue", "code": "", "runId": results[-1]["runId"]}
        results.append((await client.post(f"/session/{session}", json=body)).json()["result"])
    return results


async def test_code_runs_and_its_state_stays(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    [first] = await ran(ada, session, "x = 6\nprint('Grüße')\nx * 7")
    assert first.keys() == {"runId", "number", "status", "exitCode", "console", "options", "files"}
    assert first["console"] == [["stdout", "Grüße\n42\n"]]
    assert (first["exitCode"], first["options"], first["files"]) == (0, None, [])
    [second] = await ran(ada, "mysess", "print(x)")
    assert printed([second]) == "6\n"
    assert second["runId"] != first["runId"]


async def test_an_exception_of_a_program_is_an_answer_like_any_other(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    results = await ran(ada, await kernels.session(), "1 / 0")
    assert "ZeroDivisionError" in printed(results, "stderr")


async def test_a_question_is_answered_by_input(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    results = await ran(ada, session, "import getpass; print(len(getpass.getpass()))", runId="mine")
    assert results[-1]["runId"] == "mine"
    assert results[-1]["options"] == {"is_password": True}
    results = await ran(ada, session, mode="input", code="secret", runId="mine")
    assert printed(results) == "6\n"


async def test_a_long_run_answers_within_seconds_and_is_asked_on(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    answer = await ada.post(f"/session/{session}", json={"mode": "query", "code": "import time; time.sleep(2.5)"})
    first = answer.json()["result"]
    assert first["status"] == "continued"
    results = await ran(ada, session, mode="continued", runId=first["runId"])
    assert results[-1]["status"] == "finished"


async def test_a_batch_has_steps_and_exit_codes(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    options = {"clean": "*", "build": "echo built", "buildLog": False, "exec": "echo done; exit 3"}
    results = await ran(ada, await kernels.session(), None, mode="batch", options=options)
    steps = [(each["status"], each["exitCode"]) for each in results if each["status"] != "continued"]
    assert steps == [("clean-finished", 0), ("build-finished", 0), ("finished", 3)]
    assert printed(results) == "built\ndone\n"


async def test_files_of_the_output_folder_come_with_their_addresses(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    code = "import os; os.makedirs('.output/a b', exist_ok=True); open('.output/a b/ü.txt', 'w').write('x')"
    results = await ran(ada, session, code)
    address = f"{kernels.world.url}/session/{session}/download_single?file=.output/a%20b/%C3%BC.txt"
    assert results[-1]["files"] == [{"name": "a b/ü.txt", "bytes": 1, "url": address}]


async def test_an_interrupt_ends_what_runs(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    running = asyncio.create_task(ran(ada, session, "print('on', flush=True)\nwhile True: pass"))
    await asyncio.sleep(0.5)
    assert (await ada.post(f"/session/{session}/interrupt")).status_code == 204
    assert "KeyboardInterrupt" in printed(await running, "stderr")
    assert (await ada.post(f"/session/{session}/interrupt")).status_code == 204  # nothing runs, and that is fine


async def test_code_is_completed(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    body = {"code": "imp", "options": {"row": 0, "col": 3, "line": "imp", "post": ""}}
    answer = await ada.post(f"/session/{await kernels.session()}/complete", json=body)
    assert "import" in [name.strip() for name in answer.json()["result"]]


async def test_what_is_no_utf8_is_told_as_it_can_be(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session()
    code = "import os; os.makedirs('.output', exist_ok=True); open(b'.output/\\xff', 'w').close()"
    results = await ran(ada, session, code)
    assert results[-1]["files"][0]["name"] == "\udcff"
    assert results[-1]["files"][0]["url"].endswith("/%FF")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"code": "1"}, "mode"),
        ({"mode": "sing", "code": "1"}, "mode"),
        ({"mode": "query", "code": 1}, "code"),
        ({"mode": "query", "code": "1", "runId": "x" * 129}, "runId"),
        ({"mode": "batch", "options": {"exec": 1}}, "options.exec"),
        ({"mode": "query", "code": "1", "options": {"timeout_seconds": 0}}, "options.timeout_seconds"),
    ],
)
async def test_what_cannot_be_run_is_named(
    kernels: Kernels, ada: httpx.AsyncClient, body: dict[str, Any], field: str
) -> None:
    answer = await ada.post(f"/session/{await kernels.session(has_runner=False)}", json=body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["field"] == field


@pytest.mark.parametrize(("mode", "kind"), [("continue", "unknown-run"), ("input", "unknown-run")])
async def test_a_run_that_is_not_there_is_a_404(kernels: Kernels, ada: httpx.AsyncClient, mode: str, kind: str) -> None:
    answer = await ada.post(f"/session/{await kernels.session()}", json={"mode": mode, "code": "", "runId": "no"})
    assert answer.status_code == 404
    assert answer.json()["type"].endswith(kind)


async def test_a_session_that_does_not_run_is_a_409(ada: httpx.AsyncClient) -> None:
    await ada.post("/session", json={"image": "python", "name": "waits", "enqueueOnly": True})
    answer = await ada.post("/session/waits", json={"mode": "query", "code": "1"})
    assert answer.status_code == 409
    assert answer.json()["type"].endswith("session-not-running")
    assert (await ada.post("/session/nothing", json={"mode": "query", "code": "1"})).status_code == 404


async def test_a_session_without_a_runner_is_a_501(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    answer = await ada.post(f"/session/{await kernels.session(has_runner=False)}", json={"mode": "query", "code": "1"})
    assert answer.status_code == 501
    assert answer.json()["type"].endswith("no-runner")


async def test_an_agent_that_is_gone_is_a_502(kernels: Kernels, ada: httpx.AsyncClient) -> None:
    session = await kernels.session(has_runner=False)
    await kernels.close_door()
    answer = await ada.post(f"/session/{session}", json={"mode": "query", "code": "1"})
    assert answer.status_code == 502
    assert answer.json()["retryable"] is True
    await kernels.open_door()


async def test_nobody_runs_code_in_a_session_of_others(kernels: Kernels) -> None:
    session = await kernels.session()
    for path, body in (("", {"mode": "query", "code": "1"}), ("/complete", {"code": "1"}), ("/interrupt", {})):
        async with kernels.world.client("eve") as eve:
            assert (await eve.post(f"/session/{session}{path}", json=body)).status_code == 404
            owned = await eve.post(f"/session/{session}{path}?owner_access_key=AKADA", json=body)
            assert owned.status_code == 403


async def test_connections_of_a_key_are_limited(tmp_path: Path) -> None:
    async with (
        World(tmp_path, kernel_connections_per_key_max=1).started() as world,
        Kernels(world, tmp_path / "kernels").started() as kernels,
        world.client() as ada,
    ):
        session = await kernels.session()
        body = {"mode": "query", "code": "import time; time.sleep(1)"}
        answers = await asyncio.gather(*(ada.post(f"/session/{session}", json=body) for _ in range(2)))
        assert sorted(answer.status_code for answer in answers) == [200, 429]
        assert (await ada.post(f"/session/{session}/interrupt")).status_code == 204
