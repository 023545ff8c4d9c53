"""What a projection is: tables described by dataclasses, and a pure fold of events into their rows.

How rows come into memory and go back is the runner's business (`projections.live`, `projections.rebuild`), so the same
fold serves both. A row belongs to one partition: only events of that partition may change it, so it does not matter in
which order partitions are read. Keys begin with what decides the partition (the boundary key) where ids are not ours.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields
from datetime import datetime
from functools import cached_property
from operator import attrgetter
from types import NoneType, UnionType
from typing import Any, Generic, LiteralString, TypeVar, cast, get_args, get_origin, get_type_hints, overload

from psycopg import sql

from infra.decoding import Told

R = TypeVar("R")
Key = tuple[Any, ...]
Json = dict[str, Any]
"""A column of JSON objects."""

_SQL_TYPES: dict[Any, LiteralString] = {
    str: "text",
    int: "bigint",
    bool: "boolean",
    datetime: "timestamptz",
    dict: "jsonb",
}
_BIGINT = 2**63 - 1


@dataclass(frozen=True)
class Index:
    """`name` follows the table's; `on` and `where` are SQL."""

    name: str
    on: LiteralString
    where: LiteralString | None = None
    unique: bool = False
    using: LiteralString = "btree"


@dataclass(frozen=True)
class Column:
    name: str
    sql_type: LiteralString
    nullable: bool


@dataclass(frozen=True, eq=False)
class Table(Generic[R]):
    """Rows of the dataclass `row`, whose fields are the columns. `append_only`: written once, never read by a fold."""

    name: str
    row: type[R]
    key: tuple[str, ...]
    indexes: tuple[Index, ...] = ()
    append_only: bool = False

    @cached_property
    def columns(self) -> tuple[Column, ...]:
        hints = get_type_hints(self.row)
        return tuple(_column(each.name, hints[each.name]) for each in fields(cast(Any, self.row)))

    @cached_property
    def cells(self) -> Callable[[R], tuple[Any, ...]]:
        """The values of a row, in the order of its columns."""
        return attrgetter(*(column.name for column in self.columns))

    @cached_property
    def key_of(self) -> Callable[[R], Key]:
        get = attrgetter(*self.key)
        return get if len(self.key) > 1 else lambda row: (get(row),)

    @cached_property
    def key_types(self) -> tuple[str, ...]:
        types = {column.name: column.sql_type for column in self.columns}
        return tuple(types[name] for name in self.key)

    @cached_property
    def names(self) -> sql.Composed:
        """The columns, for a SELECT or INSERT."""
        return sql.SQL(", ").join(sql.Identifier(column.name) for column in self.columns)

    def create(self, name: str) -> sql.Composed:
        """The statement that makes this table under another name, without indexes."""
        columns = [
            sql.SQL("{} {}{}").format(
                sql.Identifier(column.name),
                sql.SQL(column.sql_type),
                sql.SQL("" if column.nullable else " NOT NULL"),
            )
            for column in self.columns
        ]
        return sql.SQL("CREATE TABLE {} ({})").format(sql.Identifier(name), sql.SQL(", ").join(columns))

    def create_key(self, name: str) -> sql.Composed:
        return sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} PRIMARY KEY ({})").format(
            sql.Identifier(name),
            sql.Identifier(f"{name}_pkey"),
            sql.SQL(", ").join(map(sql.Identifier, self.key)),
        )

    def create_indexes(self, name: str) -> list[sql.Composed]:
        return [
            sql.SQL("CREATE {}INDEX {} ON {} USING {} ({}){}").format(
                sql.SQL("UNIQUE " if index.unique else ""),
                sql.Identifier(f"{name}_{index.name}"),
                sql.Identifier(name),
                sql.SQL(index.using),
                sql.SQL(index.on),
                sql.SQL(f" WHERE {index.where}" if index.where else ""),
            )
            for index in self.indexes
        ]

    @property
    def definition(self) -> str:
        return f"{self.name}{self.columns}{self.key}{self.indexes}"


AnyTable = Table[Any]


class NotLoaded(LookupError):
    """A fold asked for a row that `keys` had not announced: a defect of the projection."""


class NoSuchRow(LookupError):
    """An event is about a row that is not there: the log does not begin at its beginning, or the fold has a defect."""


class Rows:
    """The rows a fold works on, and which of them it has changed.

    A row that is None is known not to exist. With `complete`, whatever is not in memory is not anywhere.
    """

    def __init__(self, tables: Sequence[AnyTable], *, complete: bool = False) -> None:
        self.complete = complete
        self.known: dict[AnyTable, dict[Key, Any]] = {table: {} for table in tables}
        self.changed: dict[AnyTable, dict[Key, Any]] = {table: {} for table in tables}

    def find(self, table: Table[R], key: Key) -> R | None:
        """The row to read; it must not be changed. Raises `NotLoaded`."""
        try:
            return cast("R | None", self.known[table][key])
        except KeyError:
            if self.complete:
                return None
            raise NotLoaded(f"{table.name} {key}") from None

    def get(self, table: Table[R], key: Key) -> R:
        """The row to read, which must be there. Raises `NoSuchRow` and `NotLoaded`."""
        row = self.find(table, key)
        if row is None:
            raise NoSuchRow(f"{table.name} {key}")
        return row

    def peek(self, table: Table[R], key: Key) -> R | None:
        """The row as far as it is known yet; for `keys`, which may lead from one row to others."""
        return cast("R | None", self.known[table].get(key))

    def change(self, table: Table[R], key: Key) -> R:
        """The row to change. Raises `NoSuchRow` and `NotLoaded`."""
        row = self.get(table, key)
        self.changed[table][key] = row
        return row

    def put(self, table: Table[R], row: R) -> None:
        """A new row, or one in place of another. Raises `NotLoaded`."""
        key = table.key_of(row)
        if not table.append_only:
            if not self.complete and key not in self.known[table]:
                raise NotLoaded(f"{table.name} {key}")
            self.known[table][key] = row
        self.changed[table][key] = row

    def remove(self, table: AnyTable, key: Key) -> None:
        """It is gone, if it was there. Raises `NotLoaded`."""
        if self.find(table, key) is None:
            return
        self.changed[table][key] = None
        self.known[table][key] = None

    def missing(self, table: AnyTable, keys: Iterable[Key]) -> list[Key]:
        """Those of the keys about which nothing is known, each once, in order."""
        known = self.known[table]
        return sorted({key for key in keys if key not in known})

    def saved(self) -> None:
        """What was changed stands in the database now."""
        for changes in self.changed.values():
            changes.clear()

    def trim(self, at_most: int) -> bool:
        """Forget the rows that came first, beyond that many of each table; whether any was forgotten.

        Only after `saved`: a changed row must not be forgotten.
        """
        trimmed = False
        for known in self.known.values():
            surplus = len(known) - at_most
            if surplus > 0:
                trimmed = True
                for key in list(known)[:surplus]:
                    del known[key]
        return trimmed

    def forget(self) -> None:
        """Nothing is known any more."""
        for rows in (*self.known.values(), *self.changed.values()):
            rows.clear()


Keys = Iterable[tuple[AnyTable, Key]]


@dataclass(frozen=True, eq=False)
class Projection:
    """The answer to one question.

    `keys(told, rows)` names the rows that folding it will look at or put; `fold` touches no others. Where one row leads
    to others, it is asked again once that row is known. `version` goes up when the fold changes, so that what was
    folded by the old one is rebuilt.
    """

    name: str
    contexts: tuple[str, ...]
    tables: Sequence[AnyTable]
    keys: Callable[[Told, Rows], Keys]
    fold: Callable[[Rows, Told], None]
    version: int = field(default=1)

    @property
    def definition(self) -> str:
        """Changes when what is in the database must be built anew."""
        text = f"{self.version}{self.contexts}{[table.definition for table in self.tables]}"
        return hashlib.sha256(text.encode()).hexdigest()


@overload
def bounded(number: int) -> int: ...
@overload
def bounded(number: None) -> None: ...
@overload
def bounded(number: int | None) -> int | None: ...
def bounded(number: int | None) -> int | None:
    """The number, or the nearest that a bigint holds: what others report must not stop a projection."""
    return None if number is None else max(-_BIGINT, min(_BIGINT, number))


def _column(name: str, hint: Any) -> Column:
    nullable = False
    if isinstance(hint, UnionType):
        [hint] = [each for each in get_args(hint) if each is not NoneType]
        nullable = True
    if get_origin(hint) is list:
        return Column(name, f"{_SQL_TYPES[get_args(hint)[0]]}[]", nullable)
    return Column(name, _SQL_TYPES[get_origin(hint) or hint], nullable)
