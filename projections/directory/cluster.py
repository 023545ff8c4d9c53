"""What is said to everybody, and are new sessions taken?"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from domain.directory.messages.cluster import AnnouncementSet, ClusterEvents, ManagerStatus, ManagerStatusSet
from infra.postgres import Connection
from projections.table import Keys, Rows, Table


@dataclass(slots=True)
class ClusterRow:
    """The one row, `key` being that of the directory's events."""

    key: str
    announcement_enabled: bool
    announcement: str
    manager_status: str
    modified_at: datetime


CLUSTER = Table("directory_cluster", ClusterRow, key=("key",))


def keys(event: ClusterEvents) -> Keys:
    yield CLUSTER, (event.subject,)


def fold(rows: Rows, event: ClusterEvents) -> None:
    key = event.subject
    if rows.find(CLUSTER, (key,)) is None:
        rows.put(CLUSTER, ClusterRow(key, False, "", ManagerStatus.RUNNING.value, event.at))
    cluster = rows.change(CLUSTER, (key,))
    cluster.modified_at = event.at
    match event:
        case AnnouncementSet():
            cluster.announcement_enabled = event.enabled
            cluster.announcement = event.message
        case ManagerStatusSet():
            cluster.manager_status = event.status.value


async def cluster(db: Connection) -> ClusterRow | None:
    """None while nothing was ever said: then there is no announcement, and the manager runs."""
    async with db.cursor(row_factory=class_row(ClusterRow)) as cursor:
        await cursor.execute(sql.SQL("SELECT {} FROM directory_cluster").format(CLUSTER.names))
        return await cursor.fetchone()
