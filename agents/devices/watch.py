"""Are the devices of this host still what the scheduler believes? Looked at every few seconds, told when they are not.

What runs on a device that fails runs on: it may have other work, or see to itself. Nothing new is placed there.
"""

import asyncio
from collections.abc import Awaitable, Callable

import structlog

from agents.devices.host import HostDevices
from agents.devices.plugin import DeviceFailure
from agents.journal import JournalUnavailable

_log = structlog.get_logger("agents")


async def watch_devices(devices: HostDevices, offer: Callable[[], Awaitable[None]], interval_seconds: float) -> None:
    """Until it is cancelled. `offer` tells what is here now; what could not be told is told the next time."""
    to_tell = False
    while True:
        await asyncio.sleep(interval_seconds)
        try:
            to_tell = await devices.look_again() or to_tell
            if to_tell:
                await offer()
                to_tell = False
        except (DeviceFailure, JournalUnavailable) as error:
            _log.warning("devices were not looked at", reason=str(error))
        except Exception:  # a driver that answers what nobody expected: kernels go on
            _log.exception("devices were not looked at")
