"""What every client asks before anything else, and what those ask who watch over this process."""

import asyncio
import math
from typing import Annotated, Final

from fastapi import APIRouter, Path
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from api import metrics
from api.http.answers import json
from api.http.asyncapi import asyncapi
from api.http.deps import All, Services
from api.http.problems import Problem
from infra.log import LogError
from infra.signing import API_VERSION

router = APIRouter(tags=["system"])

MANAGER: Final = "23.09.10"
"""The release of the reference whose surface this is."""

_MINORS: Final = {4: "v4.20190615", 5: "v5.20191215", 6: "v6.20230315", 7: API_VERSION}
_PROBE_SECONDS: Final = 1.0
_LAG_MAX: Final = 5000  # a second of a busy log


@router.get("/")
async def version() -> Response:
    """Which version of the API this is; the first thing a client asks."""
    return json({"version": API_VERSION, "manager": MANAGER})


@router.get("/v{major}")
async def version_of(major: Annotated[int, Path(ge=min(_MINORS), le=max(_MINORS))]) -> Response:
    """The latest minor version of a major one."""
    return json({"version": _MINORS[major], "manager": MANAGER})


@router.get("/health")
async def health() -> Response:
    """The process lives."""
    return json({"status": "alive"})


@router.get("/ready")
async def ready(all_: All) -> Response:
    """It can append and read back: the brokers answer within a second, and the tail of the log is followed closely.

    Nothing is written: a probe of every few seconds would be kept in the log for ever.
    """
    if (missing := await _missing(all_)) is not None:
        raise Problem(503, "not-ready", "Not ready", missing, retryable=True, retry_after=1)
    return json({"status": "ready"})


async def _missing(all_: Services) -> str | None:
    if all_.stopping:
        return "stopping"
    if not all_.database.is_set():
        return "the database has not answered yet"
    if not all_.tail.started.is_set():
        return "the directory has not been read yet"
    if not all_.tail.healthy:
        return "the events cannot be read"
    lag = await _lag(all_)
    if lag is None:
        return "the log does not answer"
    return f"{lag} records behind the log" if lag > _LAG_MAX else None


async def _lag(all_: Services) -> int | None:
    if not all_.tail.places:
        return None
    try:
        async with asyncio.timeout(_PROBE_SECONDS):
            return await all_.tail.lag()
    except (LogError, TimeoutError):
        return None


@router.get("/metrics", include_in_schema=False)
async def prometheus(all_: All) -> Response:
    """How far it is behind the log is asked of the brokers; "not a number" while they do not answer."""
    lag = await _lag(all_)
    metrics.LAG.set(math.nan if lag is None else lag)
    metrics.IN_FLIGHT.set(all_.sender.in_flight)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@router.get("/asyncapi.json", include_in_schema=False)
async def message_formats(all_: All) -> Response:
    """AsyncAPI: the topics with their messages, and the event stream."""
    return json(asyncapi(all_.settings))
