"""What policies allow the owners of folders, and whom an event of the directory concerns in that."""

from collections.abc import Iterable, Mapping, Sequence

from domain.directory.messages import DirectoryEvents
from domain.directory.messages.keypairs import KeypairCreated, KeypairDeleted, KeypairModified
from domain.directory.messages.policies import KeypairPolicyPut, ProjectPolicyPut, UserPolicyPut
from domain.directory.messages.tenants import DomainModified, ProjectCreated, ProjectModified
from domain.directory.messages.users import ProjectJoined, ProjectLeft, UserCreated, UserModified
from domain.directory.state import Directory, User
from domain.messages import ProjectId, UserId
from domain.vfolder.messages.common import ScopeLimits
from domain.vfolder.mounts import Scope, project_scope, user_scope

Owners = tuple[Iterable[UserId], Iterable[ProjectId]]

_NOBODY: Owners = ((), ())


def folder_limits(state: Directory, users: Iterable[UserId], projects: Iterable[ProjectId]) -> dict[Scope, ScopeLimits]:
    """By owner; not those who are not there, not active, or without a keypair."""
    of_users = ((user_scope(each), _of_user(state, each)) for each in users)
    of_projects = ((project_scope(each), _of_project(state, each)) for each in projects)
    return {scope: limits for scope, limits in (*of_users, *of_projects) if limits is not None}


def whose_limits(event: DirectoryEvents, before: Directory) -> Owners:
    """The owners for whom they may be others after the event. Who is purged is told so instead."""
    match event:
        case UserCreated() | UserModified() | ProjectJoined() | ProjectLeft():
            return [event.user_id], ()
        case KeypairCreated():
            return [event.user_id], ()
        case KeypairModified() | KeypairDeleted():
            return [before.keypairs[event.access_key].user_id], ()
        case KeypairPolicyPut():
            holders = {key.user_id for key in before.keypairs.values() if key.spec.resource_policy == event.name}
            return sorted(holders), ()
        case UserPolicyPut():
            return sorted(each for each, user in before.users.items() if user.spec.resource_policy == event.name), ()
        case ProjectPolicyPut():
            return (), sorted(e for e, found in before.projects.items() if found.spec.resource_policy == event.name)
        case DomainModified():
            users = sorted(each for each, user in before.users.items() if user.spec.domain == event.name)
            return users, sorted(each for each, found in before.projects.items() if found.domain == event.name)
        case ProjectCreated():
            return (), [event.project_id]
        case ProjectModified():
            return sorted(user.user_id for user in before.members(event.project_id)), [event.project_id]
        case _:
            return _NOBODY


def _of_user(state: Directory, user_id: UserId) -> ScopeLimits | None:
    user = state.users.get(user_id)
    if user is None or not user.active or not state.domains[user.spec.domain].spec.active:
        return None
    if not user.keypairs:  # and so no policy that says how many
        return None
    policy = state.user_policies[user.spec.resource_policy]
    keypair_policies = [state.keypair_policies[state.keypairs[key].spec.resource_policy] for key in user.keypairs]
    return ScopeLimits(
        max_folders=policy.max_vfolder_count or _most([each.max_vfolder_count for each in keypair_policies]),
        max_bytes=policy.max_quota_scope_size,
        hosts=_together(
            [
                state.domains[user.spec.domain].spec.allowed_vfolder_hosts,
                *_of_active_projects(state, user),
                *(each.allowed_vfolder_hosts for each in keypair_policies),
            ]
        ),
    )


def _of_project(state: Directory, project_id: ProjectId) -> ScopeLimits | None:
    project = state.projects.get(project_id)
    if project is None or not project.spec.active or not state.domains[project.domain].spec.active:
        return None
    policy = state.project_policies[project.spec.resource_policy]
    return ScopeLimits(
        max_folders=policy.max_vfolder_count,
        max_bytes=policy.max_quota_scope_size,
        hosts=_together([state.domains[project.domain].spec.allowed_vfolder_hosts, project.spec.allowed_vfolder_hosts]),
    )


def _of_active_projects(state: Directory, user: User) -> list[Mapping[str, Sequence[str]]]:
    projects = (state.projects[project_id] for project_id in user.projects)
    return [project.spec.allowed_vfolder_hosts for project in projects if project.spec.active]


def _most(counts: Sequence[int]) -> int:
    """The greatest of them, where 0 is more than any other: no limit."""
    return 0 if 0 in counts else max(counts)


def _together(each: Sequence[Mapping[str, Sequence[str]]]) -> dict[str, tuple[str, ...]]:
    """What any of them allows, by host."""
    hosts = sorted({host for allowed in each for host in allowed})
    return {
        host: tuple(sorted({permission for allowed in each for permission in allowed.get(host, ())})) for host in hosts
    }
