"""`/auth/…`: what somebody is, his password, his ssh keypair, and leaving."""

from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from domain.directory.messages.users import ModifyUser, SetUserPassword, UserChanges, UserStatus
from domain.messages import UserId
from infra.secrets import hash_password, password_fits
from tests.api.neighbours import HOME, NEXT_DOOR, PASSWORD, client_of, directed, move_in
from tests.api.world import World
from tests.whole import now

NEW = "another horse, quite"
TEXT = {"Content-Type": "text/plain"}


@pytest.fixture
async def street(world: World) -> World:
    await move_in(world)
    return world


def user(world: World, name: str) -> Any:
    return world.services.tail.directory.users[UserId(f"user-{name}")]


async def test_a_right_signature_is_told(world: World) -> None:
    async with world.client() as ada, world.anonymous() as nobody:
        assert (await ada.get("/auth", params={"echo": "hi"})).json() == {"authorized": "yes", "echo": "hi"}
        assert (await ada.post("/auth", json={"echo": "hi"})).json() == {"authorized": "yes", "echo": "hi"}
        assert (await ada.get("/auth/test", headers=TEXT)).json() == {"authorized": "yes"}
        assert (await nobody.get("/auth/test")).status_code == 401


@pytest.mark.parametrize(
    ("name", "cluster", "domain", "project"),
    [("dora", "user", "admin", "admin"), ("mona", "user", "user", "user")],
)
async def test_roles_in_cluster_domain_and_project(
    street: World, name: str, cluster: str, domain: str, project: str
) -> None:
    async with client_of(street, name) as somebody, street.client("admin") as admin, street.client() as ada:
        told = (await somebody.get("/auth/role", params={"group": HOME}, headers=TEXT)).json()
        assert told == {"global_role": cluster, "domain_role": domain, "group_role": project}
        assert (await admin.get("/auth/role")).json() == {
            "global_role": "superadmin",
            "domain_role": "admin",
            "group_role": None,
        }
        assert (await ada.get("/auth/role", params={"group": "default"})).json()["group_role"] == "user"
        theirs = await ada.get("/auth/role", params={"group": NEXT_DOOR})
        assert theirs.status_code == 404


# -- passwords ---------------------------------------------------------------------------------------------------------


def change(old: str = PASSWORD, new: str = NEW, repeated: str | None = None) -> dict[str, str]:
    return {"old_password": old, "new_password": new, "new_password2": new if repeated is None else repeated}


async def test_ones_own_password_is_changed_with_the_old_one(street: World) -> None:
    async with client_of(street, "zoe") as zoe:
        answer = await zoe.post("/auth/update-password", json=change())
        assert (answer.status_code, answer.json()) == (200, {})
        assert password_fits(user(street, "zoe").password_hash, NEW)
        old = await zoe.post("/auth/update-password", json=change())
        assert (old.status_code, old.json()["field"]) == (400, "old_password")


@pytest.mark.parametrize(
    ("body", "field", "rule"),
    [
        (change(old="wrong"), "old_password", "password_wrong"),
        (change(repeated="other one, quite"), "new_password2", "mismatch"),
        (change(new="short"), "new_password", "password_length"),
        (change(new="zoe is my name"), "new_password", "password_name"),
        (change(new=PASSWORD), "new_password", "password_unchanged"),
        (change(new="x" * 600), "new_password", "string_too_long"),
        ({}, "old_password", "missing"),
    ],
)
async def test_a_password_that_may_not_be_is_refused_by_name(
    street: World, body: dict[str, str], field: str, rule: str
) -> None:
    before = user(street, "zoe").password_hash
    async with client_of(street, "zoe") as zoe:
        answer = await zoe.post("/auth/update-password", json=body)
    assert (answer.status_code, answer.json()["field"], answer.json()["rule"]) == (400, field, rule)
    assert user(street, "zoe").password_hash == before


async def test_a_password_is_changed_again_under_the_same_key_as_it_was_the_first_time(street: World) -> None:
    key = {"Idempotency-Key": "one"}
    async with client_of(street, "zoe") as zoe:
        for _ in range(2):
            answer = await zoe.post("/auth/update-password", json=change(), headers=key)
            assert (answer.status_code, answer.json()) == (200, {})
        set_by_it = user(street, "zoe").password_hash
        guessed = await zoe.post("/auth/update-password", json=change(new="a guess, quite"), headers=key)
        assert (guessed.status_code, guessed.json()["rule"]) == (400, "password_wrong")
        other = await zoe.post("/auth/update-password", json=change(), headers={"Idempotency-Key": "two"})
        assert (other.status_code, other.json()["rule"]) == (400, "password_wrong")
    assert user(street, "zoe").password_hash == set_by_it


async def test_a_monitor_may_change_his_own_password(street: World) -> None:
    async with client_of(street, "mona") as mona:
        assert (await mona.post("/auth/update-password", json=change())).status_code == 200


async def test_a_password_that_must_be_changed_is_changed_unsigned(street: World) -> None:
    body = {"domain": "nextdoor", "username": "zoe@example.org", "current_password": PASSWORD, "new_password": NEW}
    async with street.anonymous() as nobody:
        early = await nobody.post("/auth/update-password-no-auth", json=body)
        assert early.status_code == 403, "his password is a good one"
        await directed(
            street,
            ModifyUser(at=now(), user_id=UserId("user-zoe"), changes=UserChanges(need_password_change=True)),
        )
        wrong = await nobody.post("/auth/update-password-no-auth", json=body | {"current_password": "wrong"})
        unknown = await nobody.post("/auth/update-password-no-auth", json=body | {"username": "never@example.org"})
        assert (wrong.status_code, unknown.status_code) == (401, 401)
        assert wrong.json()["detail"] == unknown.json()["detail"]
        assert (await nobody.post("/auth/update-password-no-auth", json={})).status_code == 400
        assert (await nobody.post("/auth/update-password-no-auth", json=body)).json() == {}
    assert user(street, "zoe").spec.need_password_change is False
    assert password_fits(user(street, "zoe").password_hash, NEW)


async def test_ones_own_full_name_is_changed(street: World) -> None:
    async with client_of(street, "zoe") as zoe:
        body = {"email": "zoe@example.org", "full_name": "Zoe Example"}
        assert (await zoe.post("/auth/update-full-name", json=body)).json() == {}
        others = await zoe.post("/auth/update-full-name", json=body | {"email": "ada@example.org"})
        long = await zoe.post("/auth/update-full-name", json=body | {"full_name": "x" * 65})
    assert user(street, "zoe").spec.full_name == "Zoe Example"
    assert [(answer.status_code, answer.json()["field"]) for answer in (others, long)] == [
        (400, "email"),
        (400, "full_name"),
    ]


async def test_ones_own_keypair_is_told_without_its_secret(world: World) -> None:
    async with world.client() as ada:
        told = (await ada.get("/auth/keypair")).json()
    assert (told["accessKey"], told["isActive"], told["isAdmin"]) == ("AKADA", True, False)
    assert not any("secret" in name.lower() for name in told)


async def test_who_leaves_is_not_let_in_again(street: World) -> None:
    async with client_of(street, "zoe") as zoe:
        for body, field in (
            ({"email": "ada@example.org", "password": PASSWORD}, "email"),
            ({"email": "zoe@example.org", "password": "wrong"}, "password"),
        ):
            refused = await zoe.post("/auth/signout", json=body)
            assert (refused.status_code, refused.json()["field"]) == (400, field)
        left = await zoe.post("/auth/signout", json={"username": "zoe@example.org", "password": PASSWORD})
        assert (left.status_code, left.json()) == (200, {})
        assert user(street, "zoe").spec.status is UserStatus.INACTIVE
        assert (await zoe.get("/auth/test")).status_code == 401


async def test_who_is_not_active_is_told_nothing(street: World) -> None:
    await directed(
        street,
        ModifyUser(at=now(), user_id=UserId("user-zoe"), changes=UserChanges(status=UserStatus.INACTIVE)),
        SetUserPassword(at=now(), user_id=UserId("user-zoe"), password_hash=hash_password(NEW)),
    )
    async with client_of(street, "zoe") as zoe:
        for method, path in (
            ("GET", "/auth/role"),
            ("GET", "/auth/ssh-keypair"),
            ("GET", "/user-config/dotfiles"),
            ("GET", "/template/session"),
            ("GET", "/resource/presets"),
            ("POST", "/resource/check-presets"),
            ("GET", "/scaling-groups"),
            ("GET", "/manager/status"),
            ("GET", "/manager/announcement"),
            ("GET", "/config/resource-slots"),
        ):
            assert (await zoe.request(method, path)).status_code == 401, path


# -- ssh keypairs ------------------------------------------------------------------------------------------------------


async def test_an_ssh_keypair_is_made_and_its_private_key_told_once(world: World) -> None:
    async with world.client() as ada, world.client("eve") as eve:
        assert (await ada.get("/auth/ssh-keypair", headers=TEXT)).json() == {"ssh_public_key": ""}
        made = (await ada.patch("/auth/ssh-keypair", headers=TEXT)).json()
        key = serialization.load_ssh_private_key(made["ssh_private_key"].encode(), None)
        public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
        assert public.decode() == made["ssh_public_key"]
        assert (await ada.get("/auth/ssh-keypair")).json() == {"ssh_public_key": made["ssh_public_key"]}
        assert (await eve.get("/auth/ssh-keypair")).json() == {"ssh_public_key": ""}
    everything = repr([record.value for log in world.log._logs.values() for record in log.records])
    assert "SshKeypairSet" in everything
    assert "PRIVATE KEY" not in everything


async def test_a_private_key_is_told_again_to_who_sends_the_same_request_again(world: World) -> None:
    async with world.client(**{"Idempotency-Key": "k"}) as ada, world.client("eve", **{"Idempotency-Key": "k"}) as eve:
        first, again = [await ada.patch("/auth/ssh-keypair") for _ in range(2)]
        assert (first.status_code, first.json()) == (again.status_code, again.json())
        assert (await eve.patch("/auth/ssh-keypair")).json()["ssh_public_key"] != first.json()["ssh_public_key"]
        other = (await ada.patch("/auth/ssh-keypair", headers={"Idempotency-Key": "l"})).json()
        assert other["ssh_private_key"] != first.json()["ssh_private_key"]


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_ones_own_ssh_keypair_is_taken(world: World, method: str) -> None:
    key = rsa.generate_private_key(65537, 2048)
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
    ).decode()
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    async with world.client() as ada:
        taken = await ada.request(
            method, "/auth/ssh-keypair", json={"pubkey": f"{public} ada@home", "privkey": private}
        )
        assert taken.status_code == 200, taken.text
        assert (await ada.get("/auth/ssh-keypair")).json() == {"ssh_public_key": f"{public} ada@home"}


async def test_what_is_no_ssh_keypair_is_refused_by_name(world: World) -> None:
    async with world.client() as ada:
        made = (await ada.patch("/auth/ssh-keypair")).json()
        other = (await ada.patch("/auth/ssh-keypair")).json()
        locked = rsa.generate_private_key(65537, 2048).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"x")
        )
        for public, private, field in (
            (made["ssh_public_key"], "rubbish", "privkey"),
            (made["ssh_public_key"], "-----BEGIN OPENSSH PRIVATE KEY-----\nx\n", "privkey"),
            (made["ssh_public_key"], locked.decode(), "privkey"),
            (made["ssh_public_key"], other["ssh_private_key"], "pubkey"),
            ("rubbish", other["ssh_private_key"], "pubkey"),
            ("", other["ssh_private_key"], "pubkey"),
        ):
            answer = await ada.post("/auth/ssh-keypair", json={"pubkey": public, "privkey": private})
            assert (answer.status_code, answer.json()["field"]) == (400, field), (private, answer.text)
        assert (await ada.get("/auth/ssh-keypair")).json()["ssh_public_key"] == other["ssh_public_key"]
