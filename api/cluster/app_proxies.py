"""The app proxies of resource groups, as far as clients ask for them before they use one."""

from typing import Any, Final

import httpx
import orjson
from fastapi import APIRouter, Request
from pydantic import Field
from starlette.responses import Response

from api.cluster.resources import groups_usable
from api.http.answers import json
from api.http.deps import All, Caller, Directory
from api.http.parameters import Parameters, answers, in_query
from api.http.problems import Problem, refused
from domain.directory.state import Directory as State
from infra.settings import Settings

router = APIRouter(tags=["resources"])

_ASK_SECONDS: Final = 5.0
_STATUS_BYTES_MAX: Final = 64 * 1024


class OfProject(Parameters):
    group: str | None = Field(None, max_length=128, description="A project's name or id; left out: any of one's own.")


@router.get(
    "/scaling-groups/{name}/wsproxy-version",
    openapi_extra=in_query(OfProject),
    responses=answers({"wsproxy_version": "v2"}),
)
async def wsproxy_version(name: str, request: Request, caller: Caller, all_: All, directory: Directory) -> Response:
    """Which API the app proxy of a resource group speaks, as that says itself. 404: the group has none."""
    if name not in groups_usable(OfProject.of(request).group, caller, directory):
        raise refused("unknown_resource_group", f"no resource group {name[:80]}", "name")
    status = await _status(proxy_of(name, directory, all_.settings), all_.http)
    version = status.get("api_version") if isinstance(status, dict) else None
    if not isinstance(version, str):
        raise _silent(name)
    return json({"wsproxy_version": version})


def proxy_of(group: str, directory: State, settings: Settings) -> str:
    """Where clients find the one of a resource group: that group's own, else the installation's. Raises `Problem`."""
    known = directory.groups.get(group)
    address = (known.spec.wsproxy_addr if known is not None else None) or settings.proxy_url
    if not address:
        raise Problem(404, "wsproxy-not-found", "No such app proxy", f"the resource group {group} has no app proxy")
    return address.rstrip("/")


async def _status(address: str, http: httpx.AsyncClient) -> Any:
    """What the proxy tells of itself; None for what cannot be understood."""
    try:
        async with http.stream("GET", address + "/status", timeout=_ASK_SECONDS) as answer:
            content = b""
            async for piece in answer.aiter_bytes():
                content += piece
                if len(content) > _STATUS_BYTES_MAX:
                    return None
        return orjson.loads(content) if answer.is_success else None
    except (httpx.HTTPError, httpx.InvalidURL, orjson.JSONDecodeError):
        return None


def _silent(name: str) -> Problem:
    return Problem(
        503,
        "wsproxy-unavailable",
        "The app proxy does not answer",
        f"the app proxy of the resource group {name} does not say which version it has",
        retryable=True,
        retry_after=5,
    )
