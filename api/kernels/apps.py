"""Which programs a session offers on a port: `GET /stream/session/{id}/apps`. They are those of its image's label
`ai.backend.service-ports`; each is started inside the kernel by the runner, when it is first wanted."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import APIRouter, Request
from pydantic import AliasChoices, Field
from starlette.responses import Response

from api.answers import json
from api.deps import All, Caller, Directory
from api.kernels.reaching import Place, place_of
from api.kernels.runner import runner_of
from api.parameters import Parameters, answers, in_body
from api.problems import Problem
from domain.directory.images import ServicePort
from domain.directory.state import Directory as State

router = APIRouter(tags=["services of sessions"])

NAME_MAX: Final = 128


class Named(Parameters):
    """A service."""

    name: str = Field(validation_alias=AliasChoices("service_name", "app"), min_length=1, max_length=NAME_MAX)


def services_of(place: Place, directory: State) -> Mapping[str, ServicePort]:
    """By name. None where the image is not registered: then nobody has told us."""
    image = directory.images.get((place.image, place.architecture))
    return {} if image is None else image.services


def service_of(place: Place, name: str, directory: State) -> ServicePort:
    """Raises `Problem` (404)."""
    service = services_of(place, directory).get(name)
    if service is None:
        detail = f"the image of this session has no service {name[:NAME_MAX]!r}"
        raise Problem(404, "service-not-found", "No such service", detail, field="app", rule="unknown")
    return service


@router.get(
    "/stream/session/{reference}/apps",
    responses=answers([{"name": "jupyter", "protocol": "http", "ports": [8080]}]),
)
async def apps(reference: str, caller: Caller, all_: All, directory: Directory) -> Response:
    """Its services. They need not have been started yet."""
    place = await place_of(reference, caller, all_)
    return json([shown(service) for service in services_of(place, directory).values()])


def shown(service: ServicePort) -> dict[str, Any]:
    """As clients know it."""
    return {"name": service.name, "protocol": service.protocol, "ports": [service.port]}


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
