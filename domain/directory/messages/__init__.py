"""What is said to and by the directory, one module for each kind of thing it keeps.

Things that people configure have a `…Spec`, their properties, and `…Changes`, some of those. A command to modify
carries changes; its event carries the whole spec as it is then, so that a fold needs nothing else.
"""

from typing import Annotated

from pydantic import Field, TypeAdapter

from domain.directory.messages.cluster import ClusterCommands, ClusterEvents
from domain.directory.messages.groups import GroupCommands, GroupEvents
from domain.directory.messages.images import ImageCommands, ImageEvents, ImageReports
from domain.directory.messages.keypairs import KeypairCommands, KeypairEvents
from domain.directory.messages.personal import PersonalCommands, PersonalEvents
from domain.directory.messages.policies import PolicyCommands, PolicyEvents
from domain.directory.messages.tasks import TaskCommands, TaskEvents, TaskReports
from domain.directory.messages.tenants import TenantCommands, TenantEvents
from domain.directory.messages.users import SignInCommands, UserCommands, UserEvents

AdministrativeCommands = (
    TenantCommands
    | UserCommands
    | KeypairCommands
    | PolicyCommands
    | GroupCommands
    | PersonalCommands
    | ClusterCommands
    | ImageCommands
    | TaskCommands
)
"""Those that people give."""

DirectoryCommands = Annotated[
    AdministrativeCommands | SignInCommands | ImageReports | TaskReports, Field(discriminator="type")
]
DirectoryEvents = Annotated[
    TenantEvents
    | UserEvents
    | KeypairEvents
    | PolicyEvents
    | GroupEvents
    | PersonalEvents
    | ClusterEvents
    | ImageEvents
    | TaskEvents,
    Field(discriminator="type"),
]

COMMANDS: TypeAdapter[DirectoryCommands] = TypeAdapter(DirectoryCommands)
EVENTS: TypeAdapter[DirectoryEvents] = TypeAdapter(DirectoryEvents)
