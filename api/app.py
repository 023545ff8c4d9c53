"""The application: what an api process has, how it comes and goes, and its routes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Final

import httpx
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api import commands, events, history, logs, sessions, system
from api.auth import Gate
from api.deps import Services
from api.door import Door
from api.known import Known, Projections
from api.openapi import openapi
from api.problems import not_valid, of_status
from api.tail import Tail
from api.writing import Writing
from infra.kafka import KafkaLog
from infra.log import Log
from infra.postgres import Unavailable, open_pool
from infra.secrets import master_key
from infra.sending import Sender
from infra.settings import Settings
from projections.waiting import waiting

_log = structlog.get_logger("api")

_SOURCE: Final = "refold/api"
_DESCRIPTION: Final = """
Sessions on GPU hosts, decided from a log. Every request but the public ones is signed with a keypair
(`Authorization: BackendAI signMethod=HMAC-SHA256, credential=<access key>:<signature>`), every write answers with its
position in the log (`X-Refold-Position`), and a read that carries a position waits until it is reached. Errors are
RFC 9457 problems. The topics and the event stream are described in `/asyncapi.json`.
"""

Outside = Callable[[Settings], AbstractAsyncContextManager[tuple[Log, Known]]]
"""Opens the log and the projections; tests give others."""


@asynccontextmanager
async def real_outside(settings: Settings) -> AsyncIterator[tuple[Log, Known]]:
    """Kafka and Postgres. Waits for a database that is not there yet; Kafka is waited for by the tail."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(KafkaLog(settings))
        while True:
            try:
                pool = await stack.enter_async_context(open_pool(settings))
                break
            except Unavailable as error:
                _log.warning("the database does not answer; trying again", error=str(error))
                await asyncio.sleep(1)
        waiter = await stack.enter_async_context(waiting(settings))
        yield log, Projections(settings, pool, waiter)


@asynccontextmanager
async def services_of(settings: Settings, outside: Outside) -> AsyncIterator[Services]:
    """Everything the routes need, with the tail running."""
    async with outside(settings) as (log, known), httpx.AsyncClient() as http:
        tail = Tail(settings, log)
        sender = Sender(settings, log, _SOURCE)
        following = asyncio.create_task(tail.run())
        following.add_done_callback(_must_not_end)
        try:
            yield Services(
                settings=settings,
                log=log,
                tail=tail,
                sender=sender,
                known=known,
                writing=Writing(settings, log, tail, sender, known),
                gate=Gate(lambda: tail.directory, master_key(settings)),
                http=http,
            )
        finally:
            following.cancel()
            await asyncio.gather(following, return_exceptions=True)


def _must_not_end(following: "asyncio.Task[None]") -> None:
    if not following.cancelled() and (error := following.exception()) is not None:
        _log.critical("the tail ended", exc_info=error)  # /ready says so; nothing here is right any more


def make_app(settings: Settings, outside: Outside = real_outside) -> FastAPI:
    """Raises `BadKey` where the master key of the settings cannot be used."""
    master_key(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services_of(settings, outside) as services:
            app.state.services = services
            yield

    app = FastAPI(
        title="Refold",
        version="0.1.0",
        description=_DESCRIPTION,
        lifespan=lifespan,
        redoc_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},  # nobody collects it; asking costs each request
        exception_handlers={HTTPException: _http_problem, RequestValidationError: _validation_problem},
    )
    # FastAPI's way to a route takes as long as everything this one does, so the busiest has a shorter one before it.
    app.add_route("/session", sessions.create, methods=["POST"], include_in_schema=False)
    for router in (logs.router, sessions.router, events.router, commands.router, history.router, system.router):
        app.include_router(router)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]  # as FastAPI's manual has it
    app.add_middleware(Door, gate=lambda: app.state.services.admitted())
    return app


async def _http_problem(request: Request, error: HTTPException) -> Response:
    return of_status(error.status_code, error.detail, error.headers).response(request.url.path)


async def _validation_problem(request: Request, error: RequestValidationError) -> Response:
    return not_valid(error.errors()).response(request.url.path)
