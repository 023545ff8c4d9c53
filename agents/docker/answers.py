"""What the Docker daemon's refusals mean, and that there is none."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import aiodocker
import aiohttp

from agents.runtime import RuntimeUnavailable

CALL_SECONDS_MAX = 60.0
"""For any one call; a start on a host with busy disks takes many seconds."""
UNREACHABLE = 900
"""The status by which aiodocker says that there is no daemon at all."""


@asynccontextmanager
async def answering() -> AsyncIterator[None]:
    """Makes RuntimeUnavailable of whatever means that the daemon did not do what it was asked."""
    try:
        yield
    except aiodocker.DockerError as error:
        raise RuntimeUnavailable(f"Docker: {error.message}") from error
    except (TimeoutError, aiohttp.ClientError, OSError) as error:
        raise RuntimeUnavailable(f"Docker does not answer: {error or type(error).__name__}") from error


@contextmanager
def unless_missing() -> Iterator[None]:
    """Leaves the block quietly when the daemon knows no such thing, or is removing it already."""
    try:
        yield
    except aiodocker.DockerError as error:
        if error.status not in (404, 409):
            raise
