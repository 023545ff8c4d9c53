"""A session with a web app in it, and the app proxy before it."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx

from api.proxy.app import make_proxy
from api.proxy.listening import Apps
from domain.directory.messages.groups import ModifyResourceGroup, ResourceGroupChanges
from tests.api.kernels import Kernels
from tests.api.served import give_services
from tests.api.world import World, serving
from tests.whole import now

SERVER = """
import asyncio, json, os, sys
from aiohttp import web

async def told(request):
    body = await request.read()
    headers = [[name, value] for name, value in request.headers.items()]
    answer = {"pid": os.getpid(), "method": request.method, "path": request.path_qs, "headers": headers,
              "body": len(body)}
    return web.json_response(answer, headers=[("Set-Cookie", "app=1; Domain=example.org; Path=/"),
        ("Set-Cookie", "AIOHTTP_SESSION=stolen"), ("Alt-Svc", "h2=:1"), ("X-App", "yes")])

async def large(request):
    response = web.StreamResponse()
    await response.prepare(request)
    try:
        for _ in range(int(request.query["mebibytes"])):
            await response.write(bytes(1 << 20))
            sent.append(1)
    except ConnectionResetError:
        pass
    return response

async def count(request):
    return web.json_response(len(sent))

async def slow(request):
    response = web.StreamResponse()
    await response.prepare(request)
    await response.write(b"begun")
    waiting.append(1)
    try:
        await asyncio.sleep(60)
    finally:
        waiting.pop()
    return response

async def open_now(request):
    return web.json_response(len(waiting))

async def echo(request):
    socket = web.WebSocketResponse(protocols=("second",), max_msg_size=0)
    await socket.prepare(request)
    async for message in socket:
        if message.data == "bye":
            await socket.close(code=4321)
            break
        await (socket.send_str(message.data) if message.type == 1 else socket.send_bytes(message.data))
    return socket

sent, waiting = [], []
app = web.Application(client_max_size=1 << 30)
app.router.add_get("/large", large)
app.router.add_get("/count", count)
app.router.add_get("/slow", slow)
app.router.add_get("/open", open_now)
app.router.add_get("/ws", echo)
app.router.add_route("*", "/{path:.*}", told)
web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None, handler_cancellation=True)
"""


class WebSession:
    """`web` is its app, on `port`; `mysess` its name."""

    def __init__(self, kernels: Kernels, session_id: str, port: int) -> None:
        self.kernels = kernels
        self.world = kernels.world
        self.session_id = session_id
        self.port = port

    @asynccontextmanager
    async def proxy(self, **changed: Any) -> AsyncIterator["Proxy"]:
        """One before it, of which its resource group knows."""
        async with proxy_of(self.world, **changed) as (url, apps):
            yield Proxy(self, url, apps)

    async def pass_for(self, app: str = "web", who: str = "ada", **told: Any) -> dict[str, Any]:
        """What `start-service` answers."""
        async with self.world.client(who) as client:
            answer = await client.post("/session/mysess/start-service", json={"app": app} | told)
        assert answer.status_code == 200, answer.text
        body: dict[str, Any] = answer.json()
        return body


class Proxy:
    """`url`: its own; `apps`: what it has inside."""

    def __init__(self, session: WebSession, url: str, apps: Apps) -> None:
        self.session = session
        self.url = url
        self.apps = apps

    async def way(self, app: str = "web", **asked: Any) -> str:
        """Where a browser is sent with a new token."""
        told = await self.session.pass_for(app)
        async with httpx.AsyncClient(base_url=told["wsproxy_addr"]) as client:
            path = f"/v2/proxy/{told['token']}/{self.session.session_id}/add"
            answer = await client.get(path, params={"app": app} | asked)
            assert answer.status_code == 200, answer.text
            answer = await client.get(answer.json()["url"], headers={"Accept": "application/json"})
            assert answer.status_code == 200, answer.text
        return str(answer.json()["redirect_url"])

    @asynccontextmanager
    async def browser(self, **asked: Any) -> AsyncIterator[httpx.AsyncClient]:
        """One that has come in: it has the cookie, and asks for paths of the app."""
        way = await self.way(**asked)
        async with httpx.AsyncClient(base_url=way.partition("/.refold")[0], timeout=30) as client:
            answer = await client.get(way)
            assert answer.status_code == 302, answer.text
            yield client


@asynccontextmanager
async def proxy_of(world: World, **changed: Any) -> AsyncIterator[tuple[str, Apps]]:
    """Its URL, which the resource group `default` has then."""
    app = make_proxy(world.settings.model_copy(update=changed), world.outside())
    async with serving(app) as url:
        changes = ResourceGroupChanges(wsproxy_addr=url)
        await world.whole.give("directory", ModifyResourceGroup(at=now(), name="default", changes=changes))
        apps: Apps = app.state.apps
        async with asyncio.timeout(10):
            await apps.services.tail.started.wait()
            while world.services.tail.directory.groups["default"].spec.wsproxy_addr != url:
                await asyncio.sleep(0.01)
        yield url, apps


@asynccontextmanager
async def web_session(
    kernels: Kernels, folder: Path, port: int, **definitions: Mapping[str, Any]
) -> AsyncIterator[WebSession]:
    """Apps are started when they are wanted. `definitions`: of others that may have the port, by name."""
    others = "".join(f",{name}:http:{port}" for name in definitions)
    labels = {"ai.backend.service-ports": f"web:http:{port},shell:pty:3000,plain:tcp:{port}{others}"}
    await give_services(kernels.world, labels)
    arguments = ("--service-defs", str(_written(folder, definitions)), "--web-terminal", "127.0.0.1")
    session_id = await kernels.session("mysess", *arguments)
    yield WebSession(kernels, session_id, port)


def _written(folder: Path, definitions: Mapping[str, Any]) -> Path:
    folder.mkdir()
    (folder / "server.py").write_text(SERVER)
    ours = {"command": [sys.executable, str(folder / "server.py"), "{ports[0]}"]}
    for name, definition in {"web": ours, "plain": ours, **definitions}.items():
        (folder / f"{name}.json").write_text(json.dumps(definition))
    return folder
