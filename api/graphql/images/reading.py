"""Images as far as the caller sees them, and registries, which superadmins see."""

from collections.abc import Collection, Sequence

from api.access.authority import sees_project
from api.graphql.asking import Asking
from api.graphql.images.types import ContainerRegistry, Image
from api.http.problems import Problem
from domain.directory.images import Image as KnownImage
from domain.directory.state import Project
from domain.messages import ProjectId
from projections.directory import images as shown

_FEATURES = "ai.backend.features"
_OPERATION = "operation"
_USUAL = "x86_64"
"""The architecture that is meant where none is named, if the image is there for it."""


def found(asking: Asking, name: str, architecture: str | None, registries: Collection[str] | None) -> KnownImage | None:
    """The registered image that the name means. Without an architecture, the usual one, or else another that it has."""
    directory = asking.directory
    known = {each for _, each in directory.images}
    wanted = [architecture] if architecture else [_USUAL, *sorted(known - {_USUAL})]
    user_id = asking.caller.identity.user.user_id
    meant = (directory.resolve_image(name, each, registries, user_id) for each in wanted)
    return next((image for image in meant if image is not None), None)


async def image(asking: Asking, name: str, architecture: str | None) -> Image | None:
    seen = None if asking.sight.everything else _registries_of(asking, asking.caller.identity.user.spec.domain)
    known = found(asking, name, architecture, seen)
    if known is None:
        return None
    async with asking.db() as db:
        rows = await shown.images(db, reference=known.reference, architecture=known.architecture)
    return Image.of(rows[0]) if rows else None


async def images(
    asking: Asking,
    *,
    installed: bool | None = None,
    operation: bool | None = None,
    domain_name: str | None = None,
    project: str | None = None,
    scaling_group: str | None = None,
) -> list[Image]:
    """Those of the registries that the domain may use, without what others made of their sessions; a superadmin who
    names no domain or project sees all.

    `project` (an id or a name) and `scaling_group`: those that an agent has which its sessions may run on. There are no
    pages: clients let people choose among all of them.
    """
    within = _project(asking, project, domain_name) if project else None
    if project and within is None:
        return []
    groups = _groups(asking, within, scaling_group)
    domain_name = within.domain if within is not None else domain_name or asking.sight.domain
    if domain_name is not None and not asking.sight.tenant(domain_name):
        return []
    async with asking.db() as db:
        rows = await shown.images(
            db,
            owners=None
            if domain_name is None
            else (*_registries_of(asking, domain_name), f"user:{asking.caller.identity.user.user_id}"),
            installed=installed,
            resource_groups=groups,
        )
    return [Image.of(row) for row in rows if operation is None or operation == _is_for_operation(row)]


def registries(asking: Asking) -> list[ContainerRegistry]:
    """By name. From memory: there are a few, and `local` is among them from the beginning."""
    _for_superadmins(asking)
    return [ContainerRegistry.of(name, spec) for name, spec in sorted(asking.directory.registries.items())]


def registry(asking: Asking, name: str) -> ContainerRegistry | None:
    _for_superadmins(asking)
    spec = asking.directory.registries.get(name)
    return None if spec is None else ContainerRegistry.of(name, spec)


def _registries_of(asking: Asking, domain_name: str) -> Sequence[str]:
    domain = asking.directory.domains.get(domain_name)
    return () if domain is None else domain.spec.allowed_docker_registries


def _project(asking: Asking, named: str, domain_name: str | None) -> Project | None:
    """By id, or by name in that domain or else the caller's; None if he does not see it, or it is in another."""
    directory, me = asking.directory, asking.caller.identity
    project = directory.projects.get(ProjectId(named)) or directory.project(domain_name or me.user.spec.domain, named)
    if project is None or not sees_project(me, project) or domain_name not in (None, project.domain):
        return None
    return project


def _groups(asking: Asking, project: Project | None, scaling_group: str | None) -> Sequence[str] | None:
    """The resource groups whose agents count; None: it does not matter where an image is."""
    if project is None:
        if scaling_group is None:
            return None
        return [scaling_group] if asking.uses_group(scaling_group) else []
    allowed = asking.directory.groups_for(project.domain, project.project_id, None)
    return [name for name in allowed if scaling_group in (None, name)]


def _is_for_operation(row: shown.ListedImage) -> bool:
    """Whether it is for running the cluster, and not for people's sessions."""
    return _OPERATION in {each.strip() for each in row.labels.get(_FEATURES, "").replace(",", " ").split()}


def _for_superadmins(asking: Asking) -> None:
    """Raises `Problem`."""
    if not asking.sight.everything:
        raise Problem(403, "generic-forbidden", "Forbidden operation", "registries are for superadmins")
