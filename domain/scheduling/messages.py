"""What the scheduler is told, and what it decides."""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from domain.messages import AccessKey, AgentId, Cell, Command, Event, KernelId, SessionId, Value
from domain.slots import Amount, Amounts, SlotName


class Claim(Value):
    """What one attempt of a session needs: `slots` for each kernel, on one agent if `together`, `avoid` last."""

    session_id: SessionId
    owner: AccessKey
    attempt: int = Field(ge=1)
    resource_group: str
    architecture: str
    kernels: tuple[KernelId, ...] = Field(min_length=1)
    slots: Amounts
    together: bool
    avoid: tuple[AgentId, ...] = ()
    needs: tuple[str, ...] = Field((), description="Capabilities each of its agents must have.")


class RunningKernel(Value):
    """One line of an agent's inventory."""

    kernel_id: KernelId
    incarnation: int = Field(ge=1)
    session_id: SessionId
    owner: AccessKey


class SlotFormat(Value):
    """How people are shown amounts of a slot: in powers of 1024 (`binary`) or 1000, rounded to so many places."""

    human_readable_name: str = Field(max_length=64)
    description: str = Field("", max_length=256)
    display_unit: str = Field(max_length=32)
    display_icon: str = Field("", max_length=64)
    binary: bool = False
    round_length: int = Field(0, ge=0, le=16)


class AgentProfile(Value):
    """What an agent is and has. `devices`: slot → device id → units; slots without devices are amounts only. `faults`:
    why devices that are there are not offered, by id."""

    resource_group: str
    architecture: str = "x86_64"
    slots: Amounts
    devices: dict[SlotName, dict[str, Amount]] = Field({})
    faults: dict[str, str] = Field({})
    formats: dict[SlotName, SlotFormat] = Field({}, description="Of slots whose plugin says how they are shown.")
    address: str = Field(description="Internal URL under which the api reaches it.")
    runtime: str
    capabilities: tuple[str, ...] = Field(
        (), description="`runtime:<OCI runtime>`, `cluster:single-node`, `volume:<host>`, and others."
    )


class Placement(Value):
    """A kernel's agent and its devices there: slot → device id → units."""

    kernel_id: KernelId
    agent_id: AgentId
    devices: dict[str, dict[str, int]] = Field({})


class Constraint(StrEnum):
    """What keeps a demand waiting."""

    NO_AGENTS = "no-agents"
    INFEASIBLE = "infeasible"
    BUSY = "busy"
    BEHIND = "behind"


class Wait(Value):
    """Why a demand waits.

    `agents` counts those of its resource group that each filter removed; `lacking` is what the agent that comes closest
    is short of, by slot; `behind` is the session at the head of the queue.
    """

    constraint: Constraint
    agents: dict[str, int] = Field({})
    lacking: dict[str, int] = Field({})
    behind: SessionId | None = None


# -- commands ----------------------------------------------------------------------------------------------------------


class SchedulingCommand(Command):
    by_users: ClassVar[bool] = False

    cell: Cell

    @property
    def key(self) -> str:
        return self.cell


class AgentCommand(SchedulingCommand):
    agent_id: AgentId

    @property
    def subject(self) -> str:
        return self.agent_id


class RegisterAgent(AgentCommand):
    """An agent (re)starts: what it has and what runs on it. `incarnation` counts its starts.

    `journal` tells apart where agents of one id keep what they have carried out: who has another one does not know.
    """

    type: Literal["RegisterAgent"] = "RegisterAgent"
    incarnation: int = Field(ge=1)
    journal: int = 0
    profile: AgentProfile
    kernels: tuple[RunningKernel, ...] = ()


class MarkAgentLost(AgentCommand):
    """Nothing was heard of this incarnation for too long. What runs there is left as it is."""

    type: Literal["MarkAgentLost"] = "MarkAgentLost"
    incarnation: int


class MarkAgentFound(AgentCommand):
    type: Literal["MarkAgentFound"] = "MarkAgentFound"
    incarnation: int


class RetireAgent(AgentCommand):
    """The agent stops in good order; its kernels run on, and it may register again."""

    type: Literal["RetireAgent"] = "RetireAgent"
    incarnation: int


class RemoveAgent(AgentCommand):
    """An operator says that the host is gone for good, with everything on it."""

    type: Literal["RemoveAgent"] = "RemoveAgent"


class ExcludeAgent(AgentCommand):
    """An operator wants no new kernels there, for the time being, restarts included. What runs there runs on."""

    type: Literal["ExcludeAgent"] = "ExcludeAgent"


class IncludeAgent(AgentCommand):
    """It may have new kernels again."""

    type: Literal["IncludeAgent"] = "IncludeAgent"


class DemandPlacement(SchedulingCommand):
    type: Literal["DemandPlacement"] = "DemandPlacement"
    claim: Claim

    @property
    def subject(self) -> str:
        return self.claim.session_id


class WithdrawDemand(SchedulingCommand):
    """The session no longer waits; what it may have been given meanwhile is free again."""

    type: Literal["WithdrawDemand"] = "WithdrawDemand"
    session_id: SessionId
    attempt: int

    @property
    def subject(self) -> str:
        return self.session_id


class ReleaseCapacity(SchedulingCommand):
    """This kernel is gone from its agent."""

    type: Literal["ReleaseCapacity"] = "ReleaseCapacity"
    session_id: SessionId
    attempt: int
    kernel_id: KernelId

    @property
    def subject(self) -> str:
        return self.session_id


SchedulingCommands = Annotated[
    RegisterAgent
    | MarkAgentLost
    | MarkAgentFound
    | RetireAgent
    | RemoveAgent
    | ExcludeAgent
    | IncludeAgent
    | DemandPlacement
    | WithdrawDemand
    | ReleaseCapacity,
    Field(discriminator="type"),
]


# -- events ------------------------------------------------------------------------------------------------------------


class AgentEvent(Event):
    agent_id: AgentId

    @property
    def subject(self) -> str:
        return self.agent_id


class AgentRegistered(AgentEvent):
    """`strays` run there without anybody having placed them, and are to be stopped."""

    type: Literal["AgentRegistered"] = "AgentRegistered"
    incarnation: int
    journal: int = 0
    profile: AgentProfile
    kernels: tuple[RunningKernel, ...]
    strays: tuple[RunningKernel, ...]


class AgentLost(AgentEvent):
    type: Literal["AgentLost"] = "AgentLost"


class AgentFound(AgentEvent):
    type: Literal["AgentFound"] = "AgentFound"


class AgentRetired(AgentEvent):
    type: Literal["AgentRetired"] = "AgentRetired"


class AgentRemoved(AgentEvent):
    type: Literal["AgentRemoved"] = "AgentRemoved"


class AgentExcluded(AgentEvent):
    type: Literal["AgentExcluded"] = "AgentExcluded"


class AgentIncluded(AgentEvent):
    type: Literal["AgentIncluded"] = "AgentIncluded"


class DemandEvent(Event):
    session_id: SessionId
    attempt: int

    @property
    def subject(self) -> str:
        return self.session_id


class PlacementDemanded(DemandEvent):
    type: Literal["PlacementDemanded"] = "PlacementDemanded"
    claim: Claim


class PlacementDelayed(DemandEvent):
    """It has to wait, or waits for another reason than before."""

    type: Literal["PlacementDelayed"] = "PlacementDelayed"
    wait: Wait


class PlacementDecided(DemandEvent):
    """Every kernel has its agent and devices. `candidates`: the agents it could have had for its first kernel."""

    type: Literal["PlacementDecided"] = "PlacementDecided"
    placements: tuple[Placement, ...]
    candidates: int


class DemandWithdrawn(DemandEvent):
    type: Literal["DemandWithdrawn"] = "DemandWithdrawn"


class CapacityReleased(DemandEvent):
    type: Literal["CapacityReleased"] = "CapacityReleased"
    kernel_id: KernelId


SchedulingEvents = Annotated[
    AgentRegistered
    | AgentLost
    | AgentFound
    | AgentRetired
    | AgentRemoved
    | AgentExcluded
    | AgentIncluded
    | PlacementDemanded
    | PlacementDelayed
    | PlacementDecided
    | DemandWithdrawn
    | CapacityReleased,
    Field(discriminator="type"),
]

COMMANDS: TypeAdapter[SchedulingCommands] = TypeAdapter(SchedulingCommands)
EVENTS: TypeAdapter[SchedulingEvents] = TypeAdapter(SchedulingEvents)
