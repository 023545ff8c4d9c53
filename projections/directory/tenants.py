"""Which domains and projects are there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from domain.directory.messages.tenants import (
    DomainCreated,
    DomainModified,
    DomainPurged,
    DomainRenamed,
    ProjectCreated,
    ProjectEvent,
    ProjectModified,
    ProjectPurged,
    TenantEvents,
)
from infra.postgres import Connection
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query, by_key
from projections.table import Index, Json, Keys, Rows, Table


@dataclass(slots=True)
class DomainRow:
    """`dotfiles`: path → {"mode", "size"}."""

    name: str
    number: int
    description: str
    active: bool
    total_resource_slots: Json
    allowed_vfolder_hosts: Json
    allowed_docker_registries: list[str]
    integration_id: str | None
    dotfiles: Json
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class ProjectRow:
    """As a `DomainRow`."""

    project_id: str
    number: int
    name: str
    domain_number: int
    project_type: str
    description: str
    active: bool
    total_resource_slots: Json
    allowed_vfolder_hosts: Json
    integration_id: str | None
    resource_policy: str
    container_registry: Json
    dotfiles: Json
    created_at: datetime
    modified_at: datetime


DOMAINS = Table("directory_domains", DomainRow, key=("name",), indexes=(Index("by_number", "number", unique=True),))

PROJECTS = Table(
    "directory_projects",
    ProjectRow,
    key=("project_id",),
    indexes=(Index("by_number", "number", unique=True), Index("by_name", "domain_number, name")),
)


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: TenantEvents) -> Keys:
    if isinstance(event, ProjectEvent):
        yield PROJECTS, (event.project_id,)
        if isinstance(event, ProjectCreated):
            yield DOMAINS, (event.domain,)
        return
    yield DOMAINS, (event.name,)
    if isinstance(event, DomainRenamed):
        yield DOMAINS, (event.new_name,)


def fold(rows: Rows, event: TenantEvents, offset: int) -> None:
    match event:
        case DomainCreated():
            spec = event.spec.model_dump(mode="json")
            domain = DomainRow(
                name=event.name,
                number=offset,
                dotfiles={},
                created_at=event.at,
                modified_at=event.at,
                **spec,
            )
            rows.put(DOMAINS, domain)
        case DomainModified():
            domain = rows.change(DOMAINS, (event.name,))
            rows.put(DOMAINS, replace(domain, modified_at=event.at, **event.spec.model_dump(mode="json")))
        case DomainRenamed():
            domain = rows.change(DOMAINS, (event.name,))
            rows.remove(DOMAINS, (event.name,))
            rows.put(DOMAINS, replace(domain, name=event.new_name, modified_at=event.at))
        case DomainPurged():
            rows.remove(DOMAINS, (event.name,))
        case ProjectCreated():
            project = ProjectRow(
                project_id=event.project_id,
                number=offset,
                name=event.name,
                domain_number=rows.get(DOMAINS, (event.domain,)).number,
                project_type=event.project_type.value,
                dotfiles={},
                created_at=event.at,
                modified_at=event.at,
                **event.spec.model_dump(mode="json"),
            )
            rows.put(PROJECTS, project)
        case ProjectModified():
            project = rows.change(PROJECTS, (event.project_id,))
            now = replace(project, name=event.name, modified_at=event.at)
            rows.put(PROJECTS, replace(now, **event.spec.model_dump(mode="json")))
        case ProjectPurged():
            rows.remove(PROJECTS, (event.project_id,))


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedDomain:
    """`resource_groups`: those granted to it, by name."""

    name: str
    description: str
    active: bool
    total_resource_slots: Json
    allowed_vfolder_hosts: Json
    allowed_docker_registries: list[str]
    integration_id: str | None
    resource_groups: list[str]
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class ListedProject:
    """As a `ListedDomain`."""

    project_id: str
    name: str
    domain: str
    project_type: str
    description: str
    active: bool
    total_resource_slots: Json
    allowed_vfolder_hosts: Json
    integration_id: str | None
    resource_policy: str
    container_registry: Json
    resource_groups: list[str]
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class Membership:
    """A user is in a project."""

    user_id: str
    project_id: str
    project: str


_DOMAINS = Listing(
    ListedDomain,
    sql.SQL("""
    SELECT d.*, ARRAY(
        SELECT g.name FROM directory_resource_groups g WHERE d.number = ANY(g.domain_numbers) ORDER BY g.name
    ) AS resource_groups
    FROM directory_domains d"""),
    fields={
        "name": Field("name"),
        "description": Field("description"),
        "is_active": Field("active", Kind.BOOLEAN),
        "integration_id": Field("integration_id", nullable=True),
        "allowed_docker_registries": Field("allowed_docker_registries", Kind.TEXTS),
        "scaling_groups": Field("resource_groups", Kind.TEXTS),
        "created_at": Field("created_at", Kind.TIME),
        "modified_at": Field("modified_at", Kind.TIME),
    },
    key=("name",),
)

_PROJECTS = Listing(
    ListedProject,
    sql.SQL("""
    SELECT p.*, d.name AS domain, ARRAY(
        SELECT g.name FROM directory_resource_groups g WHERE p.number = ANY(g.project_numbers) ORDER BY g.name
    ) AS resource_groups
    FROM directory_projects p JOIN directory_domains d ON d.number = p.domain_number"""),
    fields={
        "id": Field("project_id"),
        "name": Field("name"),
        "domain_name": Field("domain"),
        "type": Field("project_type", choices=("general", "model-store")),
        "description": Field("description"),
        "is_active": Field("active", Kind.BOOLEAN),
        "integration_id": Field("integration_id", nullable=True),
        "resource_policy": Field("resource_policy"),
        "scaling_groups": Field("resource_groups", Kind.TEXTS),
        "created_at": Field("created_at", Kind.TIME),
        "modified_at": Field("modified_at", Kind.TIME),
    },
    key=("domain", "name"),
)

_MEMBERSHIPS = """
SELECT u.user_id, p.project_id, p.name AS project
FROM directory_users u JOIN directory_projects p ON p.number = ANY(u.project_numbers)
WHERE u.user_id = ANY(%s) ORDER BY u.user_id, p.name"""


async def domains(
    db: Connection, query: Query = EVERYTHING, *, name: str | None = None, active: bool | None = None
) -> Page[ListedDomain]:
    """By name. Raises `BadQuery`, as every function that takes a query does."""
    return await _DOMAINS.page(db, query, ("name = {}", name), ("active = {}", active))


async def domain(db: Connection, name: str) -> ListedDomain | None:
    return await _DOMAINS.one(db, ("name = {}", name))


async def projects(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    domain: str | None = None,
    name: str | None = None,
    active: bool | None = None,
    types: Sequence[str] | None = None,
    user_id: str | None = None,
) -> Page[ListedProject]:
    """By domain and name; of one domain, or those that a user is in."""
    of_user = "number = ANY(ARRAY(SELECT unnest(u.project_numbers) FROM directory_users u WHERE u.user_id = {}))"
    return await _PROJECTS.page(
        db,
        query,
        ("domain = {}", domain),
        ("name = {}", name),
        ("active = {}", active),
        ("project_type = ANY({})", types if types is None else list(types)),
        (of_user, user_id),
    )


async def project(db: Connection, project_id: str) -> ListedProject | None:
    return await _PROJECTS.one(db, ("project_id = {}", project_id))


async def project_by_name(db: Connection, domain: str, name: str) -> ListedProject | None:
    return await _PROJECTS.one(db, ("domain = {}", domain), ("name = {}", name))


async def projects_by_ids(db: Connection, project_ids: Sequence[str]) -> Mapping[str, ListedProject]:
    """By id; those that there are."""
    return by_key(await _PROJECTS.all(db, ("project_id = ANY({})", list(project_ids))), "project_id")


async def projects_of_users(db: Connection, user_ids: Sequence[str]) -> Mapping[str, Sequence[Membership]]:
    """By user: his projects, by name."""
    found: dict[str, list[Membership]] = {user_id: [] for user_id in user_ids}
    async with db.cursor(row_factory=class_row(Membership)) as cursor:
        await cursor.execute(_MEMBERSHIPS, (list(user_ids),))
        for membership in await cursor.fetchall():
            found[membership.user_id].append(membership)
    return found
