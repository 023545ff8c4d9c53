"""Domains and the projects in them."""

from enum import StrEnum
from typing import Literal

from pydantic import Field
from typing_extensions import TypedDict

from domain.directory.messages.common import PARTIAL, DirectoryCommand, HostPermissions, Name, Named, Reference, Text
from domain.messages import Event, ProjectId, Value
from domain.slots import Amounts


class ProjectType(StrEnum):
    """`MODEL_STORE`: its folders are offered to everybody as models."""

    GENERAL = "general"
    MODEL_STORE = "model-store"


class DomainSpec(Value):
    """`total_resource_slots`: what its sessions may hold together; a slot that is not named is unlimited."""

    description: Text = ""
    active: bool = True
    total_resource_slots: Amounts = Field({})
    allowed_vfolder_hosts: HostPermissions = Field({})
    allowed_docker_registries: tuple[str, ...] = ()
    integration_id: Reference | None = None


class DomainChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    description: Text
    active: bool
    total_resource_slots: Amounts
    allowed_vfolder_hosts: HostPermissions
    allowed_docker_registries: tuple[str, ...]
    integration_id: Reference | None


class ProjectSpec(Value):
    """`total_resource_slots`: as of a domain. `resource_policy`: of projects."""

    description: Text = ""
    active: bool = True
    total_resource_slots: Amounts = Field({})
    allowed_vfolder_hosts: HostPermissions = Field({})
    integration_id: Reference | None = None
    resource_policy: Name = "default"
    container_registry: dict[str, str] = Field({})


class ProjectChanges(TypedDict, total=False):
    __pydantic_config__ = PARTIAL  # type: ignore[misc]
    description: Text
    active: bool
    total_resource_slots: Amounts
    allowed_vfolder_hosts: HostPermissions
    integration_id: Reference | None
    resource_policy: Name
    container_registry: dict[str, str]


# -- commands ----------------------------------------------------------------------------------------------------------


class CreateDomain(Named, DirectoryCommand):
    type: Literal["CreateDomain"] = "CreateDomain"
    spec: DomainSpec = DomainSpec()


class ModifyDomain(Named, DirectoryCommand):
    """`rename`: everything in it follows."""

    type: Literal["ModifyDomain"] = "ModifyDomain"
    changes: DomainChanges = DomainChanges()
    rename: Name | None = None


class PurgeDomain(Named, DirectoryCommand):
    """Take it away for good. Refused while it has users or projects; to switch it off, modify `active`."""

    type: Literal["PurgeDomain"] = "PurgeDomain"


class ProjectCommand(DirectoryCommand):
    project_id: ProjectId

    @property
    def subject(self) -> str:
        return self.project_id


class CreateProject(ProjectCommand):
    """`name` is unique in its domain."""

    type: Literal["CreateProject"] = "CreateProject"
    name: Name
    domain: Name
    project_type: ProjectType = ProjectType.GENERAL
    spec: ProjectSpec = ProjectSpec()


class ModifyProject(ProjectCommand):
    type: Literal["ModifyProject"] = "ModifyProject"
    changes: ProjectChanges = ProjectChanges()
    rename: Name | None = None


class PurgeProject(ProjectCommand):
    """Take it away for good; its members leave it."""

    type: Literal["PurgeProject"] = "PurgeProject"


# -- events ------------------------------------------------------------------------------------------------------------


class DomainCreated(Named, Event):
    type: Literal["DomainCreated"] = "DomainCreated"
    spec: DomainSpec = DomainSpec()


class DomainModified(Named, Event):
    """`spec`: as it is now."""

    type: Literal["DomainModified"] = "DomainModified"
    spec: DomainSpec


class DomainRenamed(Named, Event):
    type: Literal["DomainRenamed"] = "DomainRenamed"
    new_name: Name


class DomainPurged(Named, Event):
    type: Literal["DomainPurged"] = "DomainPurged"


class ProjectEvent(Event):
    project_id: ProjectId

    @property
    def subject(self) -> str:
        return self.project_id


class ProjectCreated(ProjectEvent):
    type: Literal["ProjectCreated"] = "ProjectCreated"
    name: Name
    domain: Name
    project_type: ProjectType = ProjectType.GENERAL
    spec: ProjectSpec = ProjectSpec()


class ProjectModified(ProjectEvent):
    """`name` and `spec`: as they are now."""

    type: Literal["ProjectModified"] = "ProjectModified"
    name: Name
    spec: ProjectSpec


class ProjectPurged(ProjectEvent):
    type: Literal["ProjectPurged"] = "ProjectPurged"


TenantCommands = CreateDomain | ModifyDomain | PurgeDomain | CreateProject | ModifyProject | PurgeProject
TenantEvents = (
    DomainCreated | DomainModified | DomainRenamed | DomainPurged | ProjectCreated | ProjectModified | ProjectPurged
)
