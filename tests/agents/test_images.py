"""The images of a host: what the control plane hears of them, and what becomes of its orders about them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock

import pytest

from agents.docker.references import canonical
from agents.fake.images import IMAGE_BYTES
from agents.fake.runtime import FakeRuntime
from agents.given.outfits import OutfitRefused, OutfitUnavailable
from agents.images import keeping as agent_images
from agents.images import orders as image_orders
from agents.images.keeping import Images
from agents.images.room import ImageRoom
from agents.journal import Journal, Stage
from agents.runtime import Account, ImageHere, RuntimeUnavailable, no_progress
from domain.directory.messages import COMMANDS
from domain.directory.messages.images import ReportAgentImages
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, TaskEnd
from domain.messages import AgentId
from domain.placements import CommitKernel, ImageOrder, PullImages, RemoveImages, StopImageTask
from infra.settings import Settings
from tests.agents.orders import a_start, a_task
from tests.whole import an_id, now

AGENT = AgentId("agent-1")
TASK = an_id("task")
HERE = ImageHere("docker.io/library/python:3.11", "amd64", labels={"ai.backend.role": "COMPUTE"})
OTHER = "docker.io/library/r:4"
ACCOUNT = Account("refold", "secret")


class Host:
    """One journal, and agents that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.sqlite")
        self.runtime = FakeRuntime(folder / "runtime", images=[HERE])
        self.account = AsyncMock(return_value=ACCOUNT)

    @asynccontextmanager
    async def agent(self, **settings: Any) -> AsyncIterator[Images]:
        images = Images(Settings(**settings), self.runtime, self.journal, AGENT, self.account, lambda: None)
        running = asyncio.create_task(images.run())
        try:
            await self.until_told(ReportAgentImages)
            yield images
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def give(self, images: Images, order: ImageOrder | StopImageTask) -> None:
        with self.journal.changes():
            images.orders.journal(order)
        images.orders.heed(order)

    def pull(self, *references: str) -> PullImages:
        return PullImages(at=now(), agent_id=AGENT, task_id=TASK, references=references)

    def told(self, kind: type) -> Sequence[Any]:
        commands = [COMMANDS.validate_json(report.command) for report in self.journal.reports(1000)]
        return [command for command in commands if isinstance(command, kind)]

    async def until_told(self, kind: type, times: int = 1) -> Any:
        """The `times`th of them."""
        async with asyncio.timeout(10):
            while len(self.told(kind)) < times:
                await asyncio.sleep(0.005)
        return self.told(kind)[times - 1]

    def known(self) -> Mapping[str, Mapping[str, str]]:
        """What whoever heard every report knows: labels by reference."""
        known: dict[str, Mapping[str, str]] = {}
        for report in self.told(ReportAgentImages):
            if report.afresh:
                known.clear()
            for reference, _ in report.gone:
                del known[reference]
            known |= {image.reference: image.labels for image in report.come}
        return known


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    made = Host(tmp_path)
    yield made
    made.journal.close()


# -- what there is -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("python", "docker.io/library/python:latest"),
        ("refold/base:1", "docker.io/refold/base:1"),
        ("cr.example.org/stable/python:3", "cr.example.org/stable/python:3"),
        ("localhost/python", "localhost/python:latest"),
        ("localhost:5000/python", "localhost:5000/python:latest"),
    ],
)
def test_names_are_written_in_full_as_docker_does(name: str, expected: str) -> None:
    assert canonical(name) == expected


async def test_an_agent_that_starts_tells_all_its_images(host: Host) -> None:
    async with host.agent():
        report = await host.until_told(ReportAgentImages)
    assert report.afresh
    [image] = report.come
    assert (image.reference, image.architecture, image.labels) == (HERE.reference, "x86_64", HERE.labels)


async def test_an_agent_without_images_says_so(host: Host) -> None:
    await host.runtime.remove_image(HERE.reference)
    async with host.agent():
        assert (await host.until_told(ReportAgentImages)).afresh
    assert not host.known()


async def test_what_comes_and_goes_is_told_and_nothing_else(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_images, "_LOOK_SECONDS", 0.01)
    async with host.agent():
        await host.until_told(ReportAgentImages)
        await asyncio.sleep(0.1)  # several looks, nothing new
        await host.runtime.pull(OTHER, lambda *_: None)
        come = await host.until_told(ReportAgentImages, times=2)
        await host.runtime.remove_image(HERE.reference)
        gone = await host.until_told(ReportAgentImages, times=3)
    assert ([image.reference for image in come.come], come.gone) == ([OTHER], ())
    assert (gone.come, gone.gone) == ((), ((HERE.reference, "x86_64"),))


async def test_many_and_large_images_are_told_in_reports_that_the_log_takes(tmp_path: Path) -> None:
    host = Host(tmp_path)
    labels = {f"label{number}": "x" * 10_000 for number in range(20)}
    many = [ImageHere(f"docker.io/library/image{number}:1", "amd64", labels=labels) for number in range(250)]
    host.runtime = FakeRuntime(tmp_path / "many", images=many)
    async with host.agent():
        await host.until_told(ReportAgentImages)
    assert set(host.known()) == {image.reference for image in many}
    assert all(len(report.command) < 2**20 for report in host.journal.reports(1000))
    assert [report.afresh for report in host.told(ReportAgentImages)].count(True) == 1
    host.journal.close()


async def test_a_name_nobody_can_use_does_not_keep_the_others_from_being_told(tmp_path: Path) -> None:
    host = Host(tmp_path)
    odd = [ImageHere("docker.io/UPPER/case:1", "amd64"), ImageHere(OTHER, "amd64", digest="odd"), HERE]
    host.runtime = FakeRuntime(tmp_path / "odd", images=odd)
    async with host.agent():
        await host.until_told(ReportAgentImages)
    assert set(host.known()) == {HERE.reference}
    host.journal.close()


# -- orders ------------------------------------------------------------------------------------------------------------


async def test_images_are_pulled_and_it_is_told_how_far_that_is(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_orders, "_TELL_SECONDS", 0.0)
    async with host.agent() as images:
        host.give(images, host.pull(OTHER, HERE.reference))
        ended = await host.until_told(ReportTaskEnd)
        await host.until_told(ReportAgentImages, times=2)
    assert (ended.task_id, ended.agent_id, ended.end, ended.message) == (TASK, AGENT, TaskEnd.DONE, "")
    progress = [(report.done, report.total, report.message) for report in host.told(ReportTaskProgress)]
    assert progress[0] == (0, 2, OTHER)
    assert (0, 2, f"{OTHER}: fetched 50 of 100 bytes") in progress
    assert progress[-1] == (1, 2, HERE.reference)
    assert set(host.known()) == {HERE.reference, OTHER}
    assert not host.journal.image_orders()


async def test_one_image_that_cannot_be_had_fails_its_part_but_the_others_are_pulled(host: Host) -> None:
    async with host.agent() as images:
        host.give(images, host.pull("docker.io/fake/pull-fail:1", OTHER))
        ended = await host.until_told(ReportTaskEnd)
    assert ended.end is TaskEnd.FAILED
    assert "fake/pull-fail" in ended.message
    assert await host.runtime.has_image(OTHER)


async def test_images_are_removed_and_one_not_here_is_removed_already(host: Host) -> None:
    order = RemoveImages(at=now(), agent_id=AGENT, task_id=TASK, references=(HERE.reference, OTHER))
    async with host.agent() as images:
        host.give(images, order)
        ended = await host.until_told(ReportTaskEnd)
        await host.until_told(ReportAgentImages)
    assert ended.end is TaskEnd.DONE
    assert not await host.runtime.has_image(HERE.reference)


async def test_a_cancelled_order_is_left_off_and_says_nothing_more(host: Host) -> None:
    host.runtime = FakeRuntime(host.folder / "slow", pull_seconds=60)
    async with host.agent() as images:
        host.give(images, host.pull(OTHER))
        await host.until_told(ReportTaskProgress)
        host.give(images, StopImageTask(at=now(), agent_id=AGENT, task_id=TASK))
        await asyncio.sleep(0.05)
        assert not [task for task in asyncio.all_tasks() if task.get_name() == f"images {TASK}"]
    assert not host.told(ReportTaskEnd)
    assert not host.journal.image_orders()


async def test_an_agent_that_restarts_goes_on_with_its_orders_and_ends_them_once(host: Host) -> None:
    quick = host.runtime
    host.runtime = FakeRuntime(host.folder / "slow", pull_seconds=60)
    async with host.agent() as images:
        host.give(images, host.pull(OTHER))
        await host.until_told(ReportTaskProgress)
    assert not host.told(ReportTaskEnd)
    host.runtime = quick
    async with host.agent():
        await host.until_told(ReportTaskEnd)
    async with host.agent() as images:
        await asyncio.sleep(0.05)
    assert len(host.told(ReportTaskEnd)) == 1
    assert await quick.has_image(OTHER)


async def test_an_order_waits_for_a_runtime_that_does_not_answer(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image_orders, "_RETRY_SECONDS", 0.01)
    pull = host.runtime.pull

    async def away(*_: object) -> None:
        raise RuntimeUnavailable("away")

    monkeypatch.setattr(host.runtime, "pull", away)
    async with host.agent() as images:
        host.give(images, host.pull(OTHER))
        await asyncio.sleep(0.1)
        assert not host.told(ReportTaskEnd)
        monkeypatch.setattr(host.runtime, "pull", pull)
        assert (await host.until_told(ReportTaskEnd)).end is TaskEnd.DONE


async def test_an_account_that_is_not_told_yet_is_waited_for_and_one_that_never_will_be_fails(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_orders, "_RETRY_SECONDS", 0.01)
    host.account.side_effect = [OutfitUnavailable("later"), ACCOUNT, OutfitRefused("no key")]
    async with host.agent() as images:
        host.give(images, host.pull(OTHER, "docker.io/library/r:5"))
        ended = await host.until_told(ReportTaskEnd)
    assert (ended.end, ended.message) == (TaskEnd.FAILED, "no key")
    assert await host.runtime.has_image(OTHER)
    host.account.assert_any_await(TASK, OTHER)


# -- images of kernels -------------------------------------------------------------------------------------------------

COMMITTED = "cr.example.org/customized/python:3.11-customized_c0ffee"
STARTED = a_start("committed", HERE.reference)
LABELS = {"ai.backend.customized-image.owner": "user:u1"}


async def running(host: Host) -> None:
    await host.runtime.start(a_task(STARTED))
    with host.journal.changes():
        host.journal.keep(STARTED, Stage.STARTED)


def commit(reference: str = COMMITTED, **changes: Any) -> CommitKernel:
    return CommitKernel(
        at=now(),
        agent_id=AGENT,
        task_id=TASK,
        references=(reference,),
        owner=STARTED.owner,
        session_id=STARTED.session_id,
        kernel_id=STARTED.kernel_id,
        labels=LABELS,
    ).model_copy(update=changes)


async def test_what_was_made_of_a_kernel_is_told_with_the_end_and_as_an_image_of_this_agent(host: Host) -> None:
    await running(host)
    async with host.agent() as images:
        host.give(images, commit())
        ended = await host.until_told(ReportTaskEnd)
        await host.until_told(ReportAgentImages, times=2)
    assert (ended.end, ended.image.reference, ended.image.architecture) == (TaskEnd.DONE, COMMITTED, "x86_64")
    assert ended.image.labels == {**HERE.labels, **LABELS}
    assert set(host.known()) == {HERE.reference, COMMITTED}
    host.account.assert_not_awaited()


async def test_what_was_made_is_pushed_where_the_order_says_so(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    await running(host)
    monkeypatch.setattr(host.runtime, "push", pushed := AsyncMock())
    async with host.agent() as images:
        host.give(images, commit(push=True))
        ended = await host.until_told(ReportTaskEnd)
    assert ended.end is TaskEnd.DONE
    assert pushed.await_args is not None
    assert (pushed.await_args.args[0], pushed.await_args.args[2]) == (COMMITTED, ACCOUNT)


async def test_what_could_not_be_pushed_does_not_stay(host: Host) -> None:
    await running(host)
    refused = "docker.io/fake/push-fail:1"
    async with host.agent() as images:
        host.give(images, commit(refused, push=True))
        ended = await host.until_told(ReportTaskEnd)
    assert (ended.end, ended.image) == (TaskEnd.FAILED, None)
    assert not await host.runtime.has_image(refused)


@pytest.mark.parametrize("field", ["owner", "session_id", "kernel_id"])
async def test_no_image_is_made_of_a_kernel_that_is_not_its_owners_here(host: Host, field: str) -> None:
    await running(host)
    async with host.agent() as images:
        host.give(images, commit(**{field: "another"}))
        ended = await host.until_told(ReportTaskEnd)
    assert ended.end is TaskEnd.FAILED
    assert not await host.runtime.has_image(COMMITTED)


async def test_an_agent_that_died_after_it_made_the_image_does_not_make_it_again(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    await running(host)
    await host.runtime.commit(STARTED.kernel_id, COMMITTED, LABELS)
    with host.journal.changes():
        host.journal.keep_image_order(commit())
    monkeypatch.setattr(host.runtime, "commit", again := AsyncMock())
    async with host.agent():
        assert (await host.until_told(ReportTaskEnd)).end is TaskEnd.DONE
    again.assert_not_awaited()


async def test_it_is_told_again_and_again_that_a_long_commit_goes_on(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(image_orders, "_ALIVE_SECONDS", 0.01)
    monkeypatch.setattr(image_orders, "_TELL_SECONDS", 0.0)
    await running(host)
    stopped = asyncio.Event()
    monkeypatch.setattr(host.runtime, "commit", lambda *_: stopped.wait())
    async with host.agent() as images:
        host.give(images, commit())
        told = await host.until_told(ReportTaskProgress, times=5)
    assert told.message == f"{COMMITTED}: making an image"


# -- room --------------------------------------------------------------------------------------------------------------


async def left(host: Host, **settings: Any) -> set[str]:
    """Short names of what is here once room was made."""
    await ImageRoom(Settings(**settings), host.runtime, host.journal).make()
    return {image.reference.rpartition("/")[2] for image in await host.runtime.images()}


async def pulled(host: Host, *names: str) -> None:
    """Each used a second after the one before."""
    for number, name in enumerate(names):
        await host.runtime.pull(f"docker.io/library/{name}", no_progress)
        with host.journal.changes():
            host.journal.image_used(f"docker.io/library/{name}", number)


async def test_the_longest_unused_images_go_until_there_is_room(host: Host) -> None:
    await pulled(host, "d:1", "a:1", "c:1", "b:1")
    assert await left(host) == {"python:3.11", "a:1", "b:1", "c:1", "d:1"}
    assert await left(host, agent_images_bytes_max=2 * IMAGE_BYTES) == {"python:3.11", "c:1", "b:1"}
    assert await left(host, agent_disk_free_min=0.85) == {"python:3.11", "b:1"}


async def test_an_image_that_no_registry_has_is_never_deleted_for_room(host: Host) -> None:
    await running(host)
    await host.runtime.commit(STARTED.kernel_id, COMMITTED, LABELS)
    assert await left(host, agent_images_bytes_max=1) == {"python:3.11", COMMITTED.rpartition("/")[2]}


async def test_an_image_of_which_a_kernel_runs_or_is_about_to_is_never_deleted_for_room(host: Host) -> None:
    await pulled(host, "runs:1", "ordered:1", "free:1")
    await host.runtime.start(a_task(a_start("runs", "library/runs:1")))
    with host.journal.changes():
        host.journal.keep(a_start("ordered", "ordered:1"))
    assert await left(host, agent_images_bytes_max=1) == {"python:3.11", "runs:1", "ordered:1"}


async def test_an_agent_that_fetches_nothing_deletes_nothing_for_room(host: Host) -> None:
    await pulled(host, "a:1", "b:1")
    assert await left(host, agent_images_bytes_max=1, agent_auto_pull="none") == {"python:3.11", "a:1", "b:1"}


async def test_what_was_deleted_for_room_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(agent_images, "_ROOM_SECONDS", 0.05)
    async with host.agent(agent_images_bytes_max=IMAGE_BYTES):
        await host.until_told(ReportAgentImages)
        await pulled(host, "a:1", "b:1")
        async with asyncio.timeout(10):
            while "docker.io/library/a:1" in {image.reference for image in await host.runtime.images()}:
                await asyncio.sleep(0.01)
        await host.until_told(ReportAgentImages, times=2)
    assert set(host.known()) == {HERE.reference, "docker.io/library/b:1"}
