"""The public client, unchanged: an administrator has a registry looked through, and gives its images short names."""

from collections.abc import AsyncIterator
from typing import Final

import pytest
import pytest_asyncio

from tests.client.conftest import Client
from tests.client.test_directory import called
from tests.stack import Stack
from tests.workers.registry import FakeRegistry, status

pytestmark = [pytest.mark.cluster, pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(900)]

PASSWORD: Final = "of the robot of our registry"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def registry(stack: Stack) -> AsyncIterator[FakeRegistry]:
    """It serves only who has its password, which an administrator has entered."""
    registry = FakeRegistry()
    registry.account = ("robot", PASSWORD)
    stack.secrets.add(PASSWORD)
    registry.add("stable/python", "3.11", **{"ai.backend.resource.min.mem": "256m"})
    registry.add_list("stable/torch", "2.1", ["amd64", "arm64"])
    async with registry.serving() as url, stack.client() as admin:
        query = """mutation($name: String!, $props: CreateContainerRegistryInput!) {
            create_container_registry(hostname: $name, props: $props) { ok msg } }"""
        props = {"url": url, "type": "docker", "username": "robot", "password": PASSWORD}
        body = {"query": query, "variables": {"name": _name(registry), "props": props}}
        told = (await admin.post("/admin/gql", json=body)).json()
        assert told["data"]["create_container_registry"]["ok"], told
        yield registry


def _name(registry: FakeRegistry) -> str:
    return registry.url.removeprefix("http://")


async def test_a_registry_is_looked_through_and_its_images_are_listed(client: Client, registry: FakeRegistry) -> None:
    assert _name(registry) in await client.run("admin", "resource", "docker-registries")
    scanned = await client.run("admin", "image", "rescan", "-r", _name(registry))
    assert "Started updating the image metadata" in scanned
    assert "Finished registry scanning." in scanned
    listed = await called(client, "print(json.dumps(s.Image.list()))")
    assert [(each["registry"], each["name"], each["tag"], each["architecture"]) for each in listed] == [
        (_name(registry), "stable/python", "3.11", "x86_64"),
        (_name(registry), "stable/torch", "2.1", "aarch64"),
        (_name(registry), "stable/torch", "2.1", "x86_64"),
    ]
    shown = await client.run("admin", "image", "list")
    assert "stable/torch" in shown
    assert "aarch64" in shown


async def test_an_image_is_given_a_short_name_which_is_taken_away_again(
    client: Client, registry: FakeRegistry, stack: Stack
) -> None:
    async def meant() -> str | None:
        async with stack.client() as admin:
            body = {"query": '{ image(reference: "py") { name } }'}
            image = (await admin.post("/admin/gql", json=body)).json()["data"]["image"]
        return image and str(image["name"])

    canonical = f"{_name(registry)}/stable/python:3.11"
    aliased = await client.run("admin", "image", "alias", "py", canonical, "--arch", "x86_64")
    assert f"An alias has created: py -> {canonical}" in aliased
    assert await meant() == "stable/python"
    assert "The alias has been removed: py" in await client.run("admin", "image", "dealias", "py")
    assert await meant() is None
    assert "Dealiasing has failed: no alias py" in await client.run("admin", "image", "dealias", "py")
    assert "Aliasing has failed: no image nothing" in await client.run("admin", "image", "alias", "py", "nothing")


async def test_what_keeps_a_registry_from_being_looked_through_is_told(client: Client, registry: FakeRegistry) -> None:
    registry.instead["/v2/_catalog"] = status(500)
    told = await client.run("admin", "image", "rescan", "-r", _name(registry))
    assert f"Error occurred: {_name(registry)}" in told
    unknown = await client.run("admin", "image", "rescan", "-r", "nowhere", ends_with=1)
    assert "Failed to begin registry scanning: no registry nowhere" in unknown
