"""A secret is sealed for a subject: he can be forgotten, the master key can change, and nobody else's key opens it."""

import asyncio

import pytest
from pydantic import SecretStr

from infra.keyring import Forgotten, KeyMissing, Keyring, KeyStore, MemoryKeys, PostgresKeys
from infra.postgres import Pool, connection, migrate
from infra.secrets import BadKey, CannotUnseal, new_key
from infra.settings import Settings

OLD, NEW = new_key(), new_key()


def config(master: str = OLD, before: str = "") -> Settings:
    return Settings(master_key=SecretStr(master), master_key_old=SecretStr(before))


@pytest.fixture
async def table(pool: Pool) -> PostgresKeys:
    async with connection(pool) as db:
        await migrate(db)
    return PostgresKeys(pool)


@pytest.fixture(params=["memory", pytest.param("postgres", marks=pytest.mark.cluster)])
def store(request: pytest.FixtureRequest) -> KeyStore:
    return MemoryKeys() if request.param == "memory" else request.getfixturevalue("table")


async def test_what_is_sealed_is_read_again_by_another_process(store: KeyStore) -> None:
    sealed = await Keyring(config(), store).seal("ada", "a secret", "totp")
    other = Keyring(config(), store)
    with pytest.raises(KeyMissing):
        other.unseal(sealed, "totp")
    assert await other.reveal(sealed, "totp") == "a secret"
    assert other.unseal(sealed, "totp") == "a secret"
    with pytest.raises(CannotUnseal):
        other.unseal(sealed, "ssh")


async def test_each_of_several_is_sealed_as_what_it_is_about(store: KeyStore) -> None:
    keyring = Keyring(config(), store)
    sealed = await keyring.seal_all("ada", {"a": "one", "b": "two"}, "command")
    assert {about: keyring.unseal(text, about) for about, text in sealed.items()} == {"a": "one", "b": "two"}
    assert sealed["a"] == await keyring.seal("ada", "one", "a", "command")
    with pytest.raises(CannotUnseal):
        keyring.unseal(sealed["a"], "b")


async def test_a_subject_has_one_key_and_nobody_elses(store: KeyStore) -> None:
    keyring = Keyring(config(), store)
    ada, again, eve = [await keyring.seal(who, "s", "x") for who in ("ada", "ada", "eve")]
    assert ada[:20] == again[:20] != eve[:20], "the first 16 bytes name the key"
    assert ada != again


async def test_a_subject_who_is_new_to_several_at_once_has_one_key(store: KeyStore) -> None:
    keyrings = [Keyring(config(), store) for _ in range(8)]
    sealed = await asyncio.gather(*(keyring.seal("ada", "s", "x", "command") for keyring in keyrings))
    assert len(set(sealed)) == 1
    assert await keyrings[0].forget("ada") == 1


async def test_what_derives_from_a_subjects_key_is_always_the_same_until_he_is_forgotten(store: KeyStore) -> None:
    first = await Keyring(config(), store).derive("ada", "key/1", 40)
    rotated = config(NEW, OLD)
    assert await Keyring(rotated, store).derive("ada", "key/1", 40) == first
    others = [await Keyring(config(), store).derive(*each, 40) for each in (("ada", "key/2"), ("eve", "key/1"))]
    assert len({first, *others}) == 3
    await Keyring(config(), store).forget("ada")
    assert await Keyring(config(), store).derive("ada", "key/1", 40) != first


async def test_what_was_sealed_for_a_forgotten_subject_is_lost(store: KeyStore) -> None:
    keyring, other = Keyring(config(), store), Keyring(config(), store)
    ada, eve = [await keyring.seal(who, "s", "x") for who in ("ada", "eve")]
    assert await other.reveal(ada, "x") == "s"
    assert await keyring.forget("ada") == 1
    await other.look()
    for one in (keyring, other, Keyring(config(), store)):
        with pytest.raises(Forgotten):
            await one.reveal(ada, "x")
        assert await one.reveal(eve, "x") == "s"
    assert await other.reveal(await other.seal("ada", "new", "x"), "x") == "new"


async def test_a_key_under_another_master_key_is_told(store: KeyStore) -> None:
    sealed = await Keyring(config(), store).seal("ada", "s", "x")
    with pytest.raises(CannotUnseal, match="not by ours"):
        await Keyring(config(NEW), store).reveal(sealed, "x")


@pytest.mark.cluster
async def test_a_new_master_key_opens_everything_once_it_was_rotated_in(table: PostgresKeys) -> None:
    sealed = await Keyring(config(), table).seal("ada", "s", "x")
    both = Keyring(config(NEW, OLD), table)
    assert await both.reveal(sealed, "x") == "s"
    newer = await both.seal("eve", "t", "x")
    assert await table.rewrap(both) == 1, "eve's was wrapped by the new one already"
    assert await table.rewrap(both) == 0
    alone = Keyring(config(NEW), table)
    assert (await alone.reveal(sealed, "x"), await alone.reveal(newer, "x")) == ("s", "t")
    with pytest.raises(CannotUnseal):
        await Keyring(config(OLD), table).reveal(sealed, "x")


@pytest.mark.parametrize("text", ["", "!", "c2hvcnQ=", "A" * 24])
async def test_what_is_no_sealed_text_is_told(text: str) -> None:
    with pytest.raises((CannotUnseal, Forgotten)):
        await Keyring(config(), MemoryKeys()).reveal(text, "x")


def test_a_bad_old_master_key_is_told() -> None:
    with pytest.raises(BadKey, match="REFOLD_MASTER_KEY_OLD"):
        Keyring(config(NEW, "bad"), MemoryKeys())
