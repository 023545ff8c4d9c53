# ruff: noqa: ARG002 (arguments that the schema has)
"""What clients ask for that is not kept here yet: folders and model services. There are none of them."""

from datetime import datetime

import strawberry

from api.graphql.images.types import Image
from api.graphql.lists import PaginatedList
from api.graphql.scalars import UUID, BigInt, JSONString


@strawberry.type
class VirtualFolder:
    id: UUID | None
    host: str | None
    name: str | None
    user: UUID | None
    group: UUID | None
    creator: str | None
    status: str | None
    unmanaged_path: str | None
    usage_mode: str | None
    permission: str | None
    ownership_type: str | None
    max_files: int | None
    max_size: int | None
    created_at: datetime | None
    last_used: datetime | None
    num_files: int | None
    cur_size: BigInt | None
    cloneable: bool | None


@strawberry.type
class Routing:
    routing_id: UUID | None
    endpoint: str | None
    session: UUID | None
    status: str | None
    traffic_ratio: float | None


@strawberry.type
class Endpoint:
    endpoint_id: UUID | None
    name: str | None
    image: str | None
    image_object: Image | None
    domain: str | None
    project: str | None
    resource_group: str | None
    resource_slots: JSONString | None
    url: str | None
    model: UUID | None
    created_user: UUID | None
    session_owner: UUID | None
    tag: str | None
    startup_command: str | None
    desired_session_count: int | None
    replicas: int | None
    cluster_mode: str | None
    cluster_size: int | None
    open_to_public: bool | None
    routings: list[Routing] | None


@strawberry.type
class StorageVolume:
    id: strawberry.ID | None
    backend: str | None
    fsprefix: str | None
    path: str | None
    capabilities: list[str] | None
    hardware_metadata: JSONString | None
    performance_metric: JSONString | None
    usage: JSONString | None


@strawberry.type
class Absent:
    """The queries."""

    @strawberry.field
    async def vfolder_list(
        self,
        limit: int,
        offset: int,
        filter: str | None = None,
        order: str | None = None,
        order_key: str | None = None,
        order_asc: bool | None = None,
        domain_name: str | None = None,
        group_id: UUID | None = None,
        access_key: str | None = None,
    ) -> PaginatedList[VirtualFolder] | None:
        return PaginatedList(items=[], total_count=0)

    @strawberry.field
    async def vfolder_own_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[VirtualFolder] | None:
        return PaginatedList(items=[], total_count=0)

    @strawberry.field
    async def vfolder_invited_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[VirtualFolder] | None:
        return PaginatedList(items=[], total_count=0)

    @strawberry.field
    async def vfolder_project_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[VirtualFolder] | None:
        return PaginatedList(items=[], total_count=0)

    @strawberry.field
    async def storage_volume(self, id: str) -> StorageVolume | None:
        return None

    @strawberry.field
    async def storage_volume_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[StorageVolume] | None:
        return PaginatedList(items=[], total_count=0)

    @strawberry.field
    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        return None

    @strawberry.field
    async def endpoint_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[Endpoint] | None:
        return PaginatedList(items=[], total_count=0)
