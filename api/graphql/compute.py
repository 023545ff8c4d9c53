"""What is asked for: agents, sessions, and the containers that are a session's kernels on agents."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

import strawberry

from api import stats
from api.graphql.asking import Info
from api.graphql.idling import checks_of
from api.graphql.lists import statuses
from api.graphql.scalars import UUID, BigInt, JSONString, shown
from api.sessions.images import shown_services
from domain.slots import Slots, total
from infra.live_stats import HostMeasured, Measured
from projections.agents import AgentRow
from projections.compute_sessions import ListedKernel, ListedSession

_MEBI: Final = 2**20
_PULLING: Final = "PULLING"
_HOLDING_NOTHING: Final = frozenset({"PENDING", "CANCELLED", "TERMINATED", "ERROR"})
"""Statuses of sessions and kernels."""


@strawberry.type
class ComputeContainer:
    """A kernel. `agent` is for superadmins."""

    row: strawberry.Private[ListedKernel]
    id: UUID | None
    role: str | None
    cluster_role: str | None
    cluster_idx: int | None
    hostname: str | None
    cluster_hostname: str | None
    session_id: UUID | None
    image: str | None
    registry: str | None
    architecture: str | None
    status: str | None
    status_changed: datetime | None
    status_info: str | None
    created_at: datetime | None
    terminated_at: datetime | None
    container_id: str | None
    occupied_slots: JSONString | None
    resource_opts: JSONString | None
    preopen_ports: list[int] | None

    @strawberry.field
    async def agent(self, info: Info) -> str | None:
        return self.row.agent_id if info.context.sight.everything else None

    @strawberry.field
    async def status_data(self, info: Info) -> JSONString | None:
        """How it ended; and while its image is on its way, how many bytes of it have come."""
        if self.row.ended_at is not None:
            return JSONString({"message": self.row.message, "exit_code": self.row.exit_code})
        return JSONString(await _pulled([self.row], info))

    @strawberry.field
    async def live_stat(self, info: Info) -> JSONString | None:
        """What it uses now; null for one that does not run, or of which nothing has been heard yet."""
        measured = await self._measured(info)
        runs = self.row.ended_at is None and measured is not None and measured.incarnation == self.row.incarnation
        return JSONString(stats.of_kernel(measured)) if measured is not None and runs else None

    @strawberry.field
    async def last_stat(self, info: Info) -> JSONString | None:
        """What was measured of it last, also after its end, for some days."""
        measured = await self._measured(info)
        return None if measured is None else JSONString(stats.of_kernel(measured))

    async def _measured(self, info: Info) -> Measured | None:
        if self.row.agent_id is None:
            return None
        return await info.context.loaders.stats_of_kernels.load((self.row.kernel_id, self.row.agent_id))

    @classmethod
    def of(cls, row: ListedKernel) -> "ComputeContainer":
        return cls(
            row=row,
            id=UUID(row.kernel_id),
            role=row.role,
            cluster_role=row.role,
            cluster_idx=row.index,
            hostname=row.hostname,
            cluster_hostname=row.hostname,
            session_id=UUID(row.session_id),
            image=row.image,
            registry=_registry(row.image),
            architecture=row.architecture,
            status=row.status,
            status_changed=row.status_changed_at,
            status_info=row.reason,
            created_at=row.requested_at,
            terminated_at=row.ended_at,
            container_id=row.runtime_id,
            occupied_slots=shown(row.slots if _holds(row.status) else {}),
            resource_opts=_options(row.shm_bytes),
            preopen_ports=row.preopen_ports if row.role == "main" else [],
        )


@strawberry.type
class ComputeSession:
    """`occupying_slots`: what its kernels hold together. `agent_ids` are for superadmins."""

    row: strawberry.Private[ListedSession]
    id: UUID | None
    session_id: UUID | None
    main_kernel_id: UUID | None
    name: str | None
    type: str | None
    tag: str | None
    image: str | None
    registry: str | None
    architecture: str | None
    cluster_template: str | None
    cluster_mode: str | None
    cluster_size: int | None
    domain_name: str | None
    group_name: str | None
    group_id: UUID | None
    user_email: str | None
    full_name: str | None
    user_id: UUID | None
    access_key: str | None
    created_user_email: str | None
    created_user_uuid: UUID | None
    created_user_id: UUID | None
    status: str | None
    status_changed: datetime | None
    status_info: str | None
    created_at: datetime | None
    terminated_at: datetime | None
    starts_at: datetime | None
    scheduled_at: datetime | None
    startup_command: str | None
    result: str | None
    resource_opts: JSONString | None
    scaling_group: str | None
    mounts: list[str] | None
    vfolder_mounts: list[str] | None
    occupied_slots: JSONString | None
    occupying_slots: JSONString | None
    requested_slots: JSONString | None
    num_queries: BigInt | None
    abusing_reports: list[JSONString] | None

    @strawberry.field
    async def status_data(self, info: Info) -> JSONString | None:
        """How it ended; and while images of it are on their way, how many bytes of all of them have come."""
        if self.row.exit_code is not None:
            return JSONString({"exit_code": self.row.exit_code})
        if self.row.status != _PULLING:
            return JSONString({})
        return JSONString(await _pulled(await info.context.loaders.kernels_of_sessions.load(self.row), info))

    @strawberry.field
    async def idle_checks(self, info: Info) -> JSONString | None:
        """Seconds that it may go on as it does, by check; empty for one that does not run."""
        return JSONString(await checks_of(self.row, info.context))

    @strawberry.field
    async def agent_ids(self, info: Info) -> list[str] | None:
        return self.row.agent_ids if info.context.sight.everything else None

    @strawberry.field
    async def agents(self, info: Info) -> list[str] | None:
        return self.row.agent_ids if info.context.sight.everything else None

    @strawberry.field
    async def containers(self, info: Info) -> list[ComputeContainer] | None:
        return [ComputeContainer.of(each) for each in await info.context.loaders.kernels_of_sessions.load(self.row)]

    @strawberry.field
    async def service_ports(self, info: Info) -> JSONString | None:
        directory = info.context.directory
        return JSONString(shown_services(self.row.image, self.row.architecture, directory, self.row.preopen_ports))

    @strawberry.field
    async def dependencies(self) -> "list[ComputeSession] | None":
        return []

    @classmethod
    def of(cls, row: ListedSession) -> "ComputeSession":
        whole: Slots = total([row.slots] * row.cluster_size)
        held = shown(whole if _holds(row.status) else {})
        user_id = None if row.user_id is None else UUID(row.user_id)
        return cls(
            row=row,
            id=UUID(row.session_id),
            session_id=UUID(row.session_id),
            main_kernel_id=UUID(row.kernels[0]) if row.kernels else None,
            name=row.name,
            type=row.session_type.upper(),
            tag=row.tag,
            image=row.image,
            registry=_registry(row.image),
            architecture=row.architecture,
            cluster_template=None,
            cluster_mode=row.cluster_mode,
            cluster_size=row.cluster_size,
            domain_name=row.domain,
            group_name=row.project,
            group_id=None if row.project_id is None else UUID(row.project_id),
            user_email=row.email,
            full_name=row.full_name,
            user_id=user_id,
            access_key=row.owner,
            created_user_email=row.email,
            created_user_uuid=user_id,
            created_user_id=user_id,
            status=row.status,
            status_changed=row.status_changed_at,
            status_info=row.reason,
            created_at=row.requested_at,
            terminated_at=row.ended_at,
            starts_at=None,
            scheduled_at=row.scheduled_at,
            startup_command=row.startup_command,
            result=row.result,
            resource_opts=_options(row.shm_bytes),
            scaling_group=row.resource_group,
            mounts=[mount["name"] for mount in row.mounts.values()],
            vfolder_mounts=[mount["vfid"] for mount in row.mounts.values()],
            occupied_slots=held,
            occupying_slots=held,
            requested_slots=shown(whole),
            num_queries=BigInt(0),
            abusing_reports=[],
        )


@strawberry.type
class Agent:
    """A host's agent, for superadmins."""

    row: strawberry.Private[AgentRow]
    id: strawberry.ID | None
    status: str | None
    status_changed: datetime | None
    region: str | None
    architecture: str | None
    scaling_group: str | None
    schedulable: bool | None
    available_slots: JSONString | None
    occupied_slots: JSONString | None
    addr: str | None
    first_contact: datetime | None
    lost_at: datetime | None
    version: str | None
    compute_plugins: JSONString | None
    hardware_metadata: JSONString | None
    local_config: JSONString | None
    mem_slots: int | None
    cpu_slots: float | None
    gpu_slots: float | None
    tpu_slots: float | None
    used_mem_slots: int | None
    used_cpu_slots: float | None
    used_gpu_slots: float | None
    used_tpu_slots: float | None

    @strawberry.field
    async def live_stat(self, info: Info) -> JSONString | None:
        """What the host does now; null while its agent is not heard."""
        measured = await self._measured(info)
        return None if measured is None else JSONString(stats.of_agent(measured))

    @strawberry.field
    async def cpu_cur_pct(self, info: Info) -> float | None:
        measured = await self._measured(info)
        return None if measured is None else stats.cpu_percent(measured)

    @strawberry.field
    async def mem_cur_bytes(self, info: Info) -> float | None:
        measured = await self._measured(info)
        return None if measured is None else measured.host.memory_bytes

    async def _measured(self, info: Info) -> HostMeasured | None:
        if self.row.status != "ALIVE":
            return None
        return await info.context.loaders.stats_of_agents.load(self.row.agent_id)

    @strawberry.field
    async def compute_containers(self, info: Info, status: str | None = None) -> list[ComputeContainer] | None:
        """Those that have not ended, or have one of these statuses."""
        key = (self.row.agent_id, statuses(status))
        return [ComputeContainer.of(each) for each in await info.context.loaders.kernels_of_agents.load(key)]

    @strawberry.field
    async def installed_images(self, info: Info) -> list[str] | None:
        """Canonical references of the images it has, registered or not."""
        return list(await info.context.loaders.images_of_agents.load(self.row.agent_id))

    @classmethod
    def of(cls, row: AgentRow) -> "Agent":
        nothing = JSONString({})
        return cls(
            row=row,
            id=strawberry.ID(row.agent_id),
            status=row.status,
            status_changed=row.status_changed_at,
            region="",
            architecture=row.architecture,
            scaling_group=row.resource_group,
            schedulable=row.status == "ALIVE" and not row.excluded,
            available_slots=shown(row.slots),
            occupied_slots=shown(row.used),
            addr=row.address,
            first_contact=row.first_contact,
            lost_at=row.status_changed_at if row.status == "LOST" else None,
            version=None,
            compute_plugins=nothing,
            hardware_metadata=JSONString(_hardware(row)),
            local_config=nothing,
            mem_slots=row.slots.get("mem", 0) // _MEBI,
            cpu_slots=_whole(row.slots, "cpu"),
            gpu_slots=_whole(row.slots, "cuda"),
            tpu_slots=_whole(row.slots, "tpu"),
            used_mem_slots=row.used.get("mem", 0) // _MEBI,
            used_cpu_slots=_whole(row.used, "cpu"),
            used_gpu_slots=_whole(row.used, "cuda"),
            used_tpu_slots=_whole(row.used, "tpu"),
        )


async def _pulled(kernels: Sequence[ListedKernel], info: Info) -> dict[str, Any]:
    """As far as it is known. `total` 0: it is not."""
    placed = [(each.kernel_id, each.agent_id) for each in kernels if each.status == _PULLING and each.agent_id]
    known = [each for each in await info.context.loaders.pulls_of_kernels.load_many(placed) if each is not None]
    if not known:
        return {}
    return {"pull": {"done": sum(each.done for each in known), "total": sum(each.total for each in known)}}


def _options(shm_bytes: int) -> JSONString:
    """As they are asked for; what was left to the runtime is not there."""
    return JSONString({"shmem": str(shm_bytes)} if shm_bytes else {})


def _hardware(row: AgentRow) -> dict[str, Any]:
    """By kind of device, whether it is well; what has failed with its reason."""
    kinds = sorted({slot.partition(".")[0] for slot in row.slots})
    told: dict[str, Any] = {kind: {"status": "healthy", "status_info": None, "metadata": {}} for kind in kinds}
    if row.faults:
        told["devices"] = {"status": "unhealthy", "status_info": None, "metadata": dict(row.faults)}
    return told


def _holds(status: str) -> bool:
    return status not in _HOLDING_NOTHING


def _whole(slots: Slots, device: str) -> float:
    """Of all slots of a device, in whole ones."""
    return sum(units for name, units in slots.items() if name.partition(".")[0] == device) / 1000


def _registry(image: str) -> str | None:
    """The first part of a name, where it is that of a host."""
    first, slash, _ = image.partition("/")
    return first if slash and ("." in first or ":" in first) else None
