"""How lists are asked for: filter and order in the clients' words, a page of so many, and how many there are in all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, Final, Generic, LiteralString, TypeVar, cast

from psycopg import sql
from psycopg.rows import class_row, scalar_row

from infra.postgres import Connection
from projections.filtering import LENGTH_MAX, BadQuery, Fields, condition, parse

R = TypeVar("R")

LIMIT_MAX: Final = 1000
_OFFSET_MAX: Final = 2**31 - 1
_ORDERS_MAX: Final = 16

_ORDER = re.compile(r"[ \t\r\n]*([+-]?)[ \t\r\n]*([A-Za-z_][A-Za-z0-9_]*)[ \t\r\n]*(,|\Z)")


@dataclass(frozen=True)
class Query:
    """Which part of a list: `filter` as of `projections.filtering`, `order` as in `+name,-created_at`.

    No limit: all of it.
    """

    filter: str | None = None
    order: str | None = None
    limit: int | None = None
    offset: int = 0


EVERYTHING: Final = Query()


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """`total` counts all that fit, on this page or not."""

    items: Sequence[R]
    total: int


Scope = tuple[LiteralString, Any]
"""A condition with `{}` where its value goes. Where the value is None, it is no condition."""


@dataclass(frozen=True, eq=False)
class Listing(Generic[R]):
    """A list that can be asked for: rows of the dataclass `row`, whose fields are columns of the SELECT `source`.

    `fields` are those that filters and orders may name. Equal ones are in the order of `key`, which is unique.
    """

    row: type[R]
    source: sql.Composable
    fields: Fields = field(repr=False)
    key: tuple[LiteralString, ...]

    async def page(self, db: Connection, query: Query, *scopes: Scope) -> Page[R]:
        """Raises `BadQuery`."""
        limit, offset = _within(query)
        values: dict[str, Any] = {"limit": limit, "offset": offset}
        chosen = self._where(scopes, query.filter, values)
        async with db.cursor(row_factory=class_row(self.row)) as cursor:
            await cursor.execute(
                sql.SQL("{}{} ORDER BY {} LIMIT %(limit)s OFFSET %(offset)s").format(
                    self._select, chosen, self._order(query.order)
                ),
                values,
            )
            items = await cursor.fetchall()
        if (items or offset == 0) and (limit is None or len(items) < limit):
            return Page(items, offset + len(items))
        async with db.cursor(row_factory=scalar_row) as counting:
            await counting.execute(sql.SQL("SELECT count(*) FROM ({}) AS listed{}").format(self.source, chosen), values)
            return Page(items, int(await counting.fetchone() or 0))

    async def all(self, db: Connection, *scopes: Scope) -> list[R]:
        """In the order of the key."""
        return list((await self.page(db, EVERYTHING, *scopes)).items)

    async def one(self, db: Connection, *scopes: Scope) -> R | None:
        """The only one; None where there is none or more than one."""
        found = await self.page(db, Query(limit=2), *scopes)
        return found.items[0] if len(found.items) == 1 else None

    @cached_property
    def _select(self) -> sql.Composed:
        names = sql.SQL(", ").join(sql.Identifier(each.name) for each in fields(cast(Any, self.row)))
        return sql.SQL("SELECT {} FROM ({}) AS listed").format(names, self.source)

    def _where(self, scopes: Sequence[Scope], filter_: str | None, values: dict[str, Any]) -> sql.Composable:
        conditions: list[sql.Composable] = []
        for text, value in scopes:
            if value is not None:
                name = f"scope_{len(values)}"
                values[name] = value
                conditions.append(sql.SQL(text).format(sql.Placeholder(name)))
        if filter_ is not None and filter_.strip():
            conditions.append(condition(parse(filter_), self.fields, values))
        return sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")

    def _order(self, order: str | None) -> sql.Composable:
        parts = [
            sql.SQL("{} DESC" if falling else "{}").format(sql.SQL(self.fields[name].stands_for))
            for name, falling in parse_order(order or "", self.fields)
        ]
        return sql.SQL(", ").join([*parts, *map(sql.SQL, self.key)])


def parse_order(text: str, fields: Fields) -> list[tuple[str, bool]]:
    """Fields to sort by, and whether they fall. Raises `BadQuery`."""
    if len(text) > LENGTH_MAX:
        raise BadQuery("order", "too_long", f"an order has at most {LENGTH_MAX} characters")
    found: list[tuple[str, bool]] = []
    at = 0
    while text.strip() and (not found or text[at - 1] == ","):
        match = _ORDER.match(text, at)
        if match is None:
            raise BadQuery("order", "syntax", "an order is names of fields with + or - before, and commas between", at)
        sign, name, _ = match.groups()
        if name not in fields:
            raise BadQuery("order", "unknown_field", f"there is no field {name[:64]!r} here", match.start(2))
        found.append((name, sign == "-"))
        if len(found) > _ORDERS_MAX:
            raise BadQuery("order", "too_many", f"at most {_ORDERS_MAX} fields can be sorted by", match.start(2))
        at = match.end()
    return found


def by_key(rows: Sequence[R], key: str) -> Mapping[str, R]:
    """The rows by that one of their fields, for who asked for many at once."""
    return {getattr(row, key): row for row in rows}


def _within(query: Query) -> tuple[int | None, int]:
    if query.limit is not None and not 0 <= query.limit <= LIMIT_MAX:
        raise BadQuery("limit", "out_of_range", f"a page has 0 to {LIMIT_MAX} items")
    if not 0 <= query.offset <= _OFFSET_MAX:
        raise BadQuery("offset", "out_of_range", f"an offset is 0 to {_OFFSET_MAX}")
    return query.limit, query.offset
