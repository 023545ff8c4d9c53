"""Keys of subjects: each secret in the log is sealed with a key of whom it concerns, so that he can be forgotten.

A subject's key is random, wrapped by the master key, and kept in Postgres, outside the log. Without its row nothing
that was sealed with it can be read again, by anybody, from any copy of the log; and the log itself still verifies. A
new master key wraps the same keys anew (`rewrap`), so nothing in the log has to change for it.

Keys that were used stay in memory: who signs requests goes on when Postgres does not answer.

KeyringError (a SecretError)
├── KeyMissing     the key is not in memory, and has to be loaded first
└── Forgotten      there is no such key any more: what it sealed is lost on purpose
"""

import asyncio
import base64
import binascii
import hashlib
import os
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID, uuid4

import structlog
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from infra.postgres import Pool, Unavailable, connection
from infra.secrets import CannotUnseal, SecretError, master_key, old_master_keys, seal, unseal
from infra.settings import Settings

_log = structlog.get_logger("keyring")

_ID_BYTES: Final = 16
_KEY_BYTES: Final = 32
_KEPT_MAX: Final = 100_000  # keys in memory, some 200 bytes each
_LOOK_SECONDS: Final = 30.0  # how long a process may still know a key that was forgotten


class KeyringError(SecretError):
    """A subject's key cannot be used."""


class KeyMissing(KeyringError):
    """It is not in memory: `load` it, then try again."""

    def __init__(self, key_id: UUID) -> None:
        super().__init__(f"the key {key_id} is not loaded")
        self.key_id = key_id


class Forgotten(KeyringError):
    """It is gone, and with it everything that was sealed with it."""


@dataclass(frozen=True, slots=True)
class WrappedKey:
    """A key as it is kept. `master` says which master key it takes to unwrap it."""

    key_id: UUID
    subject: str
    wrapped: str
    master: str


class KeyStore(Protocol):
    """Where wrapped keys are kept. Every method raises `infra.postgres.Unavailable`."""

    async def get(self, key_id: UUID) -> WrappedKey | None: ...

    async def of(self, subject: str) -> WrappedKey | None:
        """The newest of the subject."""

    async def add(self, key: WrappedKey) -> None:
        """Keep it, unless the subject has one by now."""

    async def there(self, key_ids: Collection[UUID]) -> set[UUID]:
        """Those of them that still exist."""

    async def forget(self, subject: str) -> int:
        """Delete all keys of the subject; how many there were."""


class Keyring:
    """What seals and unseals for one process."""

    def __init__(self, settings: Settings, store: KeyStore) -> None:
        """Raises `BadKey` where a master key of the settings cannot be used."""
        self._masters = {_name(key): key for key in (*old_master_keys(settings), master_key(settings))}
        self._master = _name(master_key(settings))
        self._store = store
        self._keys: OrderedDict[UUID, bytes] = OrderedDict()

    async def seal(self, subject: str, secret: str, about: str, command_id: str | None = None) -> str:
        """Encrypt with the subject's key, made now if he has none. Who unseals must know what it is `about`.

        With `command_id` as `infra.secrets.seal` has it. Base64 of 16 bytes that name the key, and what that makes.
        Raises `Unavailable`.
        """
        return (await self.seal_all(subject, {about: secret}, command_id))[about]

    async def seal_all(self, subject: str, secrets: Mapping[str, str], command_id: str | None = None) -> dict[str, str]:
        """As `seal`, several at once, by what each is about; the store is asked once. Raises `Unavailable`."""
        wrapped = await self._key_for(subject)
        key = self._keep(wrapped)
        return {
            about: _joined(wrapped.key_id, seal(key, secret, about, command_id)) for about, secret in secrets.items()
        }

    async def derive(self, subject: str, purpose: str, size: int) -> bytes:
        """Bytes that nobody can tell from random ones without the subject's key, always the same for one purpose.

        By HKDF from that key (made now if he has none), and not from the master key: what the log says of the purpose
        must not bring them back once he is forgotten. Raises `Unavailable`.
        """
        key = self._keep(await self._key_for(subject))
        return HKDF(hashes.SHA256(), size, None, f"derived/{purpose}".encode()).derive(key)

    def unseal(self, sealed: str, about: str) -> str:
        """What was sealed. Raises `KeyMissing`, `CannotUnseal`."""
        key_id, rest = _split(sealed)
        key = self._keys.get(key_id)
        if key is None:
            raise KeyMissing(key_id)
        self._keys.move_to_end(key_id)
        return unseal(key, rest, about)

    def holds(self, sealed: str) -> bool:
        """Whether the key it was sealed with is in memory. Raises `CannotUnseal`."""
        return _split(sealed)[0] in self._keys

    async def reveal(self, sealed: str, about: str) -> str:
        """As `unseal`, and loads the key first. Raises `Forgotten`, `CannotUnseal`, `Unavailable`."""
        try:
            return self.unseal(sealed, about)
        except KeyMissing as missing:
            await self.load(missing.key_id)
            return self.unseal(sealed, about)

    async def load(self, key_id: UUID) -> None:
        """Bring a key into memory. Raises `Forgotten`, `CannotUnseal`, `Unavailable`."""
        wrapped = await self._store.get(key_id)
        if wrapped is None:
            raise Forgotten(f"the key {key_id} is not there any more")
        self._keep(wrapped)

    async def forget(self, subject: str) -> int:
        """Make everything unreadable that was sealed for the subject; how many keys that were.

        Other processes know it within `_LOOK_SECONDS`.
        """
        count = await self._store.forget(subject)
        await self.look()
        return count

    async def look(self) -> None:
        """Drop keys that were forgotten elsewhere. Raises `Unavailable`."""
        known = list(self._keys)
        for gone in set(known) - await self._store.there(known):
            del self._keys[gone]

    async def _key_for(self, subject: str) -> WrappedKey:
        """Asked of the store each time: what is sealed with a key that was just forgotten would be lost."""
        while (wrapped := await self._store.of(subject)) is None:
            await self._store.add(self._wrapped(uuid4(), subject, os.urandom(_KEY_BYTES)))
        return wrapped

    def _wrapped(self, key_id: UUID, subject: str, key: bytes) -> WrappedKey:
        text = base64.b64encode(key).decode()
        return WrappedKey(
            key_id, subject, seal(self._masters[self._master], text, _about(key_id, subject)), self._master
        )

    def _keep(self, wrapped: WrappedKey) -> bytes:
        key = self._keys.get(wrapped.key_id)
        if key is None:
            key = self._keys[wrapped.key_id] = self.unwrapped(wrapped)
            if len(self._keys) > _KEPT_MAX:
                self._keys.popitem(last=False)
        return key

    def unwrapped(self, wrapped: WrappedKey) -> bytes:
        """Raises `CannotUnseal`, also where its master key is not among the settings."""
        master = self._masters.get(wrapped.master)
        if master is None:
            raise CannotUnseal(f"the key {wrapped.key_id} is wrapped by the master key {wrapped.master}, not by ours")
        return base64.b64decode(unseal(master, wrapped.wrapped, _about(wrapped.key_id, wrapped.subject)))

    def rewrapped(self, wrapped: WrappedKey) -> WrappedKey:
        """The same key under the present master key. Raises `CannotUnseal`."""
        return self._wrapped(wrapped.key_id, wrapped.subject, self.unwrapped(wrapped))


@asynccontextmanager
async def looking(keyring: Keyring) -> AsyncIterator[None]:
    """While the block runs, keys that are forgotten elsewhere are dropped here too."""

    async def look() -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                await keyring.look()
            except Unavailable as error:
                _log.warning("cannot see which keys were forgotten", reason=str(error))

    task = asyncio.create_task(look())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class PostgresKeys:
    """The table `subject_keys`."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool

    async def get(self, key_id: UUID) -> WrappedKey | None:
        return await self._one("key_id = %s", key_id)

    async def of(self, subject: str) -> WrappedKey | None:
        return await self._one("subject = %s ORDER BY created_at DESC, key_id LIMIT 1", subject)

    async def add(self, key: WrappedKey) -> None:
        async with connection(self._pool) as db, db.transaction():
            await db.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (key.subject,))
            await db.execute(
                "INSERT INTO subject_keys (key_id, subject, wrapped, master) SELECT %s, %s, %s, %s"
                " WHERE NOT EXISTS (SELECT FROM subject_keys WHERE subject = %s)",
                (key.key_id, key.subject, key.wrapped, key.master, key.subject),
            )

    async def there(self, key_ids: Collection[UUID]) -> set[UUID]:
        async with connection(self._pool) as db:
            cursor = await db.execute("SELECT key_id FROM subject_keys WHERE key_id = ANY(%s)", (list(key_ids),))
            return {key_id for (key_id,) in await cursor.fetchall()}

    async def forget(self, subject: str) -> int:
        async with connection(self._pool) as db:
            return (await db.execute("DELETE FROM subject_keys WHERE subject = %s", (subject,))).rowcount

    async def rewrap(self, keyring: Keyring) -> int:
        """Wrap every key with the present master key, all or none; how many were not yet. Raises `CannotUnseal`."""
        async with connection(self._pool) as db, db.transaction():
            cursor = await db.execute("SELECT key_id, subject, wrapped, master FROM subject_keys FOR UPDATE")
            changed = 0
            for row in await cursor.fetchall():
                before = WrappedKey(*row)
                after = keyring.rewrapped(before)
                if after.master != before.master:
                    await db.execute(
                        "UPDATE subject_keys SET wrapped = %s, master = %s WHERE key_id = %s",
                        (after.wrapped, after.master, after.key_id),
                    )
                    changed += 1
            return changed

    async def _one(self, where: str, value: UUID | str) -> WrappedKey | None:
        async with connection(self._pool) as db:
            cursor = await db.execute(
                f"SELECT key_id, subject, wrapped, master FROM subject_keys WHERE {where}", (value,)
            )
            row = await cursor.fetchone()
        return None if row is None else WrappedKey(*row)


class MemoryKeys:
    """The same without a database, for tests that need none."""

    def __init__(self) -> None:
        self._keys: dict[UUID, WrappedKey] = {}

    async def get(self, key_id: UUID) -> WrappedKey | None:
        return self._keys.get(key_id)

    async def of(self, subject: str) -> WrappedKey | None:
        return next((key for key in reversed(self._keys.values()) if key.subject == subject), None)

    async def add(self, key: WrappedKey) -> None:
        if await self.of(key.subject) is None:
            self._keys[key.key_id] = key

    async def there(self, key_ids: Collection[UUID]) -> set[UUID]:
        return set(key_ids) & self._keys.keys()

    async def forget(self, subject: str) -> int:
        gone = [key_id for key_id, key in self._keys.items() if key.subject == subject]
        for key_id in gone:
            del self._keys[key_id]
        return len(gone)


def _joined(key_id: UUID, sealed: str) -> str:
    return base64.b64encode(key_id.bytes + base64.b64decode(sealed)).decode()


def _split(sealed: str) -> tuple[UUID, str]:
    try:
        raw = base64.b64decode(sealed, validate=True)
        return UUID(bytes=raw[:_ID_BYTES]), base64.b64encode(raw[_ID_BYTES:]).decode()
    except (binascii.Error, ValueError) as error:
        raise CannotUnseal("this is no sealed text") from error


def _name(master: bytes) -> str:
    """Of a master key; tells nothing about it."""
    return hashlib.sha256(b"refold master key" + master).hexdigest()[:16]


def _about(key_id: UUID, subject: str) -> str:
    return f"key/{key_id}/{subject}"
