"""GETs at one registry, as its user. What it answers may be anything, so everything about it is bounded.

Written on httpx because the libraries that were looked at (python-dxf, oras) block, read answers of any size, and
follow redirects on their own; of all they can do, a scan needs only reading.

RegistryError
├── Unreachable    no answer, not in time, or again and again that it cannot now
├── Denied         it wants other credentials than we have
├── NotThere       it has no such thing
└── BadAnswer      an answer that makes no sense, or is too large
"""

import asyncio
import base64
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx
import orjson

_ANSWER_BYTES_MAX: Final = 4 * 2**20
"""Of one answer: what the Docker daemon takes as a manifest."""

_REQUEST_SECONDS_MAX: Final = 60.0
"""For one request and its redirects, however slowly the answer trickles."""

_CONNECT_SECONDS_MAX: Final = 10.0
_SILENCE_SECONDS_MAX: Final = 30.0
_REDIRECTS_MAX: Final = 5
_TRIES_MAX: Final = 4
_PAUSE_SECONDS: Final = 1.0
_PAUSE_SECONDS_MAX: Final = 30.0
"""The longest pause a registry may ask of us before it is asked again."""

_AGAIN: Final = frozenset({429, 502, 503, 504})
_PARAMETER: Final = re.compile(r'([a-zA-Z]+)="([^"]*)"')
_TOKEN: Final = re.compile(r"[\x21-\x7e]{1,65536}")


class RegistryError(Exception):
    """The registry did not answer what was asked. Its text is for people, and says nothing secret."""


class Unreachable(RegistryError):
    """It does not answer, or says that it cannot at the moment."""


class Denied(RegistryError):
    """It does not let us."""


class NotThere(RegistryError):
    """There is no such thing."""


class BadAnswer(RegistryError):
    """It answered something that makes no sense."""


@dataclass(frozen=True)
class Credentials:
    username: str
    password: str

    @property
    def basic(self) -> str:
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


@dataclass(frozen=True)
class Answer:
    """`url`: where it came from in the end."""

    url: httpx.URL
    headers: httpx.Headers
    body: bytes

    def json(self) -> Any:
        """Raises `BadAnswer`."""
        try:
            return orjson.loads(self.body)
        except orjson.JSONDecodeError as error:
            raise BadAnswer(f"{self.url.path} is no JSON: {error}") from error


class Web:
    """One registry's web server. At most so many requests are on their way as its client has connections."""

    def __init__(self, client: httpx.AsyncClient, url: str, credentials: Credentials | None) -> None:
        self.base = httpx.URL(url).copy_with(username=None, password=None)
        self._client = client
        self._credentials = credentials
        self._authorizations: dict[str, str] = {}

    def url(self, path: str) -> httpx.URL:
        """Of a path below the registry's own."""
        return self.base.copy_with(path=self.base.path.rstrip("/") + path, query=None)

    def introduce(self, scope: str) -> None:
        """Say who we are without being asked, where whoever does not say it is shown less instead of being asked."""
        if self._credentials is not None:
            self._authorizations[scope] = self._credentials.basic

    async def get(self, url: httpx.URL, scope: str, accept: str = "application/json") -> Answer:
        """What stands there. `scope` names what is read, as the registry's token service has it.

        Raises `RegistryError`.
        """
        for number in range(1, _TRIES_MAX + 1):
            try:
                return await self._get(url, scope, accept)
            except _NotNow as error:
                if number == _TRIES_MAX:
                    raise Unreachable(str(error)) from error
                await asyncio.sleep(min(_PAUSE_SECONDS_MAX, error.pause or _PAUSE_SECONDS * 2**number))
        raise AssertionError("the last try returns or raises")

    async def _get(self, url: httpx.URL, scope: str, accept: str) -> Answer:
        status, answer = await self._follow(url, accept, self._authorizations.get(scope))
        if status == 401 and self._is_own(answer.url):
            self._authorizations[scope] = authorization = await self._authorize(answer.headers, scope)
            status, answer = await self._follow(url, accept, authorization)
        match status:
            case 200:
                return answer
            case 401 | 403:
                raise Denied(f"{url.path} is denied (status {status})")
            case 404 | 405:
                raise NotThere(f"{url.path} is not there (status {status})")
            case _ if status in _AGAIN:
                raise _NotNow(f"{url.path} is answered with status {status}", answer.headers)
            case _:
                raise BadAnswer(f"{url.path} is answered with status {status}")

    async def _follow(self, url: httpx.URL, accept: str, authorization: str | None) -> tuple[int, Answer]:
        """The status and the answer at the end of the redirects. Another host is told nothing of who we are."""
        try:
            async with asyncio.timeout(_REQUEST_SECONDS_MAX):
                for _ in range(_REDIRECTS_MAX + 1):
                    _check(url, self.base)
                    headers = {"Accept": accept, "Accept-Encoding": "identity"}
                    if authorization is not None and self._is_own(url):
                        headers["Authorization"] = authorization
                    async with _stream(self._client, url, headers) as response:
                        if not response.has_redirect_location:
                            return response.status_code, Answer(url, response.headers, await _bounded(response))
                        url = url.join(response.headers["Location"])
        except TimeoutError as error:
            raise _NotNow(f"{self.base.host} does not answer within {_REQUEST_SECONDS_MAX:.0f} s") from error
        except httpx.TransportError as error:
            raise _NotNow(f"{self.base.host} cannot be reached: {error or type(error).__name__}") from error
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BadAnswer(f"{self.base.host} redirects to what is no address") from error
        raise BadAnswer(f"{self.base.host} redirects without end")

    def _is_own(self, url: httpx.URL) -> bool:
        return _origin(url) == _origin(self.base)

    async def _authorize(self, headers: httpx.Headers, scope: str) -> str:
        """What the registry wants to see as `Authorization`, by its challenge."""
        challenge = headers.get("WWW-Authenticate", "")[:4096]
        scheme = challenge.partition(" ")[0].lower()
        if scheme == "basic" and self._credentials is not None:
            return self._credentials.basic
        if scheme == "bearer":
            return "Bearer " + await self._token(dict(_PARAMETER.findall(challenge)), scope)
        raise Denied(f"{self.base.host} wants credentials")

    async def _token(self, challenge: Mapping[str, str], scope: str) -> str:
        """From the service that the registry names. It gets the user's password, as Docker's own client gives it."""
        try:
            realm = httpx.URL(challenge.get("realm", ""))
            wanted = {name: challenge[name] for name in ("service",) if name in challenge}
            url = realm.copy_merge_params(wanted | {"scope": challenge.get("scope", scope)})
        except (httpx.InvalidURL, UnicodeError) as error:
            raise BadAnswer(f"{self.base.host} names no token service") from error
        service = Web(self._client, str(url), None)
        basic = None if self._credentials is None else self._credentials.basic
        _check(url, self.base)
        status, answer = await service._follow(url, "application/json", basic)
        if status in _AGAIN:
            raise _NotNow(f"the token service {url.host} answers with status {status}", answer.headers)
        if status != 200:
            raise Denied(f"the token service {url.host} answers with status {status}")
        told = answer.json()
        token = (told.get("token") or told.get("access_token")) if isinstance(told, dict) else None
        if not isinstance(token, str) or not _TOKEN.fullmatch(token):
            raise BadAnswer(f"the token service {url.host} gives no token")
        return token


class _NotNow(Exception):
    """It may work in a moment. `pause`: the seconds it asks us to wait, 0 where it says nothing."""

    def __init__(self, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        stated = (headers or {}).get("Retry-After", "")
        self.pause = float(stated) if stated.isdecimal() else 0.0


@asynccontextmanager
async def open_web(url: str, credentials: Credentials | None, *, ssl_verify: bool, at_once: int) -> AsyncIterator[Web]:
    """The web server of a registry, for the block."""
    async with httpx.AsyncClient(
        verify=ssl_verify,
        timeout=httpx.Timeout(_SILENCE_SECONDS_MAX, connect=_CONNECT_SECONDS_MAX, pool=None),
        limits=httpx.Limits(max_connections=at_once),
        follow_redirects=False,
        headers={"User-Agent": "refold"},
    ) as client:
        yield Web(client, url, credentials)


@asynccontextmanager
async def _stream(
    client: httpx.AsyncClient, url: httpx.URL, headers: Mapping[str, str]
) -> AsyncIterator[httpx.Response]:
    client.cookies.clear()  # none of ours, and none of theirs: a cookie would be sent where credentials must not go
    async with client.stream("GET", url, headers=dict(headers)) as response:
        yield response


async def _bounded(response: httpx.Response) -> bytes:
    """The body as it was sent: nobody asked for it to be packed, so nothing is unpacked either."""
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise BadAnswer(f"{response.url.host} sends what was packed, though nobody asked for that")
    pieces: list[bytes] = []
    size = 0
    async for piece in response.aiter_raw():
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            raise BadAnswer(f"{response.url.path} is larger than {_ANSWER_BYTES_MAX} bytes")
        pieces.append(piece)
    return b"".join(pieces)


def _check(url: httpx.URL, base: httpx.URL) -> None:
    """Whether we may go there from the registry: what began encrypted stays so."""
    if url.scheme not in ("http", "https") or not url.host:
        raise BadAnswer(f"{base.host} leads to what is no address of the web")
    if base.scheme == "https" and url.scheme != "https":
        raise BadAnswer(f"{base.host} leads from https to http")
    if url.userinfo:
        raise BadAnswer(f"{base.host} leads to an address with credentials in it")


def _origin(url: httpx.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port
