"""What can be asked about images and registries."""

import strawberry

from api.graphql.asking import Info
from api.graphql.images import reading
from api.graphql.images.types import ContainerRegistry, Image


@strawberry.type
class ImageQueries:
    @strawberry.field
    async def image(self, info: Info, reference: str, architecture: str | None = None) -> Image | None:
        """`reference`: canonical, short, or an alias."""
        return await reading.image(info.context, reference, architecture)

    @strawberry.field
    async def images(
        self,
        info: Info,
        is_installed: bool | None = None,
        is_operation: bool | None = None,
        domain: str | None = None,
        group: str | None = None,
        scaling_group: str | None = None,
    ) -> list[Image] | None:
        """`is_installed`: whether any agent has it. `group`: id or name of a project, one of whose agents has it."""
        return await reading.images(
            info.context,
            installed=is_installed,
            operation=is_operation,
            domain_name=domain,
            project=group,
            scaling_group=scaling_group,
        )

    @strawberry.field
    async def container_registries(self, info: Info) -> list[ContainerRegistry] | None:
        return reading.registries(info.context)

    @strawberry.field
    async def container_registry(self, info: Info, hostname: str) -> ContainerRegistry | None:
        return reading.registry(info.context, hostname)
