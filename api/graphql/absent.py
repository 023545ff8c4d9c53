# ruff: noqa: ARG002 (arguments that the schema has)
"""What clients ask for that is not kept here yet: model services. There are none of them."""

import strawberry

from api.graphql.images.types import Image
from api.graphql.lists import PaginatedList
from api.graphql.scalars import UUID, JSONString


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
class Absent:
    """The queries."""

    @strawberry.field
    async def endpoint(self, endpoint_id: UUID) -> Endpoint | None:
        return None

    @strawberry.field
    async def endpoint_list(
        self, limit: int, offset: int, filter: str | None = None, order: str | None = None
    ) -> PaginatedList[Endpoint] | None:
        return PaginatedList(items=[], total_count=0)
