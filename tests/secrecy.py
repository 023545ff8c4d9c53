"""Where a secret stands in clear that should be known to its owner alone: in the log, in the database, in what
processes say, or in what agents keep."""

from collections.abc import AsyncIterator, Collection

from psycopg import AsyncConnection
from psycopg.sql import SQL, Identifier

from infra.kafka import KafkaLog
from infra.log import Partition, read_until
from infra.topics import all_topics
from tests.stack import Stack


async def places_of(stack: Stack, secrets: Collection[str]) -> list[str]:
    """Every place in which one of them can be read. Raises where there is nothing to look through."""
    found: list[str] = []
    seen: set[str] = set()
    async for kind, place, text in _everything(stack):
        seen.add(kind)
        found += [f"{secret[:4]}… in {place}" for secret in secrets if secret.encode() in text]
    assert seen == {"log", "table", "file", "agent"}, seen
    return found


async def _everything(stack: Stack) -> AsyncIterator[tuple[str, str, bytes]]:
    settings = stack.settings
    async with KafkaLog(settings) as log:
        for topic in all_topics(settings):
            places = [Partition(settings.topic_prefix + topic.name, number) for number in range(topic.partitions)]
            async for batch in read_until(log, await log.starts(places), await log.ends(places)):
                for record in batch:
                    yield "log", f"{record.partition}@{record.offset}", record.value + repr(record.headers).encode()
    async with await AsyncConnection.connect(settings.database.get_secret_value()) as db:
        cursor = await db.execute("SELECT relname FROM pg_stat_user_tables")
        for (name,) in await cursor.fetchall():
            rows = await db.execute(SQL("SELECT t::text FROM {} t").format(Identifier(name)))
            async for (text,) in rows:
                yield "table", name, text.encode()
    for file in (settings.data_dir / "logs").glob("*.log"):
        yield "file", file.name, file.read_bytes()
    for file in (settings.data_dir / "agents").rglob("*"):
        place = file.relative_to(settings.data_dir)
        if file.is_file() and "home" not in place.parts:  # what a user puts into his home stays there
            yield "agent", str(place), file.read_bytes()
