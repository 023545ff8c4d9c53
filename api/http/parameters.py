"""What a request asks for, read into a model: from its body, or from its query, or from both.

The public client sends some parameters of a GET in a JSON body, others in the query; a name may come either way.
"""

from typing import Any, Final, TypeVar

import orjson
from fastapi import Request
from pydantic import BaseModel, ConfigDict

from api.http.door import BODY
from api.http.problems import invalid
from api.sessions.requests import refuse_nul

M = TypeVar("M", bound="Parameters")

_REF: Final = "#/components/schemas/{model}"


class Parameters(BaseModel):
    """What clients send beyond what is asked for is passed over."""

    model_config = ConfigDict(extra="ignore", populate_by_name=True, frozen=True)

    @classmethod
    def of(cls: type[M], request: Request) -> M:
        """Raises `ValidationError`, or `Problem` where the body is no JSON object."""
        return cls.model_validate(told_in(request))


def told_in(request: Request) -> dict[str, Any]:
    """All that a request says, in its query and its body. Raises `Problem` where the body is no JSON object."""
    told: dict[str, Any] = dict(request.query_params)
    body: bytes = request.scope[BODY]
    is_json = request.headers.get("content-type", "").startswith("application/json")
    if body and is_json:
        try:
            content = orjson.loads(refuse_nul(body))
        except orjson.JSONDecodeError as error:
            raise invalid("body", "json_invalid", f"the body is not JSON: {error}") from error
        if not isinstance(content, dict):
            raise invalid("body", "object", "the body must be a JSON object")
        told |= content
    return told


def in_body(model: type[Parameters], **example: Any) -> dict[str, Any]:
    """For `openapi_extra` of a route whose parameters are mostly in its body."""
    content = {"schema": model.model_json_schema(ref_template=_REF), "examples": {"usual": {"value": example}}}
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def in_query(model: type[Parameters]) -> dict[str, Any]:
    """For `openapi_extra` of a route whose parameters are in its query."""
    schema = model.model_json_schema(ref_template=_REF)
    required = schema.get("required", ())
    return {
        "parameters": [
            {"name": name, "in": "query", "required": name in required, "schema": field}
            for name, field in schema["properties"].items()
        ]
    }


def answers(example: Any, description: str = "Done.", status: int = 200) -> dict[int | str, dict[str, Any]]:
    """For `responses` of a route."""
    return {status: {"description": description, "content": {"application/json": {"example": example}}}}
