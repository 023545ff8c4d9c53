"""Which images are registered, what are they called, and which agents have them?"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row, tuple_row

from domain.directory.images import ImageKey
from domain.directory.messages.images import (
    AgentImagesReported,
    ImageAliased,
    ImageDealiased,
    ImageEvents,
    ImageForgotten,
    ImageModified,
    ImageRegistered,
    ImageRules,
)
from infra.postgres import Connection
from projections.listing import Listing
from projections.table import Index, Json, Keys, Rows, Table


@dataclass(slots=True)
class ImageRow:
    """What was found, and in `rules` what an administrator said. `labels`: name → text."""

    reference: str
    architecture: str
    registry: str
    digest: str | None
    size_bytes: int
    labels: Json
    rules: Json
    registered_at: datetime
    modified_at: datetime


@dataclass(slots=True)
class AliasRow:
    alias: str
    architecture: str
    reference: str


@dataclass(slots=True)
class AgentImagesRow:
    """`images`: each as reference and architecture, with a space between (`_named`)."""

    agent_id: str
    images: list[str]


IMAGES = Table(
    "directory_images",
    ImageRow,
    key=("reference", "architecture"),
    indexes=(Index("by_registry", "registry"),),
)
ALIASES = Table(
    "directory_image_aliases",
    AliasRow,
    key=("alias", "architecture"),
    indexes=(Index("by_image", "reference, architecture"),),
)
AGENT_IMAGES = Table(
    "directory_agent_images",
    AgentImagesRow,
    key=("agent_id",),
    indexes=(Index("by_image", "images", using="gin"),),
)


def _named(reference: str, architecture: str) -> str:
    return f"{reference} {architecture}"


# -- the fold ----------------------------------------------------------------------------------------------------------


def keys(event: ImageEvents) -> Keys:
    """Registries are not here: whoever asks about them is the api, which has the few there are in memory."""
    match event:
        case ImageRegistered() | ImageModified() | ImageForgotten():
            yield IMAGES, (event.reference, event.architecture)
        case ImageAliased() | ImageDealiased():
            yield ALIASES, (event.alias, event.architecture)
        case AgentImagesReported():
            yield AGENT_IMAGES, (event.agent_id,)


def fold(rows: Rows, event: ImageEvents) -> None:
    match event:
        case ImageRegistered():
            _register(rows, event)
        case ImageModified():
            image = rows.change(IMAGES, (event.reference, event.architecture))
            rows.put(IMAGES, replace(image, rules=event.rules.model_dump(mode="json"), modified_at=event.at))
        case ImageForgotten():
            rows.remove(IMAGES, (event.reference, event.architecture))
        case ImageAliased():
            rows.put(ALIASES, AliasRow(event.alias, event.architecture, event.reference))
        case ImageDealiased():
            rows.remove(ALIASES, (event.alias, event.architecture))
        case AgentImagesReported():
            _report(rows, event)


def _register(rows: Rows, event: ImageRegistered) -> None:
    known = rows.find(IMAGES, (event.reference, event.architecture))
    image = ImageRow(
        reference=event.reference,
        architecture=event.architecture,
        rules=known.rules if known else ImageRules().model_dump(mode="json"),
        registered_at=known.registered_at if known else event.at,
        modified_at=event.at,
        **event.facts.model_dump(mode="json"),
    )
    rows.put(IMAGES, image)


def _report(rows: Rows, event: AgentImagesReported) -> None:
    known = rows.find(AGENT_IMAGES, (event.agent_id,))
    has = set() if known is None or event.afresh else set(known.images)
    has -= {_named(*key) for key in event.gone}
    has |= {_named(each.reference, each.architecture) for each in event.come}
    if has:
        rows.put(AGENT_IMAGES, AgentImagesRow(event.agent_id, sorted(has)))
    else:
        rows.remove(AGENT_IMAGES, (event.agent_id,))


# -- the questions -----------------------------------------------------------------------------------------------------


@dataclass(slots=True)
class ListedImage:
    """`installed`: whether an agent has it."""

    reference: str
    architecture: str
    registry: str
    digest: str | None
    size_bytes: int
    labels: Json
    rules: Json
    registered_at: datetime
    aliases: list[str]
    installed: bool


_IMAGES = Listing(
    ListedImage,
    sql.SQL("""
    SELECT image.*, EXISTS (
            SELECT FROM directory_agent_images agent
            WHERE agent.images @> ARRAY[image.reference || ' ' || image.architecture]
        ) AS installed, ARRAY (
            SELECT alias FROM directory_image_aliases named
            WHERE named.reference = image.reference AND named.architecture = image.architecture ORDER BY alias
        ) AS aliases
    FROM directory_images image"""),
    fields={},
    key=("reference", "architecture"),
)

_IN_RESOURCE_GROUPS = """EXISTS (
    SELECT FROM directory_agent_images has JOIN agents USING (agent_id)
    WHERE has.images @> ARRAY[listed.reference || ' ' || listed.architecture] AND resource_group = ANY({}))"""

_OWNED_BY = """CASE WHEN starts_with(labels ->> 'ai.backend.customized-image.owner', 'user:')
    THEN labels ->> 'ai.backend.customized-image.owner' ELSE registry END = ANY({})"""

_AGENTS_WITH = """
SELECT image, agent_id FROM unnest(%s::text[]) AS image JOIN directory_agent_images ON images @> ARRAY[image]
ORDER BY agent_id"""

_ON_AGENTS = sql.SQL("SELECT {} FROM directory_agent_images WHERE agent_id = ANY(%s)").format(AGENT_IMAGES.names)


async def images(
    db: Connection,
    *,
    reference: str | None = None,
    architecture: str | None = None,
    owners: Sequence[str] | None = None,
    installed: bool | None = None,
    resource_groups: Sequence[str] | None = None,
) -> list[ListedImage]:
    """By reference. `owners`: those of one of these registries, or made by one of these users for himself, `user:<id>`.

    `resource_groups`: those that an agent of one of these groups has.
    """
    return await _IMAGES.all(
        db,
        ("reference = {}", reference),
        ("architecture = {}", architecture),
        (_OWNED_BY, None if owners is None else list(owners)),
        ("installed = {}", installed),
        (_IN_RESOURCE_GROUPS, None if resource_groups is None else list(resource_groups)),
    )


async def agents_with(db: Connection, wanted: Sequence[ImageKey]) -> Mapping[ImageKey, Sequence[str]]:
    """Which agents have each of the images, by id."""
    names = {_named(*key): key for key in wanted}
    found: dict[ImageKey, list[str]] = {key: [] for key in wanted}
    async with db.cursor(row_factory=tuple_row) as cursor:
        await cursor.execute(_AGENTS_WITH, (list(names),))
        for name, agent_id in await cursor.fetchall():
            found[names[name]].append(agent_id)
    return found


async def references_on_agents(db: Connection, agent_ids: Sequence[str]) -> Mapping[str, Sequence[str]]:
    """Of the images that each of the agents has."""
    found: dict[str, list[str]] = {agent_id: [] for agent_id in agent_ids}
    async with db.cursor(row_factory=class_row(AgentImagesRow)) as cursor:
        await cursor.execute(_ON_AGENTS, (list(agent_ids),))
        for row in await cursor.fetchall():
            found[row.agent_id] = [name.partition(" ")[0] for name in row.images]
    return found
