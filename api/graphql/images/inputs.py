"""What mutations of images and registries take, and what becomes of it."""

from typing import Any, Final

import strawberry
from pydantic import TypeAdapter, ValidationError
from strawberry import UNSET

from api.graphql.asking import Asking
from api.graphql.images.reading import found
from api.graphql.images.types import INFINITY
from api.graphql.inputs import named, one_of
from api.graphql.scalars import BigInt
from domain.directory.images import Image
from domain.directory.messages.images import ImageReference, ImageRulesChanges, Range, RegistryType
from domain.messages import AgentId, Refused
from domain.slots import parse
from projections import agents

_REFERENCE: Final[TypeAdapter[ImageReference]] = TypeAdapter(ImageReference)
_GROUP: Final = "scaling_group:"


@strawberry.input
class CreateContainerRegistryInput:
    """`type`: `docker`, or `harbor2` of one or more projects. No `project`: all."""

    url: str
    type: str
    project: list[str] | None = UNSET
    username: str | None = UNSET
    password: str | None = UNSET
    ssl_verify: bool | None = UNSET


@strawberry.input
class ModifyContainerRegistryInput:
    """A `username`, `password` or `project` that is null is there no more."""

    url: str | None = UNSET
    type: str | None = UNSET
    project: list[str] | None = UNSET
    username: str | None = UNSET
    password: str | None = UNSET
    ssl_verify: bool | None = UNSET


@strawberry.input
class KVPairInput:
    key: str
    value: str


@strawberry.input
class ResourceLimitInput:
    """`max`: nothing, or `Infinity`, for no limit."""

    key: str | None = UNSET
    min: str | None = UNSET
    max: str | None = UNSET


@strawberry.input
class ModifyImageInput:
    """What is null counts as the image's labels say. Only these two can be changed: the rest is what was found."""

    supported_accelerators: list[str] | None = UNSET
    resource_limits: list[ResourceLimitInput] | None = UNSET
    name: str | None = UNSET
    registry: str | None = UNSET
    image: str | None = UNSET
    tag: str | None = UNSET
    architecture: str | None = UNSET
    size_bytes: BigInt | None = UNSET
    type: str | None = UNSET
    digest: str | None = UNSET
    labels: list[KVPairInput] | None = UNSET


# -- registries --------------------------------------------------------------------------------------------------------


def registry_changes(props: CreateContainerRegistryInput | ModifyContainerRegistryInput) -> dict[str, Any]:
    """Fields of a `RegistrySpec` but the password, in the clear as yet. Raises `Refused`."""
    told = named(props)
    changes: dict[str, Any] = {name: told[name] for name in ("url", "ssl_verify") if told.get(name) is not None}
    if told.get("type") is not None:
        changes["registry_type"] = one_of(RegistryType, told["type"], "type")
    if "project" in told:
        changes["projects"] = tuple(dict.fromkeys(told["project"] or ()))
    return changes | {name: told[name] or None for name in ("username", "password") if name in told}


# -- images ------------------------------------------------------------------------------------------------------------


def image_changes(props: ModifyImageInput) -> ImageRulesChanges:
    """Raises `Refused`."""
    told = named(props)
    changes = ImageRulesChanges()
    if "supported_accelerators" in told:
        accelerators = told.pop("supported_accelerators")
        changes["accelerators"] = None if accelerators is None else tuple(dict.fromkeys(accelerators))
    if "resource_limits" in told:
        limits = told.pop("resource_limits")
        changes["resources"] = None if limits is None else dict(map(_limit, limits))
    for name, value in told.items():
        if value is not None:
            raise Refused("not_supported", f"{name} is what was found, and cannot be changed", name)
    return changes


def _limit(told: ResourceLimitInput) -> tuple[str, Range]:
    if not told.key:
        raise Refused("bad_slots", "each of resource_limits needs a key", "resource_limits")
    low, high = told.min or None, told.max or None
    texts = {"min": low or "0"} | ({} if high in (None, INFINITY) else {"max": str(high)})
    amounts = {end: parse({told.key: text}, "resource_limits")[told.key] for end, text in texts.items()}
    return told.key, Range(**amounts)


def image_of(asking: Asking, name: str, architecture: str | None, field: str) -> Image:
    """The registered image that is meant. Raises `Refused`."""
    image = found(asking, name, architecture, None)
    if image is None:
        raise Refused("unknown_image", f"no image {name[:512]}", field)
    return image


def reference_of(asking: Asking, name: str) -> ImageReference:
    """Of a registered image, or the name itself where it says all. Raises `Refused`."""
    image = found(asking, name, None, None)
    if image is not None:
        return image.reference
    try:
        return _REFERENCE.validate_python(name)
    except ValidationError:
        reason = f"no image {name[:512]} is registered, and it does not name registry, path and tag"
        raise Refused("unknown_image", reason, "reference") from None


# -- agents ------------------------------------------------------------------------------------------------------------


async def agents_of(asking: Asking, targets: str) -> tuple[AgentId, ...]:
    """The living agents that `target_agents` means: `*` for all, `scaling_group:<name>`, ids, or several of these with
    commas between. Raises `Refused`."""
    async with asking.db() as db:
        living = {row.agent_id: row.resource_group for row in (await agents.listed(db, statuses=("ALIVE",))).items}
    meant: dict[str, None] = {}
    for target in filter(None, map(str.strip, targets.split(","))):
        group = target.removeprefix(_GROUP)
        if target == "*":
            some = list(living)
        elif group != target:
            some = [agent_id for agent_id, of in living.items() if of == group]
        else:
            some = [target] if target in living else []
        if not some:
            raise Refused("unknown_agent", f"no living agent is meant by {target[:256]}", "target_agents")
        meant |= dict.fromkeys(some)
    if not meant:
        raise Refused("unknown_agent", "no agents are named: ids, scaling_group:<name>, or * for all", "target_agents")
    return tuple(map(AgentId, meant))
