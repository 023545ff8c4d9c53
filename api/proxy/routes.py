"""How a user comes to his app: with the token of `start-service`, by the addresses that the reference has for it."""

from dataclasses import replace
from ipaddress import ip_network
from typing import Annotated, Final, Literal
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api import metrics
from api.access.ratelimit import Kind
from api.access.visitors import counted_as
from api.http.answers import json
from api.http.parameters import answers
from api.http.problems import Problem, invalid, unsupported
from api.proxy import passes
from api.proxy.circuits import Circuit, Wish
from api.proxy.listening import HTTP, TCP, Apps
from api.proxy.traffic import ENTER, begin_at
from api.sessions.images import PREOPEN
from domain.directory.images import ServicePort

API_VERSION: Final = "v2"
_TEXT_MAX: Final = 4096
_NETWORKS_MAX: Final = 32


async def _apps(request: Request) -> Apps:
    apps: Apps = request.app.state.apps
    return apps


async def _limited(request: Request) -> None:
    """Whoever comes is not known yet. Raises `Problem` (429)."""
    apps: Apps = request.app.state.apps
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in request.scope["headers"]}
    address = apps.visitors.address(request.scope, headers)
    limit = apps.services.settings.unsigned_requests_max
    apps.services.limiter.hit(Kind.ADDRESS, counted_as(address), limit).check()


Here = Annotated[Apps, Depends(_apps)]
router = APIRouter(tags=["app proxy"])
ways = APIRouter(tags=["app proxy"], prefix="/v2/proxy", dependencies=[Depends(_limited)])


class Asked(BaseModel):
    """How an app is to be opened. What its program is told is said to `start-service`; here that is passed over."""

    model_config = ConfigDict(extra="ignore")

    app: str = Field(min_length=1, max_length=128)
    protocol: Literal["http", "tcp", "grpc", "h2"] | None = None
    open_to_public: bool = Field(False, description="Whether who comes need prove nothing.")
    allowed_client_ips: str | None = Field(
        None, max_length=_TEXT_MAX, description="Networks from which it may be used, comma separated; left out: any."
    )
    redirect: str = Field("/", max_length=_TEXT_MAX, description="Where in the app a browser begins.")
    no_reuse: bool = Field(False, description="Whether one that is open already is closed first.")
    port: int | None = None
    subdomain: str | None = None


class AskedByToken(Asked):
    token: str = Field(max_length=_TEXT_MAX)
    session_id: str = Field(max_length=128)


@router.get("/status", responses=answers({"api_version": API_VERSION}))
async def status() -> Response:
    """Which API this is: what the api asks before it tells its clients."""
    return json({"api_version": API_VERSION})


@router.get("/health")
async def health() -> Response:
    """The process lives."""
    return json({"status": "alive"})


@router.get("/ready")
async def ready(here: Here) -> Response:
    """It knows who may come."""
    if here.services.stopping or not here.services.tail.started.is_set() or not here.services.tail.healthy:
        raise Problem(503, "not-ready", "Not ready", "the directory is not known", retryable=True, retry_after=1)
    return json({"status": "ready"})


@router.get("/metrics")
async def prometheus(here: Here) -> Response:
    """For Prometheus."""
    metrics.PROXY_APPS.set(len(here.circuits))
    metrics.PROXY_CONNECTIONS.set(here.connections)
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


@ways.get(
    "/{token}/{session_id}/add", responses=answers({"code": 200, "url": "https://proxy.example.org/v2/proxy/auth"})
)
async def add(token: str, session_id: str, asked: Annotated[Asked, Query()], request: Request, here: Here) -> Response:
    """Where a browser is to go: `/v2/proxy/auth` with the same words."""
    _wish(token, session_id, asked, here)
    told = asked.model_dump(exclude_defaults=True) | {"token": token, "session_id": session_id}
    base = here.services.settings.proxy_url.rstrip("/") or str(request.base_url).rstrip("/")
    texts = {name: str(value).lower() if isinstance(value, bool) else value for name, value in told.items()}
    return json({"code": 200, "url": f"{base}/v2/proxy/auth?{urlencode(texts)}"})


@ways.get(
    "/auth",
    status_code=302,
    responses=answers({"redirect_url": "https://jupyter-3f9c.apps.example.org/", "reuse": False}),
)
async def enter(asked: Annotated[AskedByToken, Query()], request: Request, here: Here) -> Response:
    """Opens the app, and sends the browser there; with `Accept: application/json`, says where that is."""
    wish, told = _wish(asked.token, asked.session_id, asked, here)
    caller = told.caller(here.services)
    opener = replace(caller, sign_in_id=None)  # others who come by the same keypair outstay this sign-in
    circuit, reuse = await here.open(wish, opener, anew=asked.no_reuse)
    url = _way_in(circuit, here.circuits.ticket(circuit, caller), asked.redirect)
    headers = {"cache-control": "no-store", "referrer-policy": "no-referrer"}
    if "application/json" in request.headers.get("accept", ""):
        response = json({"redirect_url": url, "reuse": reuse})
        response.headers.update(headers)
        return response
    return Response(None, 302, headers | {"location": url})


def _way_in(circuit: Circuit, ticket: str, redirect: str) -> str:
    if circuit.wish.app.protocol != HTTP:
        return circuit.url
    return f"{circuit.url}{ENTER}?{urlencode({'ticket': ticket, 'to': begin_at(redirect)})}"


def _wish(token: str, session_id: str, asked: Asked, here: Apps) -> tuple[Wish, passes.Pass]:
    """Raises `Problem` (400, 401, 403)."""
    told = passes.read(here.services.settings, token)
    if (session_id, asked.app) != (told.session_id, told.app):
        raise Problem(401, "invalid-token", "Unauthorized access", "the token is for another app or session")
    for field in ("port", "subdomain"):
        if getattr(asked, field) is not None:
            raise unsupported(field)
    usual = HTTP if told.protocol in {HTTP, PREOPEN} else TCP
    protocol = asked.protocol or usual
    if protocol not in ({HTTP, TCP} if told.protocol == PREOPEN else {usual}):
        detail = f"the app {told.app} is not opened as {protocol}"
        raise Problem(
            400, "invalid-api-params", "Wrong protocol", detail, field="protocol", rule="app", error_code="E20002"
        )
    return Wish(
        session_id=told.session_id,
        app=ServicePort(told.app, protocol, told.port),
        owner=told.owner,
        access_key=told.access_key,
        is_public=asked.open_to_public,
        clients=_networks(asked.allowed_client_ips),
    ), told


def _networks(text: str | None) -> tuple[str, ...]:
    texts = [each.strip() for each in (text or "").split(",") if each.strip()]
    if len(texts) > _NETWORKS_MAX:
        raise invalid("allowed_client_ips", "too_long", f"at most {_NETWORKS_MAX} networks")
    try:
        return tuple(str(ip_network(each, strict=False)) for each in texts)
    except ValueError as error:
        raise invalid("allowed_client_ips", "network", str(error)) from error


router.include_router(ways)
