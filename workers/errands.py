"""What a worker does on behalf of the directory: it carries out the tasks that are a worker's, scans of registries.

Which tasks are open is folded from the directory's events, so nothing has to be handed over: who takes the lease begins
every open task anew, and says what was said before under the same ids. A task that ends, or is cancelled, is let go.
"""

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final, cast
from uuid import NAMESPACE_URL, uuid5

import structlog

from domain.directory.consequences import DIRECTORY
from domain.directory.messages import DirectoryEvents
from domain.directory.messages.common import KEY, DirectoryCommand
from domain.directory.messages.tasks import ReportTaskEnd, ReportTaskProgress, ScanRegistries, TaskEnd, TaskId
from domain.directory.state import Directory
from domain.directory.tasks import Task
from domain.outcomes import OUTCOME_TYPES
from infra.decoding import Unreadable, read_event
from infra.keyring import Keyring, PostgresKeys
from infra.log import Log, LogUnavailable, Record
from infra.postgres import Pool, Unavailable
from infra.secrets import SecretError
from infra.sending import Overloaded, Sender
from infra.settings import Settings
from infra.topics import events, partition_of
from workers.registries.web import RegistryError
from workers.scanning import Password, Scan

_log = structlog.get_logger(__name__)

ERRANDS: Final = "errands"
"""Name of the lease."""

_BATCH: Final = 1000
_WITHIN_SECONDS: Final = 0.5
_SENT_AT_ONCE: Final = 100
_RETRY_SECONDS: Final = 1.0


class Errands:
    """`run` ends by an error or by being cancelled; then the object is done with."""

    def __init__(self, settings: Settings, log: Log, worker_id: str, password: Password) -> None:
        self._place = partition_of(settings, events(DIRECTORY.name), KEY)
        self._log = log
        self._sender = Sender(settings, log, "refold/errands")
        self._actor = f"worker:{worker_id}"
        self._password = password
        self._directory = Directory()
        self._scans: dict[TaskId, asyncio.Task[None]] = {}

    async def run(self) -> None:
        """Follow the directory, and do what it says is to be done."""
        end = (await self._log.ends([self._place]))[self._place]
        try:
            async with self._log.reader({self._place: 0}) as reader:
                while True:
                    for record in await reader.batch(at_most=_BATCH, within=_WITHIN_SECONDS):
                        self._learn(record)
                    if reader.position(self._place) >= end:  # before, a task may look open that ended long ago
                        self._look()
        finally:
            for scan in self._scans.values():
                scan.cancel()
            await asyncio.gather(*self._scans.values(), return_exceptions=True)

    def _learn(self, record: Record) -> None:
        try:
            told = read_event(DIRECTORY, record)
        except Unreadable:
            _log.exception("unreadable event", place=f"{record.partition}@{record.offset}")
            return
        if type(told.event).__name__ not in OUTCOME_TYPES:
            self._directory = DIRECTORY.evolve(self._directory, cast(DirectoryEvents, told.event))

    def _look(self) -> None:
        """One scan for each open task. One that has told its end stays until that is read, so it is not begun again."""
        scans = {
            task_id: (task, task.work)
            for task_id, task in self._directory.tasks.items()
            if task.open and isinstance(task.work, ScanRegistries)
        }
        for task_id in self._scans.keys() - scans.keys():
            self._scans.pop(task_id).cancel()
        for task_id in scans.keys() - self._scans.keys():
            self._scans[task_id] = asyncio.create_task(self._scan(*scans[task_id]), name=f"scan {task_id}")

    async def _scan(self, task: Task, work: ScanRegistries) -> None:
        _log.info("scan begins", task=task.task_id, registries=work.registries)

        async def tell(commands: Sequence[DirectoryCommand]) -> None:
            await self._tell(task.task_id, commands)

        try:
            await Scan(task, work, lambda: self._directory, tell, self._password).run()
        except Exception as error:
            _log.exception("scan failed", task=task.task_id)
            reason = f"a defect: {type(error).__name__}"
            now = datetime.now(UTC)
            await tell([ReportTaskEnd(at=now, task_id=task.task_id, end=TaskEnd.FAILED, message=reason)])

    async def _tell(self, task_id: TaskId, commands: Sequence[DirectoryCommand]) -> None:
        """Returns once all of them are durable, however long that takes."""
        given = [(DIRECTORY.name, command, _id(task_id, command)) for command in commands]
        for first in range(0, len(given), _SENT_AT_ONCE):
            while True:
                try:
                    await self._sender.send_all(given[first : first + _SENT_AT_ONCE], self._actor)
                    break
                except (LogUnavailable, Overloaded) as error:
                    _log.warning("what a scan found is told later", task=task_id, reason=str(error))
                    await asyncio.sleep(_RETRY_SECONDS)


def registry_passwords(settings: Settings, pool: Pool) -> Password:
    """Unseals them with the keys in the database. Only who has such a password needs a master key."""

    async def password(registry: str, sealed: str) -> str:
        try:
            return await Keyring(settings, PostgresKeys(pool)).reveal(sealed, f"registry/{registry}")
        except (SecretError, Unavailable) as error:
            raise RegistryError(f"its password cannot be read: {error}") from error

    return password


def _id(task_id: TaskId, command: DirectoryCommand) -> str:
    """The same for the same words, whoever says them: only progress is news each time."""
    content = command.model_dump_json(exclude=None if isinstance(command, ReportTaskProgress) else {"at"})
    return str(uuid5(NAMESPACE_URL, f"{task_id}/{content}"))
