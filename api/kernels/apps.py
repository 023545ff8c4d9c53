"""Which programs a session offers on a port: `GET /stream/session/{id}/apps`. They are those of its image's label
`ai.backend.service-ports`; each is started inside the kernel by the runner, when it is first wanted."""

from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import AliasChoices, BaseModel, Field, ValidationError
from starlette.responses import Response

from api.answers import json
from api.deps import All, Caller, Directory
from api.images import services_of, shown_services
from api.kernels.failures import broken
from api.kernels.reaching import Place, place_of
from api.kernels.runner import runner_of, to_json
from api.parameters import Parameters, answers, in_body
from api.problems import Problem
from domain.directory.images import ServicePort
from domain.directory.state import Directory as State

router = APIRouter(tags=["services of sessions"])

NAME_MAX: Final = 128
_TEMPLATE_MAX: Final = 4096


class Named(Parameters):
    """A service."""

    name: str = Field(validation_alias=AliasChoices("service_name", "app"), min_length=1, max_length=NAME_MAX)


def service_of(place: Place, name: str, directory: State) -> ServicePort:
    """Raises `Problem` (404)."""
    service = services_of(place.image, place.architecture, directory).get(name)
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
    services = shown_services(place.image, place.architecture, directory)
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
