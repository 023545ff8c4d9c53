"""Resource groups, who may use them, and resource presets."""

from domain.directory.deciding import endings
from domain.directory.deciding.references import (
    Events,
    changed,
    known_domain,
    known_group,
    known_keypair,
    known_project,
)
from domain.directory.messages.groups import (
    CreatePreset,
    CreateResourceGroup,
    DeletePreset,
    DeleteResourceGroup,
    Grantee,
    GranteeKind,
    GrantResourceGroup,
    GroupCommands,
    ModifyPreset,
    ModifyResourceGroup,
    PresetCommand,
    PresetDeleted,
    PresetPut,
    PresetSpec,
    ResourceGroupCreated,
    ResourceGroupDeleted,
    ResourceGroupGranted,
    ResourceGroupModified,
    ResourceGroupRevoked,
    RevokeAllResourceGroups,
    RevokeResourceGroup,
)
from domain.directory.state import Directory, PresetKey
from domain.messages import ProjectId, Refused


def decide(command: GroupCommands, state: Directory) -> Events:
    match command:
        case CreateResourceGroup():
            return _create(command, state)
        case ModifyResourceGroup():
            return _modify(command, state)
        case DeleteResourceGroup():
            return _delete(command, state)
        case GrantResourceGroup():
            return _grant(command, state)
        case RevokeResourceGroup():
            return _revoke(command, state)
        case RevokeAllResourceGroups():
            return endings.grants_to(command.to.kind, command.to.id, command.at, state)
        case CreatePreset():
            return _create_preset(command, state)
        case ModifyPreset():
            return _modify_preset(command, state)
        case DeletePreset():
            _known_preset(command, state)
            return [PresetDeleted(at=command.at, name=command.name, resource_group=command.resource_group)]


# -- resource groups ---------------------------------------------------------------------------------------------------


def _create(command: CreateResourceGroup, state: Directory) -> Events:
    existing = state.groups.get(command.name)
    if existing is not None:
        if (existing.cell, existing.spec) == (command.cell, command.spec):
            return []
        raise Refused("resource_group_exists", f"{command.name} exists with other properties", "name")
    return [ResourceGroupCreated(at=command.at, name=command.name, cell=command.cell, spec=command.spec)]


def _modify(command: ModifyResourceGroup, state: Directory) -> Events:
    group = known_group(command.name, state)
    spec = changed(group.spec, command.changes)
    if spec == group.spec:
        return []
    return [ResourceGroupModified(at=command.at, name=command.name, spec=spec)]


def _delete(command: DeleteResourceGroup, state: Directory) -> Events:
    group = known_group(command.name, state)
    presets = sorted(name for in_group, name in state.presets if in_group == command.name)
    return [
        *(
            ResourceGroupRevoked(at=command.at, name=command.name, to=Grantee(kind=kind, id=grantee_id))
            for kind, grantee_id in sorted(group.grantees)
        ),
        *(PresetDeleted(at=command.at, name=name, resource_group=command.name) for name in presets),
        ResourceGroupDeleted(at=command.at, name=command.name),
    ]


def _grant(command: GrantResourceGroup, state: Directory) -> Events:
    group = known_group(command.name, state)
    match command.to.kind:
        case GranteeKind.DOMAIN:
            known_domain(command.to.id, state, "to")
        case GranteeKind.PROJECT:
            known_project(ProjectId(command.to.id), state, "to")
        case GranteeKind.KEYPAIR:
            known_keypair(command.to.id, state, "to")
    if (command.to.kind, command.to.id) in group.grantees:
        return []
    return [ResourceGroupGranted(at=command.at, name=command.name, to=command.to)]


def _revoke(command: RevokeResourceGroup, state: Directory) -> Events:
    if (command.to.kind, command.to.id) not in known_group(command.name, state).grantees:
        return []
    return [ResourceGroupRevoked(at=command.at, name=command.name, to=command.to)]


# -- presets -----------------------------------------------------------------------------------------------------------


def _create_preset(command: CreatePreset, state: Directory) -> Events:
    if command.resource_group is not None:
        known_group(command.resource_group, state, "resource_group")
    existing = state.presets.get(_place(command))
    if existing == command.spec:
        return []
    if existing is not None:
        raise Refused("preset_exists", f"there is a preset {command.name} already", "name")
    return [_put(command, command.spec)]


def _modify_preset(command: ModifyPreset, state: Directory) -> Events:
    preset = _known_preset(command, state)
    spec = changed(preset, command.changes)
    return [] if spec == preset else [_put(command, spec)]


def _put(command: CreatePreset | ModifyPreset, spec: PresetSpec) -> PresetPut:
    memory = spec.resource_slots.get("mem")
    if memory is not None and spec.shared_memory is not None and spec.shared_memory > memory:
        raise Refused("shared_memory_too_large", "shared memory is part of the memory", "shared_memory")
    return PresetPut(at=command.at, name=command.name, resource_group=command.resource_group, spec=spec)


def _known_preset(command: PresetCommand, state: Directory) -> PresetSpec:
    preset = state.presets.get(_place(command))
    if preset is None:
        raise Refused("unknown_preset", f"no preset {command.name}", "name")
    return preset


def _place(command: PresetCommand) -> PresetKey:
    return command.resource_group, command.name
