"""What tunnels are measured against, as programs of their own: a server that takes or gives bytes as fast as it can,
and a relay that does nothing but carry them.

    python -m infra.benchmark.peer serve PORT
    python -m infra.benchmark.peer relay PORT TO

A client begins with 9 bytes: `give` or `take`, and how many. It is given so many; or so many are taken, and one byte
says that they are there.
"""

import asyncio
import struct
from contextlib import suppress
from typing import Final

import typer
import uvloop

ORDER: Final = struct.Struct(">?Q")
"""Whether bytes are given, and how many."""

PIECE_BYTES: Final = 64 * 1024

app = typer.Typer(add_completion=False)


@app.command()
def serve(port: int) -> None:
    uvloop.run(_listen(port, _answer))


@app.command()
def relay(port: int, to: int) -> None:
    async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there_reader, there_writer = await asyncio.open_connection("127.0.0.1", to)
        await asyncio.gather(_copy(reader, there_writer), _copy(there_reader, writer))

    uvloop.run(_listen(port, carry))


async def _listen(port: int, handle: "asyncio.streams._ClientConnectedCallback") -> None:
    async with await asyncio.start_server(handle, "127.0.0.1", port) as server:
        await server.serve_forever()


async def _answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError, asyncio.IncompleteReadError):
        gives, count = ORDER.unpack(await reader.readexactly(ORDER.size))
        if gives:
            piece = bytes(PIECE_BYTES)
            for _ in range(count // PIECE_BYTES):
                writer.write(piece)
                await writer.drain()
            writer.write(bytes(count % PIECE_BYTES))
        else:
            while count > 0 and (piece := await reader.read(PIECE_BYTES)):
                count -= len(piece)
            writer.write(b".")
        await writer.drain()
    writer.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(OSError):
        while piece := await reader.read(PIECE_BYTES):
            writer.write(piece)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    app()
