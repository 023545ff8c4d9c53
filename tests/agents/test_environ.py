"""The environment its owner gave a kernel: asked of the api just before the kernel starts, and written nowhere."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agents import minding
from agents.fake import FakeRuntime
from agents.runtime import Running, Task
from domain.messages import KernelId, SessionId
from domain.session.messages import TerminateSession
from domain.session.status import DEADLINES, SessionStatus
from infra.secrets import BadToken, session_to_start
from infra.settings import Settings
from tests.whole import OWNER, Whole, now

SEALED = "b25seSB0aGUgYXBpIGNhbiByZWFkIHRoaXM="
SECRET = "a value in clear"

Answering = Callable[[], tuple[int, object]]


class Api:
    """What agents need of one. `answering` gives status and body of its next answer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.answering: Answering = lambda: (200, {"environ": {"TOKEN": SECRET, "BACKENDAI_CLUSTER_SIZE": "9"}})
        self.asked: list[tuple[str, SessionId, object]] = []

    async def environ(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        kernel_id = request.match_info["kernel_id"]
        try:
            session_id = session_to_start(self.settings, token, KernelId(kernel_id))
        except BadToken:
            return web.Response(status=401)
        self.asked.append((kernel_id, session_id, await request.json()))
        status, body = self.answering()
        return web.json_response(body, status=status)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes([web.post("/internal/kernels/{kernel_id}/environ", self.environ)])
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        try:
            yield f"http://127.0.0.1:{runner.addresses[0][1]}"
        finally:
            await runner.cleanup()


@pytest.fixture
async def whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Whole]:
    monkeypatch.setattr(minding, "_RETRY_SECONDS", 0.02)
    whole = Whole(tmp_path, internal_key="k" * 40)
    async with whole.shards():
        await whole.admit()
        yield whole


@pytest.fixture
async def api(whole: Whole) -> AsyncIterator[Api]:
    api = Api(whole.settings)
    async with api.serving() as whole.api_url:
        yield api


@pytest.fixture
def tasks(monkeypatch: pytest.MonkeyPatch) -> list[Task]:
    """What the runtime was asked to start."""
    asked: list[Task] = []
    start = FakeRuntime.start

    async def noted(self: FakeRuntime, task: Task) -> Running:
        asked.append(task)
        return await start(self, task)

    monkeypatch.setattr(FakeRuntime, "start", noted)
    return asked


async def test_a_kernel_finds_in_clear_what_was_sealed_and_no_file_has_it(
    whole: Whole, api: Api, tasks: list[Task]
) -> None:
    async with whole.agent():
        session = await whole.request("secret", environ={"TOKEN": SEALED})
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    [task] = tasks
    assert task.environ["TOKEN"] == SECRET
    assert task.environ["BACKENDAI_CLUSTER_SIZE"] == "1", "what Refold says counts more than what anybody gave"
    assert api.asked == [(session, session, {"environ": {"TOKEN": SEALED}})]
    files = [file.read_bytes() for file in whole.folder.rglob("*") if file.is_file()]
    assert any(SEALED.encode() in file for file in files), "the journal has the order"
    assert not any(SECRET.encode() in file for file in files)


async def test_nobody_is_asked_for_what_was_not_given(whole: Whole, api: Api) -> None:
    async with whole.agent():
        session = await whole.request("plain")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    assert api.asked == []


@pytest.mark.parametrize("status", [401, 429, 500, 503, 200])
async def test_a_kernel_waits_until_the_api_can_tell(whole: Whole, api: Api, status: int) -> None:
    answers: list[tuple[int, object]] = [(status, {"detail": "not now"}), (200, {"environ": {"TOKEN": SECRET}})]
    api.answering = lambda: answers.pop(0)
    async with whole.agent():
        session = await whole.request("patient", environ={"TOKEN": SEALED})
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    assert len(api.asked) == 2
    assert len([each for each in await whole.told(subject=session) if type(each.event).__name__ == "KernelEnded"]) == 0


async def test_a_kernel_waits_until_the_api_is_there(whole: Whole) -> None:
    api = Api(whole.settings)
    async with api.serving() as whole.api_url:
        pass
    async with whole.agent():
        session = await whole.request("patient", environ={"TOKEN": SEALED})
        await whole.until(session, "SessionAdvanced", SessionStatus.PREPARED)
        async with api.serving(int(whole.api_url.rpartition(":")[2])):
            await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)


@pytest.mark.parametrize("status", [400, 410])
async def test_what_the_api_will_never_tell_is_a_start_that_failed(whole: Whole, api: Api, status: int) -> None:
    api.answering = lambda: (status, {"detail": "the key was deleted"})
    async with whole.agent():
        session = await whole.request("forgotten", environ={"TOKEN": SEALED})
        ended = await whole.until(session, "KernelEnded")
        await whole.until(session, "SessionEnded")
    told = ended.event.model_dump()
    assert told["reason"] == "start-failed"
    assert told["message"].endswith(f"{status}, the key was deleted")


async def test_a_start_for_which_the_api_came_too_late_is_tried_again(
    whole: Whole, api: Api, tasks: list[Task], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(DEADLINES, SessionStatus.SCHEDULED, 0.3)
    api.answering = lambda: (503, {})
    async with whole.agent():
        session = await whole.request("late", environ={"TOKEN": SEALED})
        await whole.until(session, "SessionScheduled", times=2)
    assert tasks == []


async def test_a_stop_is_heeded_while_the_api_is_away(whole: Whole, api: Api, tasks: list[Task]) -> None:
    api.answering = lambda: (503, {})
    async with whole.agent():
        session = await whole.request("impatient", environ={"TOKEN": SEALED})
        await whole.until(session, "SessionAdvanced", SessionStatus.PREPARED)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
    assert tasks == []


@pytest.mark.parametrize(("image", "then"), [("fake/image", "KernelStarted"), ("fake/exit:7-0", "KernelEnded")])
async def test_what_has_run_already_needs_no_environment_to_be_adopted(
    whole: Whole, api: Api, monkeypatch: pytest.MonkeyPatch, image: str, then: str
) -> None:
    start = FakeRuntime.start
    began = asyncio.Event()

    async def dies(self: FakeRuntime, task: Task) -> Running:
        await start(self, task)
        began.set()
        raise asyncio.CancelledError  # the agent dies before it could note what it had done

    monkeypatch.setattr(FakeRuntime, "start", dies)
    async with whole.agent():
        session = await whole.request("adopted", image=image, environ={"TOKEN": SEALED})
        await began.wait()
    monkeypatch.setattr(FakeRuntime, "start", start)
    api.answering = lambda: (503, {})
    async with whole.agent():
        told = await whole.until(session, then)
    assert then == "KernelStarted" or told.event.model_dump()["exit_code"] == 7
