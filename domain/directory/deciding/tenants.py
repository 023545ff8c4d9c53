"""Domains and the projects in them."""

from domain.directory.deciding import endings
from domain.directory.deciding.references import (
    Events,
    changed,
    known_domain,
    known_policy,
    known_project,
    proper_id,
    proper_permissions,
)
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.groups import GranteeKind
from domain.directory.messages.personal import DotfileScope
from domain.directory.messages.tenants import (
    CreateDomain,
    CreateProject,
    DomainCreated,
    DomainModified,
    DomainPurged,
    DomainRenamed,
    ModifyDomain,
    ModifyProject,
    ProjectCreated,
    ProjectModified,
    ProjectPurged,
    PurgeDomain,
    PurgeProject,
    TenantCommands,
)
from domain.directory.messages.users import ProjectLeft
from domain.directory.state import Directory
from domain.messages import Refused


def decide(command: TenantCommands, state: Directory) -> Events:
    match command:
        case CreateDomain():
            return _create_domain(command, state)
        case ModifyDomain():
            return _modify_domain(command, state)
        case PurgeDomain():
            return _purge_domain(command, state)
        case CreateProject():
            return _create_project(command, state)
        case ModifyProject():
            return _modify_project(command, state)
        case PurgeProject():
            return _purge_project(command, state)


def _create_domain(command: CreateDomain, state: Directory) -> Events:
    existing = state.domains.get(command.name)
    if existing is not None:
        if existing.spec == command.spec:
            return []
        raise _domain_exists(command.name)
    proper_permissions(command.spec.allowed_vfolder_hosts)
    return [DomainCreated(at=command.at, name=command.name, spec=command.spec)]


def _modify_domain(command: ModifyDomain, state: Directory) -> Events:
    domain = known_domain(command.name, state, "name")
    spec = changed(domain.spec, command.changes)
    proper_permissions(spec.allowed_vfolder_hosts)
    events: list[DirectoryEvents] = []
    if spec != domain.spec:
        events.append(DomainModified(at=command.at, name=command.name, spec=spec))
    if command.rename not in (None, command.name):
        if command.rename in state.domains:
            raise _domain_exists(command.rename)
        events.append(DomainRenamed(at=command.at, name=command.name, new_name=command.rename))
    return events


def _purge_domain(command: PurgeDomain, state: Directory) -> Events:
    known_domain(command.name, state, "name")
    if any(user.spec.domain == command.name for user in state.users.values()):
        raise Refused("domain_not_empty", f"{command.name} still has users", "name")
    if any(project.domain == command.name for project in state.projects.values()):
        raise Refused("domain_not_empty", f"{command.name} still has projects", "name")
    return [
        *endings.grants_to(GranteeKind.DOMAIN, command.name, command.at, state),
        *endings.dotfiles_of(DotfileScope.DOMAIN, command.name, command.at, state),
        DomainPurged(at=command.at, name=command.name),
    ]


def _create_project(command: CreateProject, state: Directory) -> Events:
    proper_id(command.project_id, "project_id")
    known_domain(command.domain, state)
    existing = state.projects.get(command.project_id)
    if existing is not None:
        asked = (command.name, command.domain, command.project_type, command.spec)
        if asked == (existing.name, existing.domain, existing.project_type, existing.spec):
            return []
        raise Refused("project_id_taken", f"{command.project_id} is another project", "project_id")
    _free_name(command.domain, command.name, state)
    known_policy(command.spec.resource_policy, state.project_policies)
    proper_permissions(command.spec.allowed_vfolder_hosts)
    return [
        ProjectCreated(
            at=command.at,
            project_id=command.project_id,
            name=command.name,
            domain=command.domain,
            project_type=command.project_type,
            spec=command.spec,
        )
    ]


def _modify_project(command: ModifyProject, state: Directory) -> Events:
    project = known_project(command.project_id, state)
    spec = changed(project.spec, command.changes)
    known_policy(spec.resource_policy, state.project_policies)
    proper_permissions(spec.allowed_vfolder_hosts)
    name = command.rename or project.name
    if name != project.name:
        _free_name(project.domain, name, state)
    if (name, spec) == (project.name, project.spec):
        return []
    return [ProjectModified(at=command.at, project_id=command.project_id, name=name, spec=spec)]


def _purge_project(command: PurgeProject, state: Directory) -> Events:
    known_project(command.project_id, state)
    leaving = sorted(user.user_id for user in state.members(command.project_id))
    return [
        *(ProjectLeft(at=command.at, user_id=user_id, project_id=command.project_id) for user_id in leaving),
        *endings.grants_to(GranteeKind.PROJECT, command.project_id, command.at, state),
        *endings.dotfiles_of(DotfileScope.PROJECT, command.project_id, command.at, state),
        *endings.templates_of(command.project_id, command.at, state),
        ProjectPurged(at=command.at, project_id=command.project_id),
    ]


def _domain_exists(name: str) -> Refused:
    return Refused("domain_exists", f"there is a domain {name} already", "name")


def _free_name(domain: str, name: str, state: Directory) -> None:
    if state.project(domain, name) is not None:
        raise Refused("project_name_taken", f"{domain} has a project named {name} already", "name")
