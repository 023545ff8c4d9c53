"""The policies of keypairs, users and projects."""

from dataclasses import replace

from domain.directory.messages.policies import (
    KeypairPolicyDeleted,
    KeypairPolicyPut,
    PolicyEvents,
    ProjectPolicyDeleted,
    ProjectPolicyPut,
    UserPolicyDeleted,
    UserPolicyPut,
)
from domain.directory.state import Directory


def evolve(state: Directory, event: PolicyEvents) -> Directory:
    match event:
        case KeypairPolicyPut():
            return replace(state, keypair_policies=state.keypair_policies.set(event.name, event.spec))
        case KeypairPolicyDeleted():
            return replace(state, keypair_policies=state.keypair_policies.delete(event.name))
        case UserPolicyPut():
            return replace(state, user_policies=state.user_policies.set(event.name, event.spec))
        case UserPolicyDeleted():
            return replace(state, user_policies=state.user_policies.delete(event.name))
        case ProjectPolicyPut():
            return replace(state, project_policies=state.project_policies.set(event.name, event.spec))
        case ProjectPolicyDeleted():
            return replace(state, project_policies=state.project_policies.delete(event.name))
