"""Requests at a rate, for as little processor time as can be: on two cores the load takes from what it measures.

Requests are signed and laid out before the clock starts, and sent over kept-open connections by a bare protocol.
"""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import cast

from infra.signing import API_VERSION, body_hash, sign, signing_key, string_to_sign


@dataclass(frozen=True)
class Keypair:
    access_key: str
    secret_key: str


@dataclass(frozen=True)
class Answer:
    """`number` is the request's place in the list; times are from the monotonic clock, in seconds."""

    number: int
    status: int
    sent_at: float
    answered_at: float
    head: bytes

    def header(self, name: str) -> str:
        for line in self.head.split(b"\r\n")[1:]:
            key, _, value = line.partition(b":")
            if key.decode().lower() == name:
                return value.strip().decode()
        return ""


@dataclass
class Answers:
    """What came back, in the order it did."""

    all: list[Answer] = field(default_factory=list)
    seconds: float = 0.0

    def accepted(self) -> list[Answer]:
        return [answer for answer in self.all if answer.status < 300]

    def rate(self) -> float:
        """Accepted answers a second."""
        return len(self.accepted()) / self.seconds

    def latencies(self) -> list[float]:
        return sorted(answer.answered_at - answer.sent_at for answer in self.accepted())


def quantile(ordered: Sequence[float], share: float) -> float:
    """The value below which that share of them lies; nan of nothing."""
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


class Signer:
    """Lays out signed requests for one endpoint. Signatures hold for 15 minutes: a run is shorter."""

    def __init__(self, host: str, port: int, keypair: Keypair) -> None:
        self._authority = f"{host}:{port}"
        self._keypair = keypair
        now = datetime.now(UTC)
        self._date = now.isoformat()
        self._key = signing_key(keypair.secret_key, f"{now:%Y%m%d}", self._authority)

    def request(self, method: str, target: str, body: bytes = b"", headers: str = "") -> bytes:
        """A request as it goes over the wire. `headers`: further lines, each ended by CRLF."""
        text = string_to_sign(
            method, target, self._date, self._authority, "application/json", API_VERSION, body_hash(body)
        )
        credential = f"{self._keypair.access_key}:{sign(self._key, text)}"
        head = (
            f"{method} {target} HTTP/1.1\r\nHost: {self._authority}\r\nDate: {self._date}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\nX-BackendAI-Version: {API_VERSION}\r\n"
            f"Authorization: BackendAI signMethod=HMAC-SHA256, credential={credential}\r\n{headers}\r\n"
        )
        return head.encode() + body


class _Connection(asyncio.Protocol):
    """One request at a time, as HTTP without pipelining is."""

    def __init__(self) -> None:
        self._buffer = b""
        self._waiting: asyncio.Future[tuple[int, bytes]] | None = None
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    async def ask(self, request: bytes) -> tuple[int, bytes]:
        assert self._transport is not None
        self._waiting = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return await self._waiting

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end]
        marker = head.lower().find(b"content-length:")
        length = int(head[marker + 15 :].split(b"\r\n", 1)[0]) if marker >= 0 else 0
        if len(self._buffer) < end + 4 + length:
            return
        self._buffer = self._buffer[end + 4 + length :]
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result((int(head[9:12]), head))

    def connection_lost(self, error: Exception | None) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_exception(error or ConnectionResetError("the api closed the connection"))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()


class Load:
    """Connections to one api."""

    def __init__(self, host: str, port: int, connections: int) -> None:
        self._host = host
        self._port = port
        self._count = connections
        self._open: list[_Connection] = []
        self._free: asyncio.Queue[_Connection] = asyncio.Queue()

    async def __aenter__(self) -> "Load":
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, connection = await loop.create_connection(_Connection, self._host, self._port)
            self._open.append(connection)
            self._free.put_nowait(connection)
        return self

    async def __aexit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()

    async def ask(self, request: bytes, number: int = 0, since: float | None = None) -> Answer:
        """Send it over the next free connection. `since`: when it was due, if waiting for one counts as latency."""
        connection = await self._free.get()
        try:
            since = time.monotonic() if since is None else since
            status, head = await connection.ask(request)
            return Answer(number, status, since, time.monotonic(), head)
        finally:
            self._free.put_nowait(connection)

    async def as_fast_as_answered(self, requests: Sequence[bytes], seconds: float) -> Answers:
        """Each connection sends its next request when it has its answer, until the time is over (closed loop)."""
        answers = Answers()
        began = time.monotonic()
        numbers = iter(range(len(requests)))

        async def one() -> None:
            for number in numbers:
                if time.monotonic() - began > seconds:
                    return
                answers.all.append(await self.ask(requests[number], number))

        await asyncio.gather(*(one() for _ in self._open))
        answers.seconds = time.monotonic() - began
        return answers

    async def at_rate(
        self, requests: Sequence[bytes], per_second: float, then: Callable[[Answer], None] | None = None
    ) -> Answers:
        """Request n is due at n / rate, whether or not earlier ones were answered; waiting for a connection counts as
        latency (open loop)."""
        answers = Answers()
        began = time.monotonic()

        async def one(number: int, due: float) -> None:
            answer = await self.ask(requests[number], number, due)
            answers.all.append(answer)
            if then is not None:
                then(answer)

        async with asyncio.TaskGroup() as sent:
            for number in range(len(requests)):
                due = began + number / per_second
                if (wait := due - time.monotonic()) > 0:
                    await asyncio.sleep(wait)
                sent.create_task(one(number, due))
        answers.seconds = time.monotonic() - began
        return answers
