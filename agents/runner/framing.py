"""How requests and answers lie on the wire: two lengths, a JSON object, raw bytes.

    4 bytes   length of the object, big-endian
    4 bytes   length of the body, big-endian
    object    UTF-8 JSON
    body      whatever the request or answer says it is; mostly empty

A frame that is whole but makes no sense is `Unreadable`, and the next one can be read. A frame that is too
long cannot be skipped honestly (its length may be the start of something else): `Broken`, and the connection
ends.
"""

from __future__ import annotations

import asyncio
import json
import struct
from typing import Any, Dict, Tuple

OBJECT_BYTES_MAX = 16 * 1024 * 1024  # a result may hold 2 × 524,288 characters (six bytes each, escaped) and media
BODY_BYTES_MAX = 4 * 1024 * 1024
LENGTHS = struct.Struct(">II")

Object = Dict[str, Any]
Frame = Tuple[Object, bytes]


class Unreadable(Exception):
    """A whole frame, but no object in it."""


class Broken(Exception):
    """Nobody knows where the next frame starts."""


def pack(message: Object, body: bytes = b"") -> bytes:
    """One frame."""
    # Lone surrogates (undecodable file names) travel as escapes, which JSON allows and UTF-8 does not.
    try:
        text = json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        text = json.dumps(message, separators=(",", ":")).encode()
    return LENGTHS.pack(len(text), len(body)) + text + body


async def read_frame(reader: asyncio.StreamReader) -> Frame | None:
    """The next frame; None at an end between two frames, and also in the middle of one: who left there
    waits for no answer."""
    try:
        text_bytes, body_bytes = LENGTHS.unpack(await reader.readexactly(LENGTHS.size))
        if text_bytes > OBJECT_BYTES_MAX:
            raise Broken(f"an object of {text_bytes} bytes; at most {OBJECT_BYTES_MAX} are allowed")
        if body_bytes > BODY_BYTES_MAX:
            raise Broken(f"a body of {body_bytes} bytes; at most {BODY_BYTES_MAX} are allowed")
        text = await reader.readexactly(text_bytes)
        body = await reader.readexactly(body_bytes)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    try:
        message = json.loads(text.decode())
    except (ValueError, RecursionError) as error:
        raise Unreadable(f"not JSON: {error}") from None
    if not isinstance(message, dict):
        raise Unreadable("not a JSON object")
    return message, body
