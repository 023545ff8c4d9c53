"""`/config/{get,set,delete}`: registries by the keys of the reference, and a precise "no" for the rest."""

from typing import Any

import httpx
import pytest

from domain.directory.messages.images import RegistryType
from tests.api.test_signin import everything_in
from tests.api.world import World

KEY = "config/docker/registry/cr.example.org:5000"
URL = "https://cr.example.org:5000"
PASSWORD = "the-password-of-the-registry"


async def told(client: httpx.AsyncClient, operation: str, key: str, **more: Any) -> httpx.Response:
    return await client.post(f"/config/{operation}", json={"key": key, **more})


async def done(client: httpx.AsyncClient, operation: str, key: str, **more: Any) -> Any:
    answer = await told(client, operation, key, **more)
    assert answer.status_code == 200, answer.text
    return answer.json()["result"]


async def test_a_registry_is_entered_read_changed_and_deleted_by_its_keys(world: World) -> None:
    async with world.client("admin") as admin:
        assert await done(admin, "set", KEY, value=URL) == "ok"
        for field, value in (
            ("type", "harbor2"),
            ("project", "stable,community"),
            ("username", "ada"),
            ("password", PASSWORD),
            ("ssl_verify", False),
        ):
            assert await done(admin, "set", f"{KEY}/{field}", value=value) == "ok"
        spec = world.services.tail.directory.registries["cr.example.org:5000"]
        assert (spec.url, spec.registry_type, spec.projects) == (URL, RegistryType.HARBOR, ("stable", "community"))
        assert (spec.username, spec.ssl_verify) == ("ada", False)
        whole = {
            "": URL,
            "type": "harbor2",
            "project": "stable,community",
            "username": "ada",
            "password": "********",
            "ssl_verify": "false",
        }
        assert await done(admin, "get", KEY) == URL
        assert await done(admin, "get", KEY.replace(":", "%3A"), prefix=False) == URL
        assert await done(admin, "get", KEY, prefix=True) == {name: value for name, value in whole.items() if name} | {
            "": URL
        }
        assert await done(admin, "get", "config/docker", prefix=True) == {
            "image": {"auto_pull": "tag"},
            "registry": {"cr.example.org:5000": whole},
        }
        assert await done(admin, "get", f"{KEY}/project") == "stable,community"
        for field in ("password", "project", "type"):
            assert await done(admin, "delete", f"{KEY}/{field}") == "ok"
            assert await done(admin, "get", f"{KEY}/{field}") == ("docker" if field == "type" else None)
        assert await done(admin, "delete", KEY, prefix=True) == "ok"
        assert await done(admin, "get", KEY) is None
    assert not any(PASSWORD in text for text in await everything_in(world))


async def test_a_registry_is_entered_at_once_by_an_object(world: World) -> None:
    value = {"": URL, "type": "harbor2", "project": "a,b", "password": PASSWORD}
    async with world.client("admin", **{"Idempotency-Key": '"once"'}) as admin:
        for _ in range(2):
            assert await done(admin, "set", KEY, value=value) == "ok", "sent again, it is as it was"
    spec = world.services.tail.directory.registries["cr.example.org:5000"]
    assert spec.password is not None
    assert await world.services.keyring.reveal(spec.password, "registry/cr.example.org:5000") == PASSWORD


async def test_what_is_fixed_can_be_read(world: World) -> None:
    async with world.client("admin") as admin:
        assert await done(admin, "get", "volumes/_types", prefix=True) == {"user": "", "group": ""}
        assert await done(admin, "get", "config/api/allow-graphql-schema-introspection") == "false"
        assert await done(admin, "get", "config/redis/addr") is None
        assert await done(admin, "get", "nothing", prefix=True) == {}


@pytest.mark.parametrize(
    ("key", "value", "field", "rule"),
    [
        ("config/redis/addr", "x", "key", "not_configurable"),
        ("config/docker/registry", "x", "key", "not_configurable"),
        (f"{KEY}/colour", "x", "key", "not_configurable"),
        (f"{KEY}/type/more", "x", "key", "not_configurable"),
        ("config/docker/registry/-bad-", URL, "key", "string_pattern_mismatch"),
        (KEY, "no url", "value", "string_pattern_mismatch"),
        (KEY, None, "value", "string_type"),
        (KEY, 5, "value", "string_type"),
        (KEY, {"": URL, "colour": "red"}, "value", "unknown"),
        (KEY, {"type": "harbor2"}, "key", "unknown"),
        (f"{KEY}/type", "harbor2", "key", "unknown"),
        (KEY, {"": URL, "type": "quay"}, "value", "enum"),
        (KEY, {"": URL, "ssl_verify": "perhaps"}, "value", "bool"),
        (KEY, {"": URL, "project": [5]}, "value", "string_type"),
        (f"{KEY}/username", {"": "x"}, "value", "text"),
    ],
)
async def test_what_cannot_be_set_is_refused_by_name(world: World, key: str, value: Any, field: str, rule: str) -> None:
    async with world.client("admin") as admin:
        answer = await told(admin, "set", key, value=value)
    assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (400, field, rule)


async def test_the_configuration_is_for_superadmins(world: World) -> None:
    async with world.client() as ada:
        for operation in ("get", "set", "delete"):
            assert (await told(ada, operation, KEY, value=URL)).status_code == 403


async def test_only_what_is_there_can_be_deleted(world: World) -> None:
    async with world.client("admin") as admin:
        for key, status, field in (
            (KEY, 404, "name"),
            (f"{KEY}/type", 404, "name"),
            ("config/docker/registry/local", 409, "name"),
            ("config", 400, "key"),
        ):
            answer = await told(admin, "delete", key, prefix=True)
            assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text
