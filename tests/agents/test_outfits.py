"""What a kernel is given by the api: asked for just before the kernel starts, and written nowhere by the agent."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web

from agents import minding
from agents.fake.runtime import FakeRuntime
from agents.given.outfits import OutfitUnavailable, asking
from agents.runtime import Account, MountRefused, Running, Task
from domain.messages import KernelId, SessionId
from domain.session.messages import TerminateSession
from domain.session.status import DEADLINES, SessionStatus
from infra.secrets import BadToken, session_to_start
from infra.settings import Settings
from tests.whole import AGENT, OWNER, Whole, now

SEALED = "b25seSB0aGUgYXBpIGNhbiByZWFkIHRoaXM="
SECRET = "a value in clear"

Answering = Callable[[], tuple[int, object]]


class Api:
    """What agents need of one. `answering` gives status and body of its next answer."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.answering: Answering = lambda: (200, {"environ": {"TOKEN": SECRET}})
        self.url = ""
        self.asked: list[tuple[str, SessionId, object]] = []

    async def answer(self, request: web.Request) -> web.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        kernel_id = request.match_info["about"]
        try:
            session_id, agent_id = session_to_start(self.settings, token, KernelId(kernel_id))
            assert agent_id == AGENT
        except BadToken:
            return web.Response(status=401)
        self.asked.append((kernel_id, session_id, await request.json()))
        status, body = self.answering()
        return web.json_response(body, status=status)

    @asynccontextmanager
    async def serving(self, port: int = 0) -> AsyncIterator[str]:
        app = web.Application()
        app.add_routes(
            [
                web.post("/internal/kernels/{about}/outfit", self.answer),
                web.post("/internal/tasks/{about}/account", self.answer),
            ]
        )
        runner = web.AppRunner(app)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port, reuse_address=True).start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self.url
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
    account = {"username": "refold", "password": SECRET}
    files = [{"path": ".netrc", "mode": "600", "content": SECRET}]
    told = {"environ": {"TOKEN": SECRET, "BACKENDAI_CLUSTER_SIZE": "9"}, "account": account, "dotfiles": files}
    api.answering = lambda: (200, told | {"bootstrap_script": SECRET})
    async with whole.agent():
        session = await whole.request("secret", environ={"TOKEN": SEALED}, bootstrap_script=SEALED, project_id="p")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    [task] = tasks
    assert task.environ["TOKEN"] == SECRET
    assert task.environ["BACKENDAI_CLUSTER_SIZE"] == "1", "what Refold says counts more than what anybody gave"
    assert task.outfit.dotfiles[0].content.get_secret_value() == SECRET
    assert SECRET not in repr(task.outfit)
    question = {
        "owner": OWNER,
        "image": "fake/image",
        "project_id": "p",
        "environ": {"TOKEN": SEALED},
        "bootstrap_script": SEALED,
        "mounts": [],
    }
    assert api.asked == [(session, session, question)]
    written = [file.read_bytes() for file in whole.folder.rglob("*") if file.is_file()]
    assert any(SEALED.encode() in file for file in written), "the journal has the order"
    assert not any(SECRET.encode() in file for file in written)


async def test_its_image_is_pulled_as_who_refold_is_at_its_registry(
    whole: Whole, api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    pulled: list[object] = []

    async def noted(*given: object, **_: object) -> None:
        pulled.append(given[-1])

    monkeypatch.setattr(FakeRuntime, "pull", noted)
    api.answering = lambda: (200, {"account": {"username": "refold", "password": SECRET}})
    async with whole.agent():
        session = await whole.request("private")
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    assert pulled == [Account("refold", SECRET)]


async def test_an_agent_asks_for_an_account_also_for_a_task_of_its_own(whole: Whole, api: Api) -> None:
    answers = [(200, {"account": {"username": "refold", "password": SECRET}}), (200, {"account": None}), (503, {})]
    api.answering = lambda: answers.pop(0)
    async with asking(whole.settings, AGENT, api.url) as outfits:
        assert await outfits.account("task-1", "registry/image:1") == Account("refold", SECRET)
        assert await outfits.account("task-1", "registry/image:1") is None
        with pytest.raises(OutfitUnavailable):
            await outfits.account("task-1", "registry/image:1")
    assert api.asked[0] == ("task-1", "", {"image": "registry/image:1"})


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
        await whole.until(session, "SessionAdvanced", SessionStatus.PREPARING)
        async with api.serving(int(api.url.rpartition(":")[2])):
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


async def test_a_folder_that_may_not_be_mounted_any_more_ends_the_session_with_its_reason(
    whole: Whole, api: Api, tasks: list[Task]
) -> None:
    problem = {"type": "https://api.backend.ai/probs/mount-refused", "detail": "data: you have no folder"}
    api.answering = lambda: (403, problem)
    async with whole.agent():
        session = await whole.request("revoked", kernels=2)
        ended = await whole.until(session, "KernelEnded")
        over = await whole.until(session, "SessionEnded")
    assert (ended.event.model_dump()["message"], tasks) == (problem["detail"], [])
    assert over.event.model_dump()["reason"] == "mount-refused"
    assert not [each for each in await whole.told(subject=session) if type(each.event).__name__ == "SessionRescheduled"]


async def test_what_cannot_be_mounted_anywhere_is_not_tried_elsewhere(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refused(_: FakeRuntime, __: Task) -> Running:
        raise MountRefused("there is no folder a/b in data")

    monkeypatch.setattr(FakeRuntime, "start", refused)
    async with whole.agent():
        session = await whole.request("no-such-part")
        over = await whole.until(session, "SessionEnded")
    assert over.event.model_dump()["reason"] == "mount-refused"


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
        await whole.until(session, "SessionAdvanced", SessionStatus.PREPARING)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
    assert tasks == []


@pytest.mark.parametrize(("image", "then"), [("fake/image", "KernelStarted"), ("fake/exit:7-0", "KernelEnded")])
async def test_what_has_run_already_needs_nothing_to_be_adopted(
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


async def test_a_kernel_has_started_once_its_bootstrap_script_is_through(
    whole: Whole, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tasks: list[Task]
) -> None:
    socket = tmp_path / "runner.sock"
    monkeypatch.setattr(FakeRuntime, "runner", lambda *_: socket)
    api.answering = lambda: (200, {"bootstrap_script": "true"})
    async with whole.agent():
        session = await whole.request("scripted", bootstrap_script=SEALED)
        plain = await whole.request("plain")
        await whole.until(plain, "SessionAdvanced", SessionStatus.RUNNING)
        await whole.until(session, "SessionAdvanced", SessionStatus.CREATING)
        while len(tasks) < 2:
            await asyncio.sleep(0.01)
        assert [
            each for each in await whole.told(subject=session) if type(each.event).__name__ == "KernelStarted"
        ] == []
        socket.touch()
        await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)


async def test_a_bootstrap_script_that_fails_is_a_start_that_failed_with_its_last_words(
    whole: Whole, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async def output(*_: object) -> bytes:
        return b"first\nno such package\nended with exit code 9\n"

    monkeypatch.setattr(FakeRuntime, "runner", lambda *_: tmp_path / "never.sock")
    monkeypatch.setattr(FakeRuntime, "output", output)
    api.answering = lambda: (200, {"bootstrap_script": "exit 9"})
    async with whole.agent():
        session = await whole.request("scripted", image="fake/exit:9-0.05", bootstrap_script=SEALED)
        ended = await whole.until(session, "KernelEnded")
    told = ended.event.model_dump()
    assert (told["reason"], told["message"]) == ("start-failed", "no such package\nended with exit code 9")


async def test_a_stop_is_heeded_while_a_bootstrap_script_runs(
    whole: Whole, api: Api, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tasks: list[Task]
) -> None:
    monkeypatch.setattr(FakeRuntime, "runner", lambda *_: tmp_path / "never.sock")
    api.answering = lambda: (200, {"bootstrap_script": "sleep 1000"})
    async with whole.agent():
        session = await whole.request("scripted", bootstrap_script=SEALED)
        while not tasks:
            await asyncio.sleep(0.01)
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
        await whole.until(session, "SessionEnded")
