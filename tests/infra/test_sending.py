"""A command becomes one durable record, in the partition of its key, and no more of them than may be on their way."""

import asyncio
from collections.abc import Sequence
from uuid import uuid4

import pytest

from domain.messages import AccessKey, SessionId
from domain.session.messages import CancelSession
from infra.log import NewRecord, Partition, read_until
from infra.memory_log import MemoryLog
from infra.sending import Overloaded, Sender
from infra.settings import Settings
from infra.topics import commands, partition_of
from tests.whole import now

SETTINGS = Settings(partitions=3, appends_in_flight_max=2)
PARTITIONS = [Partition("refold.session.commands", number) for number in range(3)]


def _cancel(owner: str = "AKADA") -> CancelSession:
    return CancelSession(at=now(), owner=AccessKey(owner), session_id=SessionId("s"))


async def test_the_record_says_who_and_why_and_stands_where_its_key_belongs() -> None:
    log = MemoryLog({"refold.session.commands": 3})
    sender = Sender(SETTINGS, log, "refold/test")
    command_id, trace = str(uuid4()), f"00-{'a' * 32}-{'b' * 16}-01"
    position = await sender.send("session", _cancel(), command_id, "keypair:AKADA", trace)
    place = partition_of(SETTINGS, commands("session"), "AKADA")
    assert position.offsets == {place: 1}
    [[record]] = [batch async for batch in read_until(log, {place: 0}, {place: 1})]
    assert record.key == b"AKADA"
    assert record.header("ce_id") == record.header("ce_correlationid") == record.header("ce_causationid") == command_id
    assert record.header("ce_actor") == "keypair:AKADA"
    assert record.header("ce_source") == "refold/test"
    assert record.header("traceparent") == trace
    await sender.send("session", _cancel(), command_id, "x", "not a trace")
    [[_, second]] = [batch async for batch in read_until(log, {place: 0}, {place: 2})]
    assert second.header("traceparent") is None


async def test_several_at_once_keep_their_order_and_have_one_position() -> None:
    log = MemoryLog({"refold.session.commands": 3})
    sender = Sender(SETTINGS, log, "refold/test")
    sent = [("session", _cancel(f"AK{number}"), str(uuid4())) for number in range(12)]
    position = await sender.send_all(sent, "setup")
    assert position.offsets == await log.ends(list(position.offsets))
    assert sum(position.offsets.values()) == 12


async def test_beyond_the_bound_nothing_is_sent() -> None:
    class Slow(MemoryLog):
        gate = asyncio.Event()

        async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
            await self.gate.wait()
            return await super().append(records)

    log = Slow({"refold.session.commands": 3})
    sender = Sender(SETTINGS, log, "refold/test")
    waiting = [asyncio.create_task(sender.send("session", _cancel(), str(uuid4()), "x")) for _ in range(2)]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await sender.send("session", _cancel(), str(uuid4()), "x")
    log.gate.set()
    await asyncio.gather(*waiting)
    assert sender.in_flight == 0
    assert sum((await log.ends(PARTITIONS)).values()) == 2
