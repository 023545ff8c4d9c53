"""Domains and projects."""

from dataclasses import replace

from immutables import Map

from domain.directory.messages.groups import GranteeKind
from domain.directory.messages.personal import DotfileScope
from domain.directory.messages.tenants import (
    DomainCreated,
    DomainModified,
    DomainPurged,
    DomainRenamed,
    ProjectCreated,
    ProjectModified,
    ProjectPurged,
    TenantEvents,
)
from domain.directory.state import Directory, Domain, Project


def evolve(state: Directory, event: TenantEvents) -> Directory:
    match event:
        case DomainCreated():
            domain = Domain(event.name, event.spec, created_at=event.at, modified_at=event.at)
            return replace(state, domains=state.domains.set(event.name, domain))
        case DomainModified():
            domain = replace(state.domains[event.name], spec=event.spec, modified_at=event.at)
            return replace(state, domains=state.domains.set(event.name, domain))
        case DomainRenamed():
            return _renamed(state, event)
        case DomainPurged():
            return replace(state, domains=state.domains.delete(event.name))
        case ProjectCreated():
            project = Project(
                event.project_id, event.name, event.domain, event.project_type, event.spec, event.at, event.at
            )
            return _with_project(state, project)
        case ProjectModified():
            before = state.projects[event.project_id]
            after = replace(before, name=event.name, spec=event.spec, modified_at=event.at)
            return _with_project(_without_name(state, before), after)
        case ProjectPurged():
            project = state.projects[event.project_id]
            return replace(_without_name(state, project), projects=state.projects.delete(event.project_id))


def _with_project(state: Directory, project: Project) -> Directory:
    return replace(
        state,
        projects=state.projects.set(project.project_id, project),
        projects_by_name=state.projects_by_name.set((project.domain, project.name), project.project_id),
    )


def _without_name(state: Directory, project: Project) -> Directory:
    return replace(state, projects_by_name=state.projects_by_name.delete((project.domain, project.name)))


def _renamed(state: Directory, event: DomainRenamed) -> Directory:
    """Whatever names the domain names it by its new name."""
    old, new = event.name, event.new_name
    domain = replace(state.domains[old], name=new, modified_at=event.at)
    projects = {
        project_id: replace(project, domain=new) if project.domain == old else project
        for project_id, project in state.projects.items()
    }
    users = {
        user_id: replace(user, spec=user.spec.model_copy(update={"domain": new})) if user.spec.domain == old else user
        for user_id, user in state.users.items()
    }
    templates = {
        template_id: template.model_copy(update={"domain": new}) if template.domain == old else template
        for template_id, template in state.templates.items()
    }
    before, after = (GranteeKind.DOMAIN, old), (GranteeKind.DOMAIN, new)
    groups = {
        name: replace(group, grantees=group.grantees - {before} | {after}) if before in group.grantees else group
        for name, group in state.groups.items()
    }
    dotfiles = {
        (scope, new if (scope, owner_id) == (DotfileScope.DOMAIN, old) else owner_id): files
        for (scope, owner_id), files in state.dotfiles.items()
    }
    return replace(
        state,
        domains=state.domains.delete(old).set(new, domain),
        projects=Map(projects),
        users=Map(users),
        templates=Map(templates),
        groups=Map(groups),
        dotfiles=Map(dotfiles),
        projects_by_name=Map({(each.domain, each.name): project_id for project_id, each in projects.items()}),
    )
