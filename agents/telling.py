"""How an agent says what it says all the time: telemetry goes to the log beside its reports, and may be lost."""

from uuid import uuid4

from domain.messages import AgentId
from domain.telemetry import AgentTelemetry
from infra.envelope import Cause, record_of
from infra.log import Log
from infra.settings import Settings
from infra.topics import TELEMETRY, partition_of


class Telling:
    """Of one agent."""

    def __init__(self, settings: Settings, agent_id: AgentId, log: Log) -> None:
        self._log = log
        self._actor = f"agent:{agent_id}"
        self._source = f"agent/{agent_id}"
        self._where = partition_of(settings, TELEMETRY, agent_id)

    async def tell(self, message: AgentTelemetry) -> None:
        """Raises `LogError`: then it is not known whether anybody heard."""
        message_id = str(uuid4())
        cause = Cause(self._actor, message_id, message_id)
        await self._log.append([record_of(message, message_id, self._source, cause, self._where, message.key)])
