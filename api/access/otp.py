"""One-time passwords (TOTP, RFC 6238): the secret an authenticator app shares with us, and the codes it makes.

A secret is offered before it counts, and confirmed with a code made from it. Until then nobody has to remember it: it
is derived from the master key, the user and the hour, so any process can check the code, in this hour and the next.
"""

import base64
import hmac
from datetime import datetime
from typing import Final

import pyotp

from domain.messages import UserId
from infra.secrets import master_key
from infra.settings import Settings

ISSUER: Final = "Refold"

_STEP_SECONDS: Final = 30
_STEPS_OFF_MAX: Final = 1  # a clock may be wrong by that much, either way
_SECRET_BYTES: Final = 20  # as RFC 4226 recommends
_OFFER_SECONDS: Final = 3600


def offered(settings: Settings, user_id: UserId, at: datetime, hours_ago: int = 0) -> str:
    """The secret that is offered to the user at that time."""
    hour = int(at.timestamp()) // _OFFER_SECONDS - hours_ago
    derived = hmac.digest(master_key(settings), f"otp offer/{user_id}/{hour}".encode(), "sha256")
    return base64.b32encode(derived[:_SECRET_BYTES]).decode()


def confirmed(settings: Settings, user_id: UserId, code: str, at: datetime) -> str | None:
    """The offered secret from which the code was made; None if it was made from none."""
    for hours_ago in (0, 1):
        secret = offered(settings, user_id, at, hours_ago)
        if step_of(secret, code, at) is not None:
            return secret
    return None


def uri(secret: str, email: str) -> str:
    """The `otpauth` URI that authenticator apps read."""
    return pyotp.TOTP(secret, interval=_STEP_SECONDS).provisioning_uri(name=email, issuer_name=ISSUER)


def step_of(secret: str, code: str, at: datetime) -> int | None:
    """Of which 30 seconds (counted from 1970) this is the code, now or nearly so; None if of none."""
    totp = pyotp.TOTP(secret, interval=_STEP_SECONDS)
    now = int(at.timestamp()) // _STEP_SECONDS
    found = None
    for step in range(now - _STEPS_OFF_MAX, now + _STEPS_OFF_MAX + 1):
        if hmac.compare_digest(totp.generate_otp(step).encode(), code.strip().encode()):
            found = step
    return found


def about(user_id: UserId) -> str:
    """As what the secret is sealed in the log."""
    return f"otp/{user_id}"
