"""A history of registries, images and background tasks with every event of theirs, and what is left of it."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final

from domain.directory.messages.images import (
    LOCAL,
    AliasImage,
    CreateRegistry,
    DealiasImage,
    DeleteRegistry,
    ForgetImage,
    ImageFacts,
    LocalImage,
    ModifyImage,
    ModifyRegistry,
    Range,
    RegisterImage,
    RegistrySpec,
    ReportAgentImages,
)
from domain.directory.messages.tasks import (
    ReportTaskEnd,
    ReportTaskProgress,
    ScanRegistries,
    StartTask,
    TaskEnd,
    TaskId,
)
from domain.directory.state import Directory
from domain.messages import AgentId, Command
from projections.directory import images
from projections.table import Rows
from tests.projections.story import START

HOST, OTHER = "cr.example.org", "hub.example.org:5000"
PYTHON: Final = f"{HOST}/stable/python:3.11"
TORCH: Final = f"{HOST}/stable/torch:2.1"
OURS: Final = "docker.io/library/ours:1"
GONE: Final = f"{HOST}/stable/gone:1"
AGENT_1, AGENT_2 = AgentId("agent-1"), AgentId("agent-2")
DIGEST: Final = "sha256:" + "ab" * 32
LATER: Final = START + timedelta(hours=1)


def local(reference: str, architecture: str = "x86_64") -> LocalImage:
    return LocalImage(reference=reference, architecture=architecture, digest=DIGEST, size_bytes=10)


def commands() -> list[Command]:
    """What there is at the end: python for two architectures, and ours, which agent-2 has; agent-1 has python."""
    at = START
    labels = {"ai.backend.resource.min.mem": "256m", "ai.backend.accelerators": "cuda"}
    registered = [
        (PYTHON, "x86_64", HOST),
        (PYTHON, "aarch64", HOST),
        (TORCH, "x86_64", HOST),
        (GONE, "x86_64", HOST),
        (f"{OTHER}/some/thing:1", "x86_64", OTHER),
        (OURS, "x86_64", LOCAL),
    ]
    return [
        *(CreateRegistry(at=at, name=name, spec=RegistrySpec(url=f"https://{name}")) for name in (HOST, OTHER)),
        ModifyRegistry(at=at, name=HOST, changes={"projects": ("stable",)}),
        *(
            RegisterImage(at=at, reference=reference, architecture=architecture, facts=ImageFacts(registry=registry))
            for reference, architecture, registry in registered
        ),
        *(AliasImage(at=at, reference=TORCH, alias=alias) for alias in ("torch", "moved", "unused")),
        *(AliasImage(at=at, reference=PYTHON, architecture=each, alias="python") for each in ("x86_64", "aarch64")),
        AliasImage(at=at, reference=PYTHON, alias="moved"),
        AliasImage(at=at, reference=GONE, alias="gone"),
        ModifyImage(at=at, reference=PYTHON, changes={"resources": {"cpu": Range(min=1000, max=4000)}}),
        RegisterImage(
            at=LATER,
            reference=PYTHON,
            facts=ImageFacts(registry=HOST, digest=DIGEST, size_bytes=2**33, labels=labels),
        ),
        ReportAgentImages(at=at, agent_id=AGENT_1, come=(local(PYTHON), local(OURS), local(TORCH))),
        ReportAgentImages(at=at, agent_id=AGENT_1, gone=((TORCH, "x86_64"),)),
        ReportAgentImages(at=at, agent_id=AGENT_2, come=(local(PYTHON),)),
        ReportAgentImages(at=at, agent_id=AGENT_2, afresh=True, come=(local(OURS), local("some/thing/local:1"))),
        ReportAgentImages(at=at, agent_id=AgentId("agent-3"), come=(local(OURS),)),
        ReportAgentImages(at=LATER, agent_id=AgentId("agent-3"), afresh=True),
        ReportAgentImages(at=LATER, agent_id=AGENT_1, gone=((OURS, "x86_64"),)),
        DealiasImage(at=LATER, alias="unused"),
        ForgetImage(at=LATER, reference=GONE),
        DeleteRegistry(at=LATER, name=OTHER),
        StartTask(at=LATER, task_id=TaskId("t-1"), work=ScanRegistries(registries=(HOST,))),
        ReportTaskProgress(at=LATER, task_id=TaskId("t-1"), done=1, total=2),
        ReportTaskEnd(at=LATER, task_id=TaskId("t-1"), end=TaskEnd.DONE),
    ]


def agree(state: Directory, rows: Rows) -> None:
    """Each row says what the state says."""
    registered = _present(rows, images.IMAGES)
    assert set(registered) == set(state.images)
    for key, image in state.images.items():
        row = registered[key]
        assert {name: getattr(row, name) for name in ImageFacts.model_fields} == image.facts.model_dump(mode="json")
        assert row.rules == image.rules.model_dump(mode="json")
        assert row.registered_at == image.registered_at
    assert {key: row.reference for key, row in _present(rows, images.ALIASES).items()} == {
        (alias, architecture): reference
        for alias, means in state.aliases.items()
        for architecture, reference in means.items()
    }
    assert {agent_id: row.images for (agent_id,), row in _present(rows, images.AGENT_IMAGES).items()} == {
        agent_id: sorted(map(" ".join, has)) for agent_id, has in state.agent_images.items()
    }


def _present(rows: Rows, table: Any) -> Mapping[Any, Any]:
    return {key: row for key, row in rows.known[table].items() if row is not None}
