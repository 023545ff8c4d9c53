"""Apps of sessions in a browser: `start-service`, and the proxy that leads there."""

import asyncio
import os
import resource
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import aiohttp
import httpx
import pytest
import pytest_asyncio

from api.proxy.passes import Pass, signed
from domain.directory.messages.keypairs import KeypairChanges, ModifyKeypair
from domain.messages import AccessKey
from tests.api.apps import Proxy, WebSession, web_session
from tests.api.kernels import Kernels
from tests.api.test_sessions import RECORDED
from tests.api.world import KEYS, World
from tests.whole import now

pytestmark = pytest.mark.asyncio(loop_scope="module")

PORTS, OTHERS = "21400-21449", "21450-21499"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def session(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: Any) -> AsyncIterator[WebSession]:
    """One for all tests here; those at the end of the file use it up."""
    folder = tmp_path_factory.mktemp("apps")
    async with (
        World(folder / "world").started() as world,
        Kernels(world, folder / "kernels").started() as kernels,
        web_session(kernels, folder / "app", unused_tcp_port_factory()) as opened,
    ):
        yield opened


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(session: WebSession) -> AsyncIterator[Proxy]:
    async with session.proxy(proxy_ports=PORTS) as opened:
        yield opened


def kind(answer: httpx.Response) -> tuple[int, str]:
    return answer.status_code, answer.json()["type"].rpartition("/")[2]


async def test_a_token_leads_a_browser_by_redirects_to_the_app(proxy: Proxy) -> None:
    told = await proxy.session.pass_for(port=proxy.session.port)
    assert told["wsproxy_addr"] == proxy.url
    async with httpx.AsyncClient(base_url=proxy.url, follow_redirects=True) as browser:
        path = f"/v2/proxy/{told['token']}/{proxy.session.session_id}/add"
        added = (await browser.get(path, params={"app": "web", "redirect": "/lab?x=1"})).json()
        assert (added["code"], added["url"].startswith(f"{proxy.url}/v2/proxy/auth?")) == (200, True)
        page = await browser.get(added["url"])
        assert page.status_code == 200, page.text
        assert page.json()["path"] == "/lab?x=1"
        origin = str(page.url).removesuffix("/lab?x=1")
        assert origin != proxy.url
        assert (await browser.post(f"{origin}/save", content=b"x" * 100_000)).json()["body"] == 100_000
        assert (await browser.head(f"{origin}/")).headers["X-App"] == "yes"
    async with httpx.AsyncClient(base_url=proxy.url) as stranger:
        added = await stranger.get(added["url"], headers={"Accept": "application/json"})
        assert added.json()["reuse"] is True
        assert added.json()["redirect_url"].startswith(f"{origin}/.refold/enter?")
        assert kind(await stranger.get(f"{origin}/")) == (401, "app-cookie")


async def test_a_ticket_opens_the_app_once(proxy: Proxy) -> None:
    for asked, to in (
        ("//evil.example.org/x", "/"),
        ("/\\evil.example.org", "/"),
        ("/ü?x=1&y=ü", "/%C3%BC?x=1&y=%C3%BC"),
    ):
        way = await proxy.way(redirect=asked)
        assert parse_qs(urlsplit(way).query)["to"] == [to], "a redirect leads to a place within the app"
    async with httpx.AsyncClient() as first, httpx.AsyncClient() as second:
        assert (await first.get(way.replace("to=%2F", "to=https%3A%2F%2Fevil.example.org"))).headers["location"] == "/"
        assert kind(await second.get(way)) == (401, "invalid-token")


async def test_a_token_is_for_one_app_of_one_session(proxy: Proxy) -> None:
    told = await proxy.session.pass_for()
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        for session_id, app, token in (
            ("other", "web", told["token"]),
            (proxy.session.session_id, "plain", told["token"]),
            (proxy.session.session_id, "web", "x" + told["token"]),
            (proxy.session.session_id, "web", signed(proxy.session.world.settings, _pass(proxy.session), -1)),
        ):
            asked = {"app": app, "session_id": session_id, "token": token}
            assert kind(await client.get(f"/v2/proxy/{token}/{session_id}/add", params=asked)) == (401, "invalid-token")
            assert kind(await client.get("/v2/proxy/auth", params=asked)) == (401, "invalid-token")


def _pass(session: WebSession) -> Pass:
    return Pass(session.session_id, "web", "http", session.port, KEYS["ada"][0], KEYS["ada"][0], None)


async def test_what_is_asked_for_wrongly_is_refused_by_name(proxy: Proxy) -> None:
    async with proxy.session.world.client() as ada:
        for body, field in (({"app": "shell"}, "app"), ({"app": "web", "port": 1}, "port"), ({}, "service_name")):
            answer = await ada.post("/session/mysess/start-service", json=body)
            assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text
        answer = await ada.post("/session/mysess/start-service", json={"app": "web", "envs": "{"})
        assert (answer.status_code, answer.json()["field"]) == (400, "envs"), answer.text
        assert kind(await ada.post("/session/mysess/start-service", json={"app": "no"})) == (404, "service-not-found")
    async with proxy.session.world.client("eve") as eve:
        answer = await eve.post("/session/mysess/start-service", json={"app": "web"})
        assert answer.status_code == 404, "another user's session is not told of"
    token = (await proxy.session.pass_for())["token"]
    async with httpx.AsyncClient(base_url=proxy.url) as client:
        path = f"/v2/proxy/{token}/{proxy.session.session_id}/add"
        for asked, field in (
            ({}, "app"),
            ({"app": "web", "protocol": "h2"}, "protocol"),
            ({"app": "web", "port": "80"}, "port"),
            ({"app": "web", "allowed_client_ips": "nowhere"}, "allowed_client_ips"),
        ):
            answer = await client.get(path, params=asked)
            assert (answer.status_code, answer.json()["field"]) == (400, field), answer.text


async def test_our_cookies_stay_between_the_browser_and_us(proxy: Proxy) -> None:
    async with proxy.browser() as browser:
        headers = {"Cookie": "; ".join([f"{each.name}={each.value}" for each in browser.cookies.jar] + ["mine=1"])}
        headers |= {"X-Forwarded-For": "1.2.3.4", "X-Forwarded-Proto": "https", "Keep-Alive": "1"}
        answer = await browser.get("/a%20b/?c=%2F", headers=headers | {"Connection": "keep-alive, x-hop", "X-Hop": "1"})
        told = answer.json()
        seen = {name.lower(): value for name, value in told["headers"]}
        assert told["path"] == "/a%20b/?c=%2F"
        assert seen["cookie"] == "mine=1"
        assert seen["host"] == browser.base_url.netloc.decode()
        assert (seen["x-forwarded-for"], seen["x-forwarded-proto"]) == ("127.0.0.1", "http")
        assert not {"x-hop", "keep-alive"} & seen.keys()
        assert answer.headers.get_list("set-cookie") == ["app=1; Path=/"]
        assert answer.headers["x-frame-options"] == "SAMEORIGIN"
        assert "alt-svc" not in answer.headers


async def test_pages_of_others_may_not_use_an_app(proxy: Proxy) -> None:
    async with proxy.browser() as browser:
        ours = str(browser.base_url).rstrip("/")
        neighbour = {"Sec-Fetch-Site": "same-site", "Origin": "http://127.0.0.1:1"}
        assert kind(await browser.post("/", headers=neighbour)) == (403, "cross-site-request")
        assert kind(await browser.get("/", headers={"Origin": "http://evil.example.org"})) == (
            403,
            "cross-site-request",
        )
        assert kind(await browser.get("/", headers={"Sec-Fetch-Site": "cross-site"})) == (403, "cross-site-request")
        linked = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        assert (await browser.get("/", headers=linked)).status_code == 200
        assert (await browser.post("/", headers={"Origin": ours})).status_code == 200
        assert kind(await browser.get("/", headers={"Host": "evil.example.org"})) == (421, "misdirected")
        async with aiohttp.ClientSession(headers={"Cookie": cookies(browser)}) as client:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await client.ws_connect(f"{ours}/ws", origin="http://127.0.0.1:1")
            assert refused.value.status == 403


def cookies(browser: httpx.AsyncClient) -> str:
    return "; ".join(f"{each.name}={each.value}" for each in browser.cookies.jar)


@asynccontextmanager
async def socket_to(browser: httpx.AsyncClient) -> AsyncIterator[aiohttp.ClientWebSocketResponse]:
    headers = {"Cookie": cookies(browser)}
    async with (
        aiohttp.ClientSession(headers=headers) as client,
        client.ws_connect(
            str(browser.base_url.join("/ws")), protocols=("first", "second"), max_msg_size=0, compress=15
        ) as socket,
    ):
        yield socket


async def test_websockets_go_through_as_they_are(proxy: Proxy) -> None:
    async with proxy.browser() as browser, socket_to(browser) as socket:
        assert socket.protocol == "second"
        await socket.send_str("Grüße")
        assert await socket.receive_str() == "Grüße"
        content = os.urandom(5_000_000)
        await socket.send_bytes(content)
        assert await socket.receive_bytes() == content
        await socket.send_str("bye")
        assert (await socket.receive()).data == 4321


async def test_who_signs_out_must_go_and_his_other_browser_may_stay(proxy: Proxy) -> None:
    async with proxy.browser() as browser, socket_to(browser) as one, socket_to(browser) as two:
        for said, socket in (("one", one), ("two", two)):
            await socket.send_str(said)
            assert await socket.receive_str() == said
        [circuit] = [each for each in proxy.apps.circuits.of_session(proxy.session.session_id) if each.connections]
        [first, *_] = circuit.connections
        circuit.connections[first] = replace(circuit.connections[first], sign_in_id="ended")
        async with asyncio.timeout(20):
            assert (await one.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        await two.send_str("still here")
        assert await two.receive_str() == "still here"


async def test_who_does_not_read_is_not_read_either(proxy: Proxy) -> None:
    async with proxy.browser() as browser:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with browser.stream("GET", "/large", params={"mebibytes": 400}) as answer:
            pieces = answer.aiter_raw()
            await anext(pieces)
            await asyncio.sleep(1.5)
            sent = (await browser.get("/count")).json()
            await pieces.aclose()  # type: ignore[attr-defined]
        assert sent < 60, "the app had to wait"
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 60_000


async def test_a_browser_that_leaves_leaves_the_app_too(proxy: Proxy) -> None:
    async with proxy.browser() as browser:
        async with browser.stream("GET", "/slow") as answer:
            await anext(answer.aiter_raw())
            assert (await browser.get("/open")).json() == 1
        async with asyncio.timeout(20):
            while (await browser.get("/open")).json():
                await asyncio.sleep(0.1)


async def test_an_app_that_was_shut_down_starts_again_when_it_is_wanted(proxy: Proxy) -> None:
    async with proxy.browser() as browser, proxy.session.world.client() as ada:
        pid = (await browser.get("/")).json()["pid"]
        answer = await ada.post("/session/mysess/shutdown-service", json={"service_name": "web"})
        assert answer.status_code == 204
        assert (await browser.get("/")).json()["pid"] != pid


async def test_what_is_no_good_request_gets_no_further(proxy: Proxy) -> None:
    url = urlsplit(await proxy.way())
    for said, status in (
        (b"GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", 400),
        (b"\x16\x03\x01 no http\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: x\r\nA: " + b"a" * 70_000, 431),
    ):
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(said)
        async with asyncio.timeout(20):
            answer = await reader.read()
        writer.close()
        assert answer.startswith(f"HTTP/1.1 {status} ".encode()), (said[:80], answer)


async def test_a_port_that_a_session_was_asked_for_with_is_an_app(proxy: Proxy, unused_tcp_port: int) -> None:
    kernels, name = proxy.session.kernels, str(unused_tcp_port)
    config = RECORDED["config"] | {"preopen_ports": [unused_tcp_port]}
    async with proxy.session.world.client() as ada:
        made = await ada.post("/session", json=RECORDED | {"name": "open", "config": config, "enqueueOnly": False})
        shown = {"name": name, "protocol": "preopen", "ports": [unused_tcp_port]}
        assert shown in made.json()["servicePorts"], made.text
        session_id = made.json()["sessionId"]
        await kernels.runners.start_runner(session_id)
        assert shown in (await ada.get("/stream/session/open/apps")).json()
        answer = await ada.post("/session/open/start-service", json={"app": name})
        assert kind(answer) == (404, "unknown-service"), "nobody listens there yet"
        async with await asyncio.start_server(_greet, "127.0.0.1", unused_tcp_port):
            told = (await ada.post("/session/open/start-service", json={"app": name})).json()
            asked = {"app": name, "token": told["token"], "session_id": session_id}
            async with httpx.AsyncClient(follow_redirects=True) as browser:
                page = await browser.get(f"{told['wsproxy_addr']}/v2/proxy/auth", params=asked)
        assert page.text == "hello"
        assert (await ada.delete("/session/open")).status_code == 200


async def _greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.readuntil(b"\r\n\r\n")
    writer.write(b"HTTP/1.0 200 OK\r\n\r\nhello")
    writer.close()


async def test_only_where_it_is_allowed_an_app_is_open_to_everybody(session: WebSession) -> None:
    token = (await _token(session, proxy_public_apps=False))[0]
    assert token == (403, "app-not-allowed")
    async with session.proxy(proxy_ports=OTHERS, proxy_public_apps=True) as proxy:
        way = await proxy.way(open_to_public="true")
        async with httpx.AsyncClient(base_url=way.partition("/.refold")[0]) as stranger:
            assert (await stranger.get("/")).json()["method"] == "GET"
        way = await proxy.way(open_to_public="true", allowed_client_ips="10.0.0.0/8")
        async with httpx.AsyncClient(base_url=way.partition("/.refold")[0]) as stranger:
            assert kind(await stranger.get("/")) == (403, "client-address-not-allowed")


async def _token(session: WebSession, **settings: Any) -> tuple[tuple[int, str], str]:
    async with session.proxy(proxy_ports=OTHERS, **settings) as proxy:
        told = await session.pass_for()
        async with httpx.AsyncClient(base_url=proxy.url) as client:
            asked = {"app": "web", "token": told["token"], "session_id": session.session_id, "open_to_public": "true"}
            return kind(await client.get("/v2/proxy/auth", params=asked)), told["token"]


async def test_an_app_that_is_no_web_page_gets_a_port_where_that_is_allowed(session: WebSession) -> None:
    async with session.proxy(proxy_ports=OTHERS, proxy_tcp_apps=True) as proxy:
        url = urlsplit(await proxy.way("plain"))
        assert url.scheme == "tcp"
        reader, writer = await asyncio.open_connection(url.hostname, url.port)
        writer.write(b"GET / HTTP/1.0\r\n\r\n")
        async with asyncio.timeout(20):
            assert (await reader.read()).startswith(b"HTTP/1.")
        writer.close()


async def test_apps_may_have_names_instead_of_ports(session: WebSession, unused_tcp_port: int) -> None:
    """A browser resolves them; here it is told by `Host`."""
    async with session.proxy(
        proxy_ports=f"{unused_tcp_port}-{unused_tcp_port}",
        proxy_apps_url="https://{subdomain}.apps.example.org",
    ) as proxy:
        way = urlsplit(await proxy.way())
        assert way.scheme == "https"
        assert way.netloc.startswith("web-")
        assert way.netloc.endswith(".apps.example.org")
        here = f"http://127.0.0.1:{unused_tcp_port}"
        async with httpx.AsyncClient(base_url=here, headers={"Host": way.netloc}) as browser:
            entered = await browser.get(f"{way.path}?{way.query}")
            assert entered.status_code == 302, entered.text
            cookie = entered.headers["set-cookie"]
            assert {"HttpOnly", "SameSite=lax", "Secure"} <= {each.strip() for each in cookie.split(";")}
            page = await browser.get("/", headers={"Cookie": cookie.partition(";")[0]})
            assert page.status_code == 200, page.text
            assert ["x-forwarded-proto", "https"] in [[name.lower(), value] for name, value in page.json()["headers"]]
            assert kind(await browser.get("/", headers={"Host": "web-0.apps.example.org"})) == (404, "app-not-open")
            other = {"Host": way.netloc.replace("apps.", "evil.")}
            assert kind(await browser.get("/", headers=other)) == (421, "misdirected")


async def test_ports_come_back_when_nobody_uses_their_apps(session: WebSession) -> None:
    async with session.proxy(proxy_ports="21500-21500") as proxy:
        async with proxy.browser() as browser, socket_to(browser) as socket:
            asked = {"app": "web", "token": (await session.pass_for())["token"], "session_id": session.session_id}
            async with httpx.AsyncClient(base_url=proxy.url) as client:
                full = await client.get("/v2/proxy/auth", params=asked | {"allowed_client_ips": "10.0.0.0/8"})
            assert kind(full) == (503, "no-free-port")
            [cookie] = [each.name for each in browser.cookies.jar if each.name.startswith("refold_app_")]
            circuit = proxy.apps.circuits.find(cookie.removeprefix("refold_app_"))
            assert circuit is not None
            circuit.used_at -= 2 * session.world.settings.proxy_idle_seconds  # as if so much time had gone by
            await asyncio.sleep(1)
            await socket.send_str("still here")
            assert await socket.receive_str() == "still here"
        async with asyncio.timeout(20):
            while circuit.connections:
                await asyncio.sleep(0.05)
        circuit.used_at -= 2 * session.world.settings.proxy_idle_seconds
        await _closed(browser.base_url)


async def test_when_somebody_must_go_his_connections_end(session: WebSession) -> None:
    async with (
        session.proxy(proxy_ports=OTHERS) as proxy,
        proxy.browser() as browser,
        socket_to(browser) as socket,
    ):
        assert (await browser.get("/")).status_code == 200
        await _make_active(session, False)
        async with asyncio.timeout(20):
            assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        await _closed(browser.base_url)
        await _make_active(session, True)


async def _make_active(session: WebSession, active: bool) -> None:
    access_key, world = AccessKey(KEYS["ada"][0]), session.world
    command = ModifyKeypair(at=now(), access_key=access_key, changes=KeypairChanges(active=active))
    await world.whole.give("directory", command)
    async with asyncio.timeout(20):
        while world.services.tail.directory.keypairs[access_key].spec.active is not active:
            await asyncio.sleep(0.01)


async def _closed(url: httpx.URL) -> None:
    """Nothing listens any more where the app was."""
    async with asyncio.timeout(20):
        while True:
            try:
                _, writer = await asyncio.open_connection(url.host, url.port)
            except ConnectionRefusedError:
                return
            writer.close()
            await asyncio.sleep(0.05)


async def test_the_apps_of_a_session_end_with_it(session: WebSession) -> None:
    async with (
        session.proxy(proxy_ports=OTHERS) as proxy,
        proxy.browser() as browser,
        socket_to(browser) as socket,
        session.world.client() as ada,
    ):
        assert (await ada.delete("/session/mysess")).status_code == 200
        async with asyncio.timeout(20):
            assert (await socket.receive()).type in {aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR}
        await _closed(browser.base_url)
