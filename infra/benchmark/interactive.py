"""What a user does inside a session, through api, agent and runner: code, a terminal, a tunnel, files.

The session is of the process runtime, so its ports are the host's own, and `infra.benchmark.peer` listens on one.
"""

import asyncio
import base64
import os
import pty
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from datetime import UTC, datetime
from statistics import median
from typing import Final
from uuid import uuid4

import httpx
import orjson
from websockets.asyncio.client import ClientConnection, connect

from domain.directory.messages.images import CreateRegistry, ImageFacts, RegisterImage, RegistrySpec
from domain.directory.messages.tenants import DomainChanges, ModifyDomain
from infra.benchmark.installation import ADMIN, Installation
from infra.benchmark.load import Keypair, Load, Signer, quantile
from infra.benchmark.measures import Figures, Say
from infra.benchmark.peer import ORDER, PIECE_BYTES
from infra.embedded.folder import ports
from infra.kafka import KafkaLog
from infra.sending import Sender
from infra.signing import KeypairAuth

_HUB: Final = "cr.bench.test"
_IMAGE: Final = f"{_HUB}/bench/python:1"
_SESSION: Final = "interactive"
_PAIRS: Final = 3
_MIB: Final = 1024 * 1024

Transfer = Callable[[], Awaitable[float]]
"""Does it once; how many seconds it took."""


async def interactive(here: Installation, seconds: float, say: Say) -> Figures:
    """Everything about one session that runs; each part takes about so many seconds on a slow machine."""
    port = ports(here.settings.data_dir, "peer", "relay")
    await here.start("infra.benchmark.peer", "serve", str(port["peer"]), called="peer")
    await here.start("infra.benchmark.peer", "relay", str(port["relay"]), str(port["peer"]), called="relay")
    await here.start("agents", called="native", environ=_NATIVE)
    await _register_image(here, port["peer"])
    async with _session(here):
        figures = await _execution(here, seconds, say)
        figures |= await _terminal(here, seconds, say)
        figures |= await _tunnel(here, port["relay"], seconds, say)
        figures |= await _files(here, seconds, say)
    await here.stop("native", "peer", "relay")
    return figures


_NATIVE: Final = {
    "REFOLD_AGENT_ID": "native",
    "REFOLD_AGENT_GROUP": "native",
    "REFOLD_AGENT_RUNTIME": "process",
    "REFOLD_AGENT_SLOTS": '{"cpu": "64", "mem": "64g"}',
}


async def _register_image(here: Installation, port: int) -> None:
    now = datetime.now(UTC)
    facts = ImageFacts(registry=_HUB, labels={"ai.backend.service-ports": f"peer:tcp:{port}"})
    commands = [
        CreateRegistry(at=now, name=_HUB, spec=RegistrySpec(url=f"https://{_HUB}")),
        ModifyDomain(at=now, name="default", changes=DomainChanges(allowed_docker_registries=(_HUB,))),
        RegisterImage(at=now, reference=_IMAGE, facts=facts),
    ]
    async with KafkaLog(here.settings) as log:
        await Sender(here.settings, log, "bench").send_all([("directory", each, str(uuid4())) for each in commands], "")


@asynccontextmanager
async def _session(here: Installation) -> AsyncIterator[None]:
    """One that runs, and answers, for the block; nothing of it runs afterwards."""
    body = {
        "name": _SESSION,
        "image": _IMAGE,
        "config": {"resources": {"cpu": "16", "mem": "4g"}, "scalingGroup": "native"},
        "maxWaitSeconds": 60,
    }
    async with here.client() as client, AsyncExitStack() as stack:
        answer = await client.post("/session", json=body)
        stack.push_async_callback(_end, client)
        if answer.status_code != 201 or answer.json()["status"] != "RUNNING":
            raise RuntimeError(f"the session did not come up: {answer.status_code} {answer.text}")
        answer = await client.post(f"/session/{_SESSION}", json={"mode": "query", "code": "6 * 7"})
        if "42" not in answer.text:
            raise RuntimeError(f"the session does not calculate: {answer.status_code} {answer.text}")
        yield


async def _end(client: httpx.AsyncClient) -> None:
    await client.delete(f"/session/{_SESSION}?forced=true")
    with suppress(TimeoutError):
        async with asyncio.timeout(30):
            while True:
                told = await client.get(f"/session/{_SESSION}")
                if told.status_code != 200 or told.json()["status"] == "TERMINATED":
                    return
                await asyncio.sleep(0.2)


async def _execution(here: Installation, seconds: float, say: Say) -> Figures:
    """From sending a line of code to the answer that says it has run, one after the other."""
    port = here.settings.api_port
    body = orjson.dumps({"mode": "query", "code": "print(1 + 1)"})
    signer = Signer("127.0.0.1", port, Keypair(ADMIN.access_key, ADMIN.secret_key))
    request = signer.request("POST", f"/session/{_SESSION}", body)
    async with Load("127.0.0.1", port, connections=1) as load:
        await load.as_fast_as_answered([request] * 20, seconds)
        latencies = (await load.as_fast_as_answered([request] * 2000, seconds)).latencies()
    say(f"{len(latencies)} lines of code")
    return {
        "execute_p50_ms": quantile(latencies, 0.5) * 1e3,
        "execute_p99_ms": quantile(latencies, 0.99) * 1e3,
    }


# -- streams -----------------------------------------------------------------------------------------------------------


async def _pairs(name: str, ours: Transfer, direct: Transfer, size: int, say: Say) -> Figures:
    """Both in turn, so that what else the machine does meets both alike. `…_to_direct_ratio`: of the rates."""
    await ours()
    times = [(await ours(), await direct()) for _ in range(_PAIRS)]
    rate = size / _MIB / median(mine for mine, _ in times)
    ratio = median(bare / mine for mine, bare in times)
    say(f"{name}: {rate:.0f} MiB/s, {ratio:.2f} of what goes directly")
    return {f"{name}_mib_per_second": rate, f"{name}_to_direct_ratio": ratio}


async def _terminal(here: Installation, seconds: float, say: Say) -> Figures:
    """A program that fills a terminal of the session, against the same in a terminal here."""
    size = int(4 * seconds) * _MIB
    filling = f"head -c {size} /dev/zero | tr '\\0' x; "

    async def ours() -> float:
        async with _stream(here, "pty") as socket:
            await _typed(socket, "stty -echo; ")  # also reads what was shown before
            began = time.monotonic()
            await _typed(socket, filling)
            return time.monotonic() - began

    async def direct() -> float:
        return await asyncio.to_thread(_fill_terminal, filling)

    return await _pairs("terminal", ours, direct, size, say)


async def _typed(socket: ClientConnection, script: str) -> None:
    """Returns once everything that it prints has been read."""
    said, mark = _end_mark()
    chars = base64.b64encode(f"{script}{said}\n".encode()).decode()
    await socket.send(orjson.dumps({"type": "stdin", "chars": chars}).decode())
    tail = b""
    while mark not in tail:
        frame = orjson.loads(await socket.recv())
        if frame["type"] != "out":
            raise RuntimeError(f"the terminal says: {frame}")
        tail = tail[-32:] + base64.b64decode(frame["data"])


def _end_mark() -> tuple[str, bytes]:
    """What prints it, and what is printed then: the terminal's echo of the first is not taken for it."""
    mark = secrets.token_hex(8)
    return f"printf '%s%s' {mark[:8]} {mark[8:]}", mark.encode()


def _fill_terminal(script: str) -> float:
    said, mark = _end_mark()
    began = time.monotonic()
    child, terminal = pty.fork()
    if child == 0:
        os.execv("/bin/sh", ["sh", "-c", script + said])
    tail = b""
    with suppress(OSError):  # EIO: its program has ended
        while mark not in tail:
            tail = tail[-32:] + os.read(terminal, PIECE_BYTES)
    os.close(terminal)
    os.waitpid(child, 0)
    return time.monotonic() - began


async def _tunnel(here: Installation, relay: int, seconds: float, say: Say) -> Figures:
    """Bytes through a `tcpproxy` to a server, against the same through a bare relay in front of it."""
    size = int(30 * seconds) * _MIB

    def through_tunnel(gives: bool) -> Transfer:
        async def transfer() -> float:
            async with _stream(here, "tcpproxy?app=peer") as socket:
                began = time.monotonic()
                await socket.send(ORDER.pack(gives, size))
                if gives:
                    left = size
                    while left > 0:
                        left -= len(await socket.recv())
                else:
                    piece = bytes(PIECE_BYTES)
                    for _ in range(size // PIECE_BYTES):
                        await socket.send(piece)
                    await socket.recv()
                return time.monotonic() - began

        return transfer

    def through_relay(gives: bool) -> Transfer:
        async def transfer() -> float:
            reader, writer = await asyncio.open_connection("127.0.0.1", relay)
            began = time.monotonic()
            writer.write(ORDER.pack(gives, size))
            if gives:
                left = size
                while left > 0:
                    left -= len(await reader.read(PIECE_BYTES))
            else:
                piece = bytes(PIECE_BYTES)
                for _ in range(size // PIECE_BYTES):
                    writer.write(piece)
                    await writer.drain()
                await reader.readexactly(1)
            took = time.monotonic() - began
            writer.close()
            return took

        return transfer

    return await _pairs("tunnel_down", through_tunnel(True), through_relay(True), size, say) | await _pairs(
        "tunnel_up", through_tunnel(False), through_relay(False), size, say
    )


@asynccontextmanager
async def _stream(here: Installation, what: str) -> AsyncIterator[ClientConnection]:
    """A WebSocket into the session."""
    url = f"{here.url}/stream/session/{_SESSION}/{what}"
    request = next(KeypairAuth(ADMIN.access_key, ADMIN.secret_key).auth_flow(httpx.Request("GET", url)))
    signed = {name: request.headers[name] for name in ("Date", "X-BackendAI-Version", "Authorization")}
    async with connect(
        url.replace("http", "ws", 1), additional_headers=signed, compression=None, max_size=None, max_queue=64
    ) as socket:
        yield socket


# -- files -------------------------------------------------------------------------------------------------------------


async def _files(here: Installation, seconds: float, say: Say) -> Figures:
    """Uploads of 20 files of 1 MiB, and downloads of one large file."""
    large = int(30 * seconds) * _MIB
    files = [("src", (f"up/{number}.bin", bytes(_MIB), "application/octet-stream")) for number in range(20)]
    uploads: list[float] = []
    downloads: list[float] = []
    async with here.client() as client, here.client(covers_body=False) as uploading:
        made = {"mode": "query", "code": f"open('large.bin', 'wb').truncate({large})"}
        (await client.post(f"/session/{_SESSION}", json=made)).raise_for_status()
        for _ in range(_PAIRS):
            began = time.monotonic()
            answer = await uploading.post(f"/session/{_SESSION}/upload", files=files)
            uploads.append(time.monotonic() - began)
            answer.raise_for_status()
            began, got = time.monotonic(), 0
            async with client.stream("GET", f"/session/{_SESSION}/download_single?file=large.bin") as told:
                async for piece in told.aiter_raw():
                    got += len(piece)
            downloads.append(time.monotonic() - began)
            if got != large:
                raise RuntimeError(f"{got} of {large} bytes came")
    up, down = len(files) / median(uploads), large / _MIB / median(downloads)
    say(f"{up:.0f} MiB/s up, {down:.0f} MiB/s down")
    return {"upload_mib_per_second": up, "download_mib_per_second": down}
