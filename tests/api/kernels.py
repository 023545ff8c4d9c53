"""Sessions in which something runs: the api of a world, a real agent's door, and the real program inside kernels."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp
import httpx
import orjson
from aiohttp import web

from agents.door.serving import kernel_routes
from agents.door.uses import Uses
from agents.fake.runtime import FakeRuntime
from infra.signing import KeypairAuth
from tests.agents.runners import Runner
from tests.api.frames import Frames, frames_of
from tests.api.test_sessions import RECORDED
from tests.api.world import KEYS, World
from tests.whole import AGENT, PROFILE

HANDSHAKE: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}
"""What makes of a GET the beginning of a WebSocket."""


class Runners(FakeRuntime):
    """Kernels do nothing, but some of them have a runner beside."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "fake")
        self.folder = folder
        self.of_kernel: dict[str, Runner] = {}

    def runner(self, kernel_id: str) -> Path | None:
        running = self.of_kernel.get(kernel_id)
        return None if running is None else running.socket_path

    async def address(self, kernel_id: str) -> str | None:
        return "127.0.0.1" if kernel_id in self.of_kernel else None

    async def start_runner(self, kernel_id: str, *arguments: str) -> Runner:
        folder = self.folder / kernel_id
        folder.mkdir(parents=True, exist_ok=True)
        self.of_kernel[kernel_id] = await asyncio.to_thread(Runner, folder, *arguments)
        return self.of_kernel[kernel_id]

    async def close(self) -> None:
        for running in self.of_kernel.values():
            await asyncio.to_thread(running.close)


class Kernels:
    """`session()` is the id of a session of ada's that runs, with a runner in it."""

    def __init__(self, world: World, folder: Path) -> None:
        self.world = world
        self.runners = Runners(folder)
        self.uses = Uses()
        self._site: web.TCPSite | None = None
        self._server: web.AppRunner
        self._port = 0

    @asynccontextmanager
    async def started(self) -> AsyncIterator["Kernels"]:
        """An agent with its door."""
        async with AsyncExitStack() as stack:
            stack.push_async_callback(self.runners.close)
            await self.open_door()
            stack.push_async_callback(self.close_door)
            address = f"http://127.0.0.1:{self._port}"
            await stack.enter_async_context(self.world.whole.agent(PROFILE.model_copy(update={"address": address})))
            yield self

    async def open_door(self) -> None:
        """Where it was before, if it was open before."""
        application = web.Application()
        application.add_routes(kernel_routes(self.world.settings, AGENT, self.runners, self.uses))
        self._server = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._server.setup()
        await web.TCPSite(self._server, "127.0.0.1", self._port, reuse_address=True).start()
        self._port = self._server.addresses[0][1]

    async def close_door(self) -> None:
        """As when the agent goes: connections break, kernels run on."""
        await self._server.cleanup()

    async def session(self, name: str = "mysess", *arguments: str, has_runner: bool = True) -> str:
        """`arguments` are the runner's."""
        async with self.world.client() as ada:
            made = await ada.post("/session", json=RECORDED | {"name": name, "enqueueOnly": False})
        assert made.json()["status"] == "RUNNING", made.text
        session_id = str(made.json()["sessionId"])
        if has_runner:
            await self.runners.start_runner(session_id, *arguments)  # a main kernel has its session's id
        return session_id


class Denied(Exception):
    """A WebSocket that was refused with an answer."""

    def __init__(self, response: httpx.Response) -> None:
        super().__init__(response.text)
        self.response = response


class Line:
    """A WebSocket of a client. What it hears must be as the AsyncAPI document has it."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse, frames: Frames) -> None:
        self.socket = socket
        self._frames = frames

    async def say(self, message: str | Mapping[str, Any]) -> None:
        """As it is, or as JSON."""
        await self.socket.send_str(message if isinstance(message, str) else orjson.dumps(message).decode())

    async def hear(self) -> dict[str, Any]:
        """The next frame."""
        async with asyncio.timeout(20):
            message = await self.socket.receive()
        assert message.type is aiohttp.WSMsgType.TEXT, (message, self.socket.close_code)
        told: dict[str, Any] = orjson.loads(message.data)
        self._frames.validate(told)
        return told

    async def hear_until(self, status: str) -> list[dict[str, Any]]:
        """All frames up to that."""
        frames = [await self.hear()]
        while frames[-1]["status"] != status:
            frames.append(await self.hear())
        return frames

    async def closed(self) -> int:
        """With which code, whatever comes before."""
        async with asyncio.timeout(20):
            while (message := await self.socket.receive()).type is not aiohttp.WSMsgType.CLOSE:
                assert message.type is not aiohttp.WSMsgType.CLOSED
        code: int = message.data
        return code


@asynccontextmanager
async def line(
    world: World, path: str, who: str | None = "ada", *, url: str | None = None, **headers: str
) -> AsyncIterator[Line]:
    """A WebSocket, open for the block; signed, unless it is nobody's. `url`: of another api. Raises `Denied`."""
    signed = httpx.Request("GET", (url or world.url) + path)
    if who is not None:
        next(KeypairAuth(*KEYS[who]).auth_flow(signed))
    names = ("Authorization", "Date", "X-BackendAI-Version")
    told = {name: signed.headers[name] for name in names if name in signed.headers} | headers
    async with aiohttp.ClientSession() as client:
        try:
            async with client.ws_connect(str(signed.url), headers=told, autoping=True) as socket:
                yield Line(socket, frames_of(path))
        except aiohttp.WSServerHandshakeError:  # has no body: asked once more
            async with httpx.AsyncClient() as plain:
                raise Denied(await plain.get(signed.url, headers=told | HANDSHAKE)) from None


def printed(frames: list[dict[str, Any]], stream: str = "stdout") -> str:
    """All text of a stream in results."""
    return "".join(content for frame in frames for kind, content in frame["console"] if kind == stream)
