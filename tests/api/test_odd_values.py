"""Whatever is put into a parameter, the answer is a "no" with a reason, never a defect of ours."""

import re
from collections.abc import Iterator
from typing import Any

import pytest

from api.app import make_app
from infra.secrets import new_key
from infra.settings import Settings
from tests.api.world import World

ODD: tuple[Any, ...] = (
    None,
    True,
    0,
    -1,
    10**30,
    "",
    " ",
    "x" * 70_000,
    "\u0000",
    "é/../%2e",
    "\ud7ff",
    [],
    [[]],
    {},
    {"a": None},
)
_ELSEWHERE = ("/admin", "/refold", "/session", "/server", "/logs/error", "/events")
"""Tested by themselves, or asking the database."""


def operations(kind: str) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Method, path and the parameters with their schemas: of bodies, or of queries."""
    document = make_app(Settings.model_validate({"master_key": new_key(), "internal_key": "k" * 40})).openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            if path.startswith(_ELSEWHERE):
                continue
            if kind == "body" and "requestBody" in operation:
                body = operation["requestBody"]["content"]["application/json"]
                yield method, path, next(iter(body["examples"].values()))["value"]
            query = {p["name"]: "x" for p in operation.get("parameters", ()) if p["in"] == "query"}
            if kind == "query" and query:
                yield method, path, query


def filled(path: str) -> str:
    known = {"kind": "session", "major": "7", "operation": "start"}
    return re.sub(r"\{(\w+)\}", lambda found: known.get(found[1], "none"), path)


@pytest.mark.parametrize(("method", "path", "usual"), list(operations("body")))
async def test_odd_values_in_bodies(world: World, method: str, path: str, usual: dict[str, Any]) -> None:
    async with world.client("admin") as admin:
        for name in usual:
            for odd in ODD:
                answer = await admin.request(method, filled(path), json=usual | {name: odd})
                assert answer.status_code < 500 or answer.json()["type"].endswith("too-many-sign-ins"), (
                    odd,
                    answer.text,
                )
        for body in (b"", b"{", b"[]", b"null", b'"x"', b"\xff", b"[" * 20_000):
            answer = await admin.request(
                method, filled(path), content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500, (body[:10], answer.text)


@pytest.mark.parametrize(("method", "path", "usual"), list(operations("query")))
async def test_odd_values_in_queries(world: World, method: str, path: str, usual: dict[str, str]) -> None:
    async with world.client("admin") as admin:
        for name in usual:
            for odd in ("", "x", "-1", "9" * 40, "x" * 5000, "\u0000", "é/../%2e", "[]", "true"):
                answer = await admin.request(method, filled(path), params=usual | {name: odd})
                assert answer.status_code < 500, (odd, answer.text)
