"""Orders to agents: the only words the control plane has for a GPU host."""

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from domain.messages import AccessKey, AgentId, Instant, KernelId, Order, SessionId


class KernelOrder(Order):
    """About one kernel. `incarnation` counts its starts, so that a late word about an earlier one is recognized."""

    agent_id: AgentId
    owner: AccessKey
    session_id: SessionId
    kernel_id: KernelId
    incarnation: int = Field(ge=1)

    @property
    def key(self) -> str:
        return self.agent_id

    @property
    def subject(self) -> str:
        return self.kernel_id


class StartKernel(KernelOrder):
    """Run this. Not after `not_after`: by then the control plane may have given up waiting and tried elsewhere."""

    type: Literal["StartKernel"] = "StartKernel"
    image: str
    command: tuple[str, ...] | None = None
    environ: dict[str, str] = Field({})
    hostname: str
    slots: dict[str, int]
    devices: dict[str, tuple[str, ...]] = Field({})
    not_after: Instant


class StopKernel(KernelOrder):
    """End this incarnation and every earlier one, and report the end, also when it never ran here."""

    type: Literal["StopKernel"] = "StopKernel"
    grace_seconds: float = Field(10.0, ge=0)


AgentOrder = Annotated[StartKernel | StopKernel, Field(discriminator="type")]
ORDERS: TypeAdapter[AgentOrder] = TypeAdapter(AgentOrder)
