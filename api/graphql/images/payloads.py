"""What mutations of images and registries answer."""

import strawberry

from api.graphql.asking import Info
from api.graphql.images import reading
from api.graphql.images.types import ContainerRegistry
from api.graphql.payloads import Done
from api.graphql.scalars import UUID


@strawberry.type
class TaskDone(Done):
    """It has begun, and goes on in the background: `GET /events/background-task` tells how far it is."""

    @strawberry.field
    async def task_id(self) -> UUID | None:
        return UUID(self.key) if self.ok else None


@strawberry.type
class ContainerRegistryDone(Done):
    @strawberry.field
    async def container_registry(self, info: Info) -> ContainerRegistry | None:
        return reading.registry(info.context, self.key) if self.ok else None
