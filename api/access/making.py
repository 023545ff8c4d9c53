"""Secrets that are made here, so that whoever sends his request again is answered with the same ones.

Each derives from the id of the command that carries it (`Idempotency-Key`) and the key of whom it is for. Nobody else
can make it again, and nobody at all once that key is forgotten.
"""

import string
from typing import Final

from api.access.secrets import sealed
from api.http.deps import Services
from domain.directory.messages.keypairs import KeypairSpec, NewKeypair
from domain.messages import AccessKey, UserId
from infra.ssh_keys import SEED_BYTES, SshKeys, made

_ACCESS_KEY_ALPHABET: Final = string.ascii_uppercase + string.digits
_SECRET_KEY_ALPHABET: Final = string.ascii_letters + string.digits + "_-"
_BYTES_PER_LETTER: Final = 2  # of 256² values each letter stands for as many, but for one in a thousand


async def new_keypair(all_: Services, user_id: UserId, command_id: str, spec: KeypairSpec) -> tuple[NewKeypair, str]:
    """For a command of that id, with the secret key that is sealed in it. Raises `Unavailable`."""
    access_key = AccessKey("AKIA" + await _letters(all_, user_id, f"access key/{command_id}", _ACCESS_KEY_ALPHABET, 16))
    secret_key = await _letters(all_, user_id, f"secret key/{command_id}", _SECRET_KEY_ALPHABET, 40)
    secret = await sealed(all_, user_id, secret_key, access_key, command_id)
    return NewKeypair(access_key=access_key, secret_sealed=secret, spec=spec), secret_key


async def new_ssh_keys(all_: Services, user_id: UserId, command_id: str) -> SshKeys:
    """For a command of that id. Raises `Unavailable`."""
    return made(await all_.keyring.derive(user_id, f"ssh keypair/{command_id}", SEED_BYTES))


async def _letters(all_: Services, user_id: UserId, purpose: str, alphabet: str, length: int) -> str:
    derived = await all_.keyring.derive(user_id, purpose, length * _BYTES_PER_LETTER)
    pairs = zip(derived[::2], derived[1::2], strict=True)
    return "".join(alphabet[(high << 8 | low) % len(alphabet)] for high, low in pairs)
