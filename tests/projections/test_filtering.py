"""The filter and order language: what it means, what it refuses, and that nothing written in it gets into SQL."""

import asyncio
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import AsyncConnection, sql

from projections.filtering import (
    And,
    BadQuery,
    Comparison,
    Field,
    Fields,
    Filter,
    Kind,
    Not,
    Or,
    condition,
    parse,
)
from projections.listing import parse_order

FIELDS: Fields = {
    "name": Field("name"),
    "note": Field("note", nullable=True),
    "size": Field("size", Kind.NUMBER),
    "count": Field("count", Kind.NUMBER, nullable=True),
    "on": Field("active", Kind.BOOLEAN),
    "at": Field("happened_at", Kind.TIME, nullable=True),
    "status": Field("status", choices=("before-that", "AFTER")),
    "tags": Field("tags", Kind.TEXTS),
}
Row = Mapping[str, Any]

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
ROWS: Sequence[Row] = [
    {
        "name": name, "note": note, "size": size, "count": count, "on": on, "at": at, "status": status, "tags": tags,
    }
    for name, note, size, count, on, at, status, tags in (
        ("svc", None, 1, None, True, None, "AFTER", []),
        ("SVC", "50%", 2, 7, False, NOON, "before-that", ["a"]),
        ("a_b\\c", 'say "x"', -3, 0, True, NOON + timedelta(days=1), "AFTER", ["a", "svc"]),
        ("'; DROP TABLE things; --", "", 10**18, -1, False, NOON - timedelta(days=400), "before-that", ["b%", ""]),
    )
]  # fmt: skip


# -- what it means: evaluated in Python --------------------------------------------------------------------------------

_COMPARED: Mapping[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq,
    ">": operator.gt,
    ">=": operator.ge,
    "<": operator.lt,
    "<=": operator.le,
    "contains": operator.contains,
}


def holds(asked: Filter, row: Row) -> bool:
    match asked:
        case Not():
            return not holds(asked.inner, row)
        case And():
            return all(holds(part, row) for part in asked.parts)
        case Or():
            return any(holds(part, row) for part in asked.parts)
        case Comparison():
            value = row[asked.field]
            if asked.value is None or asked.operator in {"is", "isnot"}:
                return bool(value == asked.value) == (asked.operator in {"is", "=="})
            if isinstance(value, list):
                return any(compared(asked, each) for each in value)
            return compared(asked, value)


def compared(asked: Comparison, value: Any) -> bool:
    given = [meant(asked.field, each) for each in asked.value] if isinstance(asked.value, list) else None
    one = meant(asked.field, asked.value)
    match asked.operator:
        case "!=":
            return bool(value != one)
        case _ if value is None:
            return False
        case "in":
            assert given is not None
            return value in given
        case "like" | "ilike":
            return like(value, str(one), asked.operator == "ilike")
        case _:
            return _COMPARED[asked.operator](value, one)


def meant(field: str, value: Any) -> Any:
    match FIELDS[field].kind:
        case Kind.TIME if isinstance(value, str):
            at = datetime.fromisoformat(value)
            return at if at.tzinfo else at.replace(tzinfo=UTC)
        case _ if field == "status" and isinstance(value, str):
            by_name = {each.replace("-", "_").upper(): each for each in FIELDS[field].choices}
            return by_name.get(value.replace("-", "_").upper(), value)
        case _:
            return value


def like(value: str, pattern: str, any_case: bool) -> bool:
    out, escaped = "", False
    for each in pattern:
        if escaped or each not in "%_\\":
            out, escaped = out + re.escape(each), False
        elif each == "\\":
            escaped = True
        else:
            out += ".*" if each == "%" else "."
    return re.fullmatch(out, value, re.DOTALL | (re.IGNORECASE if any_case else 0)) is not None


# -- in Postgres -------------------------------------------------------------------------------------------------------

_TABLE = """
CREATE TEMP TABLE things (
  number int, name text COLLATE "C" NOT NULL, note text COLLATE "C", size bigint NOT NULL, count bigint,
  active boolean NOT NULL, happened_at timestamptz, status text NOT NULL, tags text[] COLLATE "C" NOT NULL)"""


async def table(db: AsyncConnection[Any]) -> None:
    await db.execute(_TABLE)
    for number, row in enumerate(ROWS):
        await db.execute("INSERT INTO things VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s)", (number, *row.values()))


async def selected(db: AsyncConnection[Any], asked: Filter) -> list[int]:
    values: dict[str, Any] = {}
    chosen = condition(asked, FIELDS, values)
    cursor = await db.execute(sql.SQL("SELECT number FROM things WHERE {} ORDER BY 1").format(chosen), values)
    return [number for (number,) in await cursor.fetchall()]


# -- filters that mean something ---------------------------------------------------------------------------------------

_PATTERNS = st.sampled_from(
    ["svc", "SVC", "a_b\\c", "%", "s%", "_vc", "50\\%", 'say "x"', "", "'; DROP TABLE things; --", "b", "a", "%(x)s"]
) | st.text(st.characters(codec="ascii", exclude_characters="\0"), max_size=8)
_TEXTS = _PATTERNS | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8)


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


_NUMBERS = st.sampled_from(["1", "2", "-3", "7.0", "0", "1e18", "-0.5", "+1", ".5"])
_TIMES = st.sampled_from(
    ["2026-01-01T12:00:00Z", "2026-01-01", "2026-01-01T21:00:00+09:00", "20250101", "0001-01-01T00:00:00+00:00"]
).map(quoted)
_STATUS = st.sampled_from(["AFTER", "after", "before-that", "BEFORE_THAT"]).map(quoted)
_ORDERED = ["==", "!=", ">", ">=", "<", "<="]
_MATCHES = ["contains", "like", "ilike"]


def _of(fields: list[str], operators: list[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return st.builds(lambda *parts: " ".join(parts), st.sampled_from(fields), st.sampled_from(operators), values)


def _in(fields: list[str], values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    return _of(fields, ["in"], st.lists(values, max_size=3).map(lambda each: f"[{', '.join(each)}]"))


_TEXT_FIELDS = ["name", "note", "tags"]
comparisons = st.one_of(
    _of(_TEXT_FIELDS, _ORDERED, _TEXTS.map(quoted)),
    _of([*_TEXT_FIELDS, "status"], ["contains"], _TEXTS.map(quoted)),
    _of(
        [*_TEXT_FIELDS, "status"], ["like", "ilike"], _PATTERNS.filter(lambda each: not each.endswith("\\")).map(quoted)
    ),
    _in(_TEXT_FIELDS, _TEXTS.map(quoted)),
    _of(["size", "count"], _ORDERED, _NUMBERS),
    _in(["size", "count"], _NUMBERS),
    _of(["at"], _ORDERED, _TIMES),
    _in(["at"], _TIMES),
    _of(["on"], ["==", "!=", "is", "isnot"], st.sampled_from(["true", "false"])),
    _of(["status"], ["==", "!="], _STATUS),
    _in(["status"], _STATUS),
    _of(sorted(FIELDS), ["==", "!=", "is", "isnot"], st.just("null")),
)
filters = st.recursive(
    comparisons,
    lambda inner: st.one_of(
        inner.map(lambda each: f"!({each})"),
        inner.map(lambda each: f"( {each} )"),
        st.tuples(inner, st.sampled_from([" & ", "|"]), inner).map("".join),
    ),
    max_leaves=6,
)


@pytest.mark.cluster
@settings(
    max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
@given(st.lists(filters, min_size=1, max_size=20))
def test_postgres_selects_the_rows_for_which_the_filter_holds(database: str, texts: list[str]) -> None:
    async def check() -> None:
        async with await AsyncConnection.connect(database) as db:
            await table(db)
            for text in texts:
                asked = parse(text)
                assert await selected(db, asked) == [n for n, row in enumerate(ROWS) if holds(asked, row)], text

    asyncio.run(check())


# -- anything at all ---------------------------------------------------------------------------------------------------

_PIECES = [
    "name", "size", "on", "at", "tags", "status", "nothing", "==", "!=", "<", "in", "is", "isnot", "like", "contains",
    "&", "|", "!", "(", ")", "[", "]", ",", '"x"', '"\\', '"', "'", "1", "-2.5e3", "1e99999", "9" * 50, "null", "true",
    '"2026-01-01"', '"9999-12-31T23:59:59-23:59"', '"0001-01-01T00:00:00+23:59"', '"\0"', '"\ud800"', ";", "--", "%s",
    "%(x)s", "{}", "{field}", "\\", '"a\\\\"', '"a\\"',
]  # fmt: skip
anything = st.text(max_size=60) | st.lists(st.sampled_from(_PIECES), max_size=20).map(" ".join)


@pytest.mark.cluster
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(anything, min_size=1, max_size=30))
def test_whatever_is_written_it_is_run_or_refused(database: str, texts: list[str]) -> None:
    async def check() -> None:
        async with await AsyncConnection.connect(database) as db:
            await table(db)
            for text in texts:
                with suppress(BadQuery):
                    await selected(db, parse(text))

    asyncio.run(check())


@settings(max_examples=300)
@given(filters | anything)
def test_no_value_gets_into_the_text_of_a_statement(text: str) -> None:
    values: dict[str, Any] = {}
    try:
        written = condition(parse(text), FIELDS, values).as_string(None)
    except BadQuery:
        return
    words = set(re.findall(r"[A-Za-z_0-9]+", re.sub(r"%\(filter_\d+\)s", "", written)))
    stands_for = {field.stands_for for field in FIELDS.values()}
    known = {
        "NOT", "AND", "OR", "IS", "DISTINCT", "FROM", "NULL", "LIKE", "ILIKE", "ANY", "EXISTS", "SELECT", "WHERE", "AS",
        "coalesce", "false", "strpos", "unnest", "item", "text", "numeric", "boolean", "timestamptz", "0",
    }  # fmt: skip
    assert words <= known | stands_for
    assert "'" not in written
    assert '"' not in written


@settings(max_examples=300)
@given(st.text(max_size=60) | st.lists(st.sampled_from(["+", "-", ",", "name", "size", "x", " "])).map("".join))
def test_whatever_is_written_as_an_order_it_is_fields_or_refused(text: str) -> None:
    with suppress(BadQuery):
        assert {name for name, _ in parse_order(text, FIELDS)} <= set(FIELDS)


# -- one by one --------------------------------------------------------------------------------------------------------


def test_and_binds_closer_than_or_and_not_closer_than_both() -> None:
    one, two, three = (Comparison("size", "==", Decimal(n), at) for n, at in ((1, 0), (2, 12), (3, 24)))
    assert parse("size == 1 | size == 2 & size == 3") == Or((one, And((two, three))))
    assert parse("!size == 1& size == 2") == And((Not(Comparison("size", "==", Decimal(1), 1)), two))
    assert parse("!!size == 1") == Comparison("size", "==", Decimal(1), 2)


@pytest.mark.parametrize(
    ("text", "rule", "position"),
    [
        ("", "syntax", 0),
        ("name", "syntax", 4),
        ("name = 1", "syntax", 5),
        ('name == "x', "syntax", 8),
        ('name == "x" extra', "syntax", 12),
        ('(name == "x"', "syntax", 12),
        ("name in [1", "syntax", 10),
        ('"name" == "x"', "syntax", 0),
        ('secret_key == "x"', "unknown_field", 0),
        ('name == "x" & nme == "y"', "unknown_field", 14),
        ("name == 1", "bad_value", 0),
        ('size == "1"', "bad_value", 0),
        ("size in 1", "bad_value", 0),
        ("size == [1]", "bad_value", 0),
        ("size in [null]", "bad_value", 0),
        ("size > null", "bad_value", 0),
        ("size is 1", "bad_value", 0),
        ("size == 1e99", "bad_value", 8),
        ('size like "1"', "bad_operator", 0),
        ("on > true", "bad_operator", 0),
        ('status > "AFTER"', "bad_operator", 0),
        ('status == "never"', "bad_value", 0),
        ('at > "yesterday"', "bad_value", 0),
        ('at > "0001-01-01T00:00:00+10:00"', "bad_value", 0),
        ('name like "x\\"', "syntax", 10),
        ('name like "x\\\\"', "bad_value", 0),
        ('name == "a\0b"', "bad_value", 0),
        ("(" * 33 + "size == 1" + ")" * 33, "too_deep", 32),
        ("size == 1 &" * 101 + "size == 1", "too_many", 1100),
        ("size in [" + "1," * 1000 + "1]", "too_many", 8),
        ("x" * 16385, "too_long", None),
    ],
)
def test_what_is_wrong_is_named_with_its_place(text: str, rule: str, position: int | None) -> None:
    with pytest.raises(BadQuery) as refused:
        condition(parse(text), FIELDS, {})
    assert (refused.value.field, refused.value.rule, refused.value.position) == ("filter", rule, position)


def test_an_order_is_fields_that_rise_or_fall() -> None:
    assert parse_order("", FIELDS) == parse_order("  ", FIELDS) == []
    assert parse_order("+name,-size, at", FIELDS) == [("name", False), ("size", True), ("at", False)]
    for text, rule, position in (
        ("name,", "syntax", 5),
        ("name size", "syntax", 0),
        ("+", "syntax", 0),
        ("name,-secret_key", "unknown_field", 6),
        (",".join(["name"] * 17), "too_many", 80),
        ("x" * 16385, "too_long", None),
    ):
        with pytest.raises(BadQuery) as refused:
            parse_order(text, FIELDS)
        assert (refused.value.field, refused.value.rule, refused.value.position) == ("order", rule, position)
