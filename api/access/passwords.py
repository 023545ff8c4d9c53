"""Passwords: what a new one must be like, and how they are checked without holding up anybody else.

Hashing takes tens of milliseconds and 64 MiB each time, on purpose. So it is done in threads, few at a time, and who
would have to wait long is sent away.
"""

import asyncio
import secrets
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

from api.http.problems import Problem, invalid
from infra.secrets import hash_password, password_fits

LENGTH_MIN: Final = 8
LENGTH_MAX: Final = 256

_AT_ONCE: Final = 4
_WAITING_MAX: Final = 64  # some 16 turns of 50 ms
_NAME_MIN: Final = 3  # a shorter name may well be within a good password
_COMMON: Final = frozenset(
    {
        *("12345678", "123456789", "1234567890", "87654321", "1q2w3e4r", "1qaz2wsx", "qwertyui", "qwertyuiop"),
        *("qwerty123", "abcd1234", "abc12345", "a1b2c3d4", "password", "passw0rd", "password1", "password123"),
        *("iloveyou", "sunshine", "princess", "football", "baseball", "superman", "trustno1", "letmein1"),
        *("welcome1", "changeme", "administrator", "backendai"),
    }
)

Made = TypeVar("Made")

_OF_NOBODY: Final = hash_password(secrets.token_urlsafe())

_threads = ThreadPoolExecutor(_AT_ONCE, "passwords")
_waiting = 0


def check_password(password: str, names: Iterable[str] = (), field: str = "password") -> None:
    """Raises `Problem` (400) for one that is easily guessed. `names`: the user's, and his email."""
    if not LENGTH_MIN <= len(password) <= LENGTH_MAX:
        raise invalid(field, "password_length", f"a password has {LENGTH_MIN} to {LENGTH_MAX} characters")
    if not password.isprintable():
        raise invalid(field, "password_characters", "a password has no control characters")
    lower = password.lower()
    if lower in _COMMON or len(set(lower)) < 4:
        raise invalid(field, "password_common", "this is among the passwords that are tried first")
    for name in names:
        own = name.lower().partition("@")[0]
        if len(own) >= _NAME_MIN and own in lower:
            raise invalid(field, "password_name", "a password does not contain one's own name")


async def hashed(password: str, salt: bytes | None = None) -> str:
    """The hash of a new password, with a new salt if none is given. Raises `Problem` (503) where too many wait."""
    return await _in_turn(lambda: hash_password(password, salt))


async def fits(password_hash: str | None, password: str) -> bool:
    """Whether this is the password. None, for a user who is not there, takes as long and is never right.

    Raises `Problem` (503) where too many are waiting.
    """
    return await _in_turn(lambda: password_fits(password_hash or _OF_NOBODY, password)) and password_hash is not None


async def _in_turn(make: Callable[[], Made]) -> Made:
    global _waiting
    if _waiting >= _WAITING_MAX:
        raise Problem(
            503,
            "too-many-sign-ins",
            "Too many sign-ins at once",
            "too many passwords are waiting to be checked",
            retryable=True,
            retry_after=2,
        )
    _waiting += 1
    try:
        return await asyncio.get_running_loop().run_in_executor(_threads, make)
    finally:
        _waiting -= 1
