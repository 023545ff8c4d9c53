"""Which part of a file an answer holds: RFC 9110, conditions and ranges. Pure.

A request for several ranges at once gets the whole file, as the RFC allows.
"""

import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

_RANGE: Final = re.compile(r"bytes=\s*(\d{0,19})-(\d{0,19})\s*", re.IGNORECASE | re.ASCII)


class Part(NamedTuple):
    """The answer: its status, and which bytes go with it."""

    status: int
    offset: int = 0
    length: int = 0


def part_of(headers: Mapping[str, str], size: int, etag: str, modified: int) -> Part:
    """Of a file of `size` bytes, changed last in the second `modified`, whose strong tag is `etag`, with its quotes."""
    if not _holds(headers, etag, modified):
        return Part(412)
    if _is_known(headers, etag, modified):
        return Part(304)
    whole = Part(200, 0, size)
    asked = _RANGE.fullmatch(headers.get("Range", ""))
    if asked is None or asked.group(1) == asked.group(2) == "" or not _is_same(headers, etag, modified):
        return whole
    first, last = asked.groups()
    if not first:
        begins, ends = max(0, size - int(last)), size
    else:
        begins, ends = int(first), min(size, int(last) + 1) if last else size
        if last and int(last) < begins:
            return whole  # no range at all
    return Part(206, begins, ends - begins) if begins < ends else Part(416)


def _holds(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    if (wanted := headers.get("If-Match")) is not None:
        return etag in _tags(wanted) or wanted.strip() == "*"
    since = _date(headers.get("If-Unmodified-Since"))
    return since is None or modified <= since


def _is_known(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    """Whether the client has it as it is."""
    if (known := headers.get("If-None-Match")) is not None:
        return known.strip() == "*" or etag in (tag.removeprefix("W/") for tag in _tags(known))
    since = _date(headers.get("If-Modified-Since"))
    return since is not None and modified <= since


def _is_same(headers: Mapping[str, str], etag: str, modified: int) -> bool:
    """Whether the file is the one of which the client has the other parts."""
    condition = headers.get("If-Range")
    if condition is None:
        return True
    return condition.strip() == etag or _date(condition) == modified


def _tags(text: str) -> list[str]:
    return [tag.strip() for tag in text.split(",")]


def _date(text: str | None) -> int | None:
    """In seconds; None if it is no date."""
    try:
        found = parsedate_to_datetime(text or "")
        return int((found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp())
    except (ValueError, TypeError, OverflowError):
        return None
