"""Makes the projections' tables, and finds those that must be built anew: new ones, those whose definition or fold has
changed, and those that passed over events which this version can read."""

from collections.abc import Sequence

from psycopg import sql

from infra.postgres import Connection, lock_schema, translated
from projections.catalogue import PROJECTIONS
from projections.reading import known_types
from projections.store import read_checkpoints
from projections.table import Projection


async def create_tables(db: Connection) -> dict[str, bool]:
    """Create what is missing; the projections that must be rebuilt, and whether they are new, and so empty.

    The tables of one that has changed are left as they are until then. Safe when several processes do it. Needs the
    migrations (`infra.postgres.migrate`).
    """
    with translated():
        async with db.transaction():
            await lock_schema(db)
            cursor = await db.execute("SELECT projection, definition FROM projection_definitions")
            definitions: dict[str, str] = dict(await cursor.fetchall())
            outdated = {}
            for name, projection in PROJECTIONS.items():
                if not await _is_there(db, projection):
                    await _create(db, projection)
                    outdated[name] = True
                elif definitions.get(name) != projection.definition or await _passed_over(db, projection):
                    outdated[name] = False
            return outdated


async def note_definition(db: Connection, projection: Projection) -> None:
    """What is in the tables was folded by this definition."""
    await db.execute(
        "INSERT INTO projection_definitions VALUES (%s, %s)"
        " ON CONFLICT (projection) DO UPDATE SET definition = excluded.definition",
        (projection.name, projection.definition),
    )


async def create_shadows(db: Connection, projection: Projection, suffix: str) -> None:
    """Empty tables beside the live ones, without keys and indexes. Leftovers of an earlier attempt are dropped."""
    for table in projection.tables:
        await db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table.name + suffix)))
        await db.execute(table.create(table.name + suffix))


async def drop_shadows(db: Connection, projection: Projection, suffix: str) -> None:
    for table in projection.tables:
        await db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table.name + suffix)))


async def swap(db: Connection, projection: Projection, suffix: str) -> None:
    """The shadows, which have their keys and indexes, become the live tables. In the caller's transaction.

    All live tables are locked first, so that no reader sees one of them new and waits for another.
    """
    there = [table for table in projection.tables if await _exists(db, table.name)]
    if there:
        names = sql.SQL(", ").join(sql.Identifier(table.name) for table in there)
        await db.execute(sql.SQL("LOCK TABLE {} IN ACCESS EXCLUSIVE MODE").format(names))
    for table in projection.tables:
        await db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table.name)))
        shadow = table.name + suffix
        await db.execute(
            sql.SQL("ALTER TABLE {} RENAME TO {}").format(sql.Identifier(shadow), sql.Identifier(table.name))
        )
        indexes = ["pkey", *(index.name for index in table.indexes)]
        for index in indexes:
            await db.execute(
                sql.SQL("ALTER INDEX {} RENAME TO {}").format(
                    sql.Identifier(f"{shadow}_{index}"), sql.Identifier(f"{table.name}_{index}")
                )
            )
    await note_definition(db, projection)


async def _create(db: Connection, projection: Projection) -> None:
    """All of its tables, empty, to be folded from the beginning."""
    for table in projection.tables:
        await db.execute(sql.SQL("DROP TABLE IF EXISTS {}").format(sql.Identifier(table.name)))
        statements: Sequence[sql.Composed] = [
            table.create(table.name),
            table.create_key(table.name),
            *table.create_indexes(table.name),
        ]
        for statement in statements:
            await db.execute(statement)
    await db.execute("DELETE FROM checkpoints WHERE projection = %s", (projection.name,))
    await note_definition(db, projection)


async def _is_there(db: Connection, projection: Projection) -> bool:
    return all([await _exists(db, table.name) for table in projection.tables])


async def _exists(db: Connection, name: str) -> bool:
    cursor = await db.execute("SELECT to_regclass(%s) IS NOT NULL", (name,))
    return bool((await cursor.fetchone() or (False,))[0])


async def _passed_over(db: Connection, projection: Projection) -> bool:
    """Whether it passed over events of types that this version knows."""
    known = frozenset[str]().union(*(known_types(context) for context in projection.contexts))
    checkpoints = await read_checkpoints(db, [projection.name])
    return any(checkpoint.skipped & known for checkpoint in checkpoints.values())
