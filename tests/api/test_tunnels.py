"""Services of sessions, and tunnels to them: `/stream/session/{id}/apps`, `…/tcpproxy`, `…/httpproxy`."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import quote

import aiohttp
import pytest

from api.sessions.images import INTRINSIC
from tests.api.kernels import Denied, Kernels, Line, line
from tests.api.served import give_services
from tests.api.test_sessions import RECORDED

DEFINED = {"allowed_arguments": ["--level"], "allowed_envs": ["MODE"], "url_template": "{protocol}://{host}:{port}/x"}
SERVER = """
import json, os, socketserver, sys
class Handler(socketserver.BaseRequestHandler):
    def handle(self):
        about = {"pid": os.getpid(), "argv": sys.argv[2:], "mode": os.environ.get("MODE")}
        self.request.sendall(json.dumps(about).encode() + b"\\n")
        while data := self.request.recv(65536):
            self.request.sendall(data)
            if data.endswith(b"bye"):
                break
class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = daemon_threads = True
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


class Served:
    """A session whose image has services. `port` is the one of `echo`."""

    def __init__(self, kernels: Kernels, port: int) -> None:
        self.world = kernels.world
        self.port = port

    def stream(self, app: str, proxy: str = "tcpproxy", **query: Any) -> str:
        told = "".join(
            f"&{name}={quote(json.dumps(value, separators=(',', ':')), safe=',:')}" for name, value in query.items()
        )
        return f"/stream/session/mysess/{proxy}?app={app}{told}"

    @asynccontextmanager
    async def tunnel(self, *where: str, **query: Any) -> AsyncIterator["Tunnel"]:
        async with line(self.world, self.stream(*where, **query)) as opened:
            tunnel = Tunnel(opened)
            tunnel.about = json.loads(await tunnel.until(b"\n"))
            yield tunnel

    async def denied(self, app: str, **query: Any) -> dict[str, Any]:
        with pytest.raises(Denied) as denied:
            async with line(self.world, self.stream(app, **query)):
                pass
        told: dict[str, Any] = denied.value.response.json()
        assert told["status"] == denied.value.response.status_code
        return told


class Tunnel:
    """A TCP connection, as it were. `about`: what its server said first."""

    def __init__(self, line: Line) -> None:
        self.line = line
        self.about: dict[str, Any] = {}

    async def until(self, end: bytes) -> bytes:
        heard = bytearray()
        async with asyncio.timeout(30):
            while not heard.endswith(end):
                heard += await self.line.socket.receive_bytes()
        return bytes(heard)

    async def send(self, data: bytes) -> None:
        for at in range(0, len(data), 65536):
            await self.line.socket.send_bytes(data[at : at + 65536])


@pytest.fixture
async def served(kernels: Kernels, tmp_path: Path, unused_tcp_port_factory: Any) -> Served:
    echo, dead = unused_tcp_port_factory(), unused_tcp_port_factory()
    labels = {"ai.backend.service-ports": f"echo:tcp:{echo},dead:http:{dead},shell:pty:3000"}
    await give_services(kernels.world, labels)
    (tmp_path / "server.py").write_text(SERVER)
    words = [sys.executable, str(tmp_path / "server.py"), "{ports[0]}"]
    definition = {"command": words, **DEFINED}
    (tmp_path / "defs").mkdir()
    (tmp_path / "defs" / "echo.json").write_text(json.dumps(definition))
    (tmp_path / "defs" / "dead.json").write_text(json.dumps({"command": "exit 7", "url_template": 7}))
    await kernels.session("mysess", "--service-defs", str(tmp_path / "defs"))
    return Served(kernels, echo)


async def test_the_services_of_a_session_are_those_of_its_image_and_of_every_kernel(served: Served) -> None:
    async with served.world.client() as ada:
        answer = await ada.get("/stream/session/mysess/apps")
        assert answer.status_code == 200, answer.text
        again = (await ada.post("/session", json=RECORDED)).json()
        new = (await ada.post("/session", json=RECORDED | {"name": "other"})).json()
    assert again["service_ports"] == again["servicePorts"] == new["servicePorts"]
    names = ("name", "protocol", "ports")
    assert new["servicePorts"] == [{name: app[name] for name in names} for app in answer.json()]
    told = {app["name"]: app for app in answer.json()}
    assert told["echo"] == {"name": "echo", "protocol": "tcp", "ports": [served.port]} | DEFINED
    assert told["shell"] == {"name": "shell", "protocol": "pty", "ports": [3000]}
    assert told["dead"].keys() == {"name", "protocol", "ports"}
    assert told.keys() == {"echo", "shell", "dead", *INTRINSIC}


async def test_a_session_of_an_image_nobody_knows_has_the_services_of_every_kernel(kernels: Kernels) -> None:
    await kernels.session()
    async with kernels.world.client() as ada:
        apps = (await ada.get("/stream/session/mysess/apps")).json()
    assert {"name": "sshd", "protocol": "tcp", "ports": [2200]} in apps
    assert [app["name"] for app in apps] == [*INTRINSIC]


async def test_the_first_connection_starts_the_service_and_all_lead_to_it(served: Served) -> None:
    async with served.tunnel("echo") as first, served.tunnel("echo", "httpproxy") as second:
        assert first.about["pid"] == second.about["pid"]
        await second.send(b"two\n")
        await first.send(b"one\n")
        assert await first.until(b"\n") == b"one\n"
        assert await second.until(b"\n") == b"two\n"


async def test_bytes_go_through_whole_and_the_server_may_hang_up(served: Served) -> None:
    content = os.urandom(12_000_000) + b"bye"
    async with served.tunnel("echo") as tunnel:
        sending = asyncio.create_task(tunnel.send(content))
        assert await tunnel.until(b"bye") == content
        await sending
        assert await tunnel.line.closed() == 1000


async def test_who_does_not_read_is_not_read_either(served: Served) -> None:
    """Neither here nor at the agent, which is this process too, are bytes piled up for him."""
    async with served.tunnel("echo") as tunnel:
        before, piece = resident_bytes(), bytes(65536)
        with suppress(TimeoutError):
            async with asyncio.timeout(3):
                for _ in range(4000):
                    await tunnel.line.socket.send_bytes(piece)
        assert resident_bytes() - before < 40_000_000


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def test_a_program_is_told_what_its_definition_allows(served: Served) -> None:
    told = await served.denied("echo", arguments={"--other": "x"})
    assert (told["status"], told["type"].rpartition("/")[2]) == (400, "forbidden-argument")
    told = await served.denied("echo", envs={"PATH": "x"})
    assert (told["status"], told["type"].rpartition("/")[2]) == (400, "forbidden-variable")
    async with served.tunnel("echo", arguments={"--level": "5"}, envs={"MODE": "loud"}) as tunnel:
        assert (tunnel.about["argv"], tunnel.about["mode"]) == (["--level", "5"], "loud")


async def test_a_service_that_is_not_there_is_refused_before_the_socket_opens(served: Served) -> None:
    told = await served.denied("jupyter")
    assert (told["status"], told["type"].rpartition("/")[2], told["field"]) == (404, "service-not-found", "app")
    told = await served.denied("dead")
    assert (told["status"], told["type"].rpartition("/")[2]) == (502, "service-died")
    assert "exit code 7" in told["detail"]
    for field in ("arguments", "envs"):
        told = await served.denied("echo", **{field: [1]})
        assert (told["status"], told["field"]) == (400, field)


async def test_a_tunnel_carries_bytes_only(served: Served) -> None:
    async with served.tunnel("echo") as tunnel:
        await tunnel.line.say("text")
        assert await tunnel.line.closed() == 4400


async def test_a_service_that_is_shut_down_starts_again_when_it_is_wanted(served: Served) -> None:
    async with served.world.client() as ada:
        async with served.tunnel("echo") as tunnel:
            first = tunnel.about["pid"]
            for _ in range(2):
                answer = await ada.post("/session/mysess/shutdown-service", json={"service_name": "echo"})
                assert answer.status_code == 204, answer.text
            assert await tunnel.line.closed() == 1000
        async with served.tunnel("echo") as tunnel:
            assert tunnel.about["pid"] != first
        answer = await ada.post("/session/mysess/shutdown-service", json={"service_name": "nothing"})
        assert answer.status_code == 404


async def test_a_terminal_service_is_a_terminal(served: Served) -> None:
    with pytest.raises(Denied) as denied:
        async with line(served.world, "/stream/session/mysess/pty?app=echo"):
            pass
    assert (denied.value.response.status_code, denied.value.response.json()["field"]) == (400, "app")
    async with line(served.world, "/stream/session/mysess/pty?app=shell") as ada:
        await ada.say({"type": "ping"})
        assert (await ada.socket.receive()).type is aiohttp.WSMsgType.TEXT
