"""Who is asking? Every request is signed with a keypair; the directory is in memory, so nobody waits for a database.

There is a problem of its own for each way to be wrong, but one: an unknown access key and a wrong signature look the
same, in text and in time, so that nobody can find out which keys exist.
"""

import hmac
import re
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from secrets import token_hex

from api.access.authority import may_act_for
from api.http.problems import Problem
from domain.directory.messages.users import Role
from domain.directory.state import Directory, Identity
from domain.messages import AccessKey
from infra.keyring import Forgotten, KeyMissing, Keyring
from infra.secrets import CannotUnseal
from infra.signing import ALGORITHMS, body_hash, media_type, sign, signing_key, string_to_sign

SKEW_MAX = timedelta(minutes=15)
_KEYS_KEPT_MAX = 10_000  # derived keys: one per access key, day and host name

_CREDENTIAL = re.compile(
    r"(?:BackendAI|Sorna)\s+signMethod=HMAC-(?P<algorithm>[A-Za-z0-9_-]+),\s*"
    r"credential=(?P<access_key>[^:\s,]+):(?P<signature>[0-9a-fA-F]+)"
)
_VERSION = re.compile(r"v\d{1,2}\.\d{8}")
_NOBODY = "nobody"


@dataclass(frozen=True, slots=True)
class Caller:
    """Who signed the request. `owner`: whose sessions it is about, another's only if an admin asks.

    `sign_in_id`: of the cookie by which he was let in, where it was one.
    """

    access_key: AccessKey
    owner: AccessKey
    identity: Identity
    sign_in_id: str | None = None

    @property
    def is_admin(self) -> bool:
        """Whether he may see and change what belongs to others."""
        return self.identity.keypair.spec.is_admin or self.identity.user.spec.role in {Role.ADMIN, Role.SUPERADMIN}

    @property
    def actor(self) -> str:
        """How the log names him."""
        return f"keypair:{self.access_key}"


@dataclass(frozen=True, slots=True)
class Signed:
    """What of a request is signed. `headers`: lower-case name → text; `target`: raw path with query."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes


def _now() -> datetime:
    return datetime.now(UTC)


class Gate:
    """Lets callers in. `directory` is asked anew each time, so a revoked key stops working as soon as that is known.

    `whole_bodies`: whether a signature must cover the body; the public client leaves it out.
    """

    def __init__(
        self,
        directory: Callable[[], Directory],
        keyring: Keyring,
        now: Callable[[], datetime] = _now,
        *,
        whole_bodies: bool = False,
    ) -> None:
        self._directory = directory
        self._keyring = keyring
        self._now = now
        self._whole_bodies = whole_bodies
        self._keys: OrderedDict[tuple[str, str, str, str], bytes] = OrderedDict()
        self._secret_of_nobody = token_hex()

    async def let_in(self, request: Signed) -> Caller:
        """As `admit`, with the key of his secret brought into memory first. Raises `Problem` (401), `Unavailable`."""
        try:
            return self.admit(request)
        except KeyMissing as missing:
            try:
                await self._keyring.load(missing.key_id)
            except Forgotten:
                raise _wrong() from None
            return self.admit(request)

    def admit(self, request: Signed, owner: str | None = None) -> Caller:
        """The caller; `owner` is the access key he wants to act for.

        Raises a `Problem` (401, or 403 for the owner), and `KeyMissing`.
        """
        access_key, signature, algorithm = _credential(request.headers)
        version_header, version = _version(request.headers)
        date = _date(request.headers)
        at = _moment(date)
        if abs(self._now() - at) > SKEW_MAX:
            raise _unauthorized("date-skewed", "the date of the request is more than 15 minutes off")
        directory = self._directory()
        identity = directory.identity(access_key)
        host = request.headers.get("host", "")
        key = self._key(access_key, identity, f"{at:%Y%m%d}", host, algorithm)
        fits = False
        for body in dict.fromkeys([request.body] if self._whole_bodies else [b"", request.body]):
            text = string_to_sign(
                request.method,
                request.target,
                date,
                host,
                media_type(request.headers.get("content-type", "")),
                version,
                body_hash(body, algorithm),
                version_header,
            )
            fits = hmac.compare_digest(sign(key, text, algorithm), signature) or fits
            if fits:
                break
        if not fits or identity is None:
            raise _wrong()
        if not identity.active:
            raise _unauthorized("keypair-inactive", "the keypair or its user is not active")
        return self.acting_for(Caller(identity.keypair.access_key, identity.keypair.access_key, identity), owner)

    def acting_for(self, caller: Caller, owner: str | None) -> Caller:
        """The caller acting for another access key, which only admins may. Raises `Problem`."""
        if owner is None or owner == caller.owner:
            return caller
        other = self._directory().identity(owner)
        is_allowed = other is not None and may_act_for(caller.identity, other)
        if not is_allowed and not caller.is_admin:
            raise Problem(
                403,
                "generic-forbidden",
                "Forbidden operation",
                "only an admin may act for another access key",
                field="owner_access_key",
            )
        if other is None or not is_allowed:
            raise Problem(
                404, "keypair-not-found", "No such keypair", f"no keypair {owner[:80]}", field="owner_access_key"
            )
        return replace(caller, owner=other.keypair.access_key)

    def _key(self, access_key: str, identity: Identity | None, day: str, host: str, algorithm: str) -> bytes:
        sealed = _NOBODY if identity is None else identity.keypair.secret_sealed
        place = (sealed, day, host, algorithm)
        key = self._keys.get(place)
        if key is None or (identity is not None and not self._keyring.holds(sealed)):  # he may have been forgotten
            try:
                secret = self._secret_of_nobody if identity is None else self._keyring.unseal(sealed, access_key)
            except CannotUnseal as error:
                raise Problem(
                    500, "internal-server-error", "Internal server error", "the secret key cannot be unsealed"
                ) from error
            key = self._keys[place] = signing_key(secret, day, host, algorithm)
            if len(self._keys) > _KEYS_KEPT_MAX:
                self._keys.popitem(last=False)
        return key


def _credential(headers: Mapping[str, str]) -> tuple[str, str, str]:
    authorization = headers.get("authorization")
    if authorization is None:
        raise _unauthorized("authorization-missing", "the Authorization header is missing")
    match = _CREDENTIAL.fullmatch(authorization.strip())
    if match is None:
        raise _unauthorized(
            "authorization-malformed",
            "the Authorization header must be: BackendAI signMethod=HMAC-SHA256, credential=<access key>:<signature>",
        )
    algorithm = match["algorithm"].lower()
    if algorithm not in ALGORITHMS:
        raise _unauthorized(
            "sign-method-unknown", "the sign method must be one of HMAC-SHA256, HMAC-SHA384, HMAC-SHA512"
        )
    return match["access_key"], match["signature"].lower(), algorithm


def _version(headers: Mapping[str, str]) -> tuple[str, str]:
    for name in ("x-backendai-version", "x-sorna-version"):
        if (version := headers.get(name)) is not None:
            if _VERSION.fullmatch(version.strip()) is None:
                raise _unauthorized("version-malformed", f"{name} must be of the form v7.20230615")
            return name, version
    raise _unauthorized("version-missing", "the X-BackendAI-Version header is missing")


def _date(headers: Mapping[str, str]) -> str:
    for name in ("date", "x-backendai-date", "x-sorna-date"):
        if (date := headers.get(name)) is not None:
            return date.strip()
    raise _unauthorized("date-missing", "the Date header is missing, and X-BackendAI-Date too")


def _moment(date: str) -> datetime:
    """Of ISO 8601 in any of its forms, or of RFC 822; without a zone it is UTC."""
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            at = read(date)
            return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    raise _unauthorized("date-malformed", "the date of the request is neither ISO 8601 nor RFC 822")


def _wrong() -> Problem:
    return _unauthorized("signature-mismatch", "the access key or the signature is wrong")


def _unauthorized(kind: str, detail: str) -> Problem:
    return Problem(
        401,
        kind,
        "Unauthorized access",
        detail,
        headers={"WWW-Authenticate": 'BackendAI realm="refold", signMethod="HMAC-SHA256"'},
    )
