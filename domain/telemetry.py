"""What an agent says about itself all the time. Not kept for ever, and nothing is decided by a single one."""

from typing import Literal

from pydantic import Field, TypeAdapter

from domain.messages import AgentId, Cell, Message


class Heartbeat(Message):
    """This incarnation of the agent is alive, and will be heard again within `interval_seconds`."""

    type: Literal["Heartbeat"] = "Heartbeat"
    agent_id: AgentId
    cell: Cell
    incarnation: int = Field(ge=1)
    interval_seconds: float = Field(gt=0)
    kernels: int = Field(ge=0)

    @property
    def key(self) -> str:
        return self.agent_id

    @property
    def subject(self) -> str:
        return self.agent_id


HEARTBEAT: TypeAdapter[Heartbeat] = TypeAdapter(Heartbeat)
