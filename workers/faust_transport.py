"""How Faust reads: committed records only, without long waits, and without making four tasks of each."""

from collections.abc import Coroutine, Generator
from types import coroutine
from typing import Any

from aiokafka import AIOKafkaConsumer
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, Consumer, Transport
from mode.services import WaitArgT, WaitResults

_FETCH_WAIT_MS = 100


class _CommittedThread(AIOKafkaConsumerThread):
    """By default Faust reads what an aborted transaction left behind, and so would fold events that never happened."""

    def _create_worker_consumer(self, transport: Transport) -> AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        # Faust offers no setting for these, and aiokafka takes them over only when the consumer starts.
        consumer._isolation_level = "read_committed"
        # While a request waits for news of some partitions, what has come for others is not asked for: not for 1.5 s.
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer


class _CommittedConsumer(Consumer):
    def _new_consumer_thread(self) -> AIOKafkaConsumerThread:
        return _CommittedThread(self, loop=self.loop, beacon=self.beacon)

    async def wait_first(self, *coros: WaitArgT, timeout: Any = None) -> WaitResults:
        """What Faust waits with for each message: until it is handed on, or a rebalance or stop interrupts that.

        Handing on waits only when a stream's buffer is full, so it is tried at once; the tasks that waiting takes are
        made only then. Measured, that is half of all the time Faust needs for a message.
        """
        first, *others = coros
        if timeout is None and isinstance(first, Coroutine):
            try:
                blocked_on = first.send(None)
            except StopIteration as done:
                for other in others:
                    if isinstance(other, Coroutine):
                        other.close()
                return WaitResults([first], [done.value], False)
            coros = (_go_on(first, blocked_on), *others)
        return await super().wait_first(*coros, timeout=timeout)


class CommittedTransport(Transport):
    """Faust's Kafka transport, with isolation level `read_committed`."""

    Consumer = _CommittedConsumer


async def _go_on(begun: Coroutine[Any, Any, Any], blocked_on: Any) -> Any:
    return await _rest(begun, blocked_on)


@coroutine
def _rest(begun: Coroutine[Any, Any, Any], blocked_on: Any) -> Generator[Any, Any, Any]:
    """What is left of a coroutine that was begun by hand and waits for `blocked_on`."""
    while True:
        error = answer = None
        try:
            answer = yield blocked_on
        except BaseException as thrown:  # a cancellation above all: for the coroutine to deal with
            error = thrown
        try:
            blocked_on = begun.send(answer) if error is None else begun.throw(error)
        except StopIteration as done:
            return done.value
