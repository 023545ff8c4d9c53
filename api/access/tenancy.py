"""Which project or domain is meant, for those who see it; to others it is not there."""

from api.access.auth import Caller
from api.access.authority import sees_project, sight
from api.http.problems import refused
from domain.directory.state import Directory, Domain, Project
from domain.messages import ProjectId


def project_seen(
    reference: str, domain: str | None, caller: Caller, directory: Directory, field: str = "group"
) -> Project:
    """By its id, or by its name in `domain` (None: in the caller's). Raises `Problem` (404)."""
    project = directory.projects.get(ProjectId(reference)) or directory.project(
        domain or caller.identity.user.spec.domain, reference
    )
    if project is None or not sees_project(caller.identity, project):
        raise refused("unknown_project", f"no project {reference}", field)
    return project


def domain_seen(name: str, caller: Caller, directory: Directory) -> Domain:
    """A user sees his own, a superadmin all. Raises `Problem` (404)."""
    domain = directory.domains.get(name)
    if domain is None or not sight(caller.identity).tenant(name):
        raise refused("unknown_domain", f"no domain {name}", "domain")
    return domain


def projects_of(caller: Caller, directory: Directory) -> list[Project]:
    """The active ones of whoever he acts for, by name."""
    owner = directory.identity(caller.owner) or caller.identity
    projects = (directory.projects[project_id] for project_id in owner.user.projects)
    return sorted((each for each in projects if each.spec.active), key=lambda each: each.name)
