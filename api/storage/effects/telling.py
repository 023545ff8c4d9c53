"""What a storage service reports: as commands, each of which is durable before anything is built on it."""

import asyncio
from typing import Final
from uuid import NAMESPACE_URL, uuid4, uuid5

import structlog

from domain.messages import Command
from infra.log import LogUnavailable
from infra.sending import Overloaded, Sender

_log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 1.0


class Teller:
    def __init__(self, sender: Sender, service: str) -> None:
        self._sender = sender
        self._actor = f"storage:{service}"

    async def tell(self, context: str, command: Command, of: str | None = None) -> None:
        """Returns once it is durable, however long that takes. What is said again `of` the same is the same command."""
        command_id = str(uuid4() if of is None else uuid5(NAMESPACE_URL, f"{of}/{type(command).__name__}"))
        while True:
            try:
                await self._sender.send(context, command, command_id, self._actor)
                return
            except (LogUnavailable, Overloaded) as error:
                _log.warning("what became of a folder is told later", folder=command.subject, reason=str(error))
                await asyncio.sleep(_RETRY_SECONDS)
