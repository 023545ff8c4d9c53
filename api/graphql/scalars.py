"""The scalars of the schema as the public client knows them, and what is written in JSON inside of a string."""

import uuid
from collections.abc import Callable, Mapping
from typing import Any, Final, NewType, cast

import orjson
import strawberry
from graphql import GraphQLError

from domain.messages import Refused
from domain.slots import Slots, parse, show

UUID = NewType("UUID", str)
BigInt = NewType("BigInt", int)
JSONString = NewType("JSONString", object)

_BIG: Final = 2**53 - 1  # what JavaScript counts exactly
_UNLIMITED: Final = 2**63 - 1
_INFINITY: Final = "Infinity"


def _uuid(value: Any) -> UUID:
    try:
        return UUID(str(uuid.UUID(value)))
    except (ValueError, AttributeError, TypeError):
        raise GraphQLError(f"UUID cannot represent value: {str(value)[:80]!r}") from None


def _big(value: Any) -> BigInt:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > _BIG:
        raise GraphQLError(f"BigInt cannot represent value: {str(value)[:80]!r}")
    return BigInt(value)


def _shown_big(value: Any) -> int:
    return max(-_BIG, min(_BIG, int(value)))


def _json(value: Any) -> JSONString:
    if not isinstance(value, str):
        raise GraphQLError("JSONString must be a string that holds JSON")
    try:
        return JSONString(orjson.loads(value))
    except orjson.JSONDecodeError as error:
        raise GraphQLError(f"JSONString does not hold JSON: {error}") from None


def _shown_json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _scalar(name: str, parse_value: Callable[[Any], Any], serialize: Callable[[Any], Any]) -> Any:
    return strawberry.scalar(name=name, parse_value=parse_value, serialize=serialize)


SCALARS: Final[Mapping[object, Any]] = {
    UUID: _scalar("UUID", _uuid, str),
    BigInt: _scalar("BigInt", _big, _shown_big),
    JSONString: _scalar("JSONString", _json, _shown_json),
}


# -- resource slots ----------------------------------------------------------------------------------------------------


def amounts(told: JSONString, field: str) -> dict[str, int]:
    """Of `{"cpu": "4", "mem": "8g"}`; `"Infinity"` is more than there is. Raises `Refused`."""
    if not isinstance(told, Mapping):
        raise Refused("bad_slots", f"{field} must be a JSON object of slots", field)
    texts = {str(name): str(amount) for name, amount in cast(Mapping[str, Any], told).items() if amount is not None}
    limited = parse({name: text for name, text in texts.items() if text != _INFINITY}, field)
    return limited | {name: _UNLIMITED for name, text in texts.items() if text == _INFINITY}


def size(text: str, field: str) -> int:
    """Bytes, of `64m` or `67108864`. Raises `Refused`."""
    return parse({"mem": text}, field)["mem"]


def shown(slots: Slots) -> JSONString:
    """Amounts as people read them."""
    texts = show(slots)
    return JSONString({name: _INFINITY if slots[name] >= _UNLIMITED else text for name, text in texts.items()})
