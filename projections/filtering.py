"""The language in which clients say what a list should hold: `name == "svc" & (status in ["A", "B"] | size > 3)`.

What is compared are fields of a `Fields` map, which says what each stands for in SQL; nothing else of what was written
gets there, values travel as parameters. `!` binds closest, then `&`, then `|`. Comparisons are true or false, never
unknown: what is null differs from every value. Of a list, a comparison is true if it is for any of its items.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from typing import Any, Final, LiteralString, NoReturn, assert_never

from psycopg import sql

LENGTH_MAX: Final = 16_384
_COMPARISONS_MAX: Final = 100
_VALUES_MAX: Final = 1000  # in one array
_DEPTH_MAX: Final = 32  # of parentheses; people write two or three


class BadQuery(Exception):
    """A list cannot be asked for so: `field` is the argument at fault, `position` where in its text, from 0."""

    def __init__(self, field: str, rule: str, reason: str, position: int | None = None) -> None:
        super().__init__(reason if position is None else f"{reason}, at {position}")
        self.field = field
        self.rule = rule
        self.reason = reason
        self.position = position


class Kind(Enum):
    """What the values of a field are; `TEXTS` is a list of texts."""

    TEXT = "text"
    NUMBER = "number"
    BOOLEAN = "boolean"
    TIME = "time"
    TEXTS = "texts"


@dataclass(frozen=True)
class Field:
    """`stands_for` in SQL. With `choices`, its values are these, in whatever case they are written, `-` or `_`."""

    stands_for: LiteralString
    kind: Kind = Kind.TEXT
    nullable: bool = False
    choices: tuple[str, ...] = ()


Fields = Mapping[str, Field]
"""By the name that clients use."""


# -- what was asked ----------------------------------------------------------------------------------------------------

Atom = str | Decimal | bool | None
Value = Atom | list[Atom]


@dataclass(frozen=True)
class Comparison:
    field: str
    operator: str
    value: Value
    position: int


@dataclass(frozen=True)
class Not:
    inner: "Filter"


@dataclass(frozen=True)
class And:
    parts: tuple["Filter", ...]


@dataclass(frozen=True)
class Or:
    parts: tuple["Filter", ...]


Filter = Comparison | Not | And | Or


def parse(text: str) -> Filter:
    """Raises `BadQuery`."""
    if len(text) > LENGTH_MAX:
        _refuse("too_long", f"a filter has at most {LENGTH_MAX} characters")
    return _Parser(text).whole()


_TOKEN = re.compile(
    r"""(?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?)
      | (?P<string>"(?:[^"\\]|\\.)*")
      | (?P<symbol>==|!=|>=|<=|[><!&|()\[\],])""",
    re.VERBOSE | re.DOTALL,
)
_SPACE = re.compile(r"[ \t\r\n\f]*")
_ESCAPE = re.compile(r'\\(["\\])')
_ATOMS: Final[Mapping[str, bool | None]] = {"null": None, "true": True, "false": False}
_ORDERING: Final = {">", ">=", "<", "<="}
_OPERATORS: Final = {"==", "!=", *_ORDERING, "contains", "in", "is", "isnot", "like", "ilike"}


@dataclass(frozen=True)
class _Token:
    kind: str
    text: str
    position: int


class _Parser:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._comparisons = 0
        self._token = self._read()

    def whole(self) -> Filter:
        found = self._either()
        if self._token.kind != "end":
            self._expected("`&`, `|` or the end")
        return found

    def _either(self) -> Filter:
        parts = [self._both()]
        while self._take("|"):
            parts.append(self._both())
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _both(self) -> Filter:
        parts = [self._one()]
        while self._take("&"):
            parts.append(self._one())
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _one(self) -> Filter:
        negated = False
        while self._take("!"):
            negated = not negated
        found = self._in_parentheses() if self._token.text == "(" else self._comparison()
        return Not(found) if negated else found

    def _in_parentheses(self) -> Filter:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            _refuse("too_deep", f"at most {_DEPTH_MAX} parentheses may be open at once", self._token.position)
        self._take("(")
        found = self._either()
        if not self._take(")"):
            self._expected("`)`")
        self._depth -= 1
        return found

    def _comparison(self) -> Filter:
        name, position = self._token.text, self._token.position
        if self._token.kind != "name":
            self._expected("the name of a field")
        self._comparisons += 1
        if self._comparisons > _COMPARISONS_MAX:
            _refuse("too_many", f"a filter has at most {_COMPARISONS_MAX} comparisons", position)
        self._step()
        operator = self._token.text
        if operator not in _OPERATORS or self._token.kind == "string":
            self._expected("one of " + ", ".join(sorted(_OPERATORS)))
        self._step()
        return Comparison(name, operator, self._value(), position)

    def _value(self) -> Value:
        position = self._token.position
        if not self._take("["):
            return self._atom()
        values: list[Atom] = []
        if self._take("]"):
            return values
        while True:
            values.append(self._atom())
            if len(values) > _VALUES_MAX:
                _refuse("too_many", f"an array has at most {_VALUES_MAX} values", position)
            if self._take("]"):
                return values
            if not self._take(","):
                self._expected("`,` or `]`")

    def _atom(self) -> Atom:
        token = self._token
        match token.kind:
            case "string":
                value: Atom = _ESCAPE.sub(r"\1", token.text[1:-1])
            case "number":
                value = _number(token)
            case "name" if token.text in _ATOMS:
                value = _ATOMS[token.text]
            case _:
                self._expected("a value")
        self._step()
        return value

    def _take(self, symbol: str) -> bool:
        if self._token.kind != "symbol" or self._token.text != symbol:
            return False
        self._step()
        return True

    def _step(self) -> None:
        self._token = self._read()

    def _read(self) -> _Token:
        space = _SPACE.match(self._text, self._at)
        start = space.end() if space else self._at
        match = _TOKEN.match(self._text, start)
        if match is None:
            if start < len(self._text):
                _refuse("syntax", f"{self._text[start : start + 20]!r} cannot be read", start)
            return _Token("end", "", start)
        self._at = match.end()
        return _Token(match.lastgroup or "", match.group(), start)

    def _expected(self, what: str) -> NoReturn:
        found = f"{self._token.text[:40]!r}" if self._token.kind != "end" else "the end"
        _refuse("syntax", f"expected {what}, found {found}", self._token.position)


def _number(token: _Token) -> Decimal:
    value = Decimal(token.text) if len(token.text) <= 40 else Decimal("NaN")
    # No column holds more, and what Postgres makes of `1e99999` takes longer than it took to write.
    if not value.is_finite() or (value and not -30 <= value.adjusted() <= 30):
        _refuse("bad_value", "no number here is so large or so exact", token.position)
    return value


def _refuse(rule: str, reason: str, position: int | None = None) -> NoReturn:
    raise BadQuery("filter", rule, reason, position)


# -- as a condition ----------------------------------------------------------------------------------------------------

_SQL: Final[Mapping[str, LiteralString]] = {
    "==": "{field} = {value}",
    "!=": "{field} IS DISTINCT FROM {value}",
    ">": "{field} > {value}",
    ">=": "{field} >= {value}",
    "<": "{field} < {value}",
    "<=": "{field} <= {value}",
    "contains": "strpos({field}, {value}) > 0",
    "in": "{field} = ANY({value})",
    "like": "{field} LIKE {value}",
    "ilike": "{field} ILIKE {value}",
}
_TYPES: Final[Mapping[Kind, LiteralString]] = {
    Kind.TEXT: "text",
    Kind.TEXTS: "text",
    Kind.NUMBER: "numeric",
    Kind.BOOLEAN: "boolean",
    Kind.TIME: "timestamptz",
}


def condition(asked: Filter, fields: Fields, values: dict[str, Any]) -> sql.Composable:
    """The same in SQL; its parameters are added to `values`. Raises `BadQuery`."""
    match asked:
        case Comparison():
            return _comparison(asked, fields, values)
        case Not():
            return sql.SQL("NOT ({})").format(condition(asked.inner, fields, values))
        case And():
            return _joined(" AND ", asked.parts, fields, values)
        case Or():
            return _joined(" OR ", asked.parts, fields, values)
        case _:
            assert_never(asked)


def _joined(word: LiteralString, parts: tuple[Filter, ...], fields: Fields, values: dict[str, Any]) -> sql.Composable:
    return sql.SQL("({})").format(sql.SQL(word).join(condition(part, fields, values) for part in parts))


def _comparison(asked: Comparison, fields: Fields, values: dict[str, Any]) -> sql.Composable:
    field = fields.get(asked.field)
    if field is None:
        _refuse("unknown_field", f"there is no field {asked.field[:64]!r} here", asked.position)
    stands_for = sql.SQL(field.stands_for)
    if asked.value is None or asked.operator in {"is", "isnot"}:
        return _identity(asked, field, values)
    if field.kind is not Kind.TEXTS:
        bare = _plain(asked, field, stands_for, values)
        return sql.SQL("coalesce({}, false)").format(bare) if field.nullable and asked.operator != "!=" else bare
    return sql.SQL("EXISTS (SELECT FROM unnest({}) AS item WHERE {})").format(
        stands_for, _plain(asked, field, sql.SQL("item"), values)
    )


def _identity(asked: Comparison, field: Field, values: dict[str, Any]) -> sql.Composable:
    """Whether it is null, or true or false."""
    if asked.operator not in {"is", "isnot", "==", "!="} or (
        asked.value is not None and field.kind is not Kind.BOOLEAN
    ):
        _refuse("bad_value", f"{asked.field} {asked.operator} cannot have this value", asked.position)
    if asked.value is None:
        wanted: sql.Composable = sql.SQL("NULL")
    else:
        wanted = _parameter(_one_of(asked, field, asked.value), field, asked, values)
    word: LiteralString = "IS NOT DISTINCT FROM" if asked.operator in {"is", "=="} else "IS DISTINCT FROM"
    return sql.SQL("{} " + word + " {}").format(sql.SQL(field.stands_for), wanted)


def _plain(asked: Comparison, field: Field, left: sql.Composable, values: dict[str, Any]) -> sql.Composable:
    operator, value = asked.operator, asked.value
    if operator in {"contains", "like", "ilike"}:
        if field.kind not in {Kind.TEXT, Kind.TEXTS}:
            _refuse("bad_operator", f"{asked.field} is no text: {operator} cannot be asked of it", asked.position)
        if not isinstance(value, str):
            _refuse("bad_value", f"{asked.field} {operator} needs a text", asked.position)
        if operator != "contains" and (len(value) - len(value.rstrip("\\"))) % 2:
            _refuse("bad_value", "a pattern does not end with its escape character", asked.position)
        given: Any = _sendable(asked, value)
    elif operator in _ORDERING and (field.kind is Kind.BOOLEAN or field.choices):
        _refuse("bad_operator", f"{asked.field} has no order: {operator} cannot be asked of it", asked.position)
    elif (operator == "in") != isinstance(value, list):
        what = "an array" if operator == "in" else "one value"
        _refuse("bad_value", f"{asked.field} {operator} needs {what}", asked.position)
    elif isinstance(value, list):
        given = [_one_of(asked, field, each) for each in value]
    else:
        given = _one_of(asked, field, value)
    return sql.SQL(_SQL[operator]).format(field=left, value=_parameter(given, field, asked, values))


def _parameter(given: Any, field: Field, asked: Comparison, values: dict[str, Any]) -> sql.Composable:
    name = f"filter_{len(values)}"
    values[name] = given
    many = "[]" if asked.operator == "in" else ""
    return sql.SQL("{}::" + _TYPES[field.kind] + many).format(sql.Placeholder(name))


def _one_of(asked: Comparison, field: Field, value: Value) -> Any:
    """The value, if it is one that the field may have."""
    match field.kind:
        case Kind.TEXT | Kind.TEXTS if isinstance(value, str):
            return _choice(asked, field, value) if field.choices else _sendable(asked, value)
        case Kind.NUMBER if isinstance(value, Decimal):
            return value
        case Kind.BOOLEAN if isinstance(value, bool):
            return value
        case Kind.TIME if isinstance(value, str):
            return _time(asked, value)
    _refuse("bad_value", f"{asked.field} is compared with values of the type {field.kind.value}", asked.position)


def _choice(asked: Comparison, field: Field, value: str) -> str:
    for choice in field.choices:
        if choice.replace("-", "_").upper() == value.replace("-", "_").upper():
            return choice
    _refuse("bad_value", f"{asked.field} is one of {', '.join(field.choices)}", asked.position)


def _sendable(asked: Comparison, value: str) -> str:
    """Postgres takes any text but NUL and what is no Unicode."""
    if "\0" in value or any("\ud800" <= each <= "\udfff" for each in value):
        _refuse("bad_value", "NUL and half characters are not allowed", asked.position)
    return value


def _time(asked: Comparison, value: str) -> datetime:
    """ISO 8601; without a time zone it is UTC."""
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        _refuse("bad_value", f"{asked.field} is compared with a date or time as of ISO 8601", asked.position)
