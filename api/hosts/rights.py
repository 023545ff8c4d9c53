"""What an agent may ask for: what it needs for the kernels that are placed on it, and for its part of open tasks.

Its order may reach an agent a moment before what it follows from is known here, so a "no" takes its time.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from api.http.deps import Services
from api.http.problems import Problem
from domain.directory.messages.tasks import ImageWork, TaskId
from domain.messages import AgentId, KernelId, SessionId
from domain.outfits import Question

_LOOK_SECONDS: Final = 0.01
_LOOK_SECONDS_MAX: Final = 0.2

_log = structlog.get_logger("api.hosts.rights")


async def require_kernel(
    agent_id: AgentId, kernel_id: KernelId, session_id: SessionId, question: Question, all_: Services
) -> None:
    """Raises `Problem` (403) unless the kernel is placed there, and is that session's, and that its owner's."""

    async def placed() -> bool:
        if (seen := all_.tail.placed.session(session_id)) is not None:
            told = (question.owner, question.image, question.project_id, agent_id)
            return told == (seen.owner, seen.image, seen.project_id, seen.kernels.get(kernel_id))
        found = await all_.known.detail(question.owner, session_id)
        if found is None:
            return False
        session, kernels = found
        asked = (session_id, question.image, question.project_id)
        return asked == (session.session_id, session.image, session.project_id) and any(
            (kernel.kernel_id, kernel.agent_id, kernel.ended_at) == (kernel_id, agent_id, None) for kernel in kernels
        )

    await _require(placed, agent_id, f"the kernel {kernel_id}", all_)


async def require_part(agent_id: AgentId, task_id: TaskId, image: str, all_: Services) -> None:
    """Raises `Problem` (403) unless the agent has something to do with the image for that task."""

    async def at_work() -> bool:
        task = all_.tail.directory.tasks.get(task_id)
        return (
            task is not None
            and isinstance(task.work, ImageWork)
            and agent_id in task.agents_at_work
            and image in task.work.references
        )

    await _require(at_work, agent_id, f"the task {task_id}", all_)


async def _require(is_so: Callable[[], Awaitable[bool]], agent_id: AgentId, what: str, all_: Services) -> None:
    pause = _LOOK_SECONDS
    try:
        async with asyncio.timeout(all_.settings.read_timeout):
            while not await is_so():
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LOOK_SECONDS_MAX)
    except TimeoutError:
        _log.warning("not this agent's", agent=agent_id, what=what[:200])
        detail = f"{what[:200]} is not {agent_id}'s to begin"
        raise Problem(403, "not-this-agents", "Nothing of this agent's", detail, retryable=True) from None
