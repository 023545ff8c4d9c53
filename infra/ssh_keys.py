"""SSH keypairs in OpenSSH's forms: made from a seed, and the public half of any private one."""

import base64
import struct
import textwrap
from typing import Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SEED_BYTES: Final = 32

_TYPE: Final = b"ssh-ed25519"
_MAGIC: Final = b"openssh-key-v1\0"
_BLOCK_BYTES: Final = 8  # what is not encrypted is filled up to these
_LINE: Final = 70


class NotAKey(ValueError):
    """The text is no private key, or it has a passphrase."""


class SshKeys(NamedTuple):
    """Both as texts: a line `ssh-ed25519 AAAA…`, and `-----BEGIN OPENSSH PRIVATE KEY-----…`."""

    public: str
    private: str


def made(seed: bytes) -> SshKeys:
    """The Ed25519 keypair of a secret seed: always the same texts.

    The format is written here because cryptography puts random bytes into it (`checkint`), which are for passphrases.
    """
    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    public_blob = _string(_TYPE) + _string(public)
    checkint = b"\0" * 4
    private = checkint * 2 + public_blob + _string(seed + public) + _string(b"")
    private += bytes(range(1, 1 + -len(private) % _BLOCK_BYTES))
    blob = _MAGIC + _string(b"none") * 2 + _string(b"") + struct.pack(">I", 1) + _string(public_blob) + _string(private)
    lines = textwrap.wrap(base64.b64encode(blob).decode(), _LINE)
    text = "\n".join(["-----BEGIN OPENSSH PRIVATE KEY-----", *lines, "-----END OPENSSH PRIVATE KEY-----", ""])
    return SshKeys(f"{_TYPE.decode()} {base64.b64encode(public_blob).decode()}", text)


def public_of(private: str) -> str:
    """Raises `NotAKey`."""
    load = serialization.load_ssh_private_key if "OPENSSH" in private[:64] else serialization.load_pem_private_key
    try:
        public = load(private.encode(), None).public_key()
        return public.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH).decode()
    except (ValueError, TypeError, AttributeError, UnsupportedAlgorithm) as error:
        raise NotAKey("this is no private key, or it has a passphrase") from error


def _string(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value
