"""Which storage volumes are there? The storage services say it, not the log: this filters, sorts and pages what they
said, so that clients ask for this list as for every other."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from infra.postgres import Connection
from projections.filtering import Field
from projections.listing import Listing, Page, Query


@dataclass(slots=True)
class ListedVolume:
    host: str
    backend: str


_VOLUMES: Final = Listing(
    ListedVolume,
    sql.SQL("SELECT * FROM unnest(%(hosts)s::text[], %(backends)s::text[]) AS each(host, backend)"),
    fields={"id": Field("host"), "backend": Field("backend")},
    key=("host",),
)


async def volumes(db: Connection, query: Query, backends: Mapping[str, str]) -> Page[ListedVolume]:
    """By host. `backends`: host → backend, of those that there are. Raises `BadQuery`."""
    return await _VOLUMES.page(db, query, given={"hosts": list(backends), "backends": list(backends.values())})
