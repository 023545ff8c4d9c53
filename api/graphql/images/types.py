"""What is asked for: images, and container registries."""

from typing import Final

import strawberry

from api.graphql.asking import Info
from api.graphql.scalars import BigInt
from domain.directory.images import Image as KnownImage
from domain.directory.messages.images import LOCAL, ImageFacts, ImageRules, RegistrySpec
from domain.slots import show
from projections.directory.images import ListedImage

INFINITY: Final = "Infinity"
_HIDDEN: Final = "*****"


@strawberry.type
class KVPair:
    key: str | None
    value: str | None


@strawberry.type
class ResourceLimit:
    """How much of a slot a container of the image needs, and may have: `Infinity` where there is no limit."""

    key: str | None
    min: str | None
    max: str | None


@strawberry.type
class Image:
    """`<registry>/<name>:<tag>` is its canonical reference, also of an image that no registry offers (`is_local`).

    `installed`: whether an agent has it; which ones is for superadmins.
    """

    row: strawberry.Private[ListedImage]
    name: str | None
    humanized_name: str | None
    tag: str | None
    registry: str | None
    architecture: str | None
    is_local: bool | None
    digest: str | None
    aliases: list[str] | None
    size_bytes: BigInt | None
    installed: bool | None

    @strawberry.field
    def labels(self) -> list[KVPair] | None:
        return [KVPair(key=label, value=text) for label, text in sorted(self.row.labels.items())]

    @strawberry.field
    def resource_limits(self) -> list[ResourceLimit] | None:
        return _limits(_known(self.row))

    @strawberry.field
    def supported_accelerators(self) -> list[str] | None:
        return sorted(_known(self.row).accelerators)

    @strawberry.field
    async def installed_agents(self, info: Info) -> list[str] | None:
        if not info.context.sight.everything:
            return None
        key = (self.row.reference, self.row.architecture)
        return list(await info.context.loaders.agents_with_images.load(key))

    @classmethod
    def of(cls, row: ListedImage) -> "Image":
        path, _, tag = row.reference.rpartition(":")
        host, _, name = path.partition("/")
        return cls(
            row=row,
            name=name,
            humanized_name=name,
            tag=tag,
            registry=host,
            architecture=row.architecture,
            is_local=row.registry == LOCAL,
            digest=row.digest,
            aliases=row.aliases,
            size_bytes=BigInt(row.size_bytes),
            installed=row.installed,
        )


def _known(row: ListedImage) -> KnownImage:
    """As the directory has it, which knows what labels and rules mean."""
    return KnownImage(
        reference=row.reference,
        architecture=row.architecture,
        facts=ImageFacts(registry=row.registry, digest=row.digest, size_bytes=row.size_bytes, labels=dict(row.labels)),
        rules=ImageRules.model_validate(row.rules),
        registered_at=row.registered_at,
    )


def _limits(image: KnownImage) -> list[ResourceLimit]:
    limits = sorted(image.resources.items())
    low = show({slot: limit.min for slot, limit in limits})
    high = show({slot: limit.max for slot, limit in limits if limit.max is not None})
    return [ResourceLimit(key=slot, min=low[slot], max=high.get(slot, INFINITY)) for slot, _ in limits]


@strawberry.type
class ContainerRegistryConfig:
    """`project`: only these are looked through; none: all. `password` tells only whether there is one."""

    url: str
    type: str
    project: list[str] | None
    username: str | None
    password: str | None
    ssl_verify: bool | None


@strawberry.type
class ContainerRegistry:
    """`hostname`: its name, with which the references of its images begin."""

    id: strawberry.ID
    hostname: str | None
    config: ContainerRegistryConfig | None

    @classmethod
    def of(cls, name: str, spec: RegistrySpec) -> "ContainerRegistry":
        config = ContainerRegistryConfig(
            url=spec.url,
            type=spec.registry_type,
            project=list(spec.projects),
            username=spec.username,
            password=None if spec.password is None else _HIDDEN,
            ssl_verify=spec.ssl_verify,
        )
        return cls(id=strawberry.ID(name), hostname=name, config=config)
