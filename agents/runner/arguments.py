"""What a request says, field by field. A wrong field is a `BadRequest` that names it and the rule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .failures import BadRequest
from .framing import Object


class Arguments:
    """The object under `with` of one request."""

    def __init__(self, fields: Object) -> None:
        self._fields = fields

    def has(self, name: str) -> bool:
        """Whether anything is said; null counts as absent."""
        return self._fields.get(name) is not None

    def text(self, name: str, default: str | None = None) -> str:
        """A string. Without a default it must be there; null counts as absent."""
        value = self._fields.get(name)
        if value is None:
            value = default
        if not isinstance(value, str):
            raise BadRequest(name, "must be a string")
        return value

    def maybe_text(self, name: str) -> str | None:
        """A string or nothing."""
        return None if self._fields.get(name) is None else self.text(name)

    def whole(self, name: str, default: int | None, least: int, most: int) -> int:
        """A whole number between two bounds, both included."""
        value = self._fields.get(name)
        if value is None:
            value = default
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            raise BadRequest(name, f"must be a whole number from {least} to {most}")
        return value

    def maybe_whole(self, name: str, least: int, most: int) -> int | None:
        """A whole number between two bounds, or nothing."""
        return None if self._fields.get(name) is None else self.whole(name, None, least, most)

    def flag(self, name: str) -> bool:
        """True or false; false where it is absent."""
        value = self._fields.get(name, False)
        if not isinstance(value, bool):
            raise BadRequest(name, "must be true or false")
        return value

    def one_of(self, name: str, choices: Sequence[str], default: str | None = None) -> str:
        """One of a few words."""
        value = self.text(name, default)
        if value not in choices:
            raise BadRequest(name, f"must be one of {', '.join(choices)}")
        return value

    def texts(self, name: str) -> Sequence[str]:
        """A list of strings that is not empty."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not value or not all(isinstance(item, str) for item in value):
            raise BadRequest(name, "must be a list of strings that is not empty")
        return value

    def maybe_texts(self, name: str) -> Sequence[str] | None:
        """A list of strings that is not empty, or nothing."""
        return None if self._fields.get(name) is None else self.texts(name)

    def ports(self, name: str) -> Sequence[int]:
        """A list of port numbers that is not empty."""
        value = self._fields.get(name)
        if not isinstance(value, list) or not value or not all(_is_port(item) for item in value):
            raise BadRequest(name, "must be a list of port numbers that is not empty")
        return value

    def environ(self, name: str) -> Mapping[str, str]:
        """An object of strings; empty where it is absent."""
        value = self.mapping(name)
        if not all(isinstance(item, str) and "\0" not in item for item in value.values()):
            raise BadRequest(name, "must be an object of strings")
        if not all(key and "=" not in key and "\0" not in key for key in value):
            raise BadRequest(name, "must have names without = and NUL")
        return value

    def mapping(self, name: str) -> Mapping[str, Any]:
        """An object; empty where it is absent."""
        value = self._fields.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise BadRequest(name, "must be an object")
        return value


def _is_port(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 65536
