"""The images of a host: what the control plane hears of them, and what becomes of its orders about them."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from agents import images as agent_images
from agents.fake import FakeRuntime
from agents.images import Images
from agents.journal import Journal
from agents.references import canonical
from agents.runtime import ImageHere, RuntimeUnavailable
from domain.directory.messages import COMMANDS
from domain.directory.messages.images import ReportAgentImages
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, TaskEnd
from domain.messages import AgentId
from domain.placements import ImageOrder, PullImages, RemoveImages, StopImageTask
from tests.whole import an_id, now

AGENT = AgentId("agent-1")
TASK = an_id("task")
HERE = ImageHere("docker.io/library/python:3.11", "amd64", labels={"ai.backend.role": "COMPUTE"})
OTHER = "docker.io/library/r:4"


class Host:
    """One journal, and agents that come and go."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.journal = Journal(folder / "journal.sqlite")
        self.runtime = FakeRuntime(folder / "runtime", images=[HERE])

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[Images]:
        images = Images(self.runtime, self.journal, AGENT, lambda: None)
        running = asyncio.create_task(images.run())
        try:
            yield images
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    def give(self, images: Images, order: ImageOrder | StopImageTask) -> None:
        with self.journal.changes():
            images.journal(order)
        images.heed(order)

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
    monkeypatch.setattr(agent_images, "_TELL_SECONDS", 0.0)
    async with host.agent() as images:
        host.give(images, host.pull(OTHER, HERE.reference))
        ended = await host.until_told(ReportTaskEnd)
        await host.until_told(ReportAgentImages, times=2)
    assert (ended.task_id, ended.agent_id, ended.end, ended.message) == (TASK, AGENT, TaskEnd.DONE, "")
    progress = [(report.done, report.total, report.message) for report in host.told(ReportTaskProgress)]
    assert progress[0] == (0, 2, OTHER)
    assert (0, 2, f"{OTHER}: 50 of 100 bytes") in progress
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
    monkeypatch.setattr(agent_images, "_RETRY_SECONDS", 0.01)
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
