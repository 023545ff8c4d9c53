"""WebSockets (RFC 6455), the server's side of them, as far as the page of a terminal needs it: no extensions."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import struct
from contextlib import suppress

MESSAGE_BYTES_MAX = 1024 * 1024
CONTINUED, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
PROTOCOL_ERROR, TOO_LARGE = 1002, 1009
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Closed(Exception):
    """The other side has gone, or does not keep to the rules. `code`: with which it is to be closed."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def accept_key(key: str) -> str:
    """What answers the key of a handshake."""
    return base64.b64encode(hashlib.sha1((key + _GUID).encode()).digest()).decode()


class WebSocket:
    """One that is open. Only one task may receive at a time; sending is safe from several."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._sending = asyncio.Lock()

    async def receive(self) -> bytes:
        """The next message, text as UTF-8. Raises `Closed`."""
        message = bytearray()
        begun = False
        while True:
            is_last, opcode, payload = await self._frame(MESSAGE_BYTES_MAX - len(message))
            if opcode == PING:
                await self._send(PONG, payload)
            elif opcode == CLOSE:
                raise Closed(struct.unpack(">H", payload[:2])[0] if len(payload) > 1 else 1000)
            elif opcode != PONG:
                if (opcode == CONTINUED) is not begun:
                    raise Closed(PROTOCOL_ERROR)
                begun = True
                message += payload
                if is_last:
                    return bytes(message)

    async def send(self, message: bytes) -> None:
        """Returns once the system has taken it. Raises `ConnectionError`."""
        await self._send(BINARY, message)

    async def close(self, code: int) -> None:
        """Says so, if anybody still listens."""
        with suppress(ConnectionError):
            await self._send(CLOSE, struct.pack(">H", code))

    async def _frame(self, bytes_max: int) -> tuple[bool, int, bytes]:
        try:
            first, second = await self._reader.readexactly(2)
            length = second & 0x7F
            if first & 0x70 or not second & 0x80:  # an extension nobody agreed to; a client that does not mask
                raise Closed(PROTOCOL_ERROR)
            opcode = first & 0x0F
            if opcode not in (CONTINUED, TEXT, BINARY, CLOSE, PING, PONG):
                raise Closed(PROTOCOL_ERROR)
            if opcode >= CLOSE and (length > 125 or not first & 0x80):
                raise Closed(PROTOCOL_ERROR)
            if length == 126:
                (length,) = struct.unpack(">H", await self._reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack(">Q", await self._reader.readexactly(8))
            if opcode < CLOSE and length > bytes_max:
                raise Closed(TOO_LARGE)
            mask = await self._reader.readexactly(4)
            return bool(first & 0x80), opcode, _unmasked(await self._reader.readexactly(length), mask)
        except (asyncio.IncompleteReadError, ConnectionError):
            raise Closed(1006) from None

    async def _send(self, opcode: int, payload: bytes) -> None:
        length = len(payload)
        if length < 126:
            head = struct.pack(">BB", 0x80 | opcode, length)
        elif length < 65536:
            head = struct.pack(">BBH", 0x80 | opcode, 126, length)
        else:
            head = struct.pack(">BBQ", 0x80 | opcode, 127, length)
        async with self._sending:
            self._writer.write(head + payload)
            await self._writer.drain()


def _unmasked(payload: bytes, mask: bytes) -> bytes:
    length = len(payload)
    key = int.from_bytes((mask * (length // 4 + 1))[:length], "big")
    return (int.from_bytes(payload, "big") ^ key).to_bytes(length, "big")
