"""The contract of the log, kept by Kafka and by the one in memory alike."""

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest

from infra.kafka import KafkaLog
from infra.log import BadPosition, Fenced, Log, NewRecord, NoSuchPlace, Partition, Position, Record, read_until
from infra.memory_log import MemoryLog
from infra.settings import Settings
from infra.topics import Topic


@pytest.fixture(params=["memory", pytest.param("kafka", marks=pytest.mark.cluster)])
async def log(request: pytest.FixtureRequest, topic: str) -> AsyncIterator[Log]:
    if request.param == "memory":
        yield MemoryLog({topic: 2})
        return
    settings = Settings(kafka=request.getfixturevalue("kafka"), topic_prefix="", deployment=topic)
    async with KafkaLog(settings) as kafka:
        await kafka.create_topics([Topic(topic, "a test", 2)])
        yield kafka


@pytest.fixture
def topic() -> str:
    return f"test-{uuid4().hex[:12]}"


@pytest.fixture
def partition(topic: str) -> Partition:
    return Partition(topic, 0)


def said(partition: Partition, *texts: str) -> list[NewRecord]:
    return [NewRecord(partition, b"key", (("ce_id", text.encode()),), text.encode()) for text in texts]


async def everything(log: Log, *partitions: Partition) -> list[Record]:
    starts = await log.starts(partitions)
    return [r async for batch in read_until(log, starts, await log.ends(partitions)) for r in batch]


async def test_what_is_appended_is_read_in_order(log: Log, partition: Partition) -> None:
    assert list(await log.append(said(partition, "a", "b"))) == [0, 1]
    read = await everything(log, partition)
    assert [(r.offset, r.value, r.key) for r in read] == [(0, b"a", b"key"), (1, b"b", b"key")]
    assert read[0].header("ce_id") == "a"


async def test_a_transaction_is_seen_whole_in_every_partition_it_wrote(log: Log, topic: str) -> None:
    one, two = Partition(topic, 0), Partition(topic, 1)
    async with log.writer("shard") as writer:
        await writer.commit([*said(one, "a"), *said(two, "b"), *said(one, "c")])
    assert sorted(r.value for r in await everything(log, one, two)) == [b"a", b"b", b"c"]


async def test_a_newer_writer_fences_the_older_one(log: Log, partition: Partition) -> None:
    async with log.writer("shard") as older:
        await older.commit(said(partition, "a"))
        async with log.writer("shard") as newer:
            await newer.commit(said(partition, "b"))
            with pytest.raises(Fenced):
                await older.commit(said(partition, "never"))
            await newer.commit(said(partition, "c"))
    assert [r.value for r in await everything(log, partition)] == [b"a", b"b", b"c"]


async def test_writers_of_other_ids_do_not_disturb_each_other(log: Log, partition: Partition) -> None:
    async with log.writer("one") as one, log.writer("two") as two:
        await one.commit(said(partition, "a"))
        await two.commit(said(partition, "b"))
        await one.commit(said(partition, "c"))
    assert [r.value for r in await everything(log, partition)] == [b"a", b"b", b"c"]


async def test_a_reader_passes_over_the_holes_between_transactions(log: Log, partition: Partition) -> None:
    async with log.writer("shard") as writer:
        [first] = await writer.commit(said(partition, "a"))
        [second] = await writer.commit(said(partition, "b"))
    assert second > first + 1
    end = (await log.ends([partition]))[partition]
    assert end > second + 1
    async with log.reader({partition: 0}) as reader:
        values: list[bytes] = []
        while reader.position(partition) < end:
            values += [r.value for r in await reader.batch(at_most=1, within=1)]
    assert values == [b"a", b"b"]


async def test_a_reader_from_the_end_sees_only_what_comes_after(log: Log, partition: Partition) -> None:
    await log.append(said(partition, "before"))
    async with log.reader({partition: -1}) as reader:
        await log.append(said(partition, "after"))
        seen: list[bytes] = []
        while not seen:
            seen += [r.value for r in await reader.batch(at_most=10, within=1)]
    assert seen == [b"after"]


async def test_a_reader_may_be_left_before_it_has_read_anything(log: Log, partition: Partition) -> None:
    async with log.reader({partition: 0}) as reader:
        assert reader.position(partition) == 0


async def test_a_batch_of_nothing_comes_after_its_time(log: Log, partition: Partition) -> None:
    async with log.reader({partition: 0}) as reader:
        assert list(await reader.batch(at_most=10, within=0.01)) == []
        assert reader.position(partition) == 0


async def test_a_batch_is_never_larger_than_asked_for(log: Log, partition: Partition) -> None:
    await log.append(said(partition, *"abcde"))
    async with log.reader({partition: 1}) as reader:
        first = await reader.batch(at_most=2, within=1)
        assert [r.value for r in first] == [b"b", b"c"]
        assert reader.position(partition) == 3


async def test_an_offset_beyond_the_end_is_no_place(log: Log, partition: Partition) -> None:
    await log.append(said(partition, "a"))
    async with log.reader({partition: 100}) as reader:
        with pytest.raises(NoSuchPlace):
            await reader.batch(at_most=10, within=5)


def test_a_position_survives_its_text() -> None:
    position = Position({Partition("refold.session.events", 3): 41, Partition("a-b", 0): 0})
    assert Position.parse(str(position)) == position


@pytest.mark.parametrize("text", ["", "x", "bm9uZQ", "eyJhIjoxfQ", "eyJhLTEiOi0xfQ", "é", "e30=="])
def test_a_text_that_is_no_position_is_refused(text: str) -> None:
    if text == "e30==":
        assert Position.parse(text).offsets == {}
        return
    with pytest.raises(BadPosition):
        Position.parse(text)
