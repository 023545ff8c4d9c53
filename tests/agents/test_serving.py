"""The agent's door: who gets to a kernel, and how bytes go through."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web
from aiohttp.test_utils import TestServer

from agents.door import relaying, serving
from agents.door.serving import kernel_routes
from agents.door.uses import Uses
from agents.fake.runtime import FakeRuntime
from domain.messages import AgentId, KernelId
from infra.secrets import internal_token
from infra.settings import Settings

KERNEL = KernelId("k-1")
AGENT = AgentId("agent-1")
SETTINGS = Settings.model_validate({"internal_key": "k" * 40})
LENGTHS = struct.Struct(">II")

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class OneKernel(FakeRuntime):
    """Its runner's socket is where the test says."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "fake")
        self.socket = folder / "runner.sock"
        self.host: str | None = "127.0.0.1"

    def runner(self, kernel_id: str) -> Path | None:
        return self.socket if kernel_id == KERNEL else None

    async def address(self, kernel_id: str) -> str | None:
        return self.host if kernel_id == KERNEL else None


@pytest.fixture
def runtime(tmp_path: Path) -> OneKernel:
    return OneKernel(tmp_path)


@pytest.fixture
def uses() -> Uses:
    return Uses()


@pytest.fixture
async def door(runtime: OneKernel, uses: Uses) -> AsyncIterator[aiohttp.ClientSession]:
    application = web.Application()
    application.add_routes(kernel_routes(SETTINGS, AGENT, runtime, uses))
    async with TestServer(application) as server, aiohttp.ClientSession(server.make_url("/")) as client:
        yield client


def told(kernel_id: KernelId = KERNEL) -> dict[str, str]:
    return {"Authorization": f"Bearer {internal_token(SETTINGS, AGENT, kernel_id)}"}


@asynccontextmanager
async def listening(path: Path, serve: Serve) -> AsyncIterator[None]:
    async with await asyncio.start_unix_server(serve, path):
        yield


async def status(door: aiohttp.ClientSession, path: str, **headers: str) -> int:
    """With which a WebSocket is refused."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
        await door.ws_connect(path, headers=headers)
    return refused.value.status


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(4096):
        writer.write(data)
        await writer.drain()
    writer.close()


def frame(text: bytes, body: bytes = b"") -> bytes:
    return LENGTHS.pack(len(text), len(body)) + text + body


@pytest.mark.parametrize("what", ["logs", "runner", "ports/80"])
async def test_nobody_gets_in_without_a_token_of_this_kernel(door: aiohttp.ClientSession, what: str) -> None:
    for headers in ({}, {"Authorization": "Bearer x"}, told(KernelId("another"))):
        async with door.get(f"/kernels/{KERNEL}/{what}", headers=headers) as answer:
            assert answer.status == 401


async def test_frames_go_through_whole_either_way(door: aiohttp.ClientSession, runtime: OneKernel) -> None:
    async with (
        listening(runtime.socket, echo),
        door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told(), max_msg_size=0) as api,
    ):
        for each in (frame(b"{}"), frame(b"x" * 70_000, bytes(3_000_000)), frame(b"", b"")):
            await api.send_bytes(each)
            assert await api.receive_bytes(timeout=10) == each


async def test_a_runner_that_comes_in_a_moment_is_waited_for(door: aiohttp.ClientSession, runtime: OneKernel) -> None:
    opening = asyncio.create_task(door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()).__aenter__())
    await asyncio.sleep(0.1)
    assert not opening.done()
    async with listening(runtime.socket, echo), await opening as api:
        await api.send_bytes(frame(b"{}"))
        assert await api.receive_bytes(timeout=10) == frame(b"{}")


async def test_what_is_not_there_is_told_before_a_socket_opens(
    door: aiohttp.ClientSession, runtime: OneKernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "_RUNNER_SECONDS", 0.1)
    another = KernelId("another")
    assert await status(door, f"/kernels/{another}/runner", **told(another)) == 404
    assert await status(door, f"/kernels/{another}/ports/80", **told(another)) == 404
    assert await status(door, f"/kernels/{KERNEL}/ports/65536", **told()) == 404
    assert await status(door, f"/kernels/{KERNEL}/ports/1", **told()) == 503
    assert await status(door, f"/kernels/{KERNEL}/runner", **told()) == 503
    runtime.host = None
    assert await status(door, f"/kernels/{KERNEL}/ports/1", **told()) == 404


async def test_what_a_user_put_in_place_of_the_socket_leads_nowhere(
    door: aiohttp.ClientSession, runtime: OneKernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as a link to the socket of the container engine."""
    monkeypatch.setattr(serving, "_RUNNER_SECONDS", 0.1)
    async with listening(tmp_path / "engine.sock", echo):
        runtime.socket.symlink_to(tmp_path / "engine.sock")
        assert await status(door, f"/kernels/{KERNEL}/runner", **told()) == 503
    runtime.socket.unlink()
    runtime.socket.write_text("no socket at all")
    assert await status(door, f"/kernels/{KERNEL}/runner", **told()) == 503


@pytest.mark.parametrize("message", [b"", b"1234567", frame(b"{}") + b"more", frame(b"{}")[:-1]])
async def test_what_is_no_frame_ends_the_connection(
    door: aiohttp.ClientSession, runtime: OneKernel, message: bytes
) -> None:
    async with (
        listening(runtime.socket, echo),
        door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()) as api,
    ):
        await api.send_bytes(message)
        assert (await api.receive(timeout=10)).type is WSMsgType.CLOSE


@pytest.mark.parametrize("lengths", [(2**32 - 1, 0), (0, 2**32 - 1)])
async def test_a_runner_that_promises_too_much_is_left(
    door: aiohttp.ClientSession, runtime: OneKernel, lengths: tuple[int, int]
) -> None:
    async def boast(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(LENGTHS.pack(*lengths) + bytes(100))
        with suppress(ConnectionError):
            await reader.read()
        writer.close()

    async with (
        listening(runtime.socket, boast),
        door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()) as api,
    ):
        assert (await api.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_a_runner_hears_that_the_api_is_gone_and_the_api_that_the_runner_is(
    door: aiohttp.ClientSession, runtime: OneKernel
) -> None:
    gone, leave = asyncio.Event(), asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if leave.is_set():
            writer.close()
            return
        assert await reader.read() == b""
        gone.set()
        writer.close()

    async with listening(runtime.socket, serve):
        async with door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()):
            pass
        async with asyncio.timeout(5):
            await gone.wait()
        leave.set()
        async with door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()) as api:
            assert (await api.receive(timeout=10)).type is WSMsgType.CLOSE


async def test_a_port_takes_and_gives_bytes(door: aiohttp.ClientSession) -> None:
    async with await asyncio.start_server(echo, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with door.ws_connect(f"/kernels/{KERNEL}/ports/{port}", headers=told()) as api:
            await api.send_bytes(bytes(200_000))
            heard = b""
            while len(heard) < 200_000:
                heard += await api.receive_bytes(timeout=10)
    assert heard == bytes(200_000)


async def test_who_does_not_read_is_not_written_to_without_end(door: aiohttp.ClientSession) -> None:
    written = 0

    async def pour(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal written
        with suppress(ConnectionError):
            while True:
                writer.write(bytes(65536))
                await writer.drain()
                written += 65536
        writer.close()

    async with await asyncio.start_server(pour, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with door.ws_connect(f"/kernels/{KERNEL}/ports/{port}", headers=told()) as api:
            before = -1
            while written > before:
                before = written
                await asyncio.sleep(0.3)
            assert written < 32 * 1024 * 1024, "what kernel buffers hold"
            for _ in range(400):
                await api.receive_bytes(timeout=10)
            await asyncio.sleep(0.3)
            assert written > before


async def test_a_program_that_reads_nothing_holds_nobody_who_leaves(
    door: aiohttp.ClientSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relaying, "_LINGER_SECONDS", 0.2)
    gone = asyncio.Event()

    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while True:
                writer.write(b".")
                await writer.drain()
                await asyncio.sleep(0.05)
        gone.set()
        writer.close()

    async with await asyncio.start_server(talk, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        api = await door.ws_connect(f"/kernels/{KERNEL}/ports/{port}", headers=told())
        with suppress(TimeoutError):
            async with asyncio.timeout(1):
                while True:
                    await api.send_bytes(bytes(65536))
        api.get_extra_info("socket").shutdown(socket.SHUT_RDWR)  # closing it in order would wait for what is not read
        async with asyncio.timeout(10):
            await gone.wait()


def test_nothing_else_is_served() -> None:
    routes: list[Any] = kernel_routes(SETTINGS, AGENT, FakeRuntime(Path("unused")), Uses())
    assert {route.path.partition("}/")[2].partition("/")[0] for route in routes} == {"logs", "runner", "ports"}


async def test_what_is_asked_of_a_runner_is_use_of_its_kernel_and_looking_at_a_terminal_is_not(
    door: aiohttp.ClientSession, runtime: OneKernel, uses: Uses
) -> None:
    async with (
        listening(runtime.socket, echo),
        door.ws_connect(f"/kernels/{KERNEL}/runner", headers=told()) as api,
    ):
        await api.send_bytes(frame(b'{"id":1,"do":"terminal-read","with":{}}'))
        await api.receive_bytes(timeout=10)
        assert uses.last(KERNEL) is None
        await api.send_bytes(frame(b'{"id":2,"do":"ping","with":{}}'))
        await api.receive_bytes(timeout=10)
        assert uses.last(KERNEL) is not None


async def test_bytes_from_a_port_of_a_kernel_are_use_of_it_also_if_nobody_sends_any(
    door: aiohttp.ClientSession, uses: Uses
) -> None:
    async def tell(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"news")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(tell, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with door.ws_connect(f"/kernels/{KERNEL}/ports/{port}", headers=told()) as api:
            assert await api.receive_bytes(timeout=10) == b"news"
            assert uses.last(KERNEL) is not None
