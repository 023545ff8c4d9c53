"""What can be said to and by a session."""

from typing import Annotated, ClassVar, Literal

from pydantic import Field, TypeAdapter

from domain.messages import (
    AccessKey,
    AgentId,
    Cell,
    Command,
    Event,
    Instant,
    KernelId,
    ProjectId,
    Sealed,
    SessionId,
    Value,
)
from domain.placements import Port, RuntimeClass
from domain.session.idling import Evidence
from domain.session.status import ClusterMode, KernelStatus, Reason, Result, SessionStatus, SessionType
from domain.slots import Amount, Amounts
from domain.vfolder.mounts import Mount

SessionName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?$")]
"""1 to 64 letters, digits, and `-._` in the middle. The manual asks for at least 4; its client sends fewer."""

SECONDS_MAX = 10 * 366 * 86400
"""Longest time that can be asked for: ten years are for ever, and a deadline stays a date that calendars have."""

MOUNTS_MAX = 64
"""Folders in one session, those included that are mounted without being asked for."""

PreopenPorts = Annotated[tuple[Port, ...], Field(max_length=10)]
FenceAfterSeconds = Annotated[float, Field(ge=10, le=SECONDS_MAX)]


class Limits(Value):
    """What the policy of a keypair allows its sessions."""

    max_concurrent_sessions: int = Field(ge=0)
    max_lifetime_seconds: float = Field(0, ge=0, le=SECONDS_MAX, description="0: no limit.")
    idle_timeout_seconds: float = Field(0, ge=0, le=SECONDS_MAX, description="0: no limit.")
    max_kernels_per_session: int = Field(ge=1)
    max_concurrent_sftp_sessions: int = Field(
        1, ge=0, description="Those of type `system`, which count for themselves."
    )


class Seat(Value):
    """One kernel of a session before it has a place: `role` and its 1-based index give its host name, `main1`."""

    kernel_id: KernelId
    role: Annotated[str, Field(pattern=r"^[a-z][a-z0-9]{0,15}$")]
    index: int = Field(ge=1)

    @property
    def hostname(self) -> str:
        return f"{self.role}{self.index}"


class Assignment(Value):
    """Where a kernel goes, and what it has of which devices there (slot → device id → units).

    `host`: under which name or address the other hosts reach that agent's.
    """

    kernel_id: KernelId
    agent_id: AgentId
    host: str = ""
    devices: dict[str, dict[str, Amount]] = Field({})


class SessionSpec(Value):
    """What is asked for. Slots are per kernel, in units of `domain.slots`.

    `domain` and `project`: as they are called when it is asked for; `project_id` (given by the api) stays what it is.
    """

    session_type: SessionType = SessionType.INTERACTIVE
    image: str = Field(min_length=1, max_length=512)
    architecture: str = Field("x86_64", max_length=32)
    slots: Amounts
    environ: dict[str, Sealed] = Field(
        {}, description="Name → value, sealed for the owner. Who asks for a session gives values in clear."
    )
    startup_command: str | None = Field(None, max_length=65536)
    cluster_mode: ClusterMode = ClusterMode.SINGLE_NODE
    cell: Cell = Cell("default")
    resource_group: str = Field("default", max_length=64)
    domain: str = Field("default", max_length=64)
    project: str = Field("default", max_length=64)
    project_id: ProjectId | None = None
    tag: str | None = Field(None, max_length=64)
    pending_timeout_seconds: float | None = Field(None, gt=0, le=SECONDS_MAX)
    runtime_class: RuntimeClass | None = Field(None, description="Which OCI runtime; the agent's own when left out.")
    shm_bytes: int = Field(0, ge=0, description="Size of /dev/shm, part of the memory; 0: the runtime's default.")
    bootstrap_script: Sealed | None = Field(None, description="Run in each kernel before anything else of its owner's.")
    preopen_ports: PreopenPorts = Field((), description="TCP ports that will listen in main1.")
    fence_after_seconds: FenceAfterSeconds | None = Field(
        None, description="An agent that cannot reach the log for so long ends its kernels."
    )
    mounts: tuple[Mount, ...] = Field((), max_length=MOUNTS_MAX)


# -- commands: from users ----------------------------------------------------------------------------------------------


class SessionCommand(Command):
    """`owner` is the access key whose sessions these are, and the boundary key."""

    by_users: ClassVar[bool] = False
    """Whether people may send it; everything else comes from agents and other contexts."""

    owner: AccessKey

    @property
    def key(self) -> str:
        return self.owner


class OneSessionCommand(SessionCommand):
    session_id: SessionId

    @property
    def subject(self) -> str:
        return self.session_id


class RequestSession(OneSessionCommand):
    """Ask for a session. With `reuse`, a living one of that name and image is as good."""

    type: Literal["RequestSession"] = "RequestSession"
    by_users = True
    name: SessionName
    spec: SessionSpec
    kernels: tuple[Seat, ...] = Field(min_length=1, max_length=512)
    reuse: bool = False


class CancelSession(OneSessionCommand):
    """Take the request back; refused once something runs."""

    type: Literal["CancelSession"] = "CancelSession"
    by_users = True


class TerminateSession(OneSessionCommand):
    """End it, at whatever stage it is. `forced` does not wait until its agents confirm."""

    type: Literal["TerminateSession"] = "TerminateSession"
    by_users = True
    forced: bool = False


class RestartSession(OneSessionCommand):
    """Start its kernels anew where they are; files, name and age stay."""

    type: Literal["RestartSession"] = "RestartSession"
    by_users = True


class RenameSession(OneSessionCommand):
    type: Literal["RenameSession"] = "RenameSession"
    by_users = True
    name: SessionName


# -- commands: from other contexts and from the clock ------------------------------------------------------------------


class SetSessionLimits(SessionCommand):
    """From the directory, when a keypair or its policy changes. `None`: the keypair may start nothing (more)."""

    type: Literal["SetSessionLimits"] = "SetSessionLimits"
    limits: Limits | None

    @property
    def subject(self) -> str:
        return self.owner


class PlaceSession(OneSessionCommand):
    """From the scheduler: this attempt has its places."""

    type: Literal["PlaceSession"] = "PlaceSession"
    attempt: int = Field(ge=1)
    assignments: tuple[Assignment, ...]


class LoseKernel(OneSessionCommand):
    """From the scheduler: an operator removed the agent for good, with everything on it, whichever incarnation."""

    type: Literal["LoseKernel"] = "LoseKernel"
    attempt: int = Field(ge=1)
    kernel_id: KernelId
    agent_id: AgentId


class PassDeadline(OneSessionCommand):
    """From the clock: the deadline that was set for `status` has come."""

    type: Literal["PassDeadline"] = "PassDeadline"
    status: SessionStatus
    deadline: Instant


class RefuseMount(OneSessionCommand):
    """From a folder: the session cannot have it."""

    type: Literal["RefuseMount"] = "RefuseMount"
    message: str = Field(max_length=2000)


class EndIdleSession(OneSessionCommand):
    """From the watch over use: nobody uses it, or it does little. About its main kernel's incarnation."""

    type: Literal["EndIdleSession"] = "EndIdleSession"
    incarnation: int = Field(ge=1)
    evidence: Evidence


# -- commands: what an agent saw ---------------------------------------------------------------------------------------


class KernelReport(OneSessionCommand):
    """`at` is when the agent saw it, which may be long before it could say so."""

    kernel_id: KernelId
    incarnation: int = Field(ge=1)
    agent_id: AgentId


class ReportKernelProgress(KernelReport):
    type: Literal["ReportKernelProgress"] = "ReportKernelProgress"
    status: Literal[KernelStatus.PREPARING, KernelStatus.PULLING, KernelStatus.PREPARED, KernelStatus.CREATING]


class ReportKernelStarted(KernelReport):
    type: Literal["ReportKernelStarted"] = "ReportKernelStarted"
    runtime_id: str


class ReportKernelExited(KernelReport):
    """It ran and ended by itself or was stopped. `exit_code` is None where it cannot be known.

    `fenced`: its agent ended it, having been cut off for as long as the session allows (`fence_after_seconds`).
    """

    type: Literal["ReportKernelExited"] = "ReportKernelExited"
    exit_code: int | None
    how: Literal["exited", "killed", "oom", "fenced"] = "exited"


class ReportKernelFailed(KernelReport):
    """It could not be started."""

    type: Literal["ReportKernelFailed"] = "ReportKernelFailed"
    reason: Literal[Reason.IMAGE_UNAVAILABLE, Reason.START_FAILED, Reason.START_EXPIRED, Reason.MOUNT_REFUSED]
    message: str = Field("", max_length=2000)


class ReportKernelGone(KernelReport):
    """It is not there, and how it ended cannot be known."""

    type: Literal["ReportKernelGone"] = "ReportKernelGone"


SessionCommands = Annotated[
    RequestSession
    | CancelSession
    | TerminateSession
    | RestartSession
    | RenameSession
    | SetSessionLimits
    | PlaceSession
    | LoseKernel
    | PassDeadline
    | RefuseMount
    | EndIdleSession
    | ReportKernelProgress
    | ReportKernelStarted
    | ReportKernelExited
    | ReportKernelFailed
    | ReportKernelGone,
    Field(discriminator="type"),
]


# -- events ------------------------------------------------------------------------------------------------------------


class SessionEvent(Event):
    session_id: SessionId

    @property
    def subject(self) -> str:
        return self.session_id


class SessionLimitsSet(Event):
    type: Literal["SessionLimitsSet"] = "SessionLimitsSet"
    owner: AccessKey
    limits: Limits | None

    @property
    def subject(self) -> str:
        return self.owner


class SessionRequested(SessionEvent):
    """It waits for places (PENDING)."""

    type: Literal["SessionRequested"] = "SessionRequested"
    owner: AccessKey
    name: SessionName
    spec: SessionSpec
    kernels: tuple[Seat, ...]
    deadline: Instant


class SessionScheduled(SessionEvent):
    """Every kernel has its place. `deadline` is for all of them to run."""

    type: Literal["SessionScheduled"] = "SessionScheduled"
    attempt: int
    assignments: tuple[Assignment, ...]
    deadline: Instant


class SessionAdvanced(SessionEvent):
    """Its status followed its kernels', or it is on its way down. The deadline replaces the one before."""

    type: Literal["SessionAdvanced"] = "SessionAdvanced"
    status: SessionStatus
    reason: Reason
    deadline: Instant | None
    avoid: tuple[AgentId, ...] = ()


class SessionRescheduled(SessionEvent):
    """The attempt failed and nothing of it is left: it waits for places again, `avoid` last."""

    type: Literal["SessionRescheduled"] = "SessionRescheduled"
    attempt: int
    avoid: tuple[AgentId, ...]
    reason: Reason
    deadline: Instant


class SessionRestarted(SessionEvent):
    """Every kernel is to run anew under the next incarnation."""

    type: Literal["SessionRestarted"] = "SessionRestarted"
    deadline: Instant


class SessionRenamed(SessionEvent):
    type: Literal["SessionRenamed"] = "SessionRenamed"
    name: SessionName


class SessionEnded(SessionEvent):
    """`status` is TERMINATED after it ran, CANCELLED when it never did, ERROR when it could not be started."""

    type: Literal["SessionEnded"] = "SessionEnded"
    status: Literal[SessionStatus.TERMINATED, SessionStatus.CANCELLED, SessionStatus.ERROR]
    reason: Reason
    result: Result
    exit_code: int | None


class KernelEvent(SessionEvent):
    kernel_id: KernelId
    incarnation: int


class KernelAdvanced(KernelEvent):
    type: Literal["KernelAdvanced"] = "KernelAdvanced"
    status: KernelStatus


class KernelStarted(KernelEvent):
    type: Literal["KernelStarted"] = "KernelStarted"
    runtime_id: str


class KernelEnded(KernelEvent):
    """`confirmed`: its agent said so. Otherwise it was given up, and its capacity is taken until the agent speaks."""

    type: Literal["KernelEnded"] = "KernelEnded"
    status: Literal[KernelStatus.TERMINATED, KernelStatus.CANCELLED, KernelStatus.ERROR]
    reason: Reason
    exit_code: int | None
    message: str = ""
    confirmed: bool = True


SessionEvents = Annotated[
    SessionLimitsSet
    | SessionRequested
    | SessionScheduled
    | SessionAdvanced
    | SessionRescheduled
    | SessionRestarted
    | SessionRenamed
    | SessionEnded
    | KernelAdvanced
    | KernelStarted
    | KernelEnded,
    Field(discriminator="type"),
]

COMMANDS: TypeAdapter[SessionCommands] = TypeAdapter(SessionCommands)
EVENTS: TypeAdapter[SessionEvents] = TypeAdapter(SessionEvents)
