"""Registries, images and background tasks: the vocabulary of their examples."""

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from domain.directory.messages.images import (
    AliasImage,
    CreateRegistry,
    DealiasImage,
    DeleteRegistry,
    ForgetAgent,
    ForgetImage,
    ImageFacts,
    LocalImage,
    ModifyImage,
    ModifyRegistry,
    RegisterImage,
    RegistrySpec,
    ReportAgentImages,
)
from domain.directory.messages.tasks import (
    TASK_SILENCE_SECONDS,
    CancelTask,
    CommitSession,
    PassTaskDeadline,
    PreloadImages,
    ReportTaskEnd,
    ReportTaskProgress,
    ScanRegistries,
    StartTask,
    TaskEnd,
    TaskId,
    UnloadImages,
    Work,
)
from domain.messages import AccessKey, AgentId, Command, KernelId, SessionId

NOW: Final = datetime(2026, 1, 1, tzinfo=UTC)
HUB: Final = "cr.example.org"
PYTHON, TORCH = f"{HUB}/stable/python:3.11", f"{HUB}/stable/torch:2.0"
HOMEMADE: Final = "docker.io/library/homemade:latest"
FACTS, OTHER_FACTS = ImageFacts(registry=HUB, size_bytes=1), ImageFacts(registry=HUB, size_bytes=2)
OF_AGENTS: Final = ImageFacts(registry="local")
A1, A2 = AgentId("a1"), AgentId("a2")
T1: Final = TaskId("t1")
SCAN: Final = ScanRegistries(registries=(HUB,))
PRELOAD: Final = PreloadImages(references=(PYTHON, TORCH), agents=(A1, A2))
COMMITTED: Final = "localhost/customized/python:3.11-customized_c0ffee"
COMMIT: Final = CommitSession(
    owner=AccessKey("AKADA"),
    session_id=SessionId("s1"),
    kernel_id=KernelId("s1"),
    agent_id=A1,
    reference=COMMITTED,
    labels={"ai.backend.customized-image.owner": "user:u1"},
)


def after(seconds: float) -> datetime:
    return NOW + timedelta(seconds=seconds)


def create_registry(name: str = HUB, **more: Any) -> CreateRegistry:
    return CreateRegistry(at=NOW, name=name, spec=RegistrySpec(url=f"https://{name}", **more))


def modify_registry(name: str = HUB, **changes: Any) -> ModifyRegistry:
    return ModifyRegistry.model_validate({"at": NOW, "name": name, "changes": changes})


def delete_registry(name: str = HUB) -> DeleteRegistry:
    return DeleteRegistry(at=NOW, name=name)


def register(reference: str = PYTHON, facts: ImageFacts = FACTS, architecture: str = "x86_64") -> RegisterImage:
    return RegisterImage(at=NOW, reference=reference, architecture=architecture, facts=facts)


def modify_image(reference: str = PYTHON, **changes: Any) -> ModifyImage:
    return ModifyImage.model_validate({"at": NOW, "reference": reference, "changes": changes})


def forget(reference: str = PYTHON) -> ForgetImage:
    return ForgetImage(at=NOW, reference=reference)


def alias(name: str = "python", reference: str = PYTHON, architecture: str = "x86_64") -> AliasImage:
    return AliasImage(at=NOW, reference=reference, architecture=architecture, alias=name)


def dealias(name: str = "python") -> DealiasImage:
    return DealiasImage(at=NOW, alias=name)


def local(reference: str = PYTHON, size_bytes: int = 1) -> LocalImage:
    return LocalImage(reference=reference, architecture="x86_64", size_bytes=size_bytes)


def has(*come: LocalImage, gone: tuple[str, ...] = (), agent_id: AgentId = A1, **more: Any) -> ReportAgentImages:
    keys = tuple((reference, "x86_64") for reference in gone)
    return ReportAgentImages(at=NOW, agent_id=agent_id, come=come, gone=keys, **more)


def forget_agent(agent_id: AgentId = A1) -> ForgetAgent:
    return ForgetAgent(at=NOW, agent_id=agent_id)


def start(work: Work = SCAN, task_id: str = T1, at: float = 0) -> StartTask:
    return StartTask(at=after(at), task_id=TaskId(task_id), work=work)


def cancel(task_id: str = T1) -> CancelTask:
    return CancelTask(at=NOW, task_id=TaskId(task_id))


def progress(done: int, total: int = 0, agent_id: AgentId | None = None, at: float = 1) -> ReportTaskProgress:
    return ReportTaskProgress(at=after(at), task_id=T1, done=done, total=total, message="pulling", agent_id=agent_id)


def ends(
    end: TaskEnd = TaskEnd.DONE,
    agent_id: AgentId | None = None,
    message: str = "",
    image: LocalImage | None = None,
    task_id: str = T1,
) -> ReportTaskEnd:
    return ReportTaskEnd.model_validate(
        {"at": after(2), "task_id": task_id, "end": end, "message": message, "agent_id": agent_id, "image": image}
    )


def silence(since: float = 0) -> PassTaskDeadline:
    due = after(since + TASK_SILENCE_SECONDS)
    return PassTaskDeadline(at=due, task_id=T1, deadline=due)


life: tuple[Command, ...] = (
    create_registry(),
    modify_registry(projects=["stable"]),
    register(),
    register(TORCH),
    register(facts=OTHER_FACTS),
    modify_image(accelerators=["cuda"], resources={"cpu": {"min": 1000, "max": 4000}}),
    alias(),
    alias("py"),
    dealias("py"),
    has(local(), local(HOMEMADE)),
    has(gone=(PYTHON,)),
    register(HOMEMADE, OF_AGENTS),
    start(),
    progress(1, 2),
    ends(),
    start(PRELOAD, "t2"),
    cancel("t2"),
    start(UnloadImages(references=(HOMEMADE,), agents=(A1,)), "t3"),
    start(COMMIT, "t4"),
    ends(agent_id=A1, image=local(COMMITTED), task_id="t4"),
    forget_agent(),
    forget(HOMEMADE),
    delete_registry(),
    create_registry(),
)
"""One of everything that can happen."""
