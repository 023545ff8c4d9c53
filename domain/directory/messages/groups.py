"""Resource groups, who may use them, and resource presets."""

from enum import StrEnum
from typing import Annotated, Any, Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, Name, Named, Text
from domain.messages import Cell, Event, Sealed, Value
from domain.slots import Amounts

Plugin = Annotated[str, Field(max_length=64)]
Address = Annotated[str, Field(max_length=1024)]
Bytes = Annotated[int, Field(ge=0, le=2**53)]


class ResourceGroupSpec(Value):
    """`public`: everybody may use it. Driver and scheduler are kept for clients; Refold has one of each."""

    description: Text = ""
    active: bool = True
    public: bool = True
    driver: Plugin = "static"
    driver_opts: dict[str, Any] = Field({})
    scheduler: Plugin = "fifo"
    scheduler_opts: dict[str, Any] = Field({})
    use_host_network: bool = False
    wsproxy_addr: Address | None = None
    wsproxy_api_token: Sealed | None = None


class ResourceGroupChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    description: Text
    active: bool
    public: bool
    driver: Plugin
    driver_opts: dict[str, Any]
    scheduler: Plugin
    scheduler_opts: dict[str, Any]
    use_host_network: bool
    wsproxy_addr: Address | None
    wsproxy_api_token: Sealed | None


class GranteeKind(StrEnum):
    DOMAIN = "domain"
    PROJECT = "project"
    KEYPAIR = "keypair"


class Grantee(Value):
    """Who may use a resource group: a domain by name, a project by id, or a keypair by access key."""

    kind: GranteeKind
    id: str = Field(min_length=1, max_length=128)


class PresetSpec(Value):
    """What a user may ask for by one name. `shared_memory`: bytes of it, part of `mem`."""

    resource_slots: Amounts
    shared_memory: Bytes | None = None


class PresetChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    resource_slots: Amounts
    shared_memory: Bytes | None


# -- commands ----------------------------------------------------------------------------------------------------------


class CreateResourceGroup(Named, DirectoryCommand):
    """`cell`: whose scheduler serves it; it never changes."""

    type: Literal["CreateResourceGroup"] = "CreateResourceGroup"
    cell: Cell = Cell("default")
    spec: ResourceGroupSpec = ResourceGroupSpec()


class ModifyResourceGroup(Named, DirectoryCommand):
    type: Literal["ModifyResourceGroup"] = "ModifyResourceGroup"
    changes: ResourceGroupChanges = ResourceGroupChanges()


class DeleteResourceGroup(Named, DirectoryCommand):
    """Nobody may ask for it any more, and what was granted of it is void. Sessions that run go on."""

    type: Literal["DeleteResourceGroup"] = "DeleteResourceGroup"


class GrantResourceGroup(Named, DirectoryCommand):
    type: Literal["GrantResourceGroup"] = "GrantResourceGroup"
    to: Grantee


class RevokeResourceGroup(Named, DirectoryCommand):
    type: Literal["RevokeResourceGroup"] = "RevokeResourceGroup"
    to: Grantee


class RevokeAllResourceGroups(DirectoryCommand):
    """From this grantee."""

    type: Literal["RevokeAllResourceGroups"] = "RevokeAllResourceGroups"
    to: Grantee

    @property
    def subject(self) -> str:
        return self.to.id


class PresetCommand(Named, DirectoryCommand):
    """`resource_group`: None for a preset of all groups; the same name may stand once in each."""

    resource_group: Name | None = None


class CreatePreset(PresetCommand):
    type: Literal["CreatePreset"] = "CreatePreset"
    spec: PresetSpec


class ModifyPreset(PresetCommand):
    type: Literal["ModifyPreset"] = "ModifyPreset"
    changes: PresetChanges = PresetChanges()


class DeletePreset(PresetCommand):
    type: Literal["DeletePreset"] = "DeletePreset"


# -- events ------------------------------------------------------------------------------------------------------------


class ResourceGroupCreated(Named, Event):
    type: Literal["ResourceGroupCreated"] = "ResourceGroupCreated"
    cell: Cell
    spec: ResourceGroupSpec = ResourceGroupSpec()


class ResourceGroupModified(Named, Event):
    """`spec`: as it is now."""

    type: Literal["ResourceGroupModified"] = "ResourceGroupModified"
    spec: ResourceGroupSpec


class ResourceGroupDeleted(Named, Event):
    type: Literal["ResourceGroupDeleted"] = "ResourceGroupDeleted"


class ResourceGroupGranted(Named, Event):
    type: Literal["ResourceGroupGranted"] = "ResourceGroupGranted"
    to: Grantee


class ResourceGroupRevoked(Named, Event):
    type: Literal["ResourceGroupRevoked"] = "ResourceGroupRevoked"
    to: Grantee


class PresetPut(Named, Event):
    """Created or modified; `spec` as it is now."""

    type: Literal["PresetPut"] = "PresetPut"
    resource_group: Name | None = None
    spec: PresetSpec


class PresetDeleted(Named, Event):
    type: Literal["PresetDeleted"] = "PresetDeleted"
    resource_group: Name | None = None


GroupCommands = (
    CreateResourceGroup
    | ModifyResourceGroup
    | DeleteResourceGroup
    | GrantResourceGroup
    | RevokeResourceGroup
    | RevokeAllResourceGroups
    | CreatePreset
    | ModifyPreset
    | DeletePreset
)
GroupEvents = (
    ResourceGroupCreated
    | ResourceGroupModified
    | ResourceGroupDeleted
    | ResourceGroupGranted
    | ResourceGroupRevoked
    | PresetPut
    | PresetDeleted
)
