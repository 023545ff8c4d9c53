"""What is asked for: tenants, people and what they may use. Names and fields are the public client's."""

from datetime import datetime

import strawberry

from api.graphql.asking import Info
from api.graphql.compute import ComputeSession
from api.graphql.folders.types import VirtualFolder
from api.graphql.lists import statuses
from api.graphql.scalars import UUID, BigInt, JSONString, shown
from projections.directory.groups import ListedPreset, ListedResourceGroup
from projections.directory.keypairs import ListedKeypair
from projections.directory.policies import PolicyRow
from projections.directory.tenants import ListedDomain, ListedProject
from projections.directory.users import ListedUser


@strawberry.type
class Domain:
    name: str | None
    description: str | None
    is_active: bool | None
    created_at: datetime | None
    modified_at: datetime | None
    total_resource_slots: JSONString | None
    allowed_vfolder_hosts: JSONString | None
    allowed_docker_registries: list[str] | None
    integration_id: str | None
    scaling_groups: list[str] | None

    @classmethod
    def of(cls, row: ListedDomain) -> "Domain":
        return cls(
            name=row.name,
            description=row.description,
            is_active=row.active,
            created_at=row.created_at,
            modified_at=row.modified_at,
            total_resource_slots=shown(row.total_resource_slots),
            allowed_vfolder_hosts=JSONString(row.allowed_vfolder_hosts),
            allowed_docker_registries=row.allowed_docker_registries,
            integration_id=row.integration_id,
            scaling_groups=row.resource_groups,
        )


@strawberry.type
class Group:
    """A project."""

    id: UUID | None
    name: str | None
    description: str | None
    is_active: bool | None
    created_at: datetime | None
    modified_at: datetime | None
    domain_name: str | None
    type: str | None
    total_resource_slots: JSONString | None
    allowed_vfolder_hosts: JSONString | None
    integration_id: str | None
    resource_policy: str | None
    container_registry: JSONString | None
    scaling_groups: list[str] | None

    @classmethod
    def of(cls, row: ListedProject) -> "Group":
        return cls(
            id=UUID(row.project_id),
            name=row.name,
            description=row.description,
            is_active=row.active,
            created_at=row.created_at,
            modified_at=row.modified_at,
            domain_name=row.domain,
            type=row.project_type.upper().replace("-", "_"),
            total_resource_slots=shown(row.total_resource_slots),
            allowed_vfolder_hosts=JSONString(row.allowed_vfolder_hosts),
            integration_id=row.integration_id,
            resource_policy=row.resource_policy,
            container_registry=JSONString(row.container_registry),
            scaling_groups=row.resource_groups,
        )


@strawberry.type
class UserGroup:
    """A project that a user is in."""

    id: UUID | None
    name: str | None


@strawberry.type
class UserInfo:
    full_name: str | None


@strawberry.type
class User:
    row: strawberry.Private[ListedUser]
    id: strawberry.ID | None
    uuid: UUID | None
    username: str | None
    email: str | None
    need_password_change: bool | None
    full_name: str | None
    description: str | None
    is_active: bool | None
    status: str | None
    status_info: str | None
    created_at: datetime | None
    modified_at: datetime | None
    domain_name: str | None
    role: str | None
    resource_policy: str | None
    allowed_client_ip: list[str] | None
    totp_activated: bool | None
    main_access_key: str | None
    sudo_session_enabled: bool | None = False
    password: str | None = strawberry.field(default=None, description="Never told.")

    @strawberry.field
    async def groups(self, info: Info) -> list[UserGroup] | None:
        found = await info.context.loaders.projects_of_users.load(self.row.user_id)
        return [UserGroup(id=UUID(each.project_id), name=each.project) for each in found]

    @strawberry.field
    async def keypairs(self, info: Info) -> "list[Keypair] | None":
        return [Keypair.of(each) for each in await info.context.loaders.keypairs_of_users.load(self.row.user_id)]

    @strawberry.field
    async def vfolders(self, info: Info) -> list[VirtualFolder] | None:
        """Those that belong to him."""
        return [VirtualFolder.of(each) for each in await info.context.loaders.folders_of_users.load(self.row.user_id)]

    @classmethod
    def of(cls, row: ListedUser) -> "User":
        return cls(
            row=row,
            id=strawberry.ID(row.user_id),
            uuid=UUID(row.user_id),
            username=row.username,
            email=row.email,
            need_password_change=row.need_password_change,
            full_name=row.full_name,
            description=row.description,
            is_active=row.active,
            status=row.status,
            status_info=None,
            created_at=row.created_at,
            modified_at=row.modified_at,
            domain_name=row.domain,
            role=row.role,
            resource_policy=row.resource_policy,
            allowed_client_ip=row.allowed_client_ip,
            totp_activated=row.totp_activated,
            main_access_key=row.main_access_key,
        )


@strawberry.type(name="KeyPair")
class Keypair:
    """`user_id`: the email of its user, as clients know it."""

    row: strawberry.Private[ListedKeypair]
    id: strawberry.ID | None
    user_id: str | None
    user: UUID | None
    access_key: str | None
    is_active: bool | None
    is_admin: bool | None
    resource_policy: str | None
    created_at: datetime | None
    modified_at: datetime | None
    last_used: datetime | None
    rate_limit: int | None
    num_queries: BigInt | None
    concurrency_used: int | None
    ssh_public_key: str | None
    full_name: str | None
    told_secret: strawberry.Private[str | None] = None

    @strawberry.field
    async def secret_key(self, info: Info) -> str | None:
        """For whom it belongs to, and for whoever has just created it."""
        return self.told_secret or await info.context.own_secret_key(self.row.access_key)

    @strawberry.field
    async def user_info(self) -> UserInfo | None:
        return UserInfo(full_name=self.row.full_name)

    @strawberry.field
    async def projects(self, info: Info) -> list[str] | None:
        """Those that its user is in, by name."""
        return [each.project for each in await info.context.loaders.projects_of_users.load(self.row.user_id)]

    @strawberry.field
    async def compute_sessions(self, info: Info, status: str | None = None) -> list[ComputeSession] | None:
        """Those that have not ended, or have one of these statuses."""
        key = (self.row.access_key, statuses(status))
        return [ComputeSession.of(each) for each in await info.context.loaders.sessions_of_keypairs.load(key)]

    @strawberry.field
    async def vfolders(self, info: Info) -> list[VirtualFolder] | None:
        """Those that belong to its user."""
        return [VirtualFolder.of(each) for each in await info.context.loaders.folders_of_users.load(self.row.user_id)]

    @classmethod
    def of(cls, row: ListedKeypair) -> "Keypair":
        return cls(
            row=row,
            id=strawberry.ID(row.access_key),
            user_id=row.email,
            user=UUID(row.user_id),
            access_key=row.access_key,
            is_active=row.active,
            is_admin=row.is_admin,
            resource_policy=row.resource_policy,
            created_at=row.created_at,
            modified_at=row.modified_at,
            last_used=row.last_used,
            rate_limit=row.rate_limit,
            num_queries=BigInt(row.num_queries),
            concurrency_used=row.concurrency_used,
            ssh_public_key=row.ssh_public_key,
            full_name=row.full_name,
        )


@strawberry.type(name="KeyPairResourcePolicy")
class KeypairPolicy:
    name: str | None
    created_at: datetime | None
    default_for_unspecified: str | None
    total_resource_slots: JSONString | None
    max_session_lifetime: BigInt | None
    max_concurrent_sessions: BigInt | None
    max_concurrent_sftp_sessions: BigInt | None
    max_containers_per_session: BigInt | None
    max_pending_session_count: BigInt | None
    max_pending_session_resource_slots: JSONString | None
    idle_timeout: BigInt | None
    max_vfolder_count: BigInt | None
    max_vfolder_size: BigInt | None
    allowed_vfolder_hosts: JSONString | None

    @classmethod
    def of(cls, row: PolicyRow) -> "KeypairPolicy":
        spec = row.spec
        pending = spec["max_pending_session_resource_slots"]
        return cls(
            name=row.name,
            created_at=row.created_at,
            default_for_unspecified=spec["default_for_unspecified"],
            total_resource_slots=shown(spec["total_resource_slots"]),
            max_session_lifetime=spec["max_session_lifetime"],
            max_concurrent_sessions=spec["max_concurrent_sessions"],
            max_concurrent_sftp_sessions=spec["max_concurrent_sftp_sessions"],
            max_containers_per_session=spec["max_containers_per_session"],
            max_pending_session_count=spec["max_pending_session_count"],
            max_pending_session_resource_slots=None if pending is None else shown(pending),
            idle_timeout=spec["idle_timeout"],
            max_vfolder_count=spec["max_vfolder_count"],
            max_vfolder_size=spec["max_vfolder_size"],
            allowed_vfolder_hosts=JSONString(spec["allowed_vfolder_hosts"]),
        )


@strawberry.type(name="UserResourcePolicy")
class UserPolicy:
    id: strawberry.ID | None
    name: str | None
    created_at: datetime | None
    max_vfolder_count: BigInt | None
    max_quota_scope_size: BigInt | None
    max_session_count_per_model_session: BigInt | None
    max_customized_image_count: BigInt | None

    @classmethod
    def of(cls, row: PolicyRow) -> "UserPolicy":
        return cls(id=strawberry.ID(row.name), name=row.name, created_at=row.created_at, **row.spec)


@strawberry.type(name="ProjectResourcePolicy")
class ProjectPolicy:
    id: strawberry.ID | None
    name: str | None
    created_at: datetime | None
    max_vfolder_count: BigInt | None
    max_quota_scope_size: BigInt | None
    max_network_count: BigInt | None

    @classmethod
    def of(cls, row: PolicyRow) -> "ProjectPolicy":
        return cls(id=strawberry.ID(row.name), name=row.name, created_at=row.created_at, **row.spec)


@strawberry.type
class ScalingGroup:
    """A resource group. `wsproxy_api_token` is a secret, and never told."""

    name: str | None
    description: str | None
    is_active: bool | None
    is_public: bool | None
    created_at: datetime | None
    driver: str | None
    driver_opts: JSONString | None
    scheduler: str | None
    scheduler_opts: JSONString | None
    use_host_network: bool | None
    wsproxy_addr: str | None
    wsproxy_api_token: str | None = None

    @classmethod
    def of(cls, row: ListedResourceGroup) -> "ScalingGroup":
        return cls(
            name=row.name,
            description=row.description,
            is_active=row.active,
            is_public=row.public,
            created_at=row.created_at,
            driver=row.driver,
            driver_opts=JSONString(row.driver_opts),
            scheduler=row.scheduler,
            scheduler_opts=JSONString(row.scheduler_opts),
            use_host_network=row.use_host_network,
            wsproxy_addr=row.wsproxy_addr,
        )


@strawberry.type
class ResourcePreset:
    """`scaling_group_name`: null for a preset of all groups."""

    name: str | None
    resource_slots: JSONString | None
    shared_memory: BigInt | None
    scaling_group_name: str | None

    @classmethod
    def of(cls, row: ListedPreset) -> "ResourcePreset":
        return cls(
            name=row.name,
            resource_slots=shown(row.resource_slots),
            shared_memory=None if row.shared_memory is None else BigInt(row.shared_memory),
            scaling_group_name=row.resource_group,
        )
