"""Reports leave the journal for the log, in their order, each at least once; its id makes once of it."""

import asyncio
from typing import Any, Final

import structlog
from prometheus_client import Counter
from pydantic import TypeAdapter

from agents.fencing import Heard
from agents.journal import Journal, JournalUnavailable
from domain.directory.messages import COMMANDS as DIRECTORY_COMMANDS
from domain.messages import AgentId
from domain.scheduling.messages import COMMANDS as SCHEDULING_COMMANDS
from domain.session.messages import COMMANDS as SESSION_COMMANDS
from infra.log import LogError
from infra.sending import Sender

_log = structlog.get_logger("agents")

_REPORTS = Counter("refold_agent_reports", "Reports sent.")

_RETRY_SECONDS: Final = 1.0
_ADAPTERS: Final[dict[str, TypeAdapter[Any]]] = {
    "session": SESSION_COMMANDS,
    "scheduling": SCHEDULING_COMMANDS,
    "directory": DIRECTORY_COMMANDS,
}


class Outbox:
    """`wake` it when there is something new in the journal. Make it inside a running event loop."""

    def __init__(self, journal: Journal, sender: Sender, agent_id: AgentId, heard: Heard) -> None:
        self._journal = journal
        self._sender = sender
        self._actor = f"agent:{agent_id}"
        self._heard = heard
        self._unsent = asyncio.Event()
        self.wake = self._unsent.set

    async def run(self) -> None:
        self._unsent.set()
        while True:
            await self._unsent.wait()
            self._unsent.clear()
            try:
                await self.send_all()
            except (LogError, JournalUnavailable) as error:
                _log.warning("reports not sent, kept for later", reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
                self._unsent.set()

    async def send_all(self) -> None:
        """All there are. Raises `LogError`, `JournalUnavailable`."""
        while reports := self._journal.reports(at_most=500):
            began = self._heard.now()
            await self._sender.send_all(
                [
                    (report.context, _ADAPTERS[report.context].validate_json(report.command), report.command_id)
                    for report in reports
                ],
                actor=self._actor,
            )
            self._heard.at(began)
            with self._journal.changes():
                self._journal.reported(reports[-1].number)
            _REPORTS.inc(len(reports))
