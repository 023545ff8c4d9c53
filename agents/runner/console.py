"""What a run has printed and shown since somebody last asked, in order.

An item is `[type, content]`. `stdout` and `stderr` hold text; text of one stream that follows on itself is one
item. Of each stream the first 524,288 characters are kept between two answers, and of media and html the first
8 MiB together; what is beyond is left out, and a `log` item at the end says how much:

    ["log", ["warning", "2026-11-21T16:00:00.000Z", "refold", "stdout: 1000 characters left out"]]
"""

from __future__ import annotations

import codecs
import time
from datetime import datetime, timezone
from typing import Any, List

CHARACTERS_MAX = 524_288
RICH_BYTES_MAX = 8 * 1024 * 1024
STREAMS = ("stdout", "stderr")

Item = List[Any]


class Console:
    """Bounded, whatever is written to it."""

    def __init__(self) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")
        self._decoders = {stream: decoder(errors="replace") for stream in STREAMS}
        self._clear()

    def _clear(self) -> None:
        self._items: list[Item] = []
        self._room = dict.fromkeys((*STREAMS, "rich"), CHARACTERS_MAX)
        self._room["rich"] = RICH_BYTES_MAX
        self._left_out: dict[str, int] = {}
        self.since: float | None = None  # when the first of what is here came, by the monotonic clock

    @property
    def is_full(self) -> bool:
        """Whether an answer should go out before more is left out."""
        return min(self._room[stream] for stream in STREAMS) < CHARACTERS_MAX // 2 or self._room["rich"] <= 0

    def print(self, stream: str, data: bytes) -> None:
        """Bytes of a stream; a character may be cut in two by the pipe."""
        self.print_text(stream, self._decoders[stream].decode(data))

    def print_text(self, stream: str, text: str) -> None:
        """Text of a stream."""
        if not text:
            return
        kept = text[: self._room[stream]]
        self._room[stream] -= len(kept)
        if len(kept) < len(text):
            self._leave_out(stream, len(text) - len(kept))
        if not kept:
            return
        if self._items and self._items[-1][0] == stream:
            self._items[-1][1].append(kept)
        else:
            self._add([stream, [kept]])

    def show(self, kind: str, content: Any) -> None:
        """`html` with a text, or `media` with `[type, data]`."""
        size = len(content) if isinstance(content, str) else sum(map(len, content))
        if size > self._room["rich"]:
            self._leave_out(kind, size)
            return
        self._room["rich"] -= size
        self._add([kind, content])

    def take(self, *, last: bool = False) -> list[Item]:
        """All there is; it is gone from here. `last`: no more follows, so half a character is one that is broken."""
        if last:
            for stream, decoder in self._decoders.items():
                self.print_text(stream, decoder.decode(b"", final=True))
                decoder.reset()
        items = [[kind, "".join(content)] if kind in STREAMS else [kind, content] for kind, content in self._items]
        for kind, amount in self._left_out.items():
            unit = "characters" if kind in STREAMS else "bytes"
            items.append(["log", ["warning", _now(), "refold", f"{kind}: {amount} {unit} left out"]])
        self._clear()
        return items

    def put_back(self, items: list[Item]) -> None:
        """What was taken elsewhere comes first here. For an empty console."""
        for kind, content in items:
            if kind in STREAMS:
                self.print_text(kind, content)
            elif kind == "log":
                self._add([kind, content])
            else:
                self.show(kind, content)

    def _add(self, item: Item) -> None:
        self._items.append(item)
        if self.since is None:
            self.since = time.monotonic()

    def _leave_out(self, kind: str, amount: int) -> None:
        self._left_out[kind] = self._left_out.get(kind, 0) + amount


def _now() -> str:
    return datetime.now(timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")
