"""Policies of keypairs, users and projects: all three alike."""

from collections.abc import Mapping
from typing import TypeVar

from domain.directory.deciding.references import Events, changed, known_policy, proper_permissions
from domain.directory.messages.policies import (
    CreateKeypairPolicy,
    CreateProjectPolicy,
    CreateUserPolicy,
    DeleteKeypairPolicy,
    DeleteProjectPolicy,
    DeleteUserPolicy,
    KeypairPolicyDeleted,
    KeypairPolicyPut,
    ModifyKeypairPolicy,
    ModifyProjectPolicy,
    ModifyUserPolicy,
    PolicyCommands,
    ProjectPolicyDeleted,
    ProjectPolicyPut,
    UserPolicyDeleted,
    UserPolicyPut,
)
from domain.directory.state import Directory
from domain.messages import Refused, Value

S = TypeVar("S", bound=Value)


def decide(command: PolicyCommands, state: Directory) -> Events:
    at, name = command.at, command.name
    match command:
        case CreateKeypairPolicy():
            proper_permissions(command.spec.allowed_vfolder_hosts)
            new = _new(name, command.spec, state.keypair_policies)
            return [KeypairPolicyPut(at=at, name=name, spec=command.spec)] if new else []
        case ModifyKeypairPolicy():
            keypair_spec = _modified(name, command.changes, state.keypair_policies)
            proper_permissions(keypair_spec.allowed_vfolder_hosts)
            unchanged = keypair_spec == state.keypair_policies[name]
            return [] if unchanged else [KeypairPolicyPut(at=at, name=name, spec=keypair_spec)]
        case DeleteKeypairPolicy():
            used = any(each.spec.resource_policy == name for each in state.keypairs.values())
            _unused(name, state.keypair_policies, "a keypair", used)
            return [KeypairPolicyDeleted(at=at, name=name)]
        case CreateUserPolicy():
            new = _new(name, command.spec, state.user_policies)
            return [UserPolicyPut(at=at, name=name, spec=command.spec)] if new else []
        case ModifyUserPolicy():
            user_spec = _modified(name, command.changes, state.user_policies)
            unchanged = user_spec == state.user_policies[name]
            return [] if unchanged else [UserPolicyPut(at=at, name=name, spec=user_spec)]
        case DeleteUserPolicy():
            used = any(each.spec.resource_policy == name for each in state.users.values())
            _unused(name, state.user_policies, "a user", used)
            return [UserPolicyDeleted(at=at, name=name)]
        case CreateProjectPolicy():
            new = _new(name, command.spec, state.project_policies)
            return [ProjectPolicyPut(at=at, name=name, spec=command.spec)] if new else []
        case ModifyProjectPolicy():
            project_spec = _modified(name, command.changes, state.project_policies)
            unchanged = project_spec == state.project_policies[name]
            return [] if unchanged else [ProjectPolicyPut(at=at, name=name, spec=project_spec)]
        case DeleteProjectPolicy():
            used = any(each.spec.resource_policy == name for each in state.projects.values())
            _unused(name, state.project_policies, "a project", used)
            return [ProjectPolicyDeleted(at=at, name=name)]


def _new(name: str, spec: Value, policies: Mapping[str, Value]) -> bool:
    """False if it is there just so."""
    existing = policies.get(name)
    if existing is not None and existing != spec:
        raise Refused("policy_exists", f"there is a policy {name} already, with other properties", "name")
    return existing is None


def _modified(name: str, changes: Mapping[str, object], policies: Mapping[str, S]) -> S:
    known_policy(name, policies, "name")
    return changed(policies[name], changes)


def _unused(name: str, policies: Mapping[str, Value], user: str, used: bool) -> None:
    known_policy(name, policies, "name")
    if used:
        raise Refused("policy_in_use", f"{user} has the policy {name}", "name")
