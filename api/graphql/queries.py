"""Everything that can be asked."""

import strawberry

from api.graphql import reading
from api.graphql.absent import Absent
from api.graphql.asking import Info
from api.graphql.compute import Agent, ComputeContainer, ComputeSession
from api.graphql.folders.queries import FolderQueries
from api.graphql.images.queries import ImageQueries
from api.graphql.lists import PaginatedList, query_of, whole
from api.graphql.scalars import UUID
from api.graphql.types import (
    Domain,
    Group,
    Keypair,
    KeypairPolicy,
    ProjectPolicy,
    ResourcePreset,
    ScalingGroup,
    User,
    UserPolicy,
)


@strawberry.type
class Query(FolderQueries, ImageQueries, Absent):
    # -- tenants -----------------------------------------------------------------------------------------------------

    @strawberry.field
    async def domain(self, info: Info, name: str | None = None) -> Domain | None:
        """Without a name the caller's own."""
        return await reading.domain(info.context, name or info.context.caller.identity.user.spec.domain)

    @strawberry.field
    async def domains(self, info: Info, is_active: bool | None = None) -> list[Domain] | None:
        return await reading.domains(info.context, is_active)

    @strawberry.field
    async def group(self, info: Info, id: UUID, domain_name: str | None = None) -> Group | None:
        return await reading.group(info.context, id, domain_name)

    @strawberry.field
    async def groups(
        self,
        info: Info,
        domain_name: str | None = None,
        is_active: bool | None = None,
        type: list[str] | None = None,
    ) -> list[Group] | None:
        return await reading.projects(info.context, domain_name, is_active, types=type)

    @strawberry.field
    async def groups_by_name(self, info: Info, name: str, domain_name: str | None = None) -> list[Group] | None:
        return await reading.projects(info.context, domain_name, name=name)

    # -- people ------------------------------------------------------------------------------------------------------

    @strawberry.field
    async def user(self, info: Info, domain_name: str | None = None, email: str | None = None) -> User | None:
        """Without an email the caller himself."""
        return await reading.user_by_email(info.context, email or info.context.caller.identity.user.email, domain_name)

    @strawberry.field
    async def user_from_uuid(
        self, info: Info, domain_name: str | None = None, user_id: strawberry.ID | None = None
    ) -> User | None:
        return await reading.user(info.context, user_id or info.context.caller.identity.user.user_id, domain_name)

    @strawberry.field
    async def users(
        self,
        info: Info,
        domain_name: str | None = None,
        group_id: UUID | None = None,
        is_active: bool | None = None,
        status: str | None = None,
    ) -> list[User] | None:
        found = await reading.user_list(
            info.context, domain_name=domain_name, project_id=group_id, active=is_active, status=status
        )
        return whole(found, "user_list")

    @strawberry.field
    async def user_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        after: str | None = None,
        domain_name: str | None = None,
        group_id: UUID | None = None,
        is_active: bool | None = None,
        status: str | None = None,
    ) -> PaginatedList[User] | None:
        return await reading.user_list(
            info.context,
            query_of(limit, offset, filter, order, order_key, order_asc, after),
            domain_name=domain_name,
            project_id=group_id,
            active=is_active,
            status=status,
        )

    @strawberry.field
    async def keypair(
        self, info: Info, domain_name: str | None = None, access_key: str | None = None
    ) -> Keypair | None:
        """Without an access key the one that the request is made with."""
        return await reading.keypair(info.context, access_key or info.context.caller.access_key, domain_name)

    @strawberry.field
    async def keypairs(
        self, info: Info, domain_name: str | None = None, email: str | None = None, is_active: bool | None = None
    ) -> list[Keypair] | None:
        found = await reading.keypair_list(info.context, domain_name=domain_name, email=email, active=is_active)
        return whole(found, "keypair_list")

    @strawberry.field
    async def keypair_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        after: str | None = None,
        domain_name: str | None = None,
        email: str | None = None,
        is_active: bool | None = None,
    ) -> PaginatedList[Keypair] | None:
        return await reading.keypair_list(
            info.context,
            query_of(limit, offset, filter, order, order_key, order_asc, after),
            domain_name=domain_name,
            email=email,
            active=is_active,
        )

    # -- policies ----------------------------------------------------------------------------------------------------

    @strawberry.field
    async def keypair_resource_policy(self, info: Info, name: str | None = None) -> KeypairPolicy | None:
        """Without a name that of the caller's keypair."""
        return await reading.keypair_policy(info.context, name)

    @strawberry.field
    async def keypair_resource_policies(self, info: Info) -> list[KeypairPolicy] | None:
        return await reading.keypair_policies(info.context)

    @strawberry.field
    async def user_resource_policy(self, info: Info, name: str | None = None) -> UserPolicy | None:
        """Without a name the caller's own."""
        return await reading.user_policy(info.context, name)

    @strawberry.field
    async def user_resource_policies(self, info: Info) -> list[UserPolicy] | None:
        return await reading.user_policies(info.context)

    @strawberry.field
    async def project_resource_policy(self, info: Info, name: str) -> ProjectPolicy | None:
        return await reading.project_policy(info.context, name)

    @strawberry.field
    async def project_resource_policies(self, info: Info) -> list[ProjectPolicy] | None:
        return await reading.project_policies(info.context)

    # -- resource groups and presets ---------------------------------------------------------------------------------

    @strawberry.field
    async def scaling_group(self, info: Info, name: str | None = None) -> ScalingGroup | None:
        return await reading.scaling_group(info.context, name or "default")

    @strawberry.field
    async def scaling_groups(
        self, info: Info, name: str | None = None, is_active: bool | None = None
    ) -> list[ScalingGroup] | None:
        return await reading.scaling_groups(info.context, name=name, active=is_active)

    @strawberry.field
    async def scaling_groups_for_domain(
        self, info: Info, domain: str, is_active: bool | None = None
    ) -> list[ScalingGroup] | None:
        if not info.context.sight.tenant(domain):
            return []
        return await reading.scaling_groups(info.context, domain_name=domain, active=is_active)

    @strawberry.field
    async def scaling_groups_for_user_group(
        self, info: Info, user_group: str, is_active: bool | None = None
    ) -> list[ScalingGroup] | None:
        if await reading.group(info.context, user_group) is None:
            return []
        return await reading.scaling_groups(info.context, project_id=user_group, active=is_active)

    @strawberry.field
    async def scaling_groups_for_keypair(
        self, info: Info, access_key: str, is_active: bool | None = None
    ) -> list[ScalingGroup] | None:
        if await reading.keypair(info.context, access_key) is None:
            return []
        return await reading.scaling_groups(info.context, access_key=access_key, active=is_active)

    @strawberry.field
    async def resource_preset(
        self, info: Info, name: str, scaling_group_name: str | None = None
    ) -> ResourcePreset | None:
        return await reading.preset(info.context, name, scaling_group_name)

    @strawberry.field
    async def resource_presets(self, info: Info, scaling_group_name: str | None = None) -> list[ResourcePreset] | None:
        return await reading.presets(info.context, scaling_group_name)

    # -- agents, sessions and their containers -----------------------------------------------------------------------

    @strawberry.field
    async def agent(self, info: Info, agent_id: str) -> Agent | None:
        return await reading.agent(info.context, agent_id)

    @strawberry.field
    async def agent_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        scaling_group: str | None = None,
        status: str | None = None,
    ) -> PaginatedList[Agent] | None:
        query = query_of(limit, offset, filter, order, order_key, order_asc)
        return await reading.agent_list(info.context, query, status, scaling_group)

    @strawberry.field
    async def compute_session(self, info: Info, id: UUID) -> ComputeSession | None:
        return await reading.compute_session(info.context, id)

    @strawberry.field
    async def compute_session_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        after: str | None = None,
        domain_name: str | None = None,
        group_id: str | None = None,
        access_key: str | None = None,
        status: str | None = None,
    ) -> PaginatedList[ComputeSession] | None:
        return await reading.compute_session_list(
            info.context,
            query_of(limit, offset, filter, order, order_key, order_asc, after),
            status=status,
            domain_name=domain_name,
            project_id=group_id,
            access_key=access_key,
        )

    @strawberry.field
    async def compute_container(self, info: Info, id: UUID) -> ComputeContainer | None:
        return await reading.compute_container(info.context, id)

    @strawberry.field
    async def compute_container_list(
        self,
        info: Info,
        limit: int,
        offset: int,
        session_id: UUID,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        role: str | None = None,
        status: str | None = None,
    ) -> PaginatedList[ComputeContainer] | None:
        query = query_of(limit, offset, filter, order, order_key, order_asc)
        return await reading.compute_container_list(info.context, query, session_id, role, status)
