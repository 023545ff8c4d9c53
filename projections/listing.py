"""How lists are asked for: filter and order in the clients' words, a page of so many, and how many there are in all."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from types import MappingProxyType
from typing import Any, Final, Generic, LiteralString, TypeVar, cast

from psycopg import DataError, sql

from infra.postgres import Connection
from projections import keyset
from projections.filtering import LENGTH_MAX, BadQuery, Fields, condition, parse
from projections.keyset import Column, Place

R = TypeVar("R")

LIMIT_MAX: Final = 1000
_OFFSET_MAX: Final = 2**31 - 1
_NEAR: Final = 1000  # an offset up to which items that are passed over may as well be made
_ORDERS_MAX: Final = 16

_ORDER = re.compile(r"[ \t\r\n]*([+-]?)[ \t\r\n]*([A-Za-z_][A-Za-z0-9_]*)[ \t\r\n]*(,|\Z)")


@dataclass(frozen=True)
class Query:
    """Which part of a list: `filter` as of `projections.filtering`, `order` as in `+name,-created_at`.

    No limit: all of it. `after`: behind the page whose `next` it is, instead of an offset.
    """

    filter: str | None = None
    order: str | None = None
    limit: int | None = None
    offset: int = 0
    after: str | None = None


EVERYTHING: Final = Query()


@dataclass(frozen=True, slots=True)
class Page(Generic[R]):
    """`total` counts all that fit, on this page or not. `next`: what to ask for the next page `after`."""

    items: Sequence[R]
    total: int
    next: str | None = None


Scope = tuple[LiteralString, Any]
"""A condition with `{}` where its value goes. Where the value is None, it is no condition."""


@dataclass(frozen=True, eq=False)
class Listing(Generic[R]):
    """A list that can be asked for: rows of the dataclass `row`, whose fields are columns of the SELECT `source`.

    Where that has parameters (`%(viewer)s`), `page` is told their values as `given`.

    `fields` are those that filters and orders may name. Equal ones are in the order of `key`, which is unique.
    """

    row: type[R]
    source: sql.Composable
    fields: Fields = field(repr=False)
    key: tuple[LiteralString, ...]

    async def page(
        self, db: Connection, query: Query, *scopes: Scope, given: Mapping[str, Any] = MappingProxyType({})
    ) -> Page[R]:
        """Raises `BadQuery`."""
        limit, offset = _within(query)
        order = _normal(query.order or "", self.fields)
        columns = self._columns(order)
        values: dict[str, Any] = {**given, "limit": None if limit is None else limit + 1, "offset": offset}
        chosen = self._where(scopes, query.filter, values)
        here = chosen
        try:
            if query.after is not None:
                here = [*chosen, keyset.behind(keyset.place_at(query.after, order, columns), columns, values)]
            elif offset > _NEAR:
                place = await self._place(db, offset, chosen, columns, values)
                if place is None:
                    return Page([], await self._count(db, chosen, values))
                here = [*chosen, keyset.behind(place, columns, values)]
                values["offset"] = 0
            found = await self._rows(db, here, columns, values)
        except DataError as error:
            if query.after is None:
                raise
            raise keyset.malformed() from error
        items = [self.row(*each[:-1]) for each in found[:limit]]
        is_last = len(found) == len(items)
        if is_last and query.after is None and (items or offset == 0):
            return Page(items, offset + len(items))
        following = None if is_last or not items else keyset.cursor_at(order, found[len(items) - 1][-1])
        return Page(items, await self._count(db, chosen, values), following)

    async def _rows(
        self, db: Connection, where: Sequence[sql.Composable], columns: Sequence[Column], values: Mapping[str, Any]
    ) -> list[tuple[Any, ...]]:
        """Each with its place behind its columns."""
        statement = sql.SQL("SELECT {}, {} FROM ({}) AS listed{} ORDER BY {} LIMIT %(limit)s OFFSET %(offset)s")
        cursor = await db.execute(
            statement.format(
                self._names, keyset.place_of(columns), self.source, _all_of(where), keyset.order_by(columns)
            ),
            values,
        )
        return await cursor.fetchall()

    async def _place(
        self,
        db: Connection,
        number: int,
        where: Sequence[sql.Composable],
        columns: Sequence[Column],
        values: Mapping[str, Any],
    ) -> Place | None:
        """Of the item that has this number (from 1): for that, nothing else of the items before has to be made."""
        one = sql.SQL("SELECT * FROM ({}) AS listed{} ORDER BY {} LIMIT 1 OFFSET %(before)s").format(
            self.source, _all_of(where), keyset.order_by(columns)
        )
        cursor = await db.execute(
            sql.SQL("SELECT {} FROM ({}) AS listed").format(keyset.place_of(columns), one),
            {**values, "before": number - 1},
        )
        row = await cursor.fetchone()
        return None if row is None else row[0]

    async def _count(self, db: Connection, where: Sequence[sql.Composable], values: Mapping[str, Any]) -> int:
        statement = sql.SQL("SELECT count(*) FROM ({}) AS listed{}").format(self.source, _all_of(where))
        row = await (await db.execute(statement, values)).fetchone()
        return 0 if row is None else int(row[0])

    async def all(self, db: Connection, *scopes: Scope) -> list[R]:
        """In the order of the key."""
        return list((await self.page(db, EVERYTHING, *scopes)).items)

    async def one(self, db: Connection, *scopes: Scope) -> R | None:
        """The only one; None where there is none or more than one."""
        found = await self.page(db, Query(limit=2), *scopes)
        return found.items[0] if len(found.items) == 1 else None

    @cached_property
    def _names(self) -> sql.Composed:
        return sql.SQL(", ").join(sql.Identifier(each.name) for each in fields(cast(Any, self.row)))

    def _where(self, scopes: Sequence[Scope], filter_: str | None, values: dict[str, Any]) -> list[sql.Composable]:
        conditions: list[sql.Composable] = []
        for text, value in scopes:
            if value is not None:
                name = f"scope_{len(values)}"
                values[name] = value
                conditions.append(sql.SQL(text).format(sql.Placeholder(name)))
        if filter_ is not None and filter_.strip():
            conditions.append(condition(parse(filter_), self.fields, values))
        return conditions

    def _columns(self, order: str) -> list[Column]:
        asked = [
            Column(self.fields[name].stands_for, falling, self.fields[name].nullable)
            for name, falling in parse_order(order, self.fields)
        ]
        return [*asked, *map(Column.of, self.key)]


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


def _normal(order: str, fields: Fields) -> str:
    return ",".join(("-" if falling else "") + name for name, falling in parse_order(order, fields))


def _all_of(conditions: Sequence[sql.Composable]) -> sql.Composable:
    return sql.SQL(" WHERE {}").format(sql.SQL(" AND ").join(conditions)) if conditions else sql.SQL("")


def by_key(rows: Sequence[R], key: str) -> Mapping[str, R]:
    """The rows by that one of their fields, for who asked for many at once."""
    return {getattr(row, key): row for row in rows}


def _within(query: Query) -> tuple[int | None, int]:
    if query.limit is not None and not 0 <= query.limit <= LIMIT_MAX:
        raise BadQuery("limit", "out_of_range", f"a page has 0 to {LIMIT_MAX} items")
    if not 0 <= query.offset <= _OFFSET_MAX:
        raise BadQuery("offset", "out_of_range", f"an offset is 0 to {_OFFSET_MAX}")
    if query.offset and query.after is not None:
        raise BadQuery("offset", "with_after", "a page behind another one has no offset")
    return query.limit, query.offset
