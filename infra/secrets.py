"""How secrets are kept: sealed in the log, hashed when they are passwords, and signed between api and agents.

SecretError
├── BadKey         the master key or the internal key of the settings is missing or malformed
├── CannotUnseal   not sealed with this key, not about this, or changed since
└── BadToken       an internal token that is forged, expired, for another agent or about another kernel
"""

import base64
import binascii
import hmac
import os
import time
from collections.abc import Sequence
from typing import Any

import jwt
from argon2 import PasswordHasher
from argon2.exceptions import Argon2Error, InvalidHashError
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from domain.messages import AgentId, KernelId, SessionId
from infra.settings import Settings

_VERSION = b"\x01"  # of the sealed form: says how, and later with which key, it was made
_NONCE_BYTES = 12
_KEY_BYTES = 32
_SALT_BYTES = 16
_TOKEN_SECONDS = 60.0
_AGENT, _API = "refold-agent/", "refold-api"  # whom a token is for: neither side takes its own back


class SecretError(Exception):
    """Something is wrong with a secret, or with the key that keeps it."""


class BadKey(SecretError):
    """A key of the settings cannot be used."""


class CannotUnseal(SecretError):
    """The text was not sealed with this key about this, or was changed."""


class BadToken(SecretError):
    """The token does not open this door."""


def master_key(settings: Settings) -> bytes:
    """The 32 bytes that wrap the keys with which secrets in the log are sealed. Raises `BadKey`."""
    return _read_key("REFOLD_MASTER_KEY", settings.master_key.get_secret_value())


def old_master_keys(settings: Settings) -> Sequence[bytes]:
    """Those that may still wrap some keys, while a new one is taken into use. Raises `BadKey`."""
    text = settings.master_key_old.get_secret_value()
    return [_read_key("REFOLD_MASTER_KEY_OLD", text)] if text else []


def _read_key(name: str, text: str) -> bytes:
    try:
        key = base64.b64decode(text, validate=True)
    except binascii.Error as error:
        raise BadKey(f"{name} is not base64") from error
    if len(key) != _KEY_BYTES:
        raise BadKey(f"{name} must be {_KEY_BYTES} bytes in base64, and has {len(key)}")
    return key


def new_key() -> str:
    """A random key in the form the settings take it in."""
    return base64.b64encode(os.urandom(_KEY_BYTES)).decode()


def seal(key: bytes, secret: str, about: str, command_id: str | None = None) -> str:
    """Encrypt (AES-256-GCM); base64. Whoever unseals must know what it is `about`: sealed texts cannot be swapped.

    Never the same text twice, but for one command: who sends that again must say the same (`Idempotency-Key`).
    """
    nonce = os.urandom(_NONCE_BYTES)
    if command_id is not None:
        nonce = hmac.digest(key, "\0".join((command_id, about, secret)).encode(), "sha256")[:_NONCE_BYTES]
    sealed = AESGCM(key).encrypt(nonce, secret.encode(), _VERSION + about.encode())
    return base64.b64encode(_VERSION + nonce + sealed).decode()


def unseal(key: bytes, sealed: str, about: str) -> str:
    """What was sealed. Raises `CannotUnseal`."""
    try:
        raw = base64.b64decode(sealed, validate=True)
    except binascii.Error as error:
        raise CannotUnseal("this is no sealed text") from error
    version, nonce, rest = raw[:1], raw[1 : 1 + _NONCE_BYTES], raw[1 + _NONCE_BYTES :]
    if version != _VERSION or len(nonce) != _NONCE_BYTES:
        raise CannotUnseal("sealed in a form this program does not know")
    try:
        return AESGCM(key).decrypt(nonce, rest, version + about.encode()).decode()
    except InvalidTag as error:
        raise CannotUnseal(f"not sealed with this key about {about}") from error


_hasher = PasswordHasher()


def hash_password(password: str, salt: bytes | None = None) -> str:
    """argon2id, with salt and parameters in the text. Takes tens of milliseconds: call it off the event loop.

    Another text each time, but for one salt.
    """
    return _hasher.hash(password, salt=salt)


def is_salted_with(password_hash: str, salt: bytes) -> bool:
    """Whether the hash was made with this salt."""
    return password_hash.split("$")[4:5] == [base64.b64encode(salt).rstrip(b"=").decode()]


def salt_for(settings: Settings, command_id: str) -> bytes:
    """Of the password that a command sets: who sends that again must say the same. Raises `BadKey`."""
    return hmac.digest(master_key(settings), f"password salt/{command_id}".encode(), "sha256")[:_SALT_BYTES]


def password_fits(password_hash: str, password: str) -> bool:
    """Whether this is the password. As slow as hashing."""
    try:
        return _hasher.verify(password_hash, password)
    except (Argon2Error, InvalidHashError):
        return False


def agent_key(settings: Settings, agent_id: AgentId) -> str:
    """What the api and this one agent sign with, for each other: derived from the internal key.

    A process that has only an agent's key can make and read no other agent's tokens. Raises `BadKey`.
    """
    internal = settings.internal_key.get_secret_value()
    if own := settings.agent_key.get_secret_value() if not internal else "":
        _read_key("REFOLD_AGENT_KEY", own)
        return own
    if len(internal.encode()) < _KEY_BYTES:
        raise BadKey(f"REFOLD_INTERNAL_KEY must have at least {_KEY_BYTES} characters")
    derive = HKDF(algorithm=SHA256(), length=_KEY_BYTES, salt=None, info=f"refold agent key/{agent_id}".encode())
    return base64.b64encode(derive.derive(internal.encode())).decode()


def internal_token(settings: Settings, agent_id: AgentId, kernel_id: KernelId, seconds: float = _TOKEN_SECONDS) -> str:
    """A short-lived token that lets the api ask this agent about one kernel. Raises `BadKey`."""
    return _signed(settings, agent_id, seconds, aud=_AGENT + agent_id, kernel_id=kernel_id)


def check_internal_token(settings: Settings, agent_id: AgentId, token: str, kernel_id: KernelId) -> None:
    """For the agent: raises `BadToken` unless the token is ours, fresh, for this agent and about this kernel."""
    _checked(settings, agent_id, token, _AGENT + agent_id, kernel_id)


def start_token(
    settings: Settings,
    agent_id: AgentId,
    kernel_id: KernelId,
    session_id: SessionId,
    seconds: float = _TOKEN_SECONDS,
) -> str:
    """A short-lived token that lets this agent ask the api for what one kernel of a session needs. Raises `BadKey`."""
    about = {"iss": agent_id, "aud": _API, "kernel_id": kernel_id, "session_id": session_id}
    return _signed(settings, agent_id, seconds, **about)


def session_to_start(settings: Settings, token: str, kernel_id: KernelId) -> tuple[SessionId, AgentId]:
    """For the api: whose kernel this is, as the agent says that starts it, and which one that is.

    Raises `BadToken`, `BadKey`.
    """
    try:
        said = jwt.decode(token, options={"verify_signature": False}).get("iss")
    except jwt.PyJWTError as error:
        raise BadToken(f"not a token of ours: {error}") from error
    if not isinstance(said, str):
        raise BadToken("the token does not say whose it is")
    agent_id = AgentId(said)
    claims = _checked(settings, agent_id, token, _API, kernel_id, "iss", "session_id")
    return SessionId(str(claims["session_id"])), agent_id


def _signed(settings: Settings, agent_id: AgentId, seconds: float, **claims: str) -> str:
    return jwt.encode({**claims, "exp": time.time() + seconds}, agent_key(settings, agent_id), algorithm="HS256")


def _checked(
    settings: Settings, agent_id: AgentId, token: str, audience: str, kernel_id: KernelId, *more: str
) -> dict[str, Any]:
    """The claims of a token; `more`: which it must have besides."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token,
            agent_key(settings, agent_id),
            algorithms=["HS256"],
            audience=audience,
            options={"require": ["exp", "aud", "kernel_id", *more]},
        )
    except jwt.PyJWTError as error:
        raise BadToken(f"not a token of ours: {error}") from error
    if claims["kernel_id"] != kernel_id:
        raise BadToken("the token is about another kernel")
    return claims
