"""Appends that fail together, and those that come after them. There is no broker, only whoever speaks to it."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError

from infra import kafka
from infra.kafka import KafkaLog
from infra.log import LogUnavailable, NewRecord, Partition
from infra.settings import Settings

RECORD = NewRecord(Partition("t", 0), b"", (), b"")


class Producer:
    """`sent`: what was given to it, in order, and not answered yet."""

    made: "list[Producer]"

    def __init__(self, **_: Any) -> None:
        self.sent: list[asyncio.Future[Any]] = []
        self.is_stopped = False
        self.made.append(self)

    async def start(self) -> None: ...

    async def stop(self) -> None:
        self.is_stopped = True

    async def send(self, *_: Any, **__: Any) -> "asyncio.Future[Any]":
        self.sent.append(asyncio.get_running_loop().create_future())
        return self.sent[-1]


async def test_an_append_that_fails_takes_none_with_it_that_came_after(monkeypatch: pytest.MonkeyPatch) -> None:
    Producer.made = []
    monkeypatch.setattr(kafka, "AIOKafkaProducer", Producer)
    async with KafkaLog(Settings()) as log:
        failing = [asyncio.create_task(log.append([RECORD])) for _ in range(2)]
        await _until(lambda: len(Producer.made) == 1 and len(Producer.made[0].sent) == 2)
        first = Producer.made[0]
        first.sent[0].set_exception(KafkaTimeoutError())
        with pytest.raises(LogUnavailable):
            await failing[0]
        assert first.is_stopped
        later = asyncio.create_task(log.append([RECORD]))
        await _until(lambda: len(Producer.made) == 2 and len(Producer.made[1].sent) == 1)
        second = Producer.made[1]
        first.sent[1].set_exception(KafkaTimeoutError())
        with pytest.raises(LogUnavailable):
            await failing[1]
        assert not second.is_stopped
        second.sent[0].set_result(SimpleNamespace(offset=7))
        assert list(await later) == [7]
    assert second.is_stopped


async def _until(is_so: Any) -> None:
    async with asyncio.timeout(5):
        while not is_so():
            await asyncio.sleep(0)
