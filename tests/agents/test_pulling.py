"""How a kernel's image comes to its host: when it is fetched, and what is told of it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from unittest.mock import AsyncMock

import pytest

from agents.fake.runtime import FakeRuntime
from agents.images import pulling
from agents.images.pulling import AutoPull, Pulling
from agents.journal import Journal
from agents.runtime import Account, ImageHere, ImageUnavailable
from domain.telemetry import PullProgress
from infra.log import LogUnavailable
from tests.agents.orders import a_start

HERE, MISSING = "docker.io/library/python:3.11", "docker.io/library/r:4"
ACCOUNT = Account("refold", "secret")


class Host:
    """`told`: what was said of the progress of pulls."""

    def __init__(self, folder: Path) -> None:
        self.journal = Journal(folder / "journal.sqlite")
        self.runtime = FakeRuntime(folder / "fake", images=[ImageHere(HERE, "amd64")])
        self.told = AsyncMock()

    def pulling(self, auto_pull: AutoPull) -> Pulling:
        return Pulling(self.runtime, self.journal, auto_pull, self.told)


@pytest.fixture
async def host(tmp_path: Path) -> AsyncIterator[Host]:
    made = Host(tmp_path)
    yield made
    made.journal.close()


@pytest.mark.parametrize(
    ("auto_pull", "of_here", "of_missing"), [("tag", False, True), ("digest", True, True), ("none", False, True)]
)
async def test_when_an_image_is_fetched_is_a_setting(
    host: Host, auto_pull: AutoPull, of_here: bool, of_missing: bool
) -> None:
    ways = host.pulling(auto_pull)
    assert (await ways.is_needed("python:3.11"), await ways.is_needed(MISSING)) == (of_here, of_missing)


async def test_an_agent_that_fetches_nothing_says_so_of_what_is_missing(host: Host) -> None:
    with pytest.raises(ImageUnavailable, match="REFOLD_AGENT_AUTO_PULL"):
        await host.pulling("none").pull(a_start("a", MISSING), ACCOUNT)
    assert not await host.runtime.has_image(MISSING)


async def test_an_image_is_fetched_with_the_account_it_was_given(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host.runtime, "pull", pulled := AsyncMock())
    await host.pulling("tag").pull(a_start("a", MISSING), ACCOUNT)
    assert pulled.await_args is not None
    assert (pulled.await_args.args[0], pulled.await_args.args[2]) == (MISSING, ACCOUNT)
    assert pulled.await_args.kwargs == {"afresh": False}


async def test_by_digest_what_is_here_is_compared_and_used_where_its_registry_does_not_answer(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(host.runtime, "pull", pulled := AsyncMock(side_effect=ImageUnavailable("no registry")))
    await host.pulling("digest").pull(a_start("a", HERE), None)
    assert pulled.await_args is not None
    assert pulled.await_args.kwargs == {"afresh": True}
    with pytest.raises(ImageUnavailable):
        await host.pulling("digest").pull(a_start("a", MISSING), None)


async def test_how_far_a_pull_is_is_told_of_the_kernel_it_is_for(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pulling, "_TELL_SECONDS", 0.01)
    host.runtime = FakeRuntime(Path(host.runtime._folder), pull_seconds=0.5)
    host.told.side_effect = [LogUnavailable("away"), *[None] * 100]  # who does not hear it now hears the next
    order = a_start("a", MISSING)
    await host.pulling("tag").pull(order, None)
    said: list[PullProgress] = [call.args[0] for call in host.told.await_args_list]
    assert {(each.kernel_id, each.incarnation, each.agent_id) for each in said} == {
        (order.kernel_id, 1, order.agent_id)
    }
    done = [each.done for each in said]
    assert done == sorted(set(done)), "each step once"
    assert len(done) > 3
    told = host.told.await_count
    await asyncio.sleep(0.05)
    assert host.told.await_count == told, "nothing after the end"


async def test_a_use_is_remembered_under_the_name_that_images_are_listed_by(host: Host) -> None:
    host.pulling("tag").used("python:3.11")
    assert host.journal.image_uses().keys() == {HERE}
