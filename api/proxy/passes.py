"""The token with which a user comes from the api to the proxy: which app of which session, and in whose name."""

import time
from dataclasses import asdict, dataclass
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from api.access.auth import Caller
from api.http.deps import Services
from api.http.problems import Problem
from domain.messages import AccessKey
from infra.secrets import master_key
from infra.settings import Settings

PASS_SECONDS: Final = 300.0  # a page asks for one and goes there; it stands in addresses, so it must not last
_AUDIENCE: Final = "refold-proxy"
_ALGORITHM: Final = "HS256"


@dataclass(frozen=True, slots=True)
class Pass:
    """`port`: of the app, in the kernel. `sign_in_id`: of the cookie by which he was let in at the api, if any."""

    session_id: str
    app: str
    protocol: str
    port: int
    access_key: str
    owner: str
    sign_in_id: str | None

    def caller(self, all_: Services) -> Caller:
        """Who came with it, as the directory knows him now. Raises `Problem` (401, 403)."""
        identity = all_.tail.directory.identity(AccessKey(self.access_key))
        if identity is None:
            raise _unauthorized("its keypair is gone")
        caller = Caller(identity.keypair.access_key, identity.keypair.access_key, identity, self.sign_in_id)
        if not all_.sign_ins.is_still_in(caller):
            raise _unauthorized("whose it is would not be let in any more")
        return all_.gate.acting_for(caller, self.owner)


def signed(settings: Settings, told: Pass, seconds: float = PASS_SECONDS) -> str:
    """The text of the token. Raises `BadKey`."""
    claims = asdict(told) | {"exp": time.time() + seconds, "aud": _AUDIENCE}
    return jwt.encode(claims, _key(settings), algorithm=_ALGORITHM)


def read(settings: Settings, token: str) -> Pass:
    """What a token says. Raises `Problem` (401), `BadKey`."""
    try:
        claims: dict[str, Any] = jwt.decode(
            token, _key(settings), algorithms=[_ALGORITHM], audience=_AUDIENCE, options={"require": ["exp", "aud"]}
        )
    except jwt.PyJWTError as error:
        raise _unauthorized(str(error)) from error
    return Pass(**{name: claims[name] for name in Pass.__dataclass_fields__})


def _key(settings: Settings) -> bytes:
    """From the key that agents do not have: what one of them signs leads nobody anywhere."""
    return HKDF(SHA256(), length=32, salt=None, info=b"refold app proxy").derive(master_key(settings))


def _unauthorized(why: str) -> Problem:
    return Problem(
        401, "invalid-token", "Unauthorized access", f"the token cannot be used: {why}; start the service again"
    )
