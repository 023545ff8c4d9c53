"""Files in `multipart/form-data`, read as they come in: what was sent is never held as a whole, only one file of it.

A file's name is what its sender calls it, with folders, as `src/main.py`. The public client escapes it whole as in a
URL (`src%2Fmain.py`), browsers only quotation marks and line ends; a name is taken for escaped where that is what an
escaped one would look like.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote, unquote

from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from api.http.problems import Problem, invalid

_HEADERS_BYTES_MAX: Final = 64 * 1024  # of one part; the parser has limits for each header
_PIECE_SECONDS: Final = 60.0
_BROWSERS: Final = (("%22", '"'), ("%0D", "\r"), ("%0A", "\n"))


@dataclass(slots=True)
class File:
    """One file that was sent."""

    name: str
    content: bytearray


async def files_in(request: Request, *, files_max: int, file_bytes_max: int) -> AsyncGenerator[File, None]:
    """Each file as soon as it is here. Raises `Problem` (400, 408); the files before it were given out then."""
    parser = _Parser(_boundary(request), files_max, file_bytes_max)
    bytes_max = files_max * (file_bytes_max + _HEADERS_BYTES_MAX)
    size = 0
    async with aclosing(_pieces(request)) as pieces:
        async for piece in pieces:
            size += len(piece)
            if size > bytes_max:
                raise invalid("body", "too_long", f"a request may have {files_max} files of {file_bytes_max} bytes")
            for file in parser.feed(piece):
                yield file
    if not parser.is_whole:
        raise invalid("body", "multipart", "the body ends before its last boundary")


def _boundary(request: Request) -> bytes:
    media_type, options = parse_options_header(request.headers.get("content-type"))
    if media_type != b"multipart/form-data":
        raise invalid("Content-Type", "multipart", "files are sent as multipart/form-data")
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= 70:  # RFC 2046
        raise invalid("Content-Type", "boundary", "multipart/form-data has a boundary of 1 to 70 characters")
    return boundary


async def _pieces(request: Request) -> AsyncGenerator[bytes, None]:
    more = True
    while more:
        try:
            async with asyncio.timeout(_PIECE_SECONDS):
                message = await request.receive()
        except TimeoutError as error:
            detail = f"nothing more of the body came for {_PIECE_SECONDS:.0f} s"
            raise Problem(408, "request-timeout", "The request takes too long", detail, retryable=True) from error
        if message["type"] == "http.disconnect":
            raise Problem(400, "incomplete-request", "Incomplete request", "the connection ended within the body")
        yield message.get("body", b"")
        more = message.get("more_body", False)


@dataclass(slots=True)
class _Part:
    headers: dict[bytes, bytes] = field(default_factory=dict)
    name: bytearray = field(default_factory=bytearray)
    value: bytearray = field(default_factory=bytearray)
    file: File | None = None


class _Parser:
    """Bytes in, files out."""

    def __init__(self, boundary: bytes, files_max: int, file_bytes_max: int) -> None:
        self.is_whole = False
        self._files_max = files_max
        self._file_bytes_max = file_bytes_max
        self._files = 0
        self._done: list[File] = []
        self._part = _Part()
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": lambda data, start, end: self._part.name.extend(data[start:end]),
                "on_header_value": lambda data, start, end: self._part.value.extend(data[start:end]),
                "on_header_end": self._header,
                "on_headers_finished": self._open,
                "on_part_data": self._take,
                "on_part_end": self._close,
                "on_end": self._end,
            },
        )

    def feed(self, piece: bytes) -> list[File]:
        """The files that are whole with it. Raises `Problem`."""
        try:
            self._parser.write(piece)
        except FormParserError as error:
            raise invalid("body", "multipart", f"the body is no multipart/form-data: {error}") from error
        done, self._done = self._done, []
        return done

    def _begin(self) -> None:
        self._part = _Part()

    def _header(self) -> None:
        part = self._part
        part.headers[bytes(part.name).lower()] = bytes(part.value)
        part.name.clear()
        part.value.clear()

    def _open(self) -> None:
        name = _file_name(self._part.headers.get(b"content-disposition", b""))
        self._files += 1
        if self._files > self._files_max:
            raise invalid("files", "too_many", f"a request may have {self._files_max} files")
        self._part.file = File(name, bytearray())

    def _take(self, data: bytes, start: int, end: int) -> None:
        file = self._part.file
        assert file is not None
        if len(file.content) + end - start > self._file_bytes_max:
            raise invalid(file.name[:200], "too_large", f"a file may have {self._file_bytes_max} bytes")
        file.content += data[start:end]

    def _close(self) -> None:
        assert self._part.file is not None
        self._done.append(self._part.file)

    def _end(self) -> None:
        self.is_whole = True


def _file_name(disposition: bytes) -> str:
    """Raises `Problem` where it has none."""
    name = parse_options_header(disposition)[1].get(b"filename", b"").decode("utf-8", "replace")
    if quote(unquote(name), safe="") == name:
        name = unquote(name)
    else:
        for escaped, character in _BROWSERS:
            name = name.replace(escaped, character)
    if not name or "\x00" in name:
        raise invalid("filename", "file_name", "each part is a file, and has a name that is not empty")
    return name
