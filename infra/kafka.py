"""The log on Apache Kafka, through aiokafka. Every KafkaError becomes one of ours here and nowhere else."""

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any, Self

import aiokafka.producer.sender
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidProducerEpoch,
    KafkaError,
    OffsetOutOfRangeError,
    ProducerFenced,
    TopicAlreadyExistsError,
    UnknownTopicOrPartitionError,
)

from infra.log import Fenced, LogUnavailable, NewRecord, NoSuchPlace, Partition, Reader, Record, Writer
from infra.settings import Settings
from infra.topics import Topic

# Kafka answers "not yet" while it writes the markers of the previous transaction. aiokafka then waits 20 ms, and 100 ms
# after other retriable answers: measured, a small transaction takes 23 ms with these and 3 to 5 ms with ours.
aiokafka.producer.sender.BACKOFF_OVERRIDE = 0.002
_RETRY_BACKOFF_MS = 5

# An open transaction holds up every reader of its partition, so a dead writer's is aborted soon.
_TRANSACTION_TIMEOUT_MS = 10_000

_REQUEST_MAX_BYTES = 4 * 1024 * 1024

logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # every error it logs is also raised, and told once, by us


class KafkaLog:
    """One process' access to Kafka. `async with` opens nothing yet: producers and consumers come when they are used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._bootstrap = settings.kafka.split(",")
        self._appender: AIOKafkaProducer | None = None
        self._opening = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._drop_appender(self._appender)

    @asynccontextmanager
    async def writer(self, transactional_id: str) -> AsyncIterator[Writer]:
        producer = AIOKafkaProducer(
            bootstrap_servers=self._bootstrap,
            transactional_id=f"{self._settings.deployment}.{transactional_id}",
            transaction_timeout_ms=_TRANSACTION_TIMEOUT_MS,
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            max_request_size=_REQUEST_MAX_BYTES,
        )
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_stop_quietly, producer)
            stack.callback(_forget_transaction, producer)
            with _translated():
                async with asyncio.timeout(15):
                    await producer.start()
            yield _KafkaWriter(producer)

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        # While a request waits for news of some partitions, aiokafka does not ask for others: not for long then.
        consumer = self._consumer(fetch_max_wait_ms=100 if len(starts) > 1 else 500)
        async with AsyncExitStack() as stack:
            stack.push_async_callback(_stop_quietly, consumer)
            with _translated():
                async with asyncio.timeout(15):
                    await consumer.start()
                    places = {_place(partition): offset for partition, offset in starts.items()}
                    consumer.assign(list(places))
                    from_end = [place for place, offset in places.items() if offset < 0]
                    if from_end:
                        places |= await consumer.end_offsets(from_end)
                    for place, offset in places.items():
                        consumer.seek(place, offset)
                    await asyncio.sleep(0)  # if it is stopped before its tasks have begun, we are told we are cancelled
            yield _KafkaReader(consumer, list(starts))

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        producer: AIOKafkaProducer | None = None
        try:
            with _translated():
                async with asyncio.timeout(self._settings.append_timeout):
                    producer = await self._open_appender()
                    sent = [await _send(producer, record) for record in records]
                    return [metadata.offset for metadata in await asyncio.gather(*sent)]
        except LogUnavailable:
            # A batch that timed out leaves a hole in the producer's sequence numbers: it is of no use any more.
            await self._drop_appender(producer)
            raise

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        async with self._asking() as consumer:
            ends = await consumer.end_offsets([_place(partition) for partition in partitions])
        return {Partition(place.topic, place.partition): offset for place, offset in ends.items()}

    async def starts(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        async with self._asking() as consumer:
            starts = await consumer.beginning_offsets([_place(partition) for partition in partitions])
        return {Partition(place.topic, place.partition): offset for place, offset in starts.items()}

    async def create_topics(self, topics: Sequence[Topic]) -> None:
        """Create those that are missing, with their settings explicit. What exists is left as it is."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self._bootstrap)
        wanted = [
            NewTopic(
                self._settings.topic_prefix + topic.name,
                topic.partitions,
                self._settings.replication_factor,
                topic_configs={
                    **topic.config,
                    "min.insync.replicas": str(self._settings.min_insync_replicas),
                },
            )
            for topic in topics
        ]
        try:
            with _translated():
                async with asyncio.timeout(30):
                    await admin.start()
                    there = set(await admin.list_topics())
                    missing = [topic for topic in wanted if topic.name not in there]
                    if missing:
                        await _create(admin, missing)
        finally:
            await _stop_quietly(admin)

    @asynccontextmanager
    async def _asking(self) -> AsyncIterator[AIOKafkaConsumer]:
        """A consumer that reads nothing, for one question."""
        consumer = self._consumer()
        try:
            with _translated():
                async with asyncio.timeout(15):
                    await consumer.start()
                    yield consumer
        finally:
            await _stop_quietly(consumer)

    def _consumer(self, fetch_max_wait_ms: int = 100) -> AIOKafkaConsumer:
        return AIOKafkaConsumer(
            bootstrap_servers=self._bootstrap,
            group_id=None,
            isolation_level="read_committed",
            enable_auto_commit=False,
            auto_offset_reset="none",
            retry_backoff_ms=_RETRY_BACKOFF_MS,
            fetch_max_wait_ms=fetch_max_wait_ms,
            max_partition_fetch_bytes=_REQUEST_MAX_BYTES,
        )

    async def _open_appender(self) -> AIOKafkaProducer:
        async with self._opening:
            if self._appender is None:
                producer = AIOKafkaProducer(
                    bootstrap_servers=self._bootstrap,
                    enable_idempotence=True,
                    acks="all",
                    retry_backoff_ms=_RETRY_BACKOFF_MS,
                    request_timeout_ms=int(self._settings.append_timeout * 1000),
                    max_request_size=_REQUEST_MAX_BYTES,
                )
                try:
                    await producer.start()
                except BaseException:
                    await _stop_quietly(producer)
                    raise
                self._appender = producer
            return self._appender

    async def _drop_appender(self, producer: AIOKafkaProducer | None) -> None:
        """Unless somebody has: many appends fail together, and those that come after them have another already."""
        if producer is not None and producer is self._appender:
            self._appender = None
            await _stop_quietly(producer)


class _KafkaWriter:
    def __init__(self, producer: AIOKafkaProducer) -> None:
        self._producer = producer

    async def commit(self, records: Sequence[NewRecord]) -> Sequence[int]:
        with _translated():
            async with asyncio.timeout(_TRANSACTION_TIMEOUT_MS / 1000):
                await self._producer.begin_transaction()
                sent = [await _send(self._producer, record) for record in records]
                await self._producer.commit_transaction()
                return [metadata.offset for metadata in await asyncio.gather(*sent)]


class _KafkaReader:
    def __init__(self, consumer: AIOKafkaConsumer, partitions: Sequence[Partition]) -> None:
        self._consumer = consumer
        self._names = {_place(partition): partition for partition in partitions}
        self._places = {partition: place for place, partition in self._names.items()}

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        with _translated():
            fetched = await self._consumer.getmany(timeout_ms=int(within * 1000), max_records=at_most)
        return [
            Record(self._names[place], record.offset, record.key or b"", tuple(record.headers), record.value or b"")
            for place, records in fetched.items()
            for record in records
        ]

    def position(self, partition: Partition) -> int:
        state = self._consumer._subscription.subscription.assignment.state_value(self._places[partition])
        return int(state.position)


class _translated:  # noqa: N801 (used as a statement)
    """Turns what aiokafka raises into a LogError."""

    def __enter__(self) -> None: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        match error:
            case ProducerFenced() | InvalidProducerEpoch():
                raise Fenced("a newer writer has taken over") from error
            case OffsetOutOfRangeError() | UnknownTopicOrPartitionError():
                raise NoSuchPlace(str(error)) from error
            case KafkaError() | TimeoutError() | OSError():
                raise LogUnavailable(f"{type(error).__name__}: {error}") from error


async def _send(producer: AIOKafkaProducer, record: NewRecord) -> "asyncio.Future[Any]":
    """Hand a record to the producer; the future of its place."""
    future: asyncio.Future[Any] = await producer.send(
        record.partition.topic,
        key=record.key,
        value=record.value,
        headers=list(record.headers),
        partition=record.partition.number,
    )
    future.add_done_callback(_looked_at)
    return future


def _looked_at(future: "asyncio.Future[Any]") -> None:
    """The first failure is raised by whoever wrote; asyncio need not complain about the others."""
    if not future.cancelled():
        future.exception()


def _forget_transaction(producer: AIOKafkaProducer) -> None:
    """A failed transaction leaves a future that nobody else looks at."""
    waiter = producer._txn_manager._transaction_waiter
    if waiter is not None and waiter.done():
        _looked_at(waiter)


def _place(partition: Partition) -> TopicPartition:
    return TopicPartition(partition.topic, partition.number)


async def _create(admin: AIOKafkaAdminClient, topics: list[NewTopic]) -> None:
    answer: Any = await admin.create_topics(topics)
    for topic, code, *rest in answer.topic_errors:
        if code not in (0, TopicAlreadyExistsError.errno):
            raise KafkaError(f"creating {topic} failed with code {code} {rest}")


async def _stop_quietly(client: Any) -> None:
    """Stop a client that may be broken already: whatever it says now changes nothing."""
    with suppress(KafkaError, TimeoutError, OSError):
        async with asyncio.timeout(5):
            await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
