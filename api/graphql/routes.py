"""`/admin/gql`, and `/admin/graphql` as clients of before 2021 know it: there, the data stand without a wrapper."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
import structlog
from fastapi import APIRouter, Request
from graphql import GraphQLError
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from api.graphql import limits
from api.graphql.asking import Asking
from api.graphql.schema import SCHEMAS
from api.http.answers import json
from api.http.deps import All, Body, Caller, Known
from api.http.problems import Problem, from_error, internal, invalid
from api.sessions.requests import refuse_nul
from api.writing import command_id_of

router = APIRouter(prefix="/admin", tags=["admin"])

_log = structlog.get_logger("api.graphql")

_ERRORS_SHOWN_MAX: Final = 20


class GraphQLRequest(BaseModel):
    """A document, values for its variables, and which of its operations is meant, if it has several."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    query: str
    variables: dict[str, Any] | None = None
    operation: str | None = Field(None, alias="operationName")


@router.post("/gql")
async def ask(request: Request, body: Body, caller: Caller, all_: All, known: Known) -> Response:
    """Ask and change what is administered, in GraphQL. The answer is 200 with `data`, with `errors`, or both.

    What a mutation refuses is no error: it answers `ok: false`, and why in `msg`.
    """
    del known  # asked for so that a position is waited for
    asking = _asking(request, caller, all_)
    data, errors = await _execute(_read(body), asking)
    answer = {"data": data} | ({"errors": errors} if errors else {})
    return json(answer, 200, _position(asking))


@router.post("/graphql")
async def ask_unwrapped(request: Request, body: Body, caller: Caller, all_: All, known: Known) -> Response:
    """As `/admin/gql`, but the answer is what `data` holds there; where there are errors, it is a problem."""
    del known  # asked for so that a position is waited for
    asking = _asking(request, caller, all_)
    data, errors = await _execute(_read(body), asking)
    if errors:
        raise Problem(400, "graphql-error", "GraphQL-generated error", str(errors[0]["message"]), data=errors)
    return json(data, 200, _position(asking))


def _asking(request: Request, caller: Caller, all_: All) -> Asking:
    return Asking(all_, caller, command_id_of(request.headers, caller), request.headers.get("traceparent"))


def _position(asking: Asking) -> str | None:
    return str(asking.reached) if asking.reached.offsets else None


def _read(body: bytes) -> GraphQLRequest:
    """Raises `Problem`, `ValidationError`."""
    try:
        told = orjson.loads(refuse_nul(body))
    except orjson.JSONDecodeError as error:
        raise invalid("body", "json_invalid", f"the body is not JSON: {error}") from error
    return GraphQLRequest.model_validate(told)


async def _execute(asked: GraphQLRequest, asking: Asking) -> tuple[Mapping[str, Any] | None, list[dict[str, Any]]]:
    variables = asked.variables or {}
    operation = asked.operation or None
    try:
        limits.check(limits.parsed(asked.query), variables, operation)
    except GraphQLError as error:
        return None, [_shown(error)]
    result = await SCHEMAS[asking.services.settings.graphql_introspection].execute(
        asked.query,
        variable_values=variables,
        context_value=asking,
        operation_name=operation,
    )
    await asking.seen()
    return result.data, [_shown(error) for error in (result.errors or ())[:_ERRORS_SHOWN_MAX]]


def _shown(error: GraphQLError) -> dict[str, Any]:
    """What is wrong with a query is told as it is; of what is wrong with us, that it is."""
    told: dict[str, Any] = {"message": error.message}
    if error.locations:
        told["locations"] = [{"line": place.line, "column": place.column} for place in error.locations]
    if error.path:
        told["path"] = error.path
    cause = error.original_error
    if cause is not None and not isinstance(cause, GraphQLError):
        problem = from_error(cause)
        if problem is None:
            _log.error("a resolver failed", path=error.path, exc_info=cause)
            problem = internal()
        told["message"] = problem.detail
        told["extensions"] = {"code": problem.kind, "status": problem.status, "retryable": problem.retryable}
    return told
