"""Orders to agents: the only words the control plane has for a GPU host."""

from enum import StrEnum
from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from domain.messages import AccessKey, AgentId, Instant, KernelId, Order, ProjectId, Sealed, SessionId, Value
from domain.vfolder.mounts import Mount

Port = Annotated[int, Field(ge=1, le=65535)]


class RuntimeClass(StrEnum):
    """The OCI runtimes a session may ask for; an agent says which of them it has (`AgentProfile.capabilities`)."""

    RUNC = "runc"
    CRUN = "crun"
    RUNSC = "runsc"
    KATA = "kata"
    NVIDIA = "nvidia"


class Peer(Value):
    """A kernel of the same session: under which name it is found, and where. `host` is its agent's."""

    hostname: str
    kernel_id: KernelId
    agent_id: AgentId
    host: str


class AgentOrderBase(Order):
    agent_id: AgentId

    @property
    def key(self) -> str:
        return self.agent_id


class AdmitAgent(AgentOrderBase):
    """From here on the orders are for the agent of this incarnation, which has registered. What stands before was given
    to whoever was admitted before. An agent of the same id and an earlier incarnation ends, and touches no kernel."""

    type: Literal["AdmitAgent"] = "AdmitAgent"
    incarnation: int = Field(ge=1)
    journal: int = Field(description="As it registered.")

    @property
    def subject(self) -> str:
        return self.agent_id


class ImageOrder(AgentOrderBase):
    """About images, as part of a background task. Its progress and its end are reported as that task's."""

    task_id: str
    references: tuple[str, ...]

    @property
    def subject(self) -> str:
        return self.task_id


class PullImages(ImageOrder):
    """Bring these images here; those that are here already are done."""

    type: Literal["PullImages"] = "PullImages"


class RemoveImages(ImageOrder):
    """Delete these images from the host; those that are not there are done."""

    type: Literal["RemoveImages"] = "RemoveImages"


class CommitKernel(ImageOrder):
    """Make an image, named by the one reference, of a kernel that runs here; `push`: and bring it to its registry."""

    type: Literal["CommitKernel"] = "CommitKernel"
    owner: AccessKey
    session_id: SessionId
    kernel_id: KernelId
    labels: dict[str, str] = Field({})
    push: bool = False


class StopImageTask(AgentOrderBase):
    """The task was cancelled or has failed: leave what is not done yet."""

    type: Literal["StopImageTask"] = "StopImageTask"
    task_id: str

    @property
    def subject(self) -> str:
        return self.task_id


class KernelOrder(AgentOrderBase):
    """About one kernel. `incarnation` counts its starts, so that a late word about an earlier one is recognized."""

    owner: AccessKey
    session_id: SessionId
    kernel_id: KernelId
    incarnation: int = Field(ge=1)

    @property
    def subject(self) -> str:
        return self.kernel_id


class StartKernel(KernelOrder):
    """Run this. Not after `not_after`: by then the control plane may have given up waiting and tried elsewhere.

    `environ` is what Refold itself has to say to the kernel; `sealed_environ` is its owner's, and the api opens it, as
    it does `sealed_bootstrap` (`domain.outfits`).
    """

    type: Literal["StartKernel"] = "StartKernel"
    image: str
    project_id: ProjectId | None = None
    command: tuple[str, ...] | None = None
    environ: dict[str, str] = Field({})
    sealed_environ: dict[str, Sealed] = Field({})
    sealed_bootstrap: Sealed | None = None
    hostname: str
    slots: dict[str, int]
    devices: dict[str, dict[str, int]] = Field({})
    runtime_class: RuntimeClass | None = None
    shm_bytes: int = 0
    preopen_ports: tuple[Port, ...] = ()
    peers: tuple[Peer, ...] = Field((), description="All kernels of a cluster session, itself included; else none.")
    fence_after_seconds: float | None = None
    mounts: tuple[Mount, ...] = ()
    not_after: Instant


class StopKernel(KernelOrder):
    """End this incarnation and every earlier one, and report the end, also when it never ran here."""

    type: Literal["StopKernel"] = "StopKernel"
    grace_seconds: float = Field(10.0, ge=0)


AgentOrder = Annotated[
    AdmitAgent | StartKernel | StopKernel | PullImages | RemoveImages | CommitKernel | StopImageTask,
    Field(discriminator="type"),
]
ORDERS: TypeAdapter[AgentOrder] = TypeAdapter(AgentOrder)
