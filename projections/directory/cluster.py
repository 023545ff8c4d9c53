"""What is said to everybody, are new sessions taken, and which of them do too little?"""

from dataclasses import dataclass
from datetime import datetime

from psycopg import sql
from psycopg.rows import class_row

from domain.directory.messages.cluster import (
    AnnouncementSet,
    ClusterEvents,
    ManagerStatus,
    ManagerStatusSet,
    UtilisationRuleSet,
)
from infra.postgres import Connection
from projections.table import Json, Keys, Rows, Table


@dataclass(slots=True)
class ClusterRow:
    """The one row, `key` being that of the directory's events."""

    key: str
    announcement_enabled: bool
    announcement: str
    manager_status: str
    utilisation_rule: Json | None
    modified_at: datetime


CLUSTER = Table("directory_cluster", ClusterRow, key=("key",))


def keys(event: ClusterEvents) -> Keys:
    yield CLUSTER, (event.subject,)


def fold(rows: Rows, event: ClusterEvents) -> None:
    key = event.subject
    if rows.find(CLUSTER, (key,)) is None:
        rows.put(CLUSTER, ClusterRow(key, False, "", ManagerStatus.RUNNING.value, None, event.at))
    cluster = rows.change(CLUSTER, (key,))
    cluster.modified_at = event.at
    match event:
        case AnnouncementSet():
            cluster.announcement_enabled = event.enabled
            cluster.announcement = event.message
        case ManagerStatusSet():
            cluster.manager_status = event.status.value
        case UtilisationRuleSet():
            cluster.utilisation_rule = None if event.rule is None else event.rule.model_dump(mode="json")


async def cluster(db: Connection) -> ClusterRow | None:
    """None while nothing was ever said: then there is no announcement, and the manager runs."""
    async with db.cursor(row_factory=class_row(ClusterRow)) as cursor:
        await cursor.execute(sql.SQL("SELECT {} FROM directory_cluster").format(CLUSTER.names))
        return await cursor.fetchone()
