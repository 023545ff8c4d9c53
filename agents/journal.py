"""What the agent has been told, has done and has yet to report: a small database on the host that outlives
the agent.

An order is taken in, and its place in the log passed, in one transaction; so is what became of a kernel and
the report about it. SQLite's WAL with `synchronous=NORMAL` survives the death of the process. A power cut
may take the last moments with it, but then the orders are read again, and the runtime knows by its labels
what it has run already.
"""

import sqlite3
from collections.abc import Iterator, Sequence
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
CREATE TABLE IF NOT EXISTS image_orders (task_id TEXT PRIMARY KEY, image_order TEXT NOT NULL) STRICT;
CREATE TABLE IF NOT EXISTS outbox (
    number INTEGER PRIMARY KEY AUTOINCREMENT, context TEXT NOT NULL, command_id TEXT NOT NULL,
    command TEXT NOT NULL) STRICT;
"""


class Stage(StrEnum):
    """How far the agent has come with a kernel. An ended one is forgotten with its report."""

    ORDERED = "ordered"
    STARTED = "started"


@dataclass(frozen=True)
class Kept:
    """A kernel that is the agent's business. `grace`: it is to be stopped, within so many seconds."""

    order: StartKernel
    stage: Stage
    grace: float | None


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
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def fact(self, name: str) -> int | None:
        row = self._db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
        return None if row is None else int(row[0])

    def set_fact(self, name: str, value: int) -> None:
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    def kernels(self) -> Sequence[Kept]:
        rows = self._db.execute("SELECT start_order, stage, grace FROM kernels ORDER BY rowid").fetchall()
        return [Kept(StartKernel.model_validate_json(order), Stage(stage), grace) for order, stage, grace in rows]

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

    def stop_up_to(self, kernel_id: KernelId, incarnation: int, grace: float) -> int:
        """Note that these incarnations are to be stopped; how many of them there are."""
        return self._db.execute(
            "UPDATE kernels SET grace = ? WHERE kernel_id = ? AND incarnation <= ?", (grace, kernel_id, incarnation)
        ).rowcount

    def forget(self, kernel_id: KernelId, incarnation: int) -> None:
        self._db.execute("DELETE FROM kernels WHERE kernel_id = ? AND incarnation = ?", (kernel_id, incarnation))

    def image_orders(self) -> Sequence[ImageOrder]:
        """Those whose end is not reported yet."""
        rows = self._db.execute("SELECT image_order FROM image_orders ORDER BY rowid").fetchall()
        return [order for (text,) in rows if isinstance(order := ORDERS.validate_json(text), ImageOrder)]

    def keep_image_order(self, order: ImageOrder) -> None:
        self._db.execute("INSERT OR IGNORE INTO image_orders VALUES (?, ?)", (order.task_id, order.model_dump_json()))

    def forget_image_order(self, task_id: str) -> None:
        self._db.execute("DELETE FROM image_orders WHERE task_id = ?", (task_id,))

    def report(self, context: str, command_id: str, command: str) -> None:
        self._db.execute(
            "INSERT INTO outbox (context, command_id, command) VALUES (?, ?, ?)", (context, command_id, command)
        )

    def reports(self, at_most: int) -> Sequence[Report]:
        rows = self._db.execute("SELECT * FROM outbox ORDER BY number LIMIT ?", (at_most,)).fetchall()
        return [Report(*row) for row in rows]

    def reported(self, up_to: int) -> None:
        self._db.execute("DELETE FROM outbox WHERE number <= ?", (up_to,))
