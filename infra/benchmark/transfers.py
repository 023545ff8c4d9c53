"""Bytes over HTTP by blocking sockets, for as little processor time as can be: on two cores the load takes from what it
measures. And an nginx to hold it against."""

import asyncio
import os
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

CHUNK_BYTES: Final = 16 * 1024 * 1024
"""Which the public client sends in one request of an upload."""

_READ_BYTES: Final = 1024 * 1024
_SILENCE_SECONDS: Final = 60.0
_START_SECONDS: Final = 10.0


def fetched(url: str) -> int:
    """How many bytes the answer's body had. Raises `OSError` and `RuntimeError`."""
    with _connected(url) as connection:
        connection.sendall(f"GET {_target(url)} HTTP/1.1\r\nHost: bench\r\n\r\n".encode())
        head, begun = _head(connection)
        length = int(_field(head, b"content-length"))
        buffer, count = bytearray(_READ_BYTES), len(begun)
        while count < length:
            got = connection.recv_into(buffer)
            if not got:
                raise RuntimeError(f"{count} of {length} bytes came")
            count += got
        return count


def brought(url: str, file: Path) -> int:
    """Upload it by TUS; how many bytes it had. Raises `OSError` and `RuntimeError`."""
    with _connected(url) as connection, file.open("rb", buffering=0) as source:
        size = os.fstat(source.fileno()).st_size
        for offset in range(0, size, CHUNK_BYTES):
            count = min(CHUNK_BYTES, size - offset)
            connection.sendall(
                f"PATCH {_target(url)} HTTP/1.1\r\nHost: bench\r\nTus-Resumable: 1.0.0\r\nUpload-Offset: {offset}\r\n"
                f"Content-Type: application/offset+octet-stream\r\nContent-Length: {count}\r\n\r\n".encode()
            )
            connection.sendfile(source, offset, count)
            _head(connection)
        return size


def copied(file: Path, to: Path, *, durable: bool) -> int:
    """Within the kernel, as any copy; how many bytes it had. `durable`: it is on disk then, as an upload is."""
    shutil.copyfile(file, to)
    with to.open("rb") as made:
        if durable:
            os.fsync(made.fileno())
        size = os.fstat(made.fileno()).st_size
    to.unlink()
    return size


def _connected(url: str) -> socket.socket:
    place = urlsplit(url)
    return socket.create_connection((place.hostname or "", place.port or 80), _SILENCE_SECONDS)


def _target(url: str) -> str:
    place = urlsplit(url)
    return f"{place.path}?{place.query}" if place.query else place.path


def _head(connection: socket.socket) -> tuple[bytes, bytes]:
    """Of an answer; and what of its body came with it."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            raise RuntimeError("the connection was closed before the answer")
        data += piece
    head, _, body = data.partition(b"\r\n\r\n")
    if not head[9:12].startswith(b"2"):
        raise RuntimeError(f"answered {head.splitlines()[0].decode()}: {body.decode(errors='replace')}")
    return head, body


def _field(head: bytes, name: bytes) -> bytes:
    for line in head.splitlines()[1:]:
        key, _, value = line.partition(b":")
        if key.lower() == name:
            return value.strip()
    raise RuntimeError(f"the answer has no {name.decode()}")


_CONFIG: Final = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log {folder}/nginx.log; {user}
events {{ worker_connections 1024; }}
http {{
    access_log off; sendfile on; tcp_nopush on; types {{ }}
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    server {{ listen 127.0.0.1:{port}; root {root}; }}
}}
"""


@asynccontextmanager
async def nginx(folder: Path, root: Path, port: int) -> AsyncIterator[str | None]:
    """Serves the files of `root`: its URL; None where it is not installed, or does not start."""
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")
    if program is None:
        yield None
        return
    config = _configured(folder, root, port)
    with (folder / "nginx.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(program, "-c", str(config), stdout=log, stderr=log)
    try:
        yield f"http://127.0.0.1:{port}" if await _listens(process, port) else None
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


def _configured(folder: Path, root: Path, port: int) -> Path:
    folder.mkdir()
    user = "user root;" if os.geteuid() == 0 else ""  # else it gives up the right to read what is ours alone
    config = folder / "nginx.conf"
    config.write_text(_CONFIG.format(folder=folder, user=user, port=port, root=root))
    return config


async def _listens(process: asyncio.subprocess.Process, port: int) -> bool:
    async with asyncio.timeout(_START_SECONDS):
        while process.returncode is None:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except OSError:
                await asyncio.sleep(0.05)
                continue
            writer.close()
            return True
    return False
