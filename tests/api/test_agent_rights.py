"""Agents are told what they need for what is theirs, and nothing else."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest

from domain.directory.messages.tasks import PreloadImages, StartTask, TaskId
from domain.messages import AgentId, KernelId, SessionId
from domain.session.messages import TerminateSession
from infra.secrets import start_token
from tests.api.listening import listening
from tests.api.test_sessions import RECORDED
from tests.api.world import World
from tests.whole import AGENT, an_id, now

OTHER = AgentId("agent-2")


@dataclass
class Asking:
    """`kernel_id`: of a session of ada's that runs on the agent."""

    world: World
    kernel_id: KernelId
    question: dict[str, Any]

    async def outfit(self, agent_id: AgentId = AGENT, kernel_id: str = "", **changed: Any) -> int:
        """The status of the answer."""
        kernel = KernelId(kernel_id or self.kernel_id)
        token = start_token(self.world.settings, agent_id, kernel, SessionId(self.kernel_id))
        return await self._asked(f"kernels/{kernel}/outfit", token, self.question | changed)

    async def account(self, agent_id: AgentId, task_id: str, image: str) -> int:
        token = start_token(self.world.settings, agent_id, KernelId(task_id), SessionId(""))
        return await self._asked(f"tasks/{task_id}/account", token, {"image": image})

    async def _asked(self, what: str, token: str, question: dict[str, Any]) -> int:
        async with self.world.anonymous() as agent:
            headers = {"Authorization": f"Bearer {token}"}
            return (await agent.post(f"/internal/{what}", json=question, headers=headers)).status_code


@pytest.fixture
async def asking(world: World, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Asking]:
    hasty = world.settings.model_copy(update={"read_timeout": 0.2})
    async with world.client() as ada, world.whole.agent(), listening(ada) as heard:
        made = await ada.post("/session", json=RECORDED)
        await heard.until("session_started")
        monkeypatch.setattr(world.services, "settings", hasty)
        session = await world.known.by_id(made.json()["sessionId"])
        assert session is not None
        question = {"owner": session.owner, "image": session.image, "project_id": session.project_id}
        yield Asking(world, KernelId(session.kernels[0]), question)


async def test_what_a_kernel_is_given_is_told_to_nobody_but_the_agent_it_is_placed_on(asking: Asking) -> None:
    assert await asking.outfit() == 200
    assert await asking.outfit(OTHER) == 403
    assert await asking.outfit(kernel_id=an_id("another kernel")) == 403


@pytest.mark.parametrize(
    "changed", [{"owner": "AKADMIN"}, {"image": "cr.example.org/secret:1"}, {"project_id": "another"}]
)
async def test_an_agent_is_told_nothing_of_others_than_the_kernels_owner(
    asking: Asking, changed: dict[str, Any]
) -> None:
    assert await asking.outfit(**changed) == 403


async def test_an_agent_is_told_nothing_about_a_kernel_that_has_ended(asking: Asking) -> None:
    world, session = asking.world, SessionId(asking.kernel_id)
    await world.whole.give("session", TerminateSession(at=now(), owner=asking.question["owner"], session_id=session))
    await world.whole.until(session, "SessionEnded")
    assert await asking.outfit() == 403


async def test_an_account_is_told_to_an_agent_that_has_a_part_of_the_task_with_that_image(asking: Asking) -> None:
    task, image = an_id("preload"), "cr.example.org/stable/slow:1"
    work = PreloadImages(references=(image,), agents=(OTHER,))
    await asking.world.whole.give("directory", StartTask(at=now(), task_id=TaskId(task), work=work))
    assert await asking.account(OTHER, task, image) == 200
    assert await asking.account(AGENT, task, image) == 403
    assert await asking.account(OTHER, task, "cr.example.org/stable/another:1") == 403
    assert await asking.account(OTHER, an_id("another task"), image) == 403
