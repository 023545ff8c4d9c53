"""Container registries, the images that sessions may start from, and where these are already.

An image is what was found under a canonical reference (`registry/project/name:tag`) for one architecture. What an
administrator says about it (`ImageRules`) stands apart from what was found (`ImageFacts`), so that finding it again
changes nothing of that.
"""

from enum import StrEnum
from typing import Annotated, ClassVar, Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, Named
from domain.messages import AgentId, Event, Sealed, Value
from domain.slots import Amount, SlotName

LOCAL: str = "local"
"""The registry of images that no registry offers: they are what agents have. It always exists."""

RegistryName = Annotated[str, Field(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:_-]{0,126}[A-Za-z0-9])?$")]
"""Of a registry: what the references of its images begin with, usually its host and port."""

ImageReference = Annotated[
    str,
    Field(
        pattern=r"^[A-Za-z0-9]([A-Za-z0-9.:_-]*[A-Za-z0-9])?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$",
        max_length=512,
    ),
]
"""Canonical: registry, path and tag, all written out: `cr.example.org/stable/python:3.11-ubuntu22.04`."""

ImageAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/-]{0,254}$")]
"""A short name of an image. It is looked up before anything else is made of a name, so it may look like a reference."""

Architecture = Annotated[str, Field(pattern=r"^[a-z0-9_]{1,32}$")]
"""As the kernel of Linux calls it: `x86_64`, `aarch64`."""

Digest = Annotated[str, Field(pattern=r"^[a-z0-9+._-]{1,32}:[0-9a-fA-F]{32,128}$")]

Labels = dict[Annotated[str, Field(min_length=1, max_length=256)], Annotated[str, Field(max_length=16384)]]


class RegistryType(StrEnum):
    """How its images are found: `docker` by the catalog of the Docker Registry v2 API, `harbor2` by Harbor's own API of
    projects, `local` among what agents have."""

    DOCKER = "docker"
    HARBOR = "harbor2"
    LOCAL = "local"


class RegistrySpec(Value):
    """`projects`: only these are looked through; none named: all of them.

    `password`: sealed, about `registry/<name>`.
    """

    url: str = Field(min_length=1, max_length=1024, pattern=r"^https?://[^\s/]+(/\S*)?$")
    registry_type: RegistryType = RegistryType.DOCKER
    projects: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...] = ()
    username: str | None = Field(None, max_length=255)
    password: Sealed | None = None
    ssl_verify: bool = True


class RegistryChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    url: Annotated[str, Field(min_length=1, max_length=1024, pattern=r"^https?://[^\s/]+(/\S*)?$")]
    registry_type: RegistryType
    projects: tuple[Annotated[str, Field(min_length=1, max_length=255)], ...]
    username: Annotated[str, Field(max_length=255)] | None
    password: Sealed | None
    ssl_verify: bool


class ImageFacts(Value):
    """What was found. `digest`: of the image's configuration, which says whether two images are the same."""

    registry: RegistryName
    digest: Digest | None = None
    size_bytes: int = Field(0, ge=0, le=2**53)
    labels: Labels = Field({}, max_length=256)


class Range(Value):
    """How much of one resource a kernel of the image needs, and may have. `max` None: no limit."""

    min: Amount = 0
    max: Amount | None = None


class ImageRules(Value):
    """What an administrator says; where he says nothing (None), the image's labels count.

    `accelerators`: devices it may have, as in `cuda`; `*` stands for all.
    """

    resources: dict[SlotName, Range] | None = None
    accelerators: tuple[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_-]{0,63})$")], ...] | None = None


class ImageRulesChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    resources: dict[SlotName, Range] | None
    accelerators: tuple[Annotated[str, Field(pattern=r"^(\*|[a-z][a-z0-9_-]{0,63})$")], ...] | None


class LocalImage(Value):
    """One that an agent has."""

    reference: ImageReference
    architecture: Architecture
    digest: Digest | None = None
    size_bytes: int = Field(0, ge=0, le=2**53)
    labels: Labels = Field({}, max_length=256)


class OfImage(Value):
    """Says which image is meant."""

    reference: ImageReference
    architecture: Architecture = "x86_64"

    @property
    def subject(self) -> str:
        return self.reference


# -- commands: registries ----------------------------------------------------------------------------------------------


class OfRegistry(Named):
    """The name of a registry may be a host and port, other than most names."""

    name: RegistryName


class CreateRegistry(OfRegistry, DirectoryCommand):
    type: Literal["CreateRegistry"] = "CreateRegistry"
    spec: RegistrySpec


class ModifyRegistry(OfRegistry, DirectoryCommand):
    type: Literal["ModifyRegistry"] = "ModifyRegistry"
    changes: RegistryChanges = RegistryChanges()


class DeleteRegistry(OfRegistry, DirectoryCommand):
    """Its images are forgotten with it. Sessions that run go on."""

    type: Literal["DeleteRegistry"] = "DeleteRegistry"


# -- commands: images --------------------------------------------------------------------------------------------------


class RegisterImage(OfImage, DirectoryCommand):
    """It was found in its registry (or an administrator enters it by hand): from now on sessions may start from it."""

    type: Literal["RegisterImage"] = "RegisterImage"
    facts: ImageFacts


class ModifyImage(OfImage, DirectoryCommand):
    type: Literal["ModifyImage"] = "ModifyImage"
    changes: ImageRulesChanges = ImageRulesChanges()


class ForgetImage(OfImage, DirectoryCommand):
    """Its aliases go with it; the next scan of its registry finds it again if it is still there."""

    type: Literal["ForgetImage"] = "ForgetImage"


class AliasImage(OfImage, DirectoryCommand):
    """`alias` may be the same for images of several architectures, one each."""

    type: Literal["AliasImage"] = "AliasImage"
    alias: ImageAlias


class DealiasImage(DirectoryCommand):
    """For every architecture."""

    type: Literal["DealiasImage"] = "DealiasImage"
    alias: ImageAlias

    @property
    def subject(self) -> str:
        return self.alias


# -- commands: what agents have ----------------------------------------------------------------------------------------


class ReportAgentImages(DirectoryCommand):
    """What came to an agent, and what went, since its last report. `afresh`: nothing said earlier counts any more."""

    type: Literal["ReportAgentImages"] = "ReportAgentImages"
    by_users: ClassVar[bool] = False

    agent_id: AgentId
    afresh: bool = False
    come: tuple[LocalImage, ...] = Field((), max_length=100)
    gone: tuple[tuple[ImageReference, Architecture], ...] = Field((), max_length=1000)

    @property
    def subject(self) -> str:
        return self.agent_id


class ForgetAgent(DirectoryCommand):
    """The agent is gone for good: it has no images any more, and what it had to do with images has failed."""

    type: Literal["ForgetAgent"] = "ForgetAgent"
    by_users: ClassVar[bool] = False

    agent_id: AgentId

    @property
    def subject(self) -> str:
        return self.agent_id


# -- events ------------------------------------------------------------------------------------------------------------


class RegistryPut(OfRegistry, Event):
    """Created or modified; `spec` as it is now."""

    type: Literal["RegistryPut"] = "RegistryPut"
    spec: RegistrySpec


class RegistryDeleted(OfRegistry, Event):
    type: Literal["RegistryDeleted"] = "RegistryDeleted"


class ImageRegistered(OfImage, Event):
    """Found for the first time, or found to be another now; what was said about it stays."""

    type: Literal["ImageRegistered"] = "ImageRegistered"
    facts: ImageFacts


class ImageModified(OfImage, Event):
    """`rules`: as they are now."""

    type: Literal["ImageModified"] = "ImageModified"
    rules: ImageRules


class ImageForgotten(OfImage, Event):
    type: Literal["ImageForgotten"] = "ImageForgotten"


class ImageAliased(OfImage, Event):
    """From now on the alias means this one, for its architecture."""

    type: Literal["ImageAliased"] = "ImageAliased"
    alias: ImageAlias


class ImageDealiased(OfImage, Event):
    type: Literal["ImageDealiased"] = "ImageDealiased"
    alias: ImageAlias


class AgentImagesReported(Event):
    type: Literal["AgentImagesReported"] = "AgentImagesReported"
    agent_id: AgentId
    afresh: bool = False
    come: tuple[LocalImage, ...] = ()
    gone: tuple[tuple[ImageReference, Architecture], ...] = ()

    @property
    def subject(self) -> str:
        return self.agent_id


ImageCommands = (
    CreateRegistry
    | ModifyRegistry
    | DeleteRegistry
    | RegisterImage
    | ModifyImage
    | ForgetImage
    | AliasImage
    | DealiasImage
)
"""Those that people give. `RegisterImage` also comes from who scans a registry."""

ImageReports = ReportAgentImages | ForgetAgent

ImageEvents = (
    RegistryPut
    | RegistryDeleted
    | ImageRegistered
    | ImageModified
    | ImageForgotten
    | ImageAliased
    | ImageDealiased
    | AgentImagesReported
)
