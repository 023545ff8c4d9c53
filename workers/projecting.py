"""The Faust app: one handler for each context keeps its projections as the events arrive.

A handler is at-least-once by nature, and that is enough: the checkpoint in Postgres decides what was folded, not
Kafka's. So a handler takes a batch, folds it, and acknowledges it last. While Postgres or Kafka do not answer it tries
again; any other error ends the app (`CrashingSupervisor`), and with it the process.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import groupby
from typing import Any

import faust
import structlog
from faust import Stream
from faust.app.base import BootStrategy
from faust.types import TP, ChannelT, EventT, StreamT
from prometheus_client import Counter, Histogram

from domain.contexts import CONTEXTS
from infra.log import Log, LogUnavailable, Partition, Record
from infra.postgres import Pool, Unavailable
from infra.settings import Settings
from projections.catalogue import of_context
from projections.live import Projector
from projections.reading import events_topic
from projections.store import StaleProjector
from workers.faust_transport import CommittedTransport

_log = structlog.get_logger(__name__)

_BATCH = 500  # where a transaction's fixed cost no longer matters
_RETRY_SECONDS, _RETRY_SECONDS_MAX = 0.1, 2.0

FOLDED = Counter("refold_events_projected", "Events folded into projections.", ["context"])
FOLD_SECONDS = Histogram(
    "refold_projection_seconds",
    "From having read a batch of events to its transaction being committed, tries included.",
    ["context"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 5),
)


class _Boot(BootStrategy):
    enable_web = False
    enable_kafka_producer = False


class ProjectingApp(faust.App):
    """A Faust app inside another process: no files, no web server, no producer, no topics of its own."""

    BootStrategy = _Boot

    async def on_first_start(self) -> None:
        """Faust would create its folders here."""

    def _new_transport(self) -> CommittedTransport:
        return CommittedTransport(self.conf.broker_consumer, self)


def projecting_app(settings: Settings, log: Log, pool: Pool) -> ProjectingApp:
    """The app with the projections' handlers, whose tables must be there (`projections.rebuild.set_up`).

    More handlers may be added to it before it starts.
    """
    app = ProjectingApp(
        f"{settings.deployment}.projections",
        broker=[f"kafka://{server}" for server in settings.kafka.split(",")],
        value_serializer="raw",
        key_serializer="raw",
        agent_supervisor="mode.supervisors.CrashingSupervisor",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        # A dead worker's partitions are taken over after this: the least that brokers allow by default.
        broker_session_timeout=6.0,
        broker_heartbeat_interval=1.0,
        # A broker that has just started may not know its topics yet, and whoever shares out the partitions then shares
        # out none. He notices when his picture of the topics is renewed.
        consumer_metadata_max_age_ms=3000,
        # A fold that is shown again is harmless, so a rebalance need not wait for one that waits for Postgres.
        stream_wait_empty=False,
        # When it is full Faust looks again only a second later; half of it lasts that long.
        stream_buffer_maxsize=16_384,
        store="memory://",
        loop=asyncio.get_running_loop(),
    )
    projectors = {events_topic(settings, name): Projector(name, of_context(name), log, pool) for name in CONTEXTS}
    for topic, projector in projectors.items():
        _add_handler(app, topic, projector)
    _add_catching_up(app, projectors)
    return app


async def run_app(app: ProjectingApp, stop: asyncio.Event) -> None:
    """Run a Faust app in this event loop until `stop` is set; raises whatever ended it before that."""
    try:
        await app.start()
        await app.wait_for_stopped(stop.wait())
    finally:
        await app.stop()
    if app.crash_reason is not None:
        raise app.crash_reason


def _add_handler(app: ProjectingApp, topic: str, projector: Projector) -> None:
    async def keep_projections(stream: StreamT[Any]) -> None:
        async for batch in batches(stream):
            await _fold(projector, batch)
            for event in batch:
                event.ack()

    keep_projections.__name__ = f"keep_projections_of_{projector.context}"
    app.agent(app.topic(topic, value_type=bytes), name=keep_projections.__name__)(keep_projections)


async def batches(stream: StreamT[Any]) -> AsyncIterator[Sequence[EventT[bytes]]]:
    """What is there, together: while one batch is folded, the next one gathers. Who takes one acknowledges its events.

    Faust's own batches wait for more by a time-out, and so wake up for ever where nothing comes.
    """
    assert isinstance(stream, Stream)
    assert isinstance(stream.channel, ChannelT)
    queue = stream.channel.queue
    batch: list[EventT[bytes]] = []
    async for event in stream.noack().events():
        batch.append(event)
        if len(batch) == _BATCH or queue.empty():
            yield batch
            batch = []


async def _fold(projector: Projector, batch: Sequence[EventT[bytes]]) -> None:
    # Records of two assignments do not follow one another.
    for generation, events in groupby(batch, lambda event: event.message.generation_id):
        records = [_record(event) for event in events]
        with FOLD_SECONDS.labels(projector.context).time():
            await _persistently(projector, lambda: projector.fold(records, generation or 0))  # noqa: B023
        FOLDED.labels(projector.context).inc(len(records))


def _add_catching_up(app: ProjectingApp, projectors: dict[str, Projector]) -> None:
    """What was folded before the partitions came here may be less than Kafka believes, and no new event may come."""
    assigned: asyncio.Queue[frozenset[TP]] = asyncio.Queue()

    async def note(_app: Any, /, *assigned_now: Any, **_: Any) -> None:
        for projector in projectors.values():
            projector.release()
        assigned.put_nowait(frozenset(assigned_now[0]))

    async def catch_up() -> None:
        while True:
            places = await assigned.get()
            for topic, projector in projectors.items():
                partitions = [Partition(place.topic, place.partition) for place in places if place.topic == topic]
                if partitions:
                    await _persistently(projector, lambda: projector.catch_up(partitions))  # noqa: B023

    app.on_partitions_assigned.connect(note)
    app.task(catch_up)


async def _persistently(projector: Projector, attempt: Callable[[], Awaitable[None]]) -> None:
    """Try until it works or fails for a reason that time does not heal."""
    pause = _RETRY_SECONDS
    while True:
        try:
            return await attempt()
        except (StaleProjector, Unavailable, LogUnavailable) as error:
            _log.warning("not folded, trying again", context=projector.context, reason=str(error))
        await asyncio.sleep(pause)
        pause = min(2 * pause, _RETRY_SECONDS_MAX)


def _record(event: EventT[bytes]) -> Record:
    message = event.message
    assert isinstance(message.headers, Sequence)  # as aiokafka has them
    return Record(
        Partition(message.topic, message.partition),
        message.offset,
        message.key or b"",
        tuple(message.headers),
        message.value or b"",
    )
