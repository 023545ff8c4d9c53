"""Requests over connections: which there are, and how each is answered.

Requests of one connection begin in the order in which they come and are answered when they are done, so a long
poll holds nobody up. Nothing lives in a connection but its downloads.
"""

from __future__ import annotations

import asyncio
import os
from contextlib import suppress
from typing import Awaitable, Callable, Dict

from .arguments import Arguments
from .failures import BadRequest, Failure
from .files import Download, download_archive, download_one, list_folder, upload
from .framing import BODY_BYTES_MAX, Broken, Frame, Object, Unreadable, pack, read_frame
from .interpreter import Interpreter
from .paths import Home
from .runs import Runs, options_of
from .services import Services
from .terminals import Terminals

REQUESTS_AT_ONCE_MAX = 256
POLLS = ("execute", "terminal-read")  # what they wait for goes on without them
DOWNLOADS_MAX = 32
WAIT_MS_MAX = 60_000
CHUNK_BYTES_MAX = 1024 * 1024
Handler = Callable[[Arguments, bytes, Dict[str, Download]], Awaitable[Frame]]


class Serving:
    """All connections of one runner."""

    def __init__(
        self,
        runs: Runs,
        interpreter: Interpreter | None,
        terminals: Terminals,
        services: Services,
        home: Home,
        *,
        upload_bytes_max: int,
        greeting: Object,
    ) -> None:
        self._runs = runs
        self._interpreter = interpreter
        self._terminals = terminals
        self._services = services
        self._home = home
        self._upload_bytes_max = upload_bytes_max
        self._greeting = greeting
        self._handlers: dict[str, Handler] = {
            "execute": self._execute,
            "interrupt": self._interrupt,
            "complete": self._complete,
            "terminal-open": self._open_terminal,
            "terminal-read": self._read_terminal,
            "terminal-write": self._write_terminal,
            "terminal-resize": self._resize_terminal,
            "ping": self._ping,
            "terminal-restart": self._restart_terminal,
            "terminal-close": self._close_terminal,
            "service-start": self._start_service,
            "service-stop": self._stop_service,
            "services": self._list_services,
            "files-list": self._list_files,
            "files-upload": self._upload,
            "download-open": self._open_download,
            "download-read": self._read_download,
            "download-close": self._close_download,
        }

    async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection, from the greeting until the other side is gone."""
        going: dict[asyncio.Future[None], object] = {}
        downloads: dict[str, Download] = {}
        sending = asyncio.Lock()  # one frame at a time; who is slow to read slows down its own connection only

        async def send(message: Object, body: bytes = b"") -> None:
            async with sending:
                with suppress(ConnectionError):
                    writer.write(pack(message, body))
                    await writer.drain()

        async def answer(request: Object, body: bytes) -> None:
            await send(*await self._answer(request, body, downloads))

        await send(self._greeting)
        try:
            while True:
                try:
                    frame = await read_frame(reader)
                except Unreadable as error:
                    await send(_failed(None, "unreadable", str(error)))
                    continue
                except Broken as error:
                    await send(_failed(None, "broken", str(error)))
                    break
                if frame is None:
                    break
                if len(going) >= REQUESTS_AT_ONCE_MAX:
                    why = f"{REQUESTS_AT_ONCE_MAX} requests of this connection are not done yet"
                    await send(_failed(frame[0].get("id"), "too-many-requests", why))
                    continue
                task = asyncio.ensure_future(answer(*frame))
                going[task] = frame[0].get("do")
                task.add_done_callback(going.pop)
        finally:
            for poll, name in going.items():
                if name in POLLS:
                    poll.cancel()  # it would take news that nobody hears; everything else is carried through
            for download in downloads.values():
                download.close()
            writer.close()

    async def _answer(self, request: Object, body: bytes, downloads: dict[str, Download]) -> Frame:
        request_id = request.get("id")
        try:
            if isinstance(request_id, bool) or not isinstance(request_id, (int, str)):
                request_id = None
                raise BadRequest("id", "must be a whole number or a string")
            name = request.get("do")
            handler = self._handlers.get(name) if isinstance(name, str) else None
            if handler is None:
                raise Failure("unknown-request", f"there is no request {name!r}")
            fields = request.get("with", {})
            if not isinstance(fields, dict):
                raise BadRequest("with", "must be an object")
            result, content = await handler(Arguments(fields), body, downloads)
            return {"id": request_id, "ok": result}, content
        except Failure as failure:
            return _failed(request_id, failure.code, failure.why), b""
        except Exception as error:  # a fault of ours costs this request, not the kernel
            return _failed(request_id, "fault", f"{type(error).__name__}: {error}"), b""

    async def _execute(self, args: Arguments, _: bytes, __: object) -> Frame:
        mode = args.one_of("mode", ("query", "batch", "continue", "continued", "input"))
        wait = args.whole("wait_ms", 2000, 0, WAIT_MS_MAX) / 1000
        gather = args.whole("gather_ms", 100, 0, WAIT_MS_MAX) / 1000
        seen = args.maybe_whole("seen", 0, 2**53)
        run_id = args.maybe_text("run_id")
        if mode in ("query", "batch"):
            run = self._runs.start(run_id, mode, args.text("code", ""), options_of(args.mapping("options")))
        else:
            run = self._runs.find(run_id)
            if mode == "input":
                run.answer(args.text("code", ""))
        return await run.result(seen, wait, gather), b""

    async def _interrupt(self, args: Arguments, _: bytes, __: object) -> Frame:
        self._runs.interrupt(args.maybe_text("run_id"))
        return {}, b""

    async def _complete(self, args: Arguments, _: bytes, __: object) -> Frame:
        code = args.text("code")
        return {"result": await self._interpreter.complete(code) if self._interpreter else []}, b""

    async def _open_terminal(self, args: Arguments, _: bytes, __: object) -> Frame:
        size = _size(args) if args.has("rows") or args.has("cols") else None
        command = args.maybe_texts("command")
        name, terminal = self._terminals.open(args.maybe_text("terminal"), size, command, args.environ("environ"))
        return {"terminal": name, "next": terminal.end}, b""

    async def _read_terminal(self, args: Arguments, _: bytes, __: object) -> Frame:
        terminal = self._terminals.find(args.text("terminal"))
        wait = args.whole("wait_ms", 2000, 0, WAIT_MS_MAX) / 1000
        return await terminal.read(args.whole("after", 0, 0, 2**53), _chunk(args), wait)

    async def _write_terminal(self, args: Arguments, body: bytes, __: object) -> Frame:
        self._terminals.find(args.text("terminal")).type(body)
        return {}, b""

    async def _resize_terminal(self, args: Arguments, _: bytes, __: object) -> Frame:
        rows, cols = _size(args)
        self._terminals.find(args.text("terminal")).resize(rows, cols)
        return {}, b""

    async def _ping(self, _: Arguments, __: bytes, ___: object) -> Frame:
        return {}, b""

    async def _restart_terminal(self, args: Arguments, _: bytes, __: object) -> Frame:
        await self._terminals.find(args.text("terminal")).restart()
        return {}, b""

    async def _close_terminal(self, args: Arguments, _: bytes, __: object) -> Frame:
        await self._terminals.close(args.text("terminal"))
        return {}, b""

    async def _start_service(self, args: Arguments, _: bytes, __: object) -> Frame:
        started = await self._services.start(
            args.text("service"),
            args.ports("ports"),
            args.mapping("arguments"),
            args.environ("environ"),
            args.whole("wait_ms", 30_000, 0, 10 * WAIT_MS_MAX) / 1000,
        )
        return started, b""

    async def _stop_service(self, args: Arguments, _: bytes, __: object) -> Frame:
        await self._services.stop(args.text("service"))
        return {}, b""

    async def _list_services(self, args: Arguments, _: bytes, __: object) -> Frame:
        names = args.maybe_texts("names") or ()
        return {"services": self._services.all(), "definitions": self._services.definitions(names)}, b""

    async def _list_files(self, args: Arguments, _: bytes, __: object) -> Frame:
        return list_folder(self._home, args.text("path", ".")), b""

    async def _upload(self, args: Arguments, body: bytes, __: object) -> Frame:
        mode = args.whole("mode", 0o644, 0, 0o777)
        return upload(self._home, args.text("path"), body, mode, self._upload_bytes_max), b""

    async def _open_download(self, args: Arguments, _: bytes, downloads: dict[str, Download]) -> Frame:
        if len(downloads) >= DOWNLOADS_MAX:
            raise Failure("too-many-downloads", f"{DOWNLOADS_MAX} downloads are open on this connection already")
        paths = args.texts("paths")
        if args.flag("single"):
            if len(paths) != 1:
                raise BadRequest("paths", "must be one path for a single file")
            download = download_one(self._home, paths[0])
        else:
            download = download_archive(self._home, paths)
        name = os.urandom(8).hex()
        downloads[name] = download
        return {"download": name, "bytes": download.bytes}, b""

    async def _read_download(self, args: Arguments, _: bytes, downloads: dict[str, Download]) -> Frame:
        name, bytes_max = args.text("download"), _chunk(args)
        if name not in downloads:
            raise Failure("unknown-download", f"there is no download {name} on this connection")
        data, is_last = downloads[name].read(bytes_max)
        if is_last:
            downloads.pop(name).close()
        return {"last": is_last}, data

    async def _close_download(self, args: Arguments, _: bytes, downloads: dict[str, Download]) -> Frame:
        download = downloads.pop(args.text("download"), None)
        if download is not None:
            download.close()
        return {}, b""


def _failed(request_id: object, code: str, why: str) -> Object:
    return {"id": request_id, "failed": {"code": code, "why": why}}


def _size(args: Arguments) -> tuple[int, int]:
    return args.whole("rows", 24, 1, 2000), args.whole("cols", 80, 1, 2000)


def _chunk(args: Arguments) -> int:
    return args.whole("bytes_max", 65536, 1, min(CHUNK_BYTES_MAX, BODY_BYTES_MAX))
