"""The application: what an api process has, how it comes and goes, and its routes."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Final

import httpx
import structlog
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError, WebSocketRequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response
from starlette.websockets import WebSocket

from api import background_tasks, commands, history, system
from api.access import credentials
from api.access.auth import Gate
from api.access.ratelimit import Limiter
from api.access.secrets import revealed
from api.access.signin import SignIns
from api.access.uses import Uses
from api.access.visitors import Visitors
from api.accounts import auth as auth_routes
from api.accounts import browser, dotfiles, templates
from api.accounts import otp as otp_routes
from api.cluster import app_proxies, config, config_store, error_logs, manager, resources, usage, watchers
from api.folders import contents, invitations, operations, sharing, trash
from api.folders import hosts as storage_hosts
from api.folders import routes as folders
from api.graphql import routes as graphql
from api.hosts import routes as internal
from api.http.deps import Services
from api.http.door import Door
from api.http.openapi import openapi
from api.http.problems import not_valid, of_status
from api.kernels import apps, execution, files, live_runs, terminals, tunnels
from api.kernels.warm import WarmRunners
from api.known import Known, Projections
from api.sessions import about as about_sessions
from api.sessions import commits, events, from_templates, logs
from api.sessions import routes as sessions
from api.tail import Tail
from api.writing import Writing
from infra.kafka import KafkaLog
from infra.keypair_uses import KeypairUses, PostgresUses
from infra.keyring import Keyring, KeyStore, PostgresKeys, looking
from infra.log import Log
from infra.postgres import Pool, Unavailable, connection, open_pool
from infra.request_counts import PostgresCounts, RequestCounts
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


_ROUTES: Final = (
    sessions,  # what is asked for most comes first: a request is held against one after another
    commands,
    execution,
    logs,
    about_sessions,
    live_runs,
    files,
    terminals,
    apps,
    tunnels,
    from_templates,
    events,
    background_tasks,
    commits,
    graphql,
    contents,
    invitations,
    sharing,
    trash,
    operations,
    storage_hosts,
    folders,
    internal,
    history,
    system,
    browser,
    otp_routes,
    manager,
    resources,
    app_proxies,
    usage,
    watchers,
    config,
    config_store,
    dotfiles,
    templates,
    auth_routes,
    credentials,
    error_logs,
)


@dataclass(frozen=True, slots=True)
class Servers:
    """What stands outside of this process, and is shared with others."""

    log: Log
    known: Known
    counts: RequestCounts
    keys: KeyStore
    uses: KeypairUses
    database: asyncio.Event
    """Set once it has answered."""


Outside = Callable[[Settings], AbstractAsyncContextManager[Servers]]
"""Opens them; tests give others."""


@asynccontextmanager
async def real_outside(settings: Settings) -> AsyncIterator[Servers]:
    """Kafka and Postgres. Neither need be there yet: who is asked meanwhile can say so, and `/ready` does."""
    async with AsyncExitStack() as stack:
        log = await stack.enter_async_context(KafkaLog(settings))
        pool = await stack.enter_async_context(open_pool(settings, wait=False))
        waiter = await stack.enter_async_context(waiting(settings))
        answered = asyncio.Event()
        looking_for_it = asyncio.create_task(_until_it_answers(pool, answered))
        stack.callback(looking_for_it.cancel)
        yield Servers(
            log,
            Projections(settings, pool, waiter),
            PostgresCounts(pool),
            PostgresKeys(pool),
            PostgresUses(pool),
            answered,
        )


async def _until_it_answers(pool: Pool, answered: asyncio.Event) -> None:
    while not answered.is_set():
        try:
            async with connection(pool) as db:
                await db.execute("SELECT")
            answered.set()
        except Unavailable as error:
            _log.warning("the database does not answer; trying again", error=str(error))
            await asyncio.sleep(1)


@asynccontextmanager
async def services_of(settings: Settings, outside: Outside) -> AsyncIterator[Services]:
    """Everything the routes need, with the tail and the count of requests running."""
    async with outside(settings) as servers, httpx.AsyncClient() as http:
        tail = Tail(settings, servers.log)
        sender = Sender(settings, servers.log, _SOURCE)
        writing = Writing(settings, servers.log, tail, sender, servers.known)
        limiter = Limiter(servers.counts)
        keyring = Keyring(settings, servers.keys)
        uses = Uses(servers.uses)
        warm_runners = WarmRunners()
        loops = {"tail": tail.run(), "limiter": limiter.run(), "uses": uses.run()}
        running = [asyncio.create_task(loop, name=name) for name, loop in loops.items()]
        for task in running:
            task.add_done_callback(_must_not_end)
        services = Services(
            settings=settings,
            log=servers.log,
            tail=tail,
            sender=sender,
            known=servers.known,
            writing=writing,
            keyring=keyring,
            gate=Gate(lambda: tail.directory, keyring, whole_bodies=settings.signed_bodies),
            limiter=limiter,
            sign_ins=SignIns(
                settings, tail, writing, limiter, reveal=lambda text, about: revealed(services, text, about)
            ),
            uses=uses,
            http=http,
            warm_runners=warm_runners,
            database=servers.database,
        )
        try:
            async with looking(keyring):
                yield services
        finally:
            await warm_runners.close()
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)


def _must_not_end(task: "asyncio.Task[None]") -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        _log.critical(f"the {task.get_name()} ended", exc_info=error)  # of the tail, /ready tells too


def make_app(settings: Settings, outside: Outside = real_outside) -> FastAPI:
    """Raises `BadKey` where the master key of the settings cannot be used, `ValueError` for a bad list of proxies."""
    master_key(settings)
    visitors = Visitors(settings.trusted_proxies)

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
        exception_handlers={HTTPException: http_problem, RequestValidationError: validation_problem},
    )
    app.add_exception_handler(WebSocketRequestValidationError, _refuse_socket)  # type: ignore[arg-type]  # as Starlette's
    # FastAPI's way to a route takes as long as everything this one does, so the busiest has a shorter one before it.
    app.add_route("/session", sessions.create, methods=["POST"], include_in_schema=False)
    for module in _ROUTES:
        app.include_router(module.router)
    app.openapi = lambda: openapi(app)  # type: ignore[method-assign]  # as FastAPI's manual has it
    app.add_middleware(
        Door, visitors=visitors, services=lambda: app.state.services, unsigned_max=settings.unsigned_requests_max
    )
    return app


async def http_problem(request: Request, error: HTTPException) -> Response:
    """What the framework has refused by itself."""
    return of_status(error.status_code, error.detail, error.headers).response(request.url.path)


async def validation_problem(request: Request, error: RequestValidationError) -> Response:
    """Parameters that are not what a route declares."""
    return not_valid(error.errors()).response(request.url.path)


async def _refuse_socket(_: WebSocket, error: WebSocketRequestValidationError) -> None:
    raise not_valid(error.errors())
