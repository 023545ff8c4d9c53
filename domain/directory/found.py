"""What is kept of an image that was found, in a registry or on a host: whoever built it may have written anything."""

from collections.abc import Mapping
from typing import Any, Final

_OURS: Final = "ai.backend."
"""Labels of this prefix say what sessions of the image need, so they go first."""

_COUNT_MAX: Final = 256
_NAME_MAX: Final = 256
_VALUE_MAX: Final = 16384
_BYTES_MAX: Final = 65536
"""Of all labels of an image: a record of the log holds a megabyte at most, and a report tells of several images."""

_ARCHITECTURES: Final = {"amd64": "x86_64", "arm64": "aarch64", "386": "i686", "arm": "armv7l"}


def architecture(name: str) -> str:
    """Images call it as the language Go does, we as the kernel of Linux does."""
    return _ARCHITECTURES.get(name, name)


def labels(given: Mapping[Any, Any]) -> dict[str, str]:
    """Those that are texts of a bearable size, as many as fit."""
    kept: dict[str, str] = {}
    left = _BYTES_MAX
    for name, value in sorted(
        ((name, value) for name, value in given.items() if _is_label(name, value)),
        key=lambda label: (not label[0].startswith(_OURS), label[0]),
    ):
        left -= len(name.encode()) + len(value.encode())
        if left < 0 or len(kept) == _COUNT_MAX:
            break
        kept[name] = value
    return kept


def _is_label(name: Any, value: Any) -> bool:
    if not isinstance(name, str) or not isinstance(value, str):
        return False
    if not 0 < len(name) <= _NAME_MAX or len(value) > _VALUE_MAX:
        return False
    return not any("\0" in text or not _is_utf8(text) for text in (name, value))


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can spell and nothing can write
        return False
    return True
