"""What decisions have in common: what a command names must be there, and be properly named."""

import re
from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

from domain.directory.messages import DirectoryEvents
from domain.directory.messages.images import RegistrySpec
from domain.directory.state import Directory, Domain, Keypair, Project, ResourceGroup, User
from domain.messages import ProjectId, Refused, UserId, Value

Events = Sequence[DirectoryEvents]
S = TypeVar("S", bound=Value)

HOST_PERMISSIONS: Final = frozenset(
    {
        "create-vfolder",
        "modify-vfolder",
        "delete-vfolder",
        "mount-in-session",
        "upload-file",
        "download-file",
        "invite-others",
        "set-user-specific-permission",
    }
)

_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Of what is not named by people: it stands in URLs and in the header of a signed request."""


def changed(spec: S, changes: Mapping[str, object]) -> S:
    """The spec with what a `…Changes` names."""
    return spec.model_copy(update=dict(changes))


def proper_id(text: str, field: str) -> None:
    if _ID.fullmatch(text) is None:
        raise Refused("bad_id", f"{field} must be up to 64 letters, digits, '-', '_' and '.'", field)


def proper_permissions(hosts: Mapping[str, Sequence[str]]) -> None:
    unknown = sorted({each for permissions in hosts.values() for each in permissions} - HOST_PERMISSIONS)
    if unknown:
        raise Refused("bad_permission", f"{unknown[0][:80]!r} is no permission", "allowed_vfolder_hosts")


def known_domain(name: str, state: Directory, field: str = "domain") -> Domain:
    domain = state.domains.get(name)
    if domain is None:
        raise Refused("unknown_domain", f"no domain {name}", field)
    return domain


def known_project(project_id: ProjectId, state: Directory, field: str = "project_id") -> Project:
    project = state.projects.get(project_id)
    if project is None:
        raise Refused("unknown_project", f"no project {project_id}", field)
    return project


def known_user(user_id: UserId, state: Directory, field: str = "user_id") -> User:
    user = state.users.get(user_id)
    if user is None:
        raise Refused("unknown_user", f"no user {user_id}", field)
    return user


def known_keypair(access_key: str, state: Directory, field: str = "access_key") -> Keypair:
    identity = state.identity(access_key)
    if identity is None:
        raise Refused("unknown_keypair", f"no keypair {access_key}", field)
    return identity.keypair


def known_group(name: str, state: Directory, field: str = "name") -> ResourceGroup:
    group = state.groups.get(name)
    if group is None:
        raise Refused("unknown_resource_group", f"no resource group {name}", field)
    return group


def known_policy(name: str, policies: Mapping[str, Value], field: str = "resource_policy") -> None:
    if name not in policies:
        raise Refused("unknown_policy", f"no such policy: {name}", field)


def known_registry(name: str, state: Directory, field: str = "name") -> RegistrySpec:
    registry = state.registries.get(name)
    if registry is None:
        raise Refused("unknown_registry", f"no registry {name}", field)
    return registry
