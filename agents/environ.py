"""The environment a kernel's owner gave it: in the order it is sealed, and the api opens it when the kernel starts.

Its values are never written down here: not in the journal, which keeps the order as it came, and not in a record.

EnvironFailure
├── EnvironUnavailable   the api does not answer, or cannot at the moment: ask again later
└── EnvironRefused       it never will: the owner's key was deleted, or the values are not of this session
"""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Final

import aiohttp
import orjson
from pydantic import TypeAdapter, ValidationError

from domain.placements import StartKernel
from infra.secrets import BadKey, start_token
from infra.settings import Settings

_SECONDS_MAX: Final = 10.0
_NEVER: Final = frozenset({400, 410})
"""What the api answers where asking again is of no use. Anything else may be about its own state, or our clock."""

_ANSWER: Final[TypeAdapter[dict[str, dict[str, str]]]] = TypeAdapter(dict[str, dict[str, str]])


class EnvironFailure(Exception):
    """The values were not told."""


class EnvironUnavailable(EnvironFailure):
    """Not now."""


class EnvironRefused(EnvironFailure):
    """Never."""


class Environs:
    """`url`: the api's address."""

    def __init__(self, settings: Settings, url: str, http: aiohttp.ClientSession) -> None:
        self._settings = settings
        self._url = url.rstrip("/")
        self._http = http

    async def of(self, order: StartKernel) -> Mapping[str, str]:
        """What the owner gave, in clear. Nobody is asked where he gave nothing. Raises `EnvironFailure`."""
        if not order.sealed_environ:
            return {}
        try:
            token = start_token(self._settings, order.kernel_id, order.session_id)
            status, body = await self._asked(order, token)
        except BadKey as error:
            raise EnvironRefused(str(error)) from error
        except (aiohttp.ClientError, TimeoutError) as error:
            raise EnvironUnavailable(f"the api at {self._url} does not answer: {error!r}") from error
        if status != 200:
            refused = EnvironRefused if status in _NEVER else EnvironUnavailable
            raise refused(f"the api at {self._url} does not tell the environment: {status}{_reason(body)}")
        try:
            environ = _ANSWER.validate_json(body)["environ"]
        except (ValidationError, KeyError):  # whose text would tell what it was
            raise EnvironUnavailable(f"what answers at {self._url} is no api of Refold") from None
        return environ

    async def _asked(self, order: StartKernel, token: str) -> tuple[int, bytes]:
        async with self._http.post(
            f"{self._url}/internal/kernels/{order.kernel_id}/environ",
            data=orjson.dumps({"environ": order.sealed_environ}),
            headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
            allow_redirects=False,
        ) as answer:
            return answer.status, await answer.read()


@asynccontextmanager
async def asking(settings: Settings, url: str) -> AsyncIterator[Environs]:
    """While the block runs, connections to the api are kept."""
    timeout = aiohttp.ClientTimeout(total=_SECONDS_MAX)
    async with aiohttp.ClientSession(timeout=timeout, cookie_jar=aiohttp.DummyCookieJar()) as http:
        yield Environs(settings, url, http)


def _reason(body: bytes) -> str:
    """What a problem says of itself."""
    try:
        return f", {orjson.loads(body)['detail']}"
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return ""
