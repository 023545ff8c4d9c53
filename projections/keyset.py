"""Where a list goes on: a cursor holds what the last item of a page has in the columns by which the list is sorted.

The next page is what comes behind that, found by an index; to count off as many items as there were before takes as
long as to fetch them. Items that come or go meanwhile move nothing.
"""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, LiteralString

import orjson
from psycopg import sql

from projections.filtering import LENGTH_MAX, BadQuery

_CURSOR_LENGTH_MAX: Final = 4 * LENGTH_MAX

Place = Sequence[str | None]
"""What an item has in the columns by which its list is sorted, as texts."""


@dataclass(frozen=True, slots=True)
class Column:
    """To sort by. As Postgres has it, null is greater than everything."""

    stands_for: LiteralString
    falling: bool = False
    nullable: bool = False

    @classmethod
    def of(cls, text: LiteralString) -> "Column":
        """From `name` or `name DESC`; never null."""
        return cls(text.removesuffix(" DESC"), text.endswith(" DESC"))


def order_by(columns: Sequence[Column]) -> sql.Composable:
    parts = [sql.SQL("{} DESC" if each.falling else "{}").format(sql.SQL(each.stands_for)) for each in columns]
    return sql.SQL(", ").join(parts)


def place_of(columns: Sequence[Column]) -> sql.Composable:
    """Of an item, in SQL: its values as texts, which Postgres reads again as what they were."""
    texts = [sql.SQL("({})::text").format(sql.SQL(each.stands_for)) for each in columns]
    return sql.SQL("ARRAY[{}]").format(sql.SQL(", ").join(texts))


def cursor_at(order: str, place: Place) -> str:
    """For people to hand back: opaque, and good for this order only."""
    return base64.urlsafe_b64encode(orjson.dumps([order, *place])).decode().rstrip("=")


def place_at(cursor: str, order: str, columns: Sequence[Column]) -> Place:
    """Raises `BadQuery` for what is no cursor of a list in this order."""
    place = _read(cursor, order)
    if len(place) != len(columns):
        raise malformed()
    return place


def behind(place: Place, columns: Sequence[Column], values: dict[str, Any]) -> sql.Composable:
    """The condition for what comes after that place. Its values are added to `values`."""
    names = [f"after_{number}" for number in range(len(columns))]
    values.update(zip(names, place, strict=True))
    last = [
        _Last(each, None if value is None else name) for each, name, value in zip(columns, names, place, strict=True)
    ]
    ways = [
        sql.SQL(" AND ").join([*(each.same for each in last[:number]), one.behind]) for number, one in enumerate(last)
    ]
    return sql.SQL("{} AND ({})").format(last[0].bound, sql.SQL(" OR ").join(ways))


@dataclass(frozen=True, slots=True)
class _Last:
    """What the last item has in a column. `name`: of the value, None for null."""

    column: Column
    name: str | None

    @property
    def same(self) -> sql.Composable:
        return self._with("{} IS NULL" if self.name is None else "{} = {value}")

    @property
    def behind(self) -> sql.Composable:
        if self.name is None:
            return self._with("{} IS NOT NULL" if self.column.falling else "FALSE")
        if self.column.falling:
            return self._with("{} < {value}")
        return self._with("({0} > {value} OR {0} IS NULL)" if self.column.nullable else "{} > {value}")

    @property
    def bound(self) -> sql.Composable:
        """Where an index may begin to look."""
        if self.name is None or (self.column.nullable and not self.column.falling):
            return sql.SQL("TRUE")
        return self._with("{} <= {value}" if self.column.falling else "{} >= {value}")

    def _with(self, text: LiteralString) -> sql.Composable:
        return sql.SQL(text).format(sql.SQL(self.column.stands_for), value=sql.Placeholder(self.name or ""))


def _read(cursor: str, order: str) -> Place:
    if len(cursor) > _CURSOR_LENGTH_MAX:
        raise malformed()
    try:
        told = orjson.loads(base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (binascii.Error, ValueError):
        raise malformed() from None
    if not isinstance(told, list) or not told or not all(isinstance(each, str | None) for each in told):
        raise malformed()
    if told[0] != order:
        raise BadQuery("after", "other_order", "this is a cursor of a list in another order")
    if any("\x00" in (each or "") for each in told):
        raise malformed()
    return told[1:]


def malformed() -> BadQuery:
    """Also where Postgres cannot read a value."""
    return BadQuery("after", "malformed", "this is no cursor of this list")
