"""The two listeners of a storage service: clients come to the one with passes that the api gave them, the api itself to
the other.

Browsers of any origin may use the client's one: a request brings its pass in its address, and nothing else counts.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple, TypeVar

import structlog
from aiohttp import web

from api.storage.downloads import Downloads
from api.storage.guarding import Audit, Doors, problems
from api.storage.internal import Internal
from api.storage.places import Places
from api.storage.trees import Owner, remove
from api.storage.tus import VERSION, Uploads
from api.storage.uploads import left_over, sweep
from infra.settings import Settings
from infra.telemetry import Ready, serve_health

_LINE_BYTES_MAX: Final = (
    64 * 1024
)  # a pass in an address: its path has 4096 characters, each escaped in JSON, in base64
_READ_BYTES: Final = 256 * 1024  # what a client sent and nobody has taken yet
_STOP_SECONDS: Final = 15.0  # longest time a transfer under way gets; it goes on later where it was
_SWEEP_SECONDS: Final = 3600.0

_CORS: Final = {
    "Access-Control-Allow-Origin": "*",
    "Access-Control-Expose-Headers": "Accept-Ranges, Content-Disposition, Content-Length, Content-Range, ETag, "
    "Last-Modified, Retry-After, Tus-Resumable, Tus-Version, Upload-Length, Upload-Offset",
    "Cross-Origin-Resource-Policy": "cross-origin",
}
_PREFLIGHT: Final = {
    "Access-Control-Allow-Methods": "GET, HEAD, OPTIONS, PATCH",
    "Access-Control-Allow-Headers": "Content-Type, If-Match, If-Modified-Since, If-None-Match, If-Range, Range, "
    "Tus-Resumable, Upload-Length, Upload-Offset, X-Requested-With",
    "Access-Control-Max-Age": "86400",
}

_STRANGERS: Final = logging.getLogger("aiohttp.server.strangers")
_STRANGERS.setLevel(logging.CRITICAL)  # what breaks HTTP or breaks off is no news, and may show a pass

T = TypeVar("T")

_log = structlog.get_logger("api.storage")


class Ports(NamedTuple):
    """Where they listen."""

    client: int
    internal: int


@asynccontextmanager
async def serving(settings: Settings, places: Places, owner: Owner, audit: Audit, ready: Ready) -> AsyncIterator[Ports]:
    """Both, for the block. Raises `OSError`."""
    doors = Doors(settings, places, owner, audit)
    internal = Internal(doors)
    left = await asyncio.to_thread(_left, places)  # before there can be more that is being deleted
    sweeping = asyncio.create_task(_sweep(places, left))
    try:
        async with (
            _client(settings, doors) as port,
            serve_health(
                settings.storage_internal_host, settings.storage_internal_port, ready, internal.routes()
            ) as internal_port,
        ):
            _log.info("listening", service=settings.storage_name, port=port, internal_port=internal_port)
            yield Ports(port, internal_port)
        await internal.close()
    finally:
        sweeping.cancel()
        await asyncio.gather(sweeping, return_exceptions=True)


@asynccontextmanager
async def _client(settings: Settings, doors: Doors) -> AsyncIterator[int]:
    uploads, downloads = Uploads(doors), Downloads(doors)
    app = web.Application(middlewares=[problems])
    app.on_response_prepare.append(_let_browsers_see)
    app.add_routes(
        [
            web.head("/upload", uploads.head),
            web.patch("/upload", uploads.patch),
            web.options("/upload", _options),
            web.get("/download", downloads.get),
            web.options("/download", _options),
        ]
    )
    runner = web.AppRunner(
        app,
        access_log=None,
        logger=_STRANGERS,
        shutdown_timeout=_STOP_SECONDS,
        max_line_size=_LINE_BYTES_MAX,
        read_bufsize=_READ_BYTES,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.storage_host, settings.storage_port).start()
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


async def _let_browsers_see(_: web.Request, answer: web.StreamResponse) -> None:
    answer.headers.update(_CORS)
    del answer.headers["Server"]


async def _options(request: web.Request) -> web.StreamResponse:
    tus = {"Tus-Resumable": VERSION, "Tus-Version": VERSION} if request.path == "/upload" else {}
    return web.Response(status=204, headers=_PREFLIGHT | tus)


async def _sweep(places: Places, left: list[Path]) -> None:
    """For ever. First what was left is deleted."""
    await _try(remove, left)
    while True:
        for uploads in places.uploads():
            await _try(sweep, uploads)
        await asyncio.sleep(_SWEEP_SECONDS)


async def _try(delete: Callable[[T], None], what: T) -> None:
    try:
        await asyncio.to_thread(delete, what)
    except OSError as error:
        _log.warning("could not be deleted", what=str(what), error=str(error))


def _left(places: Places) -> list[Path]:
    return [path for uploads in places.uploads() for path in left_over(uploads)]
