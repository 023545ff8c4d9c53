"""`python -m api.storage`: one storage service, until it is told to stop."""

import asyncio
import signal

import structlog
import typer

from api.storage.app import serving
from api.storage.audit import trail
from api.storage.disks.backend import BadVolume
from api.storage.effects.running import Effects
from api.storage.volumes import Volumes, owner_of
from infra.kafka import KafkaLog
from infra.secrets import BadKey
from infra.settings import Settings, settings
from infra.storage_passes import storage_key
from infra.telemetry import configure_logging

main_app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)

_log = structlog.get_logger("api.storage")


@main_app.command()
def main() -> None:
    """Keep the bytes of folders, and move them for clients. Settings: REFOLD_STORAGE_* (see README)."""
    configure_logging(settings(), "storage")
    try:
        storage_key(settings(), settings().storage_name)
        volumes = Volumes.from_settings(settings())
    except (BadKey, BadVolume) as error:
        raise typer.BadParameter(str(error)) from error
    asyncio.run(_run(settings(), volumes))  # the loop of the standard library: uvloop has no sendfile


async def _run(config: Settings, volumes: Volumes) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with KafkaLog(config) as log, Effects(config, log, volumes) as effects, trail(config, log) as audit:

        async def ready() -> str | None:
            return None if effects.ready else effects.why_not

        async with serving(config, effects.places, owner_of(config), audit, ready):
            await stop.wait()
            _log.info("stopping", service=config.storage_name)


if __name__ == "__main__":
    main_app()
