"""Which programs a session offers on a port: `GET /stream/session/{id}/apps`. They are those of its image's label
`ai.backend.service-ports`; each is started inside the kernel by the runner, when it is first wanted.

`POST /session/{id}/start-service` starts one by itself, and says where a browser finds it: at the app proxy of the
session's resource group (`api/proxy`), with a token for this one."""

from collections.abc import Mapping
from typing import Annotated, Any, Final

import orjson
from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, BeforeValidator, Field, ValidationError
from starlette.responses import Response

from api.access.auth import Caller as Signer
from api.cluster.app_proxies import proxy_of
from api.http.answers import json
from api.http.deps import All, Caller, Directory, Services
from api.http.parameters import Parameters, answers, in_body
from api.http.problems import Problem, invalid
from api.kernels.failures import broken
from api.kernels.reaching import Place, place_of
from api.kernels.runner import runner_of, to_json
from api.proxy.passes import Pass, signed
from api.sessions.images import services_of, shown_services
from domain.directory.images import ServicePort
from domain.directory.state import Directory as State

router = APIRouter(tags=["services of sessions"])

NAME_MAX: Final = 128
START_SECONDS: Final = 60  # for a notebook server on a busy host
_TEMPLATE_MAX: Final = 4096
_TERMINAL: Final = "pty"


class Named(Parameters):
    """A service."""

    name: str = Field(validation_alias=AliasChoices("service_name", "app"), min_length=1, max_length=NAME_MAX)


def _object(told: object) -> object:
    """As the public client sends it: JSON in a string."""
    if not isinstance(told, str):
        return told
    try:
        return orjson.loads(told)
    except orjson.JSONDecodeError as error:
        raise ValueError(f"is not JSON: {error}") from error


JsonObject = Annotated[dict[str, Any] | None, BeforeValidator(_object)]


class Wanted(Named):
    """A service to be started. `port`: of those it has; `arguments`, `envs`: for its program, if its definition allows
    them."""

    port: int | None = Field(None, ge=1, le=65535)
    arguments: JsonObject = None
    envs: JsonObject = None
    login_session_token: str | None = Field(None, description="Not needed any more; passed over.")


def service_of(place: Place, name: str, directory: State) -> ServicePort:
    """Raises `Problem` (404)."""
    service = services_of(place.image, place.architecture, directory, place.preopen_ports).get(name)
    if service is None:
        detail = f"the image of this session has no service {name[:NAME_MAX]!r}"
        raise Problem(404, "service-not-found", "No such service", detail, field="app", rule="unknown")
    return service


class Definition(BaseModel):
    """In the image, as the runner tells it."""

    url_template: str | None = Field(None, max_length=_TEMPLATE_MAX)
    allowed_arguments: list[str] | None = None
    allowed_envs: list[str] | None = None


@router.get(
    "/stream/session/{reference}/apps",
    responses=answers([{"name": "jupyter", "protocol": "http", "ports": [8080]}]),
)
async def apps(reference: str, caller: Caller, all_: All, directory: Directory) -> Response:
    """Its services, with what their definitions say to whoever would start them."""
    place = await place_of(reference, caller, all_)
    services = shown_services(place.image, place.architecture, directory, place.preopen_ports)
    if not services:
        return json([])
    async with runner_of(place, caller, all_) as runner:
        told, _ = await runner.request("services", names=[service["name"] for service in services])
    definitions = told.get("definitions")
    if not isinstance(definitions, dict):
        raise broken("its runner tells of services in words that are not agreed")
    body = [service | _shown(definitions.get(service["name"])) for service in services]
    return Response(to_json(body), media_type="application/json")


def _shown(definition: object) -> dict[str, Any]:
    """Nothing of one that is none: whoever starts the service is told what is wrong with it."""
    try:
        return Definition.model_validate(definition).model_dump(exclude_none=True)
    except ValidationError:
        return {}


async def start(
    place: Place,
    service: ServicePort,
    arguments: Mapping[str, Any],
    environ: Mapping[str, Any],
    caller: Signer,
    all_: Services,
) -> None:
    """Returns once its port is open; starting what runs is done already. Raises `Problem`."""
    async with runner_of(place, caller, all_) as runner:
        await runner.request(
            "service-start",
            seconds=START_SECONDS,
            service=service.name,
            ports=[service.port],
            arguments=arguments,
            environ=environ,
            wait_ms=START_SECONDS * 1000,
        )


@router.post(
    "/session/{reference}/start-service",
    openapi_extra=in_body(Wanted, app="jupyter"),
    responses=answers({"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln", "wsproxy_addr": "https://proxy.example.org"}),
)
async def start_service(reference: str, request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Start a service if it does not run. `GET {wsproxy_addr}/v2/proxy/{token}/{session id}/add?app=…` within five
    minutes tells where a browser finds it."""
    asked = Wanted.of(request)
    place = await place_of(reference, caller, all_)
    service = service_of(place, asked.name, directory)
    if service.protocol == _TERMINAL:
        raise invalid("app", "protocol", f"{service.name} is a terminal: it is opened by /stream/session/…/pty")
    if asked.port not in (None, service.port):
        raise invalid("port", "unknown", f"the service {service.name} has no port {asked.port}")
    address = proxy_of(place.resource_group, directory, all_.settings)
    await start(place, service, asked.arguments or {}, asked.envs or {}, caller, all_)
    told = Pass(
        session_id=place.session_id,
        app=service.name,
        protocol=service.protocol,
        port=service.port,
        access_key=caller.access_key,
        owner=caller.owner,
        sign_in_id=caller.sign_in_id,
    )
    return json({"token": signed(all_.settings, told), "wsproxy_addr": address})


@router.post(
    "/session/{reference}/shutdown-service",
    status_code=204,
    openapi_extra=in_body(Named, service_name="jupyter"),
)
async def shut_down(reference: str, request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """End a service; the next connection to it starts it again. Quiet where it does not run."""
    asked = Named.of(request)
    place = await place_of(reference, caller, all_)
    service = service_of(place, asked.name, directory)
    async with runner_of(place, caller, all_) as runner:
        await runner.request("service-stop", service=service.name)
    return Response(None, 204)
