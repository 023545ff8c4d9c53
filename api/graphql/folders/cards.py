"""The cards of models: what a model folder's `model-definition.yml` and README say about the model in it.

They are read from the folder whenever they are asked for; a model without them has a card that says little.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

import strawberry
import yaml

from api.folders.storage import Storage
from api.graphql.asking import Asking
from api.graphql.folders import reading
from api.graphql.folders.types import VirtualFolder
from api.graphql.scalars import UUID, JSONString
from api.http import yaml_text
from api.http.problems import Problem
from domain.vfolder.mounts import FolderId, FolderRef, UsageMode
from projections.folders import listed as folders
from projections.folders.listed import ListedFolder
from projections.listing import Query

CARDS_MAX: Final = 20
"""On one page: for each of them a storage service is asked."""

_DEFINITIONS: Final = ("model-definition.yml", "model-definition.yaml")
_READMES: Final = ("README.md", "README.txt", "README")
_BYTES_MAX: Final = 64 * 1024
_TEXT_MAX: Final = 4096
_ITEMS_MAX: Final = 100
_AT_ONCE: Final = 8


@strawberry.type
class ModelCard:
    """`error_msg`: why its definition cannot be read."""

    id: UUID
    name: str | None
    vfolder: VirtualFolder | None
    author: str | None
    title: str | None
    version: str | None
    created_at: datetime | None
    modified_at: str | None
    description: str | None
    task: str | None
    category: str | None
    architecture: str | None
    framework: list[str] | None
    label: list[str] | None
    license: str | None
    min_resource: JSONString | None
    readme: str | None
    readme_filetype: str | None
    error_msg: str | None


@strawberry.type
class ModelCardEdge:
    node: ModelCard
    cursor: str


@strawberry.type
class ModelCards:
    """`count`: of all that fit, on this page or not. `next`: what to ask `after` for the next page, if any."""

    edges: list[ModelCardEdge]
    count: int
    next: str | None


@dataclass(frozen=True, slots=True)
class Definition:
    """What a definition says of its first model. `error`: why nothing can be made of it."""

    name: str | None = None
    metadata: Mapping[str, Any] | None = None
    error: str | None = None

    def text(self, field: str) -> str | None:
        value = (self.metadata or {}).get(field)
        return None if value is None or isinstance(value, list | dict) else str(value)[:_TEXT_MAX]

    def texts(self, field: str) -> list[str]:
        """Also of one text, which is a list of itself."""
        value = (self.metadata or {}).get(field)
        items = value if isinstance(value, list) else [value]
        plain = [each for each in items[:_ITEMS_MAX] if each is not None and not isinstance(each, list | dict)]
        return [str(each)[:_TEXT_MAX] for each in plain]

    def amounts(self, field: str) -> dict[str, str]:
        value = (self.metadata or {}).get(field)
        items = list(value.items())[:_ITEMS_MAX] if isinstance(value, dict) else []
        return {str(name)[:64]: str(each)[:64] for name, each in items if not isinstance(each, list | dict)}


async def card(asking: Asking, folder_id: str) -> ModelCard | None:
    row = await reading.row(asking, folder_id)
    return None if row is None or row.usage_mode != UsageMode.MODEL else await _card(asking, row)


async def card_list(
    asking: Asking, filter_: str | None, order: str | None, offset: int | None, after: str | None, first: int | None
) -> ModelCards:
    """Raises `BadQuery`."""
    limit = CARDS_MAX if first is None else min(first, CARDS_MAX)
    query = Query(filter=filter_, order=order, limit=limit, offset=offset or 0, after=after)
    async with asking.db() as db:
        page = await folders.seen(db, reading.viewer(asking), query, usage_mode=UsageMode.MODEL.value)
    gate = asyncio.Semaphore(_AT_ONCE)

    async def made(row: ListedFolder) -> ModelCardEdge:
        async with gate:
            return ModelCardEdge(node=await _card(asking, row), cursor=row.folder_id)

    return ModelCards(edges=list(await asyncio.gather(*map(made, page.items))), count=page.total, next=page.next)


async def _card(asking: Asking, row: ListedFolder) -> ModelCard:
    storage = reading.storage(asking)
    folder = FolderRef(scope=row.scope, folder_id=FolderId(row.folder_id), host=row.host)
    actor = asking.caller.actor
    try:
        definition = parsed(await _first_of(storage, folder, actor, _DEFINITIONS))
        readme = await _first_of(storage, folder, actor, _READMES)
    except Problem as problem:
        definition, readme = Definition(error=problem.detail), None
    return ModelCard(
        id=UUID(row.folder_id),
        name=definition.name or row.name,
        vfolder=VirtualFolder.of(row),
        author=definition.text("author") or row.creator,
        title=definition.text("title") or definition.name or row.name,
        version=definition.text("version"),
        created_at=row.created_at,
        modified_at=definition.text("last_modified"),
        description=definition.text("description"),
        task=definition.text("task"),
        category=definition.text("category"),
        architecture=definition.text("architecture"),
        framework=definition.texts("framework"),
        label=definition.texts("label"),
        license=definition.text("license"),
        min_resource=JSONString(definition.amounts("min_resource")),
        readme=None if readme is None else readme.decode(errors="replace"),
        readme_filetype=None if readme is None else "md",
        error_msg=definition.error,
    )


async def _first_of(storage: Storage, folder: FolderRef, actor: str, names: Sequence[str]) -> bytes | None:
    """The content of the first of these files that is there. Raises `Problem`, also for one that is too large."""
    for name in names:
        try:
            return await storage.content(folder, actor, name, _BYTES_MAX)
        except Problem as problem:
            if problem.status != 404 or problem.kind == "folder-host-not-found":
                raise
    return None


def parsed(content: bytes | None) -> Definition:
    """What the definition says. Never raises: people write it, and others only want to look at a list."""
    if content is None:
        return Definition()
    try:
        text = content.decode()
        yaml_text.check(text)
        told = yaml.load(text, yaml_text.Loader)
    except (yaml.YAMLError, ValueError) as error:
        return Definition(error=f"the model definition cannot be read: {str(error)[:200]}")
    models = told.get("models") if isinstance(told, dict) else None
    if not isinstance(models, list) or not models or not isinstance(models[0], dict):
        return Definition(error="the model definition names no models")
    name, metadata = models[0].get("name"), models[0].get("metadata")
    return Definition(
        name=name[:_TEXT_MAX] if isinstance(name, str) else None,
        metadata=metadata if isinstance(metadata, dict) else None,
    )
