"""OpenAPI and AsyncAPI say what is so, and every reference in them leads somewhere."""

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi.routing import APIWebSocketRoute

from api.app import _ROUTES
from api.commands import GivenByPeople
from api.http.asyncapi import asyncapi, members
from api.sessions.requests import NewSession
from domain.contexts import CONTEXTS
from infra.settings import Settings
from infra.topics import all_topics
from tests.api.world import World


def _values(node: Any, wanted: str) -> Iterator[Any]:
    if isinstance(node, dict):
        for name, value in node.items():
            if name == wanted:
                yield value
            yield from _values(value, wanted)
    elif isinstance(node, list):
        for each in node:
            yield from _values(each, wanted)


def assert_references_resolve(document: dict[str, Any]) -> None:
    references = {reference for reference in _values(document, "$ref") if isinstance(reference, str)}
    assert references
    for reference in references:
        node: Any = document
        for part in reference.removeprefix("#/").split("/"):
            assert part in node, reference
            node = node[part]


async def test_openapi_tells_every_route_with_examples(world: World) -> None:
    async with world.anonymous() as nobody:
        document = (await nobody.get("/openapi.json")).json()
    assert document["openapi"].startswith("3.1")
    assert_references_resolve(document)
    operations = {
        (path, method): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }
    assert {
        ("/session", "post"),
        ("/session/{reference}", "get"),
        ("/session/{reference}", "patch"),
        ("/session/{reference}", "delete"),
        ("/session/{reference}/rename", "post"),
        ("/session/{reference}/logs", "get"),
        ("/events/session", "get"),
        ("/refold/commands", "post"),
        ("/refold/sessions/{reference}/history", "get"),
    } <= set(operations)
    for (path, method), operation in operations.items():
        assert operation.get("description"), (path, method)
        assert "422" not in operation["responses"], "a bad parameter is a problem with status 400"
        assert "application/problem+json" in operation["responses"]["default"]["content"]


async def test_the_examples_of_requests_are_good_requests(world: World) -> None:
    async with world.anonymous() as nobody:
        document = (await nobody.get("/openapi.json")).json()
    for path in ("/session", "/refold/commands"):
        body = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
        async with world.client("admin") as admin:
            for example in body["examples"].values():
                value = example["value"]
                if "owner" in value:
                    value["owner"] = "AKADMIN"
                answer = await admin.post(path, json=value)
                assert answer.status_code in {200, 201, 404}, answer.text
    assert set(NewSession.model_fields)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("put", "/manager/status"),
        ("post", "/manager/announcement"),
        ("post", "/user-config/dotfiles"),
        ("post", "/user-config/bootstrap-script"),
        ("post", "/template/{kind}"),
        ("post", "/auth/test"),
    ],
)
async def test_the_examples_of_the_directorys_routes_are_good_requests(world: World, method: str, path: str) -> None:
    async with world.client("admin") as admin:
        operation = (await admin.get("/openapi.json")).json()["paths"][path][method]
        body = operation["requestBody"]["content"]["application/json"]
        for example in body["examples"].values():
            answer = await admin.request(method, path.format(kind="session"), json=example["value"])
            assert answer.status_code in {200, 204}, answer.text


def test_asyncapi_tells_every_topic_websocket_and_message() -> None:
    settings = Settings()
    document = dict(asyncapi(settings))
    assert document["asyncapi"] == "3.0.0"
    assert_references_resolve(document)
    addresses = {channel["address"] for channel in document["channels"].values()}
    assert addresses == {settings.topic_prefix + topic.name for topic in all_topics(settings)} | {
        "/events/session",
        "/events/background-task",
        *(route.path for module in _ROUTES for route in module.router.routes if isinstance(route, APIWebSocketRoute)),
    }
    told = set(document["components"]["messages"])
    for context in CONTEXTS.values():
        for adapter in (context.commands, context.events):
            assert {model.__name__ for model in members(adapter._type)} <= told


@pytest.mark.parametrize("union", [GivenByPeople])
def test_the_members_of_a_union_are_its_models(union: Any) -> None:
    assert len(members(union)) > 10
