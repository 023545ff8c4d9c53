"""The OpenAPI document: what FastAPI finds in the routes, with the shapes and examples that they read by themselves."""

from collections.abc import Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from api.commands import GivenByPeople
from api.graphql.routes import GraphQLRequest
from api.http.asyncapi import members
from api.http.door import SIGN_IN_PATHS
from api.http.problems import BASE, MEDIA_TYPE
from api.sessions.environ import IN_CLEAR
from api.sessions.requests import NewSession

_REF: Final = "#/components/schemas/{model}"
_POSITION: Final = "eyJyZWZvbGQuc2Vzc2lvbi5ldmVudHMtMCI6NDJ9"
_SESSION_ID: Final = "7f8c5e9e-6d6e-4b0e-9b39-0f6f0c1c2d3e"

_PROBLEM: Final[dict[str, Any]] = {
    "type": "object",
    "title": "Problem",
    "description": "RFC 9457. `type` is stable; `retryable` says whether the same request may succeed later.",
    "required": ["type", "title", "status", "detail", "msg", "instance", "retryable"],
    "properties": {
        "type": {"type": "string", "format": "uri"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "msg": {"type": "string", "description": "The detail again, where the public client looks for it."},
        "instance": {"type": "string"},
        "retryable": {"type": "boolean"},
        "code": {"type": "string", "description": "Of a command that was refused."},
        "field": {"type": "string", "description": "The parameter that is wrong."},
        "rule": {"type": "string", "description": "What is wrong with it."},
        "position": {"type": "string"},
        "data": {"type": "object"},
    },
    "examples": [
        {
            "type": f"{BASE}invalid-api-params",
            "title": "Missing or invalid API parameters",
            "status": 400,
            "detail": "callback_url is not supported yet: leave it out, or empty",
            "msg": "callback_url is not supported yet: leave it out, or empty",
            "instance": "/session",
            "retryable": False,
            "field": "callback_url",
            "rule": "not_supported_yet",
            "data": {},
        }
    ],
}

_NEW: Final = {
    "sessionId": _SESSION_ID,
    "sessionName": "training-7",
    "status": "PENDING",
    "servicePorts": [],
    "created": True,
}
_PENDING: Final = {"command_id": _SESSION_ID, "status": "pending", "position": _POSITION}
_DECIDED: Final = {
    "command_id": _SESSION_ID,
    "status": "accepted",
    "position": _POSITION,
    "events": [{"at": "2026-11-21T09:00:00Z", "type": "DomainCreated", "name": "research"}],
}

_KEYPAIR: Final = {"keypair": {"user_id": "ada@example.org", "is_active": True}}
_ASKING: Final = {
    "keypair": {"query": "query { keypair { user_id is_active } }", "variables": {}},
    "sessions": {
        "query": "query($limit: Int!, $offset: Int!, $status: String) {"
        " compute_session_list(limit: $limit, offset: $offset, status: $status) { items { id name } total_count } }",
        "variables": {"limit": 20, "offset": 0, "status": "PENDING,RUNNING"},
    },
}

_ANSWERS: Final[Mapping[tuple[str, str], Mapping[str, tuple[str, Any]]]] = {
    ("/", "get"): {"200": ("Which version this is.", {"version": "v7.20230615", "manager": "23.09.10"})},
    ("/session", "post"): {
        "200": ("One of that name and image lives already.", _NEW | {"status": "RUNNING", "created": False}),
        "201": ("It is new.", _NEW),
        "202": ("Durable; the outcome will be at `Location`.", _PENDING),
    },
    ("/session/{reference}", "delete"): {"200": ("It is on its way down.", {"stats": {"status": "terminated"}})},
    ("/session/{reference}", "get"): {
        "200": ("The session.", {"sessionId": _SESSION_ID, "sessionName": "training-7", "status": "RUNNING"})
    },
    ("/session/{reference}/logs", "get"): {"200": ("Its output.", {"result": {"logs": "hello\n"}})},
    ("/session/{reference}/status-history", "get"): {
        "200": ("When it entered each status.", {"result": {"pending": "2026-11-21T09:00:00Z"}})
    },
    ("/refold/commands", "post"): {
        "200": ("The outcome.", _DECIDED),
        "202": ("Durable; the outcome will be at `Location`.", _PENDING),
    },
    ("/refold/commands/{command_id}", "get"): {
        "200": ("The outcome.", _DECIDED),
        "202": ("Not decided yet.", {"status": "pending"}),
    },
    ("/admin/gql", "post"): {"200": ("`data`, and `errors` where there are any.", {"data": _KEYPAIR})},
    ("/admin/graphql", "post"): {"200": ("What `data` holds at `/admin/gql`.", _KEYPAIR)},
    ("/refold/sessions/{reference}/history", "get"): {
        "200": (
            "Everything that happened, in the order of the log.",
            {
                "session_id": _SESSION_ID,
                "session_name": "training-7",
                "owner_access_key": "AKIAIOSFODNN7EXAMPLE",
                "status": "PENDING",
                "entries": [{"log_offset": 41, "event": "SessionRequested", "status": "PENDING"}],
                "next": None,
            },
        )
    },
}

_REQUESTS: Final[Mapping[tuple[str, str], tuple[list[str], Mapping[str, Any]]]] = {
    ("/session", "post"): (
        [NewSession.__name__],
        {
            "batch": {
                "image": "python:3.9-ubuntu20.04",
                "name": "training-7",
                "type": "batch",
                "startupCommand": "python train.py",
                "enqueueOnly": True,
                "config": {"resources": {"cpu": "2", "mem": "4g"}, "environ": {"EPOCHS": "3"}},
            }
        },
    ),
    ("/admin/gql", "post"): ([GraphQLRequest.__name__], _ASKING),
    ("/admin/graphql", "post"): ([GraphQLRequest.__name__], _ASKING),
    ("/refold/commands", "post"): (
        [model.__name__ for model in members(GivenByPeople)],
        {
            "cancel": {"type": "CancelSession", "owner": "AKIAIOSFODNN7EXAMPLE", "session_id": _SESSION_ID},
            "policy": {
                "type": "ModifyKeypairPolicy",
                "name": "default",
                "changes": {"max_concurrent_sessions": 30, "max_containers_per_session": 8},
            },
        },
    ),
}

_UNSIGNED: Final = frozenset(
    {"/", "/v{major}", "/health", "/ready", "/refold/status"}
    | {"/auth/authorize", "/auth/signup", "/auth/update-password-no-auth"}
)
_WRITES: Final = frozenset({"post", "put", "patch", "delete"})


def openapi(app: FastAPI) -> dict[str, Any]:
    """OpenAPI 3.1; made once."""
    if app.openapi_schema is None:
        document = get_openapi(
            title=app.title, version=app.version, description=app.description, routes=app.routes, tags=app.openapi_tags
        )
        _add_schemas(document)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _complete(operation, path, method)
                document["components"]["schemas"] |= _models_in(operation)
        app.openapi_schema = document
    return app.openapi_schema


def _add_schemas(document: dict[str, Any]) -> None:
    models: list[type[BaseModel]] = [NewSession, GraphQLRequest, *members(GivenByPeople)]
    _, definitions = models_json_schema([(model, "validation") for model in models], ref_template=_REF)
    components = document.setdefault("components", {})
    # What stands in the log sealed is given in clear.
    in_clear = {name: {"title": name.capitalize(), **kind.json_schema()} for name, kind in IN_CLEAR.items()}
    definitions["$defs"]["SessionSpec"]["properties"] |= in_clear
    components["schemas"] = definitions["$defs"] | {"Problem": _PROBLEM}
    components["securitySchemes"] = {
        "keypair": {
            "type": "apiKey",
            "in": "header",
            "name": "Authorization",
            "description": "BackendAI signMethod=HMAC-SHA256, credential=<access key>:<signature>",
        }
    }
    document["security"] = [{"keypair": []}]


def _models_in(operation: dict[str, Any]) -> dict[str, Any]:
    """Those within the body that a route describes by itself (`api.http.parameters.in_body`)."""
    contents = operation.get("requestBody", {}).get("content", {}).values()
    return {name: model for each in contents for name, model in each["schema"].get("$defs", {}).items()}


def _complete(operation: dict[str, Any], path: str, method: str) -> None:
    answers = operation["responses"]
    answers.pop("422", None)  # FastAPI's own form of a bad parameter; ours is a problem with status 400
    answers["default"] = {
        "description": "A problem (RFC 9457).",
        "content": {MEDIA_TYPE: {"schema": {"$ref": _REF.format(model="Problem")}}},
    }
    for status, (description, example) in _ANSWERS.get((path, method), {}).items():
        answers[status] = {
            "description": description,
            "content": {"application/json": {"schema": {"type": "object"}, "example": example}},
        }
    if (path, method) in _REQUESTS:
        models, examples = _REQUESTS[path, method]
        refs = [{"$ref": _REF.format(model=name)} for name in models]
        schema: dict[str, Any] = refs[0] if len(refs) == 1 else {"oneOf": refs}
        told = {name: {"value": value} for name, value in examples.items()}
        operation["requestBody"] = {
            "required": True,
            "content": {"application/json": {"schema": schema, "examples": told}},
        }
    if path in _UNSIGNED or path.startswith(SIGN_IN_PATHS):
        operation["security"] = []
    else:
        operation.setdefault("parameters", []).extend(_headers(method))


def _headers(method: str) -> list[dict[str, Any]]:
    if method in _WRITES:
        return [
            _header("Idempotency-Key", "Makes a retry the same command: whoever repeats it gets the first outcome."),
            _header("Prefer", "`respond-async`: do not wait for the outcome."),
        ]
    return [_header("X-Refold-Position", "Wait until what is read has reached this point in the log.")]


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": False, "description": description, "schema": {"type": "string"}}
