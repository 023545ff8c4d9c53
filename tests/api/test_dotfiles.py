"""Dotfiles and bootstrap scripts: whose they are, who reads them, and that the log does not tell what is in them."""

from typing import Any

import pytest

from domain.directory.messages.tenants import ModifyDomain
from tests.api.neighbours import HOME, client_of, directed, move_in
from tests.api.world import World
from tests.whole import now

BASHRC = {"data": "x\n", "path": ".bashrc", "permission": "644"}
TEXT = {"Content-Type": "text/plain"}


async def test_the_recorded_calls_of_the_client(world: World) -> None:
    async with world.client() as ada:
        created = await ada.post("/user-config/dotfiles", json=BASHRC)
        assert (created.status_code, created.json()) == (200, {})
        listed = await ada.get("/user-config/dotfiles", headers=TEXT)
        assert [{name: each[name] for name in ("path", "permission", "data")} for each in listed.json()] == [
            {"path": ".bashrc", "permission": "644", "data": "x\n"}
        ]
        got = await ada.get("/user-config/dotfiles", params={"path": ".bashrc"}, headers=TEXT)
        assert (got.json()["data"], got.json()["perm"]) == ("x\n", "644")
        updated = await ada.patch("/user-config/dotfiles", json=BASHRC | {"permission": "600", "data": "y\n"})
        assert (updated.status_code, updated.json()) == (200, {})
        headers = {"X-Refold-Position": updated.headers["X-Refold-Position"]}
        got = await ada.get("/user-config/dotfiles", params={"path": ".bashrc"}, headers=headers)
        assert (got.json()["data"], got.json()["permission"]) == ("y\n", "600")
        deleted = await ada.delete("/user-config/dotfiles", params={"path": ".bashrc"}, headers=TEXT)
        assert deleted.json() == {"success": True}
        assert (await ada.get("/user-config/dotfiles")).json() == []
        assert (await ada.get("/user-config/dotfiles", params={"path": ".bashrc"})).status_code == 404


async def test_a_dotfile_is_created_once_and_changed_only_if_it_is_there(world: World) -> None:
    async with world.client() as ada:
        missing = await ada.patch("/user-config/dotfiles", json=BASHRC)
        assert missing.status_code == 404
        assert (await ada.delete("/user-config/dotfiles", params={"path": ".bashrc"})).status_code == 404
        await ada.post("/user-config/dotfiles", json=BASHRC)
        again = await ada.post("/user-config/dotfiles", json=BASHRC | {"data": "other"})
        assert (again.status_code, again.json()["type"].rpartition("/")[2]) == (409, "dotfile-exists")


async def test_a_retried_dotfile_has_its_first_outcome(world: World) -> None:
    async with world.client(**{"Idempotency-Key": '"one"'}) as ada:
        first = await ada.post("/user-config/dotfiles", json=BASHRC)
        again = await ada.post("/user-config/dotfiles", json=BASHRC)
        other = await ada.post("/user-config/dotfiles", json=BASHRC | {"data": "other"})
    assert (first.status_code, again.status_code, other.status_code) == (200, 200, 422)
    assert first.headers["X-Refold-Position"] == again.headers["X-Refold-Position"]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"path": None}, "path"),
        ({"path": ""}, "path"),
        ({"path": "bashrc"}, "path"),
        ({"path": ".config/../../etc"}, "path"),
        ({"path": ".ssh/authorized_keys"}, "path"),
        ({"path": ".x" * 300}, "path"),
        ({"permission": "9"}, "permission"),
        ({"permission": "rwx"}, "permission"),
        ({"data": None}, "data"),
        ({"data": "é" * 40_000}, "data"),
        ({"data": "a\u0000b"}, "body"),
    ],
)
async def test_a_dotfile_that_cannot_be_is_refused_by_name(world: World, change: dict[str, Any], field: str) -> None:
    async with world.client() as ada:
        answer = await ada.post("/user-config/dotfiles", json=BASHRC | change)
    assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
    assert answer.json()["rule"]


async def test_dotfiles_together_are_small(world: World) -> None:
    async with world.client() as ada:
        assert (await ada.post("/user-config/dotfiles", json=BASHRC | {"data": "x" * 40_000})).status_code == 200
        more = await ada.post("/user-config/dotfiles", json=BASHRC | {"path": ".more", "data": "x" * 40_000})
    assert (more.status_code, more.json()["field"]) == (400, "data")


async def test_what_is_in_them_is_nowhere_in_the_log(world: World) -> None:
    secret = "a-token-nobody-may-read"
    async with world.client() as ada, world.client("admin") as admin:
        await ada.post("/user-config/dotfiles", json=BASHRC | {"data": secret})
        await ada.post("/user-config/bootstrap-script", json={"script": secret})
        await admin.post("/domain-config/dotfiles", json=BASHRC | {"data": secret, "domain": "default"})
    everything = repr([record.value for log in world.log._logs.values() for record in log.records])
    assert "DotfilePut" in everything
    assert secret not in everything


async def test_ones_own_are_not_anothers(world: World) -> None:
    await move_in(world)
    async with world.client() as ada, world.client("eve") as eve, client_of(world, "zed") as zed:
        await ada.post("/user-config/dotfiles", json=BASHRC)
        assert (await eve.get("/user-config/dotfiles")).json() == []
        for stranger in (eve, zed):
            told = await stranger.get("/user-config/dotfiles", params={"owner_access_key": "AKADA"})
            nobodys = await stranger.get("/user-config/dotfiles", params={"owner_access_key": "AKNOBODY"})
            assert told.status_code == nobodys.status_code in {403, 404}
            written = await stranger.post("/user-config/dotfiles", json=BASHRC | {"owner_access_key": "AKADA"})
            assert written.status_code == told.status_code


async def test_an_admin_keeps_them_for_his_users(world: World) -> None:
    await move_in(world)
    async with client_of(world, "dora") as dora, world.client() as ada:
        written = await dora.post("/user-config/dotfiles", json=BASHRC | {"owner_access_key": "AKADA"})
        assert written.status_code == 200, written.text
        # The client's own spelling of this parameter.
        listed = await dora.get("/user-config/dotfiles", params={"onwer_access_key": "AKADA"})
        assert [each["path"] for each in listed.json()] == [".bashrc"]
        assert (await ada.get("/user-config/dotfiles", params={"path": ".bashrc"})).json()["data"] == "x\n"


@pytest.mark.parametrize(
    ("place", "whose"),
    [
        ("/group-config/dotfiles", {"group": "default", "domain": "default"}),
        ("/group-config/dotfiles", {"group": HOME}),
        ("/domain-config/dotfiles", {"domain": "default"}),
    ],
)
async def test_those_of_projects_and_domains_are_read_by_who_is_in_them(
    world: World, place: str, whose: dict[str, str]
) -> None:
    await move_in(world)
    async with (
        client_of(world, "dora") as dora,
        world.client() as ada,
        client_of(world, "zoe") as zoe,
        client_of(world, "zed") as zed,
    ):
        assert (await dora.post(place, json=BASHRC | whose)).status_code == 200
        assert (await dora.patch(place, json=BASHRC | whose | {"data": "y\n"})).status_code == 200
        assert (await ada.get(place, params=whose | {"path": ".bashrc"})).json()["data"] == "y\n"
        refused = await ada.patch(place, json=BASHRC | whose)
        assert refused.status_code == 403
        for stranger in (zoe, zed):
            assert (await stranger.get(place, params=whose)).status_code == 404
            assert (await stranger.post(place, json=BASHRC | whose)).status_code == 404
            assert (await stranger.delete(place, params=whose | {"path": ".bashrc"})).status_code == 404
        assert (await dora.delete(place, params=whose | {"path": ".bashrc"})).json() == {"success": True}
        assert (await ada.get(place, params=whose)).json() == []


async def test_whose_they_are_must_be_said(world: World) -> None:
    async with world.client("admin") as admin:
        for place, field in (("/group-config/dotfiles", "group"), ("/domain-config/dotfiles", "domain")):
            answer = await admin.get(place)
            assert (answer.status_code, answer.json()["field"]) == (400, field)


async def test_a_projects_may_be_anywhere_in_the_container(world: World) -> None:
    whose = {"group": HOME, "path": "/etc/app.conf"}
    async with world.client("admin") as admin, world.client() as ada:
        assert (await admin.post("/group-config/dotfiles", json=BASHRC | whose)).status_code == 200
        assert (await ada.post("/user-config/dotfiles", json=BASHRC | {"path": "/etc/app.conf"})).status_code == 400


async def test_they_are_readable_when_their_domain_has_another_name(world: World) -> None:
    await move_in(world)
    async with client_of(world, "zed") as zed, client_of(world, "zoe") as zoe:
        await zed.post("/domain-config/dotfiles", json=BASHRC | {"domain": "nextdoor"})
        await directed(world, ModifyDomain(at=now(), name="nextdoor", rename="uptown"))
        told = await zoe.get("/domain-config/dotfiles", params={"domain": "uptown"})
    assert [each["data"] for each in told.json()] == ["x\n"], told.text


async def test_a_bootstrap_script_is_kept_and_taken_away(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve:
        assert (await ada.get("/user-config/bootstrap-script")).json() == ""
        assert (await ada.post("/user-config/bootstrap-script", json={"script": "pip install x\n"})).json() == {}
        assert (await ada.get("/user-config/bootstrap-script")).json() == "pip install x\n"
        assert (await eve.get("/user-config/bootstrap-script")).json() == ""
        assert (await ada.post("/user-config/bootstrap-script", json={"script": ""})).status_code == 200
        assert (await ada.get("/user-config/bootstrap-script")).json() == ""
        for wrong in ({}, {"script": None}, {"script": "x" * 70_000}):
            answer = await ada.post("/user-config/bootstrap-script", json=wrong)
            assert (answer.status_code, answer.json()["field"]) == (400, "script")


async def test_a_monitor_changes_nothing(world: World) -> None:
    await move_in(world)
    async with client_of(world, "mona") as mona:
        assert (await mona.post("/user-config/dotfiles", json=BASHRC)).status_code == 403
        assert (await mona.post("/user-config/bootstrap-script", json={"script": "x"})).status_code == 403
