"""How a request is signed with a keypair: the same for the api, which checks it, and for our own clients, who make it.

Seven lines are signed with a key derived from the secret, the day and the host, so that a signature is of use for one
request only, and a derived key for one day and host.
"""

import hashlib
import hmac
from collections.abc import Generator
from datetime import UTC, datetime
from typing import Final

import httpx

API_VERSION: Final = "v7.20230615"
ALGORITHMS: Final = frozenset({"sha256", "sha384", "sha512"})
NO_CONTENT_TYPE: Final = "application/octet-stream"
"""What a missing Content-Type counts as."""


def media_type(content_type: str) -> str:
    """As it is signed: without parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower() or NO_CONTENT_TYPE


def string_to_sign(
    method: str,
    target: str,
    date: str,
    host: str,
    content_type: str,
    version: str,
    body_hash: str,
    version_header: str = "x-backendai-version",
) -> bytes:
    """`target`: path with query exactly as on the wire. `date`, `host`, `version`: the headers' text."""
    return (
        f"{method.upper()}\n{target}\n{date.strip()}\nhost:{host.strip()}\n"
        f"content-type:{content_type}\n{version_header}:{version.strip()}\n{body_hash}"
    ).encode()


def signing_key(secret_key: str, day: str, host: str, algorithm: str = "sha256") -> bytes:
    """The key of one day (`YYYYMMDD` in UTC) and host."""
    of_day = hmac.digest(secret_key.encode(), day.encode(), algorithm)
    return hmac.digest(of_day, host.encode(), algorithm)


def sign(key: bytes, text: bytes, algorithm: str = "sha256") -> str:
    """The signature, in lower-case hex."""
    return hmac.digest(key, text, algorithm).hex()


def body_hash(body: bytes, algorithm: str = "sha256") -> str:
    """The last line: of the whole body, or of no bytes where the body is left out (as the public client does)."""
    return hashlib.new(algorithm, body).hexdigest()


class KeypairAuth(httpx.Auth):
    """Signs every request of an httpx client; its body too, unless it says otherwise, as uploads have to."""

    def __init__(self, access_key: str, secret_key: str, *, covers_body: bool = True) -> None:
        self._access_key = access_key
        self._secret_key = secret_key
        self.requires_request_body = covers_body

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        now = datetime.now(UTC)
        host = request.headers["Host"]
        text = string_to_sign(
            method=request.method,
            target=request.url.raw_path.decode("ascii"),
            date=now.isoformat(),
            host=host,
            content_type=media_type(request.headers.get("Content-Type", "")),
            version=API_VERSION,
            body_hash=body_hash(request.content if self.requires_request_body else b""),
        )
        signature = sign(signing_key(self._secret_key, f"{now:%Y%m%d}", host), text)
        request.headers["Date"] = now.isoformat()
        request.headers["X-BackendAI-Version"] = API_VERSION
        request.headers["Authorization"] = (
            f"BackendAI signMethod=HMAC-SHA256, credential={self._access_key}:{signature}"
        )
        yield request
