"""A keypair for a password, and for who makes himself a user."""

from pathlib import Path
from typing import Any

import httpx
import pyotp
import pytest

from api.access import signin
from domain.messages import UserId
from infra.signing import KeypairAuth
from tests.api.test_signin import HASH, PASSWORD, command, everything_in
from tests.api.world import World
from tests.whole import now

NEW = {"domain": "default", "email": "new@example.org", "password": "another horse, quite", "full_name": "New One"}


@pytest.fixture
async def ada(world: World) -> World:
    """She has a password."""
    await command(world, "SetUserPassword", password_hash=HASH)
    return world


async def asked(world: World, **members: Any) -> httpx.Response:
    body = {"type": "keypair", "domain": "default", "username": "ada@example.org", "password": PASSWORD} | members
    async with world.anonymous() as nobody:
        return await nobody.post("/auth/authorize", json=body)


async def test_a_password_is_exchanged_for_the_keypair(ada: World) -> None:
    answer = await asked(ada)
    assert answer.json() == {
        "data": {"access_key": "AKADA", "secret_key": "ada-secret", "role": "user", "status": "active"}
    }
    assert "set-cookie" not in answer.headers
    assert not ada.services.tail.directory.users[UserId("user-ada")].sign_ins, "nothing stays open"


async def test_a_wrong_signature_does_not_matter_where_the_password_counts(ada: World) -> None:
    async with httpx.AsyncClient(base_url=ada.url, auth=KeypairAuth("AKNOBODY", "x")) as client:
        answer = await client.post("/auth/authorize", json={"username": "ada", "password": PASSWORD})
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("members", "status", "kind"),
    [
        ({"password": "wrong"}, 401, "authorization-failed"),
        ({"username": "never@example.org"}, 401, "authorization-failed"),
        ({"type": "jwt"}, 400, "invalid-api-params"),
        ({"username": ""}, 400, "invalid-api-params"),
    ],
)
async def test_without_the_password_there_is_no_keypair(
    ada: World, members: dict[str, str], status: int, kind: str
) -> None:
    answer = await asked(ada, **members)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (status, kind)
    assert "ada-secret" not in answer.text


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"status": "inactive"}, "user-inactive"),
        ({"need_password_change": True}, "password-expired"),
        ({"allowed_client_ip": ["203.0.113.0/24"]}, "client-address-not-allowed"),
    ],
)
async def test_who_may_not_sign_in_gets_no_keypair_either(ada: World, changes: dict[str, Any], kind: str) -> None:
    await command(ada, "ModifyUser", changes=changes)
    answer = await asked(ada)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (401, kind)


async def test_who_uses_one_time_passwords_needs_one_and_each_serves_once(
    ada: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with ada.client() as client:
        totp = pyotp.TOTP((await client.post("/totp")).json()["totp_key"])
        at = now()
        monkeypatch.setattr("api.accounts.otp.now", lambda: at)
        monkeypatch.setattr(signin, "now", lambda: at)
        assert (await client.post("/totp/verify", json={"otp": totp.at(at)})).status_code == 200
    assert (await asked(ada)).json()["data"]["details"] == "OTP not provided"
    assert (await asked(ada, otp=totp.at(at))).status_code == 200
    assert (await asked(ada, otp=totp.at(at))).status_code == 401


# -- signing up --------------------------------------------------------------------------------------------------------


async def signed_up(world: World, **members: Any) -> httpx.Response:
    async with world.anonymous() as nobody:
        return await nobody.post("/auth/signup", json=NEW | members)


async def test_nobody_makes_himself_a_user_unless_a_setting_allows_it(world: World) -> None:
    answer = await signed_up(world)
    assert (answer.status_code, answer.json()["type"].rpartition("/")[2]) == (403, "signup-disabled")


async def test_who_signs_up_is_a_plain_user_of_the_project_default_and_may_begin_at_once(tmp_path: Path) -> None:
    async with World(tmp_path, signup=True).started() as world:
        answer = await signed_up(world)
        assert answer.status_code == 201, answer.text
        keys = answer.json()
        user = world.services.tail.directory.user_by_email("new@example.org")
        assert user is not None
        assert (user.spec.role, user.spec.domain, user.spec.full_name) == ("user", "default", "New One")
        assert [world.services.tail.directory.projects[each].name for each in user.projects] == ["default"]
        auth = KeypairAuth(keys["access_key"], keys["secret_key"])
        async with httpx.AsyncClient(base_url=world.url, auth=auth) as somebody:
            role = (await somebody.get("/auth/role")).json()
        assert role["global_role"] == "user"
        again = await signed_up(world, email="NEW@example.org")
        assert (again.status_code, again.json()["field"]) == (409, "email")
        assert not any(keys["secret_key"] in text or NEW["password"] in text for text in await everything_in(world))


async def test_a_sign_up_that_may_not_be_is_refused_by_name(tmp_path: Path) -> None:
    refused: list[tuple[dict[str, str], int, str]] = [
        ({"domain": "nowhere"}, 404, "domain"),
        ({"email": "nobody"}, 400, "email"),
        ({"password": "short"}, 400, "password"),
        ({"username": "x" * 65}, 400, "username"),
        ({"email": "ada@example.org"}, 409, "email"),
    ]
    async with World(tmp_path, signup=True).started() as world:
        for members, status, field in refused:
            answer = await signed_up(world, **members)
            assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


async def test_an_address_may_sign_up_so_many(tmp_path: Path) -> None:
    async with World(tmp_path, signup=True, sign_ins_max=1).started() as world:
        assert (await signed_up(world, password="short")).status_code == 400
        assert (await signed_up(world)).status_code == 429
