"""Lists of folders, filtered and sorted as clients ask for: of everybody, or those that one user has."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from psycopg import sql

from domain.vfolder.mounts import Permission, UsageMode
from domain.vfolder.phases import FolderStatus
from infra.postgres import Connection
from projections.filtering import Field, Fields, Kind
from projections.folders.seen import EVERYONES, SEEN, SeenFolder, Viewer
from projections.listing import EVERYTHING, Listing, Page, Query


@dataclass(slots=True)
class ListedFolder(SeenFolder):
    """`user_email` and `project`: its owner as he is called now; None where he is gone. `domain`: where he belongs."""

    user_email: str | None
    project: str | None
    domain: str | None

    @property
    def ownership_type(self) -> str:
        return "group" if self.project_id else "user"


_FIELDS: Final[Fields] = {
    "id": Field("folder_id"),
    "host": Field("host"),
    "quota_scope_id": Field("scope"),
    "name": Field("name"),
    "user": Field("user_id", nullable=True),
    "user_email": Field("user_email", nullable=True),
    "group": Field("project_id", nullable=True),
    "group_name": Field("project", nullable=True),
    "domain_name": Field("domain", nullable=True),
    "creator": Field("creator"),
    "status": Field("status", choices=tuple(status.value for status in FolderStatus)),
    "unmanaged_path": Field("unmanaged_path", nullable=True),
    "usage_mode": Field("usage_mode", choices=tuple(mode.value for mode in UsageMode)),
    "permission": Field("granted", choices=tuple(each.value for each in Permission)),
    "ownership_type": Field("(CASE WHEN project_id IS NULL THEN 'user' ELSE 'group' END)", choices=("user", "group")),
    "max_size": Field("(quota_bytes / 1048576)", Kind.NUMBER, nullable=True),
    "num_files": Field("files", Kind.NUMBER),
    "cur_size": Field("used_bytes", Kind.NUMBER),
    "cloneable": Field("cloneable", Kind.BOOLEAN),
    "created_at": Field("created_at", Kind.TIME),
    "last_used": Field("last_used", Kind.TIME, nullable=True),
}


def _listing(source: sql.Composed) -> Listing[ListedFolder]:
    owned = sql.SQL("""
    SELECT s.*, u.email AS user_email, p.name AS project, d.name AS domain
    FROM ({}) AS s
    LEFT JOIN directory_users u ON u.user_id = s.user_id
    LEFT JOIN directory_projects p ON p.project_id = s.project_id
    LEFT JOIN directory_domains d ON d.number = coalesce(u.domain_number, p.domain_number)""")
    return Listing(ListedFolder, owned.format(source), fields=_FIELDS, key=("name", "folder_id"))


_EVERYONES: Final = _listing(EVERYONES)
_SEEN: Final = _listing(SEEN)


async def everyones(
    db: Connection,
    query: Query = EVERYTHING,
    *,
    domain: str | None = None,
    user_id: str | None = None,
    project_id: str | None = None,
) -> Page[ListedFolder]:
    """By name; those of one domain, user or project, or all. What is purged is not among them."""
    return await _EVERYONES.page(
        db, query, ("domain = {}", domain), ("user_id = {}", user_id), ("project_id = {}", project_id)
    )


async def seen(
    db: Connection,
    viewer: Viewer,
    query: Query = EVERYTHING,
    *,
    relations: Sequence[str] | None = None,
    project_id: str | None = None,
    usage_mode: str | None = None,
) -> Page[ListedFolder]:
    """What the viewer has, by the name that it has for him; of these relations (`NEAREST`)."""
    return await _SEEN.page(
        db,
        query,
        ("relation = ANY({})", relations if relations is None else list(relations)),
        ("project_id = {}", project_id),
        ("usage_mode = {}", usage_mode),
        given=viewer.values,
    )


async def seen_folder(db: Connection, viewer: Viewer, folder_id: str) -> ListedFolder | None:
    """The folder of that id, if the viewer has it."""
    page = await _SEEN.page(db, Query(limit=1), ("folder_id = {}", folder_id), given=viewer.values)
    return page.items[0] if page.items else None


async def folder(db: Connection, folder_id: str) -> ListedFolder | None:
    """The folder of that id, whoever has it."""
    return await _EVERYONES.one(db, ("folder_id = {}", folder_id))


async def of_users(db: Connection, user_ids: Sequence[str]) -> Mapping[str, Sequence[ListedFolder]]:
    """By user: his own folders, by name."""
    found: dict[str, list[ListedFolder]] = {user_id: [] for user_id in user_ids}
    for each in await _EVERYONES.all(db, ("user_id = ANY({})", list(user_ids))):
        found[str(each.user_id)].append(each)
    return found
