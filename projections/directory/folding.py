"""Folds the directory's events into its tables, each kind of thing by its own module.

Background tasks have none: they are followed as they go on, and soon forgotten.
"""

from typing import assert_never

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
from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from infra.decoding import Told
from projections.directory import cluster, groups, images, keypairs, personal, policies, tenants, users
from projections.table import Keys, Projection, Rows

Events = DirectoryEvents | ShardOpened | CommandRefused | CommandUnneeded


def keys(told: Told, _rows: Rows) -> Keys:
    event: Events = told.event  # type: ignore[assignment]
    if isinstance(event, TenantEvents):
        return tenants.keys(event)
    if isinstance(event, UserEvents):
        return users.keys(event)
    if isinstance(event, KeypairEvents):
        return keypairs.keys(event)
    if isinstance(event, PolicyEvents):
        return policies.keys(event)
    if isinstance(event, GroupEvents):
        return groups.keys(event)
    if isinstance(event, PersonalEvents):
        return personal.keys(event)
    if isinstance(event, ClusterEvents):
        return cluster.keys(event)
    if isinstance(event, ImageEvents):
        return images.keys(event)
    return ()


def fold(rows: Rows, told: Told) -> None:
    event: Events = told.event  # type: ignore[assignment]
    offset = told.record.offset
    if isinstance(event, TenantEvents):
        tenants.fold(rows, event, offset)
    elif isinstance(event, UserEvents):
        users.fold(rows, event, offset)
    elif isinstance(event, KeypairEvents):
        keypairs.fold(rows, event, offset)
    elif isinstance(event, PolicyEvents):
        policies.fold(rows, event)
    elif isinstance(event, GroupEvents):
        groups.fold(rows, event)
    elif isinstance(event, PersonalEvents):
        personal.fold(rows, event)
    elif isinstance(event, ClusterEvents):
        cluster.fold(rows, event)
    elif isinstance(event, ImageEvents):
        images.fold(rows, event)
    elif not isinstance(event, TaskEvents | ShardOpened | CommandRefused | CommandUnneeded):
        assert_never(event)


DIRECTORY = Projection(
    "directory",
    contexts=("directory",),
    tables=(
        tenants.DOMAINS,
        tenants.PROJECTS,
        users.USERS,
        users.SIGN_INS,
        keypairs.KEYPAIRS,
        policies.KEYPAIR_POLICIES,
        policies.USER_POLICIES,
        policies.PROJECT_POLICIES,
        groups.RESOURCE_GROUPS,
        groups.PRESETS,
        personal.TEMPLATES,
        cluster.CLUSTER,
        images.IMAGES,
        images.ALIASES,
        images.AGENT_IMAGES,
    ),
    keys=keys,
    fold=fold,
)
