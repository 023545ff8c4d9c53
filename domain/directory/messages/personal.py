"""What people prepare for their sessions: templates and dotfiles."""

from enum import StrEnum
from typing import Annotated, Literal, NewType

from pydantic import Field

from domain.directory.messages.common import DirectoryCommand, Name
from domain.messages import Event, ProjectId, Sealed, UserId, Value

TemplateId = NewType("TemplateId", str)


class TemplateKind(StrEnum):
    TASK = "task"
    CLUSTER = "cluster"


class DotfileScope(StrEnum):
    """Whose kernels get it: those of a keypair (by access key), a project (by id) or a domain (by name)."""

    KEYPAIR = "keypair"
    PROJECT = "project"
    DOMAIN = "domain"


class DotfileOwner(Value):
    scope: DotfileScope
    id: str = Field(min_length=1, max_length=128)


DotfilePath = Annotated[str, Field(min_length=1, max_length=512)]
"""Relative to the home folder in domains and keypairs, absolute in projects (`/…`) too; never outside (`..`)."""

DotfileMode = Annotated[str, Field(pattern=r"^[0-7]{3,4}$")]


class Template(Value):
    """`body`: the template as it was given, as JSON; the api has checked it against its schema, and sealed it."""

    kind: TemplateKind
    name: str = Field(min_length=1, max_length=128)
    domain: Name
    project_id: ProjectId
    owner: UserId
    body: Sealed


# -- commands ----------------------------------------------------------------------------------------------------------


class TemplateCommand(DirectoryCommand):
    template_id: TemplateId

    @property
    def subject(self) -> str:
        return self.template_id


class CreateTemplate(TemplateCommand):
    type: Literal["CreateTemplate"] = "CreateTemplate"
    template: Template


class ModifyTemplate(TemplateCommand):
    type: Literal["ModifyTemplate"] = "ModifyTemplate"
    name: str | None = Field(None, min_length=1, max_length=128)
    body: Sealed | None = None


class DeleteTemplate(TemplateCommand):
    type: Literal["DeleteTemplate"] = "DeleteTemplate"


class DotfileCommand(DirectoryCommand):
    owner: DotfileOwner
    path: DotfilePath

    @property
    def subject(self) -> str:
        return self.owner.id


class CreateDotfile(DotfileCommand):
    """`size`: bytes of what is sealed; the sum of an owner's dotfiles is limited."""

    type: Literal["CreateDotfile"] = "CreateDotfile"
    mode: DotfileMode
    content: Sealed
    size: int = Field(ge=0, le=65536)


class ModifyDotfile(DotfileCommand):
    type: Literal["ModifyDotfile"] = "ModifyDotfile"
    mode: DotfileMode
    content: Sealed
    size: int = Field(ge=0, le=65536)


class DeleteDotfile(DotfileCommand):
    type: Literal["DeleteDotfile"] = "DeleteDotfile"


# -- events ------------------------------------------------------------------------------------------------------------


class TemplateEvent(Event):
    template_id: TemplateId

    @property
    def subject(self) -> str:
        return self.template_id


class TemplatePut(TemplateEvent):
    """Created or modified; as it is now."""

    type: Literal["TemplatePut"] = "TemplatePut"
    template: Template


class TemplateDeleted(TemplateEvent):
    type: Literal["TemplateDeleted"] = "TemplateDeleted"


class DotfileEvent(Event):
    owner: DotfileOwner
    path: DotfilePath

    @property
    def subject(self) -> str:
        return self.owner.id


class DotfilePut(DotfileEvent):
    """Created or modified; as it is now."""

    type: Literal["DotfilePut"] = "DotfilePut"
    mode: DotfileMode
    content: Sealed
    size: int


class DotfileDeleted(DotfileEvent):
    type: Literal["DotfileDeleted"] = "DotfileDeleted"


PersonalCommands = CreateTemplate | ModifyTemplate | DeleteTemplate | CreateDotfile | ModifyDotfile | DeleteDotfile
PersonalEvents = TemplatePut | TemplateDeleted | DotfilePut | DotfileDeleted
