"""What each event makes of the state, one module for each kind of thing. `evolve` is the way in."""

from typing import assert_never

from domain.directory.folding import cluster, groups, images, keypairs, personal, policies, tasks, tenants, users
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.cluster import ClusterEvents
from domain.directory.messages.groups import GroupEvents
from domain.directory.messages.images import ImageEvents
from domain.directory.messages.keypairs import KeypairEvents
from domain.directory.messages.personal import PersonalEvents
from domain.directory.messages.policies import PolicyEvents
from domain.directory.messages.tasks import TaskEvents
from domain.directory.messages.tenants import TenantEvents
from domain.directory.messages.users import UserEvents
from domain.directory.state import Directory


def evolve(state: Directory, event: DirectoryEvents) -> Directory:
    if isinstance(event, UserEvents):
        return users.evolve(state, event)
    if isinstance(event, KeypairEvents):
        return keypairs.evolve(state, event)
    if isinstance(event, TenantEvents):
        return tenants.evolve(state, event)
    if isinstance(event, PolicyEvents):
        return policies.evolve(state, event)
    if isinstance(event, GroupEvents):
        return groups.evolve(state, event)
    if isinstance(event, PersonalEvents):
        return personal.evolve(state, event)
    if isinstance(event, ClusterEvents):
        return cluster.evolve(state, event)
    if isinstance(event, ImageEvents):
        return images.evolve(state, event)
    if isinstance(event, TaskEvents):
        return tasks.evolve(state, event)
    assert_never(event)
