"""A background task as it stands: how far it is, and what became of each agent's part of it."""

from dataclasses import dataclass, field
from datetime import datetime

from immutables import Map

from domain.directory.messages.tasks import CommitSession, FolderWork, ImageWork, PartState, TaskEnd, TaskId, Work
from domain.messages import AccessKey, AgentId


@dataclass(frozen=True, slots=True)
class Part:
    """What one agent has to do. `done`: of the task's images. `message`: why it failed."""

    state: PartState = PartState.WAITING
    done: int = 0
    message: str = ""

    @property
    def ended(self) -> bool:
        return self.state in (PartState.DONE, PartState.FAILED)


@dataclass(frozen=True, slots=True)
class Task:
    """`done` of `total`: what is counted is images, bytes of a copy, files of a deletion; 0 of 0 where it is not known
    yet.

    It has failed when nothing is heard of it until `deadline`. `parts` is empty where no agent has to do with it.
    """

    task_id: TaskId
    work: Work
    started_at: datetime
    deadline: datetime
    done: int = 0
    total: int = 0
    message: str = ""
    end: TaskEnd | None = None
    ended_at: datetime | None = None
    parts: Map[AgentId, Part] = field(default_factory=Map)

    @property
    def open(self) -> bool:
        return self.end is None

    @property
    def owner(self) -> AccessKey | None:
        """Whose task it is; None: the superadmins'."""
        return self.work.owner if isinstance(self.work, CommitSession | FolderWork) else None

    @property
    def agents_at_work(self) -> list[AgentId]:
        """Those whose part has no end yet."""
        return sorted(agent_id for agent_id, part in self.parts.items() if not part.ended)


def started(task_id: TaskId, work: Work, at: datetime, deadline: datetime) -> Task:
    """The task before anything is done of it."""
    if not isinstance(work, ImageWork):
        return Task(task_id, work, at, deadline)
    parts = Map({agent_id: Part() for agent_id in work.agents})
    return Task(task_id, work, at, deadline, total=len(work.references) * len(parts), parts=parts)
