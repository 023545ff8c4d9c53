"""Which resource groups are there, to whom are they granted, and what presets are there?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from psycopg import sql

from domain.directory.messages.groups import (
    Grantee,
    GranteeKind,
    GroupEvents,
    PresetDeleted,
    PresetPut,
    ResourceGroupCreated,
    ResourceGroupDeleted,
    ResourceGroupGranted,
    ResourceGroupModified,
    ResourceGroupRevoked,
    ResourceGroupSpec,
)
from infra.postgres import Connection
from projections.directory.keypairs import KEYPAIRS
from projections.directory.tenants import DOMAINS, PROJECTS
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query, by_key
from projections.table import AnyTable, Json, Keys, Rows, Table

_GRANTEES: Mapping[GranteeKind, AnyTable] = {
    GranteeKind.DOMAIN: DOMAINS,
    GranteeKind.PROJECT: PROJECTS,
    GranteeKind.KEYPAIR: KEYPAIRS,
}


@dataclass(slots=True)
class ResourceGroupRow:
    """The numbers are of those to whom it is granted."""

    name: str
    cell: str
    description: str
    active: bool
    public: bool
    driver: str
    driver_opts: Json
    scheduler: str
    scheduler_opts: Json
    use_host_network: bool
    wsproxy_addr: str | None
    domain_numbers: list[int]
    project_numbers: list[int]
    keypair_numbers: list[int]
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class PresetRow:
    """`resource_group` is empty for a preset of all groups. `shared_memory`: bytes."""

    resource_group: str
    name: str
    resource_slots: Json
    shared_memory: int | None
    created_at: datetime
    modified_at: datetime


RESOURCE_GROUPS = Table("directory_resource_groups", ResourceGroupRow, key=("name",))
PRESETS = Table("directory_presets", PresetRow, key=("resource_group", "name"))


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: GroupEvents) -> Keys:
    if isinstance(event, PresetPut | PresetDeleted):
        yield PRESETS, (event.resource_group or "", event.name)
        return
    yield RESOURCE_GROUPS, (event.name,)
    if isinstance(event, ResourceGroupGranted | ResourceGroupRevoked):
        yield _GRANTEES[event.to.kind], (event.to.id,)


def fold(rows: Rows, event: GroupEvents) -> None:
    match event:
        case ResourceGroupCreated():
            group = ResourceGroupRow(
                name=event.name,
                cell=event.cell,
                domain_numbers=[],
                project_numbers=[],
                keypair_numbers=[],
                created_at=event.at,
                modified_at=event.at,
                **_columns(event.spec),
            )
            rows.put(RESOURCE_GROUPS, group)
        case ResourceGroupModified():
            group = rows.change(RESOURCE_GROUPS, (event.name,))
            rows.put(RESOURCE_GROUPS, replace(group, modified_at=event.at, **_columns(event.spec)))
        case ResourceGroupDeleted():
            rows.remove(RESOURCE_GROUPS, (event.name,))
        case ResourceGroupGranted():
            _grant(rows, event.name, event.to, granted=True)
        case ResourceGroupRevoked():
            _grant(rows, event.name, event.to, granted=False)
        case PresetPut():
            key = (event.resource_group or "", event.name)
            known = rows.find(PRESETS, key)
            created_at = known.created_at if known else event.at
            preset = PresetRow(*key, created_at=created_at, modified_at=event.at, **event.spec.model_dump(mode="json"))
            rows.put(PRESETS, preset)
        case PresetDeleted():
            rows.remove(PRESETS, (event.resource_group or "", event.name))


def _columns(spec: ResourceGroupSpec) -> dict[str, Any]:
    return spec.model_dump(mode="json", exclude={"wsproxy_api_token"})


def _grant(rows: Rows, name: str, to: Grantee, *, granted: bool) -> None:
    number = rows.get(_GRANTEES[to.kind], (to.id,)).number
    group = rows.change(RESOURCE_GROUPS, (name,))
    match to.kind:
        case GranteeKind.DOMAIN:
            group.domain_numbers = _changed(group.domain_numbers, number, granted)
        case GranteeKind.PROJECT:
            group.project_numbers = _changed(group.project_numbers, number, granted)
        case GranteeKind.KEYPAIR:
            group.keypair_numbers = _changed(group.keypair_numbers, number, granted)


def _changed(numbers: Sequence[int], number: int, granted: bool) -> list[int]:
    others = [each for each in numbers if each != number]
    return [*others, number] if granted else others


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedResourceGroup:
    name: str
    cell: str
    description: str
    active: bool
    public: bool
    driver: str
    driver_opts: Json
    scheduler: str
    scheduler_opts: Json
    use_host_network: bool
    wsproxy_addr: str | None
    created_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class ListedPreset:
    """`resource_group`: None for a preset of all groups."""

    name: str
    resource_group: str | None
    resource_slots: Json
    shared_memory: int | None
    created_at: datetime
    modified_at: datetime


_RESOURCE_GROUPS = Listing(
    ListedResourceGroup,
    sql.SQL("SELECT * FROM directory_resource_groups"),
    fields={
        "name": Field("name"),
        "description": Field("description"),
        "is_active": Field("active", Kind.BOOLEAN),
        "is_public": Field("public", Kind.BOOLEAN),
        "driver": Field("driver"),
        "scheduler": Field("scheduler"),
        "use_host_network": Field("use_host_network", Kind.BOOLEAN),
        "wsproxy_addr": Field("wsproxy_addr", nullable=True),
        "created_at": Field("created_at", Kind.TIME),
    },
    key=("name",),
)

_PRESETS = Listing(
    ListedPreset,
    sql.SQL("""
    SELECT name, nullif(resource_group, '') AS resource_group, resource_slots, shared_memory, created_at, modified_at
    FROM directory_presets"""),
    fields={
        "name": Field("name"),
        "scaling_group_name": Field("resource_group", nullable=True),
        "shared_memory": Field("shared_memory", Kind.NUMBER, nullable=True),
        "created_at": Field("created_at", Kind.TIME),
    },
    key=("name", "coalesce(resource_group, '')"),
)


async def resource_groups(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    name: str | None = None,
    active: bool | None = None,
    domain: str | None = None,
    project_id: str | None = None,
    access_key: str | None = None,
) -> Page[ListedResourceGroup]:
    """By name. `domain`, `project_id`, `access_key`: those granted to it; public ones are for it even so."""
    to_domain = "(SELECT d.number FROM directory_domains d WHERE d.name = {}) = ANY(domain_numbers)"
    to_project = "(SELECT p.number FROM directory_projects p WHERE p.project_id = {}) = ANY(project_numbers)"
    to_keypair = "(SELECT k.number FROM directory_keypairs k WHERE k.access_key = {}) = ANY(keypair_numbers)"
    return await _RESOURCE_GROUPS.page(
        db,
        query,
        ("name = {}", name),
        ("active = {}", active),
        (to_domain, domain),
        (to_project, project_id),
        (to_keypair, access_key),
    )


async def resource_group(db: Connection, name: str) -> ListedResourceGroup | None:
    return await _RESOURCE_GROUPS.one(db, ("name = {}", name))


async def resource_groups_by_names(db: Connection, names: Sequence[str]) -> Mapping[str, ListedResourceGroup]:
    """By name; those that there are."""
    return by_key(await _RESOURCE_GROUPS.all(db, ("name = ANY({})", list(names))), "name")


async def presets(
    db: Connection, query: Query = EVERYTHING, *, resource_group: str | None = None
) -> Page[ListedPreset]:
    """By name. `resource_group`: those that count in it, of all groups and its own."""
    return await _PRESETS.page(db, query, ("coalesce(resource_group, {0}) = {0}", resource_group))


async def preset(db: Connection, name: str, resource_group: str | None = None) -> ListedPreset | None:
    """The preset of that group; without one, that of all groups."""
    return await _PRESETS.one(db, ("name = {}", name), ("coalesce(resource_group, '') = {}", resource_group or ""))
