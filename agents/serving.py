"""The agent's own door, on an internal address: what the api asks for on behalf of a user. Each request carries a token
that opens one kernel for a minute."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from agents.runtime import Runtime, RuntimeUnavailable
from domain.messages import KernelId
from infra.secrets import BadToken, check_internal_token
from infra.settings import Settings


def kernel_routes(settings: Settings, runtime: Runtime) -> list[web.RouteDef]:
    """`GET /kernels/{kernel_id}/logs`: the latest output of the kernel, as bytes."""
    return [web.get("/kernels/{kernel_id}/logs", _logs(settings, runtime))]


def _logs(settings: Settings, runtime: Runtime) -> Callable[[web.Request], Awaitable[web.Response]]:
    async def logs(request: web.Request) -> web.Response:
        kernel_id = KernelId(request.match_info["kernel_id"])
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        try:
            if scheme != "Bearer":
                raise BadToken("a bearer token is needed")
            check_internal_token(settings, token, kernel_id)
        except BadToken as error:
            return web.json_response({"error": str(error)}, status=401)
        try:
            return web.Response(body=await runtime.output(kernel_id), content_type="application/octet-stream")
        except RuntimeUnavailable as error:
            return web.json_response({"error": str(error)}, status=503)

    return logs
