"""Resource groups and presets."""

from dataclasses import replace

from domain.directory.messages.groups import (
    GroupEvents,
    PresetDeleted,
    PresetPut,
    ResourceGroupCreated,
    ResourceGroupDeleted,
    ResourceGroupGranted,
    ResourceGroupModified,
    ResourceGroupRevoked,
)
from domain.directory.state import Directory, ResourceGroup


def evolve(state: Directory, event: GroupEvents) -> Directory:
    match event:
        case ResourceGroupCreated():
            return _with_group(state, ResourceGroup(event.name, event.cell, event.spec, created_at=event.at))
        case ResourceGroupModified():
            return _with_group(state, replace(state.groups[event.name], spec=event.spec))
        case ResourceGroupDeleted():
            return replace(state, groups=state.groups.delete(event.name))
        case ResourceGroupGranted():
            group = state.groups[event.name]
            return _with_group(state, replace(group, grantees=group.grantees | {(event.to.kind, event.to.id)}))
        case ResourceGroupRevoked():
            group = state.groups[event.name]
            return _with_group(state, replace(group, grantees=group.grantees - {(event.to.kind, event.to.id)}))
        case PresetPut():
            return replace(state, presets=state.presets.set((event.resource_group, event.name), event.spec))
        case PresetDeleted():
            return replace(state, presets=state.presets.delete((event.resource_group, event.name)))


def _with_group(state: Directory, group: ResourceGroup) -> Directory:
    return replace(state, groups=state.groups.set(group.name, group))
