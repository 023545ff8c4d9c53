"""Background tasks: long work with images or folders that somebody asked for, and how far it is.

A scan is done by a worker (`workers.errands`), what is done to folders by a storage service; pulling, removing and
committing is done by agents, each on an order of its own. A task of which nothing is heard for `TASK_SILENCE_SECONDS`
has failed.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal, NewType

from pydantic import Field

from domain.directory.messages.common import DirectoryCommand
from domain.directory.messages.images import ImageReference, Labels, LocalImage, RegistryName
from domain.messages import AccessKey, AgentId, Event, Instant, KernelId, SessionId, Value
from domain.vfolder.mounts import FolderRef

TaskId = NewType("TaskId", str)

TASK_SILENCE_SECONDS = 600.0
TASK_KEPT_SECONDS = 86400.0
"""How long the end of a task is remembered (catalogue EVT-3)."""

Words = Annotated[str, Field(max_length=2000)]


class ScanRegistries(Value):
    """Look through these registries and register every image they have; forget those they no longer have."""

    work: Literal["scan"] = "scan"
    registries: tuple[RegistryName, ...] = Field(min_length=1, max_length=1000)


class PreloadImages(Value):
    """Have these agents pull these images."""

    work: Literal["preload"] = "preload"
    references: tuple[ImageReference, ...] = Field(min_length=1, max_length=100)
    agents: tuple[AgentId, ...] = Field(min_length=1, max_length=1000)


class UnloadImages(Value):
    """Have these agents remove these images; one that a kernel runs from stays, and is a failure."""

    work: Literal["unload"] = "unload"
    references: tuple[ImageReference, ...] = Field(min_length=1, max_length=100)
    agents: tuple[AgentId, ...] = Field(min_length=1, max_length=1000)


class CommitSession(Value):
    """Have the agent of a session's main kernel make an image of it; `push`: and bring that to its registry.

    Nobody here knows of sessions: that it is `owner`'s, and runs there, is for the api to see to, and for the agent.
    """

    work: Literal["commit"] = "commit"
    owner: AccessKey
    session_id: SessionId
    kernel_id: KernelId
    agent_id: AgentId
    reference: ImageReference
    labels: Labels = Field({}, max_length=256)
    push: bool = False

    @property
    def agents(self) -> tuple[AgentId, ...]:
        return (self.agent_id,)

    @property
    def references(self) -> tuple[ImageReference, ...]:
        return (self.reference,)


class CopyFolder(Value):
    """A folder is being copied into another, which `owner` asked for. Counted in bytes.

    The clone is a folder with a life of its own, which starts and ends this task. It cannot be cancelled.
    """

    work: Literal["copy"] = "copy"
    owner: AccessKey
    source: FolderRef
    target: FolderRef


class DeleteFolder(Value):
    """A folder is being deleted for good, which `owner` asked for. Counted in files; there were as many as when it was
    last measured.

    The folder starts and ends this task; each attempt is a task of its own. It cannot be cancelled.
    """

    work: Literal["delete"] = "delete"
    owner: AccessKey
    folder: FolderRef


FolderWork = CopyFolder | DeleteFolder
"""What storage services do."""

ImageWork = PreloadImages | UnloadImages | CommitSession
"""What agents do, each its part."""

Work = Annotated[ScanRegistries | ImageWork | CopyFolder | DeleteFolder, Field(discriminator="work")]


class TaskEnd(StrEnum):
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"


class PartState(StrEnum):
    """Of what one agent has to do of a task."""

    WAITING = "waiting"
    GOING_ON = "going on"
    DONE = "done"
    FAILED = "failed"


class OfTask(Value):
    task_id: TaskId

    @property
    def subject(self) -> str:
        return self.task_id


# -- commands: from people ---------------------------------------------------------------------------------------------


class StartTask(OfTask, DirectoryCommand):
    type: Literal["StartTask"] = "StartTask"
    work: Work


class CancelTask(OfTask, DirectoryCommand):
    """What is under way stops as soon as whoever does it hears of it; what was done stays done."""

    type: Literal["CancelTask"] = "CancelTask"


# -- commands: from who does the work, and from the clock --------------------------------------------------------------


class ReportTaskProgress(OfTask, DirectoryCommand):
    """`total` 0: not known yet. `agent_id`: whose part of the task this is about, None where there is one worker."""

    type: Literal["ReportTaskProgress"] = "ReportTaskProgress"
    by_users: ClassVar[bool] = False
    done: int = Field(ge=0)
    total: int = Field(ge=0)
    message: Words = ""
    agent_id: AgentId | None = None


class ReportTaskEnd(OfTask, DirectoryCommand):
    """The work, or the part of it that this agent had, is done or has failed. `image`: what was made, of a commit."""

    type: Literal["ReportTaskEnd"] = "ReportTaskEnd"
    by_users: ClassVar[bool] = False
    end: Literal[TaskEnd.DONE, TaskEnd.FAILED]
    message: Words = ""
    agent_id: AgentId | None = None
    image: LocalImage | None = None


class PassTaskDeadline(OfTask, DirectoryCommand):
    """From the clock: nothing was heard of it since the deadline was set."""

    type: Literal["PassTaskDeadline"] = "PassTaskDeadline"
    by_users: ClassVar[bool] = False
    deadline: Instant


# -- events ------------------------------------------------------------------------------------------------------------


class TaskStarted(OfTask, Event):
    type: Literal["TaskStarted"] = "TaskStarted"
    work: Work
    deadline: Instant


class TaskProgressed(OfTask, Event):
    """`done` of `total` for the whole task; 0 of 0 where that is not known yet.

    Of an agent's part (`agent_id`): `part` is where it stands now, `part_done` how many of its images are done.
    """

    type: Literal["TaskProgressed"] = "TaskProgressed"
    done: int
    total: int
    message: Words = ""
    deadline: Instant
    agent_id: AgentId | None = None
    part: PartState = PartState.GOING_ON
    part_done: int = 0


class TaskEnded(OfTask, Event):
    type: Literal["TaskEnded"] = "TaskEnded"
    end: TaskEnd
    message: Words = ""


TaskCommands = StartTask | CancelTask
TaskReports = ReportTaskProgress | ReportTaskEnd | PassTaskDeadline
TaskEvents = TaskStarted | TaskProgressed | TaskEnded
