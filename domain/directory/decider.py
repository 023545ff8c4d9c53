"""What may happen to the directory: the table of contents. Each part is a module of `domain.directory.deciding`."""

from typing import Any, assert_never

from domain.directory.deciding import (
    cluster,
    groups,
    images,
    keypairs,
    personal,
    policies,
    signing_in,
    tasks,
    tenants,
    users,
)
from domain.directory.deciding.references import Events
from domain.directory.messages import DirectoryCommands
from domain.directory.messages.cluster import ClusterCommands
from domain.directory.messages.groups import GroupCommands
from domain.directory.messages.images import ImageCommands, ImageReports
from domain.directory.messages.keypairs import KeypairCommands
from domain.directory.messages.personal import PersonalCommands
from domain.directory.messages.policies import PolicyCommands
from domain.directory.messages.tasks import TaskCommands, TaskReports
from domain.directory.messages.tenants import TenantCommands
from domain.directory.messages.users import SignInCommands, UserCommands
from domain.directory.state import Directory
from domain.messages import Refused


def decide(command: DirectoryCommands, state: Directory) -> Events:
    _without_nul(command)
    if isinstance(command, TenantCommands):
        return tenants.decide(command, state)
    if isinstance(command, UserCommands):
        return users.decide(command, state)
    if isinstance(command, SignInCommands):
        return signing_in.decide(command, state)
    if isinstance(command, KeypairCommands):
        return keypairs.decide(command, state)
    if isinstance(command, PolicyCommands):
        return policies.decide(command, state)
    if isinstance(command, GroupCommands):
        return groups.decide(command, state)
    if isinstance(command, PersonalCommands):
        return personal.decide(command, state)
    if isinstance(command, ClusterCommands):
        return cluster.decide(command, state)
    if isinstance(command, ImageCommands | ImageReports):
        return images.decide(command, state)
    if isinstance(command, TaskCommands | TaskReports):
        return tasks.decide(command, state)
    assert_never(command)


def _without_nul(command: DirectoryCommands) -> None:
    """No name and no text has a NUL character, which no database and no file name takes."""
    if "\\u0000" in command.model_dump_json():
        for field, value in command.model_dump().items():
            if _has_nul(value):
                raise Refused("nul_character", "NUL characters are not allowed", field)


def _has_nul(value: Any) -> bool:
    match value:
        case str():
            return "\0" in value
        case dict():
            return any(_has_nul(name) or _has_nul(each) for name, each in value.items())
        case list() | tuple():
            return any(_has_nul(each) for each in value)
        case _:
            return False
