"""Which templates and dotfiles have people prepared? What is in them is not here: it may be a secret."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import LiteralString

from psycopg import sql
from psycopg.rows import scalar_row

from domain.directory.messages.personal import (
    DotfileDeleted,
    DotfileOwner,
    DotfilePut,
    DotfileScope,
    PersonalEvents,
    TemplateDeleted,
    TemplateKind,
    TemplatePut,
)
from infra.postgres import Connection
from projections.directory.keypairs import KEYPAIRS
from projections.directory.tenants import DOMAINS, PROJECTS
from projections.filtering import Field, Kind
from projections.listing import EVERYTHING, Listing, Page, Query
from projections.table import AnyTable, Index, Json, Keys, Rows, Table

_OWNERS: Mapping[DotfileScope, AnyTable] = {
    DotfileScope.DOMAIN: DOMAINS,
    DotfileScope.PROJECT: PROJECTS,
    DotfileScope.KEYPAIR: KEYPAIRS,
}


@dataclass(slots=True)
class TemplateRow:
    """`owner`: the user who made it."""

    template_id: str
    kind: str
    name: str
    domain_number: int
    project_id: str
    owner: str
    created_at: datetime
    modified_at: datetime


TEMPLATES = Table(
    "directory_templates", TemplateRow, key=("template_id",), indexes=(Index("by_owner", "owner, kind, name"),)
)


# -- the fold: dotfiles stand in the row of their owner ----------------------------------------------------------------


def keys(event: PersonalEvents) -> Keys:
    if isinstance(event, DotfilePut | DotfileDeleted):
        yield _OWNERS[event.owner.scope], (event.owner.id,)
        return
    yield TEMPLATES, (event.template_id,)
    if isinstance(event, TemplatePut):
        yield DOMAINS, (event.template.domain,)


def fold(rows: Rows, event: PersonalEvents) -> None:
    match event:
        case TemplatePut(template=template):
            known = rows.find(TEMPLATES, (event.template_id,))
            row = TemplateRow(
                template_id=event.template_id,
                kind=template.kind.value,
                name=template.name,
                domain_number=rows.get(DOMAINS, (template.domain,)).number,
                project_id=template.project_id,
                owner=template.owner,
                created_at=known.created_at if known else event.at,
                modified_at=event.at,
            )
            rows.put(TEMPLATES, row)
        case TemplateDeleted():
            rows.remove(TEMPLATES, (event.template_id,))
        case DotfilePut():
            _dotfile(rows, event.owner, event.path, {"mode": event.mode, "size": event.size})
        case DotfileDeleted():
            _dotfile(rows, event.owner, event.path, None)


def _dotfile(rows: Rows, owner: DotfileOwner, path: str, what: Json | None) -> None:
    row = rows.change(_OWNERS[owner.scope], (owner.id,))
    others = {each: known for each, known in row.dotfiles.items() if each != path}
    row.dotfiles = others if what is None else others | {path: what}


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedTemplate:
    template_id: str
    kind: str
    name: str
    domain: str
    project_id: str
    project: str
    owner: str
    owner_email: str
    created_at: datetime
    modified_at: datetime


_TEMPLATES = Listing(
    ListedTemplate,
    sql.SQL("""
    SELECT t.*, d.name AS domain, p.name AS project, u.email AS owner_email
    FROM directory_templates t
    JOIN directory_domains d ON d.number = t.domain_number
    JOIN directory_projects p ON p.project_id = t.project_id
    JOIN directory_users u ON u.user_id = t.owner"""),
    fields={
        "id": Field("template_id"),
        "name": Field("name"),
        "type": Field("kind", choices=tuple(kind.value for kind in TemplateKind)),
        "domain_name": Field("domain"),
        "group_id": Field("project_id"),
        "group_name": Field("project"),
        "created_at": Field("created_at", Kind.TIME),
    },
    key=("name", "template_id"),
)

_DOTFILES: Mapping[DotfileScope, LiteralString] = {
    DotfileScope.DOMAIN: "SELECT dotfiles FROM directory_domains WHERE name = %s",
    DotfileScope.PROJECT: "SELECT dotfiles FROM directory_projects WHERE project_id = %s",
    DotfileScope.KEYPAIR: "SELECT dotfiles FROM directory_keypairs WHERE access_key = %s",
}


async def templates(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    kind: TemplateKind | None = None,
    domain: str | None = None,
    project_id: str | None = None,
    owner: str | None = None,
) -> Page[ListedTemplate]:
    """By name."""
    return await _TEMPLATES.page(
        db,
        query,
        ("kind = {}", kind if kind is None else kind.value),
        ("domain = {}", domain),
        ("project_id = {}", project_id),
        ("owner = {}", owner),
    )


async def template(db: Connection, template_id: str) -> ListedTemplate | None:
    return await _TEMPLATES.one(db, ("template_id = {}", template_id))


async def dotfiles(db: Connection, scope: DotfileScope, owner_id: str) -> Json:
    """Path → {"mode", "size"}; empty if the owner has none, or is not there."""
    async with db.cursor(row_factory=scalar_row) as cursor:
        await cursor.execute(_DOTFILES[scope], (owner_id,))
        found: Json | None = await cursor.fetchone()
        return found or {}
