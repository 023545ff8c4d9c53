"""Where requests to a registry go, and what goes with them, wherever its answers point."""

import base64
from collections.abc import Callable

import httpx
import pytest

from workers.registries import web as registry_web
from workers.registries.web import BadAnswer, Credentials, Denied, NotThere, RegistryError, Web

BASE = "https://cr.example.org"
BASIC = "Basic " + base64.b64encode(b"robot:secret").decode()
ROBOT = Credentials("robot", "secret")
TOKEN = f'Bearer realm="{BASE}/token",service="cr"'

Answers = Callable[[httpx.Request], httpx.Response]


class Wire(httpx.AsyncBaseTransport):
    """Hands each request to a function, and its answer back as one that is yet to be read."""

    def __init__(self, answers: Answers) -> None:
        self._answers = answers

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        told = self._answers(request)
        return httpx.Response(told.status_code, headers=told.headers, stream=httpx.ByteStream(told.content))


def web(answers: Answers, credentials: Credentials | None = ROBOT) -> Web:
    return Web(httpx.AsyncClient(transport=Wire(answers)), BASE, credentials)


async def get(of: Web, path: str = "/v2/_catalog") -> bytes:
    return (await of.get(of.url(path), "scope")).body


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry_web, "_PAUSE_SECONDS", 0.0)


@pytest.mark.parametrize(
    "location",
    [
        "http://cr.example.org/v2/",
        "http://169.254.169.254/latest/meta-data",
        "ftp://cr.example.org/",
        "file:///etc/passwd",
        "https://somebody:word@other.example.org/",
        "https://cr.example.org:port/",
        "//",
    ],
)
async def test_a_redirect_that_leaves_https_or_the_web_is_refused(location: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(302, headers={"Location": location})

    with pytest.raises(RegistryError):
        await get(web(answer))
    assert {str(url) for url in asked} == {f"{BASE}/v2/_catalog"}


async def test_redirects_end() -> None:
    with pytest.raises(BadAnswer, match="without end"):
        await get(web(lambda request: httpx.Response(302, headers={"Location": str(request.url) + "0"})))


@pytest.mark.parametrize(
    "challenge",
    [
        'Bearer realm="http://cr.example.org/token"',
        'Bearer realm="/token"',
        'Bearer realm="https://a:b@cr.example.org/token"',
        "Bearer",
        "Negotiate",
        "",
        "\x80",
    ],
)
async def test_a_password_goes_to_no_token_service_without_https(challenge: str) -> None:
    asked = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url)
        return httpx.Response(401, headers=[(b"WWW-Authenticate", challenge.encode("latin1"))])

    with pytest.raises(RegistryError):
        await get(web(answer))
    assert len(asked) == 1


async def test_a_challenge_of_another_host_gets_nothing() -> None:
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.url.host == "other.example.org":
            return httpx.Response(401, headers={"WWW-Authenticate": "Basic"})
        return httpx.Response(302, headers={"Location": "https://other.example.org/"})

    with pytest.raises(Denied):
        await get(web(answer))
    assert not any("Authorization" in request.headers for request in asked)


async def test_basic_credentials_are_given_where_they_are_asked_for() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.headers.get("Authorization") == BASIC:
            return httpx.Response(200, content=b"in")
        return httpx.Response(401, headers={"WWW-Authenticate": 'Basic realm="registry"'})

    assert await get(web(answer)) == b"in"
    with pytest.raises(Denied):
        await get(web(answer, None))


async def test_a_token_is_used_again_and_renewed_when_it_has_expired() -> None:
    tokens: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            assert request.headers["Authorization"] == BASIC
            tokens.append(f"token{len(tokens)}")
            return httpx.Response(200, json={"access_token": tokens[-1]})
        if tokens and request.headers.get("Authorization") == f"Bearer {tokens[-1]}":
            return httpx.Response(200, content=b"in")
        return httpx.Response(401, headers={"WWW-Authenticate": TOKEN})

    registry = web(answer)
    for _ in range(3):
        assert await get(registry) == b"in"
    assert tokens == ["token0"]
    tokens.append("from now on only another one counts")
    assert await get(registry) == b"in"
    assert len(tokens) == 3


@pytest.mark.parametrize("token", [None, 7, "", "two words", "line\r\nHost: x", "x" * 70_000])
async def test_what_is_no_token_is_not_sent(token: object) -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            return httpx.Response(200, json={"token": token})
        assert "Authorization" not in request.headers
        return httpx.Response(401, headers={"WWW-Authenticate": TOKEN})

    with pytest.raises(BadAnswer, match="gives no token"):
        await get(web(answer))


async def test_an_answer_that_was_packed_unasked_is_not_unpacked() -> None:
    packed = httpx.Response(200, content=b"")
    packed.headers["Content-Encoding"] = "gzip"
    with pytest.raises(BadAnswer, match="packed"):
        await get(web(lambda _: packed))


@pytest.mark.parametrize(("status", "error"), [(404, NotThere), (403, Denied), (418, BadAnswer), (500, BadAnswer)])
async def test_each_status_says_what_it_means(status: int, error: type[RegistryError]) -> None:
    with pytest.raises(error, match="/v2/_catalog"):
        await get(web(lambda _: httpx.Response(status)))


async def test_credentials_in_the_registrys_own_address_are_not_used() -> None:
    seen: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request)
        return httpx.Response(200)

    client = httpx.AsyncClient(transport=Wire(answer))
    await get(Web(client, "https://me:word@cr.example.org/", None))
    assert "Authorization" not in seen[0].headers
