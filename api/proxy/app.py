"""The proxy as an application: its own few routes, with the listeners for apps beside them."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.app import Outside, http_problem, real_outside, services_of, validation_problem
from api.http.problems import Problem
from api.proxy.listening import Apps
from api.proxy.routes import router
from infra.secrets import master_key
from infra.settings import Settings


def make_proxy(settings: Settings, outside: Outside = real_outside) -> FastAPI:
    """Raises `BadKey` where the master key of the settings cannot be used, `ValueError` for a bad list of proxies."""
    master_key(settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with services_of(settings, outside) as services:
            apps = Apps(services)
            async with apps.running():
                app.state.services, app.state.apps = services, apps
                yield

    app = FastAPI(
        title="Refold app proxy",
        version="0.1.0",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
        telemetry={"tracing": False, "metrics": False, "logs": False},
        exception_handlers={
            Problem: _problem,
            HTTPException: http_problem,
            RequestValidationError: validation_problem,
        },
    )
    app.include_router(router)
    return app


async def _problem(request: Request, error: Problem) -> Response:
    return error.response(request.url.path)
