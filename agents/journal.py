"""What the agent has been told, has done and has yet to report: a small database on the host that outlives
the agent.

An order is taken in, and its place in the log passed, in one transaction; so is what became of a kernel and
the report about it. SQLite's WAL with `synchronous=NORMAL` survives the death of the process. A power cut
may take the last moments with it, but then the orders are read again, and the runtime knows by its labels
what it has run already.

A journal that cannot be written (`JournalUnavailable`: the disk is full) stops nothing that runs: what was to be
written is tried again until it can be.
"""

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from domain.messages import KernelId
from domain.placements import ORDERS, ImageOrder, StartKernel

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS kernels (
    kernel_id TEXT NOT NULL, incarnation INTEGER NOT NULL, stage TEXT NOT NULL, grace REAL, start_order TEXT
    NOT NULL, PRIMARY KEY (kernel_id, incarnation)) STRICT;
CREATE TABLE IF NOT EXISTS fenced (
    kernel_id TEXT NOT NULL, incarnation INTEGER NOT NULL, PRIMARY KEY (kernel_id, incarnation)) STRICT;
CREATE TABLE IF NOT EXISTS image_orders (task_id TEXT PRIMARY KEY, image_order TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS image_uses (reference TEXT PRIMARY KEY, used_at INTEGER NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, context TEXT NOT NULL, command_id TEXT NOT NULL,
    command TEXT NOT NULL) STRICT;
"""


class JournalUnavailable(Exception):
    """Nothing was written. Trying again later is right."""


class Stage(StrEnum):
    """How far the agent has come with a kernel. An ended one is forgotten with its report."""

    ORDERED = "ordered"
    STARTED = "started"


@dataclass(frozen=True)
class Kept:
    """A kernel that is the agent's business. `grace`: it is to be stopped, within so many seconds; `fenced`: by the
    agent's own decision."""

    order: StartKernel
    stage: Stage
    grace: float | None
    fenced: bool = False


@dataclass(frozen=True)
class Report:
    """A command that is to be sent, as JSON; its id makes sending it twice harmless."""

    number: int
    context: str
    command_id: str
    command: str


class Journal:
    """Every method outside `changes` reads; what is written inside one `with changes()` is written
    together."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        self._db.close()

    @contextmanager
    def changes(self) -> Iterator[None]:
        """Raises `JournalUnavailable`."""
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except BaseException as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            if isinstance(error, sqlite3.OperationalError):
                raise JournalUnavailable(f"the journal cannot be written: {error}") from error
            raise

    def fact(self, name: str) -> int | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def set_fact(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def kernels(self) -> Sequence[Kept]:
        rows = self._db.execute(
            "SELECT start_order, stage, grace, EXISTS (SELECT 1 FROM fenced WHERE fenced.kernel_id = kernels.kernel_id "
            "AND fenced.incarnation = kernels.incarnation) FROM kernels ORDER BY rowid"
        ).fetchall()
        return [
            Kept(StartKernel.model_validate_json(order), Stage(stage), grace, bool(fenced))
            for order, stage, grace, fenced in rows
        ]

    def keep(self, order: StartKernel, stage: Stage = Stage.ORDERED) -> bool:
        """Make a kernel the agent's business; False when this incarnation of it is already."""
        cursor = self._db.execute(
            "INSERT OR IGNORE INTO kernels VALUES (?, ?, ?, NULL, ?)",
            (order.kernel_id, order.incarnation, stage.value, order.model_dump_json()),
        )
        return cursor.rowcount > 0

    def started(self, kernel_id: KernelId, incarnation: int) -> None:
        self._db.execute(
            "UPDATE kernels SET stage = ? WHERE kernel_id = ? AND incarnation = ?",
            (Stage.STARTED.value, kernel_id, incarnation),
        )

    def doubt(self) -> None:
        """Somebody else may have started what is ordered here: none of it is to be started any more."""
        self._db.execute("UPDATE kernels SET stage = ?", (Stage.STARTED.value,))

    def stop_up_to(self, kernel_id: KernelId, incarnation: int, grace: float) -> int:
        """Note that these incarnations are to be stopped; how many of them there are."""
        return self._db.execute(
            "UPDATE kernels SET grace = ? WHERE kernel_id = ? AND incarnation <= ?", (grace, kernel_id, incarnation)
        ).rowcount

    def fence(self, kernel_id: KernelId, incarnation: int, grace: float) -> None:
        """Note that it is to be stopped because the agent was cut off for too long."""
        self._db.execute("INSERT OR IGNORE INTO fenced VALUES (?, ?)", (kernel_id, incarnation))
        self.stop_up_to(kernel_id, incarnation, grace)

    def forget(self, kernel_id: KernelId, incarnation: int) -> None:
        for table in ("kernels", "fenced"):
            self._db.execute(f"DELETE FROM {table} WHERE kernel_id = ? AND incarnation = ?", (kernel_id, incarnation))

    def image_orders(self) -> Sequence[ImageOrder]:
        """Those whose end is not reported yet."""
        rows = self._db.execute("SELECT image_order FROM image_orders ORDER BY rowid").fetchall()
        return [order for (text,) in rows if isinstance(order := ORDERS.validate_json(text), ImageOrder)]

    def keep_image_order(self, order: ImageOrder) -> None:
        self._db.execute("INSERT OR IGNORE INTO image_orders VALUES (?, ?)", (order.task_id, order.model_dump_json()))

    def forget_image_order(self, task_id: str) -> None:
        self._db.execute("DELETE FROM image_orders WHERE task_id = ?", (task_id,))

    def image_uses(self) -> Mapping[str, int]:
        """When each image was used last, in seconds since 1970."""
        return dict(self._db.execute("SELECT reference, used_at FROM image_uses").fetchall())

    def image_used(self, reference: str, used_at: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO image_uses VALUES (?, ?)", (reference, used_at))

    def forget_image(self, reference: str) -> None:
        self._db.execute("DELETE FROM image_uses WHERE reference = ?", (reference,))

    def report(self, context: str, command_id: str, command: str) -> None:
        self._db.execute(
            "INSERT INTO outbox (context, command_id, command) VALUES (?, ?, ?)", (context, command_id, command)
        )

    def reports(self, at_most: int) -> Sequence[Report]:
        rows = self._db.execute("SELECT * FROM outbox ORDER BY number LIMIT ?", (at_most,)).fetchall()
        return [Report(*row) for row in rows]

    def reported(self, up_to: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE number <= ?", (up_to,))
