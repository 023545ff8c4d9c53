"""The service `ttyd`: a page with a terminal, and the shell behind it."""

import asyncio
import hashlib
import json
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import aiohttp
import httpx
import pytest

from agents.given.injection import SOURCE, install
from tests.agents.runners import Refused, running, until

VENDORED = {
    "xterm.js": "7a88e46a58847d3f17109e3d48cc8aa056a01997d00ceb76035f63370712d858",
    "addon-fit.js": "3e9ae6f6965ee1269d5574b905cf1bf559c2f44c784255b0034a71387e7719c9",
    "xterm.css": "ba8e6985669488981ccf40c0cefe3aba80722cb6c92de7ad628b0bd717faf2b6",
}


class Page:
    """`url`: where it is."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    @asynccontextmanager
    async def shell(self) -> AsyncIterator["Shell"]:
        async with aiohttp.ClientSession() as client, client.ws_connect(f"{self.url}/ws", origin=self.url) as socket:
            yield Shell(socket)


class Shell:
    """What a browser has of it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self.socket = socket
        self.seen = b""

    async def type(self, text: str) -> None:
        await self.socket.send_bytes(b"0" + text.encode())

    async def until(self, text: str) -> None:
        async with asyncio.timeout(20):
            while text.encode() not in self.seen:
                self.seen += await self.socket.receive_bytes()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory, unused_tcp_port_factory: object) -> Iterator[Page]:
    assert callable(unused_tcp_port_factory)
    port = unused_tcp_port_factory()
    with running(tmp_path_factory.mktemp("terminal"), "--web-terminal", "127.0.0.1") as runner:
        for _ in range(2):
            runner.client.call("service-start", service="ttyd", ports=[port], wait_ms=5000)
        yield Page(port)


async def test_the_page_brings_all_it_needs_and_may_fetch_nothing_else(page: Page) -> None:
    async with httpx.AsyncClient(base_url=page.url) as browser:
        html = await browser.get("/?any=thing")
        assert html.headers["content-type"].startswith("text/html")
        assert html.headers["content-security-policy"].startswith("default-src 'none'; script-src 'self'")
        for name in ("xterm.js", "addon-fit.js", "terminal.js", "xterm.css"):
            assert f'"{name}"' in html.text
            part = await browser.get(f"/{name}")
            assert (part.status_code, part.content) == (200, (SOURCE / "page" / name).read_bytes())
        assert (await browser.head("/")).content == b""
        for path in ("/README.md", "/../web_terminal.py", "/%2e%2e/program.py", "/x"):
            assert (await browser.get(path)).status_code == 404
        assert (await browser.post("/", content=b"x")).status_code == 400
        assert (await browser.get("/ws")).status_code == 400


def test_an_agent_brings_the_page_into_kernels_as_its_authors_made_it(tmp_path: Path) -> None:
    installed = install(tmp_path) / "page"
    known = {name: hashlib.sha256((installed / name).read_bytes()).hexdigest() for name in VENDORED}
    assert known == VENDORED


async def test_each_socket_is_a_shell_of_its_own_that_ends_with_it(page: Page) -> None:
    async with page.shell() as one, page.shell() as two:
        await one.socket.send_bytes(b"1" + json.dumps({"rows": 30, "cols": 111}).encode())
        await one.type("echo sh''ell $$; stty size\n")
        await one.until("30 111")
        pid = int(one.seen.partition(b"shell ")[2].split()[0])
        await two.type("echo tw''o $$\n")
        await two.until("two ")
        assert str(pid).encode() not in two.seen.partition(b"two ")[2]
        await two.type("exit\n")
        with suppress(TypeError):  # what is not bytes: the end
            await two.until("never")
        assert two.socket.close_code == 1000
    await asyncio.to_thread(until, lambda: not os.path.exists(f"/proc/{pid}"))


async def test_a_page_of_another_site_gets_no_shell(page: Page) -> None:
    async with aiohttp.ClientSession() as client:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await client.ws_connect(f"{page.url}/ws", origin="http://evil.example.org")
        assert refused.value.status == 403


async def test_what_breaks_the_rules_of_websockets_is_hung_up_on(page: Page) -> None:
    async with page.shell() as shell:
        await shell.socket.send_bytes(b"1{")
        async with asyncio.timeout(10):
            while (message := await shell.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        assert message.data == 1002
    async with page.shell() as shell:
        with suppress(ConnectionError):
            await shell.socket.send_bytes(bytes(1024 * 1024 + 1))
        async with asyncio.timeout(10):
            while (message := await shell.socket.receive()).type is aiohttp.WSMsgType.BINARY:
                pass
        assert message.data in {1009, None}


def test_a_kernel_whose_ports_others_reach_has_no_web_terminal(tmp_path: Path) -> None:
    with running(tmp_path) as runner, pytest.raises(Refused) as refused:
        runner.client.call("service-start", service="ttyd", ports=[1], wait_ms=100)
    assert refused.value.code == "unknown-service"
