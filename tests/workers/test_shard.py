"""The shard loop: every accepted command has exactly one outcome, whatever happens to whoever decides it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid5

import pytest

from domain.contexts import CONTEXTS
from domain.messages import AccessKey, Command, SessionId
from domain.outcomes import CommandRefused, CommandUnneeded, ShardOpened
from domain.session.messages import (
    Limits,
    RequestSession,
    Seat,
    SessionRequested,
    SessionSpec,
    SetSessionLimits,
    TerminateSession,
)
from infra.decoding import Told, read_event
from infra.envelope import BrokenChain, Cause, record_of, verify
from infra.log import Fenced, NewRecord, Partition, Record, read_until
from infra.memory_log import MemoryLog
from infra.settings import Settings
from infra.topics import all_topics, commands, events
from workers.shard import Shard

SETTINGS = Settings(partitions=1, handled_window=100, batch_max=3)
SESSION = CONTEXTS["session"]
COMMANDS = Partition(SETTINGS.topic_prefix + commands("session"), 0)
EVENTS = Partition(SETTINGS.topic_prefix + events("session"), 0)
OWNER = AccessKey("AKIAIOSFODNN7EXAMPLE")
NOW = datetime(2026, 1, 1, tzinfo=UTC)
LIMITS = SetSessionLimits(at=NOW, owner=OWNER, limits=Limits(max_concurrent_sessions=100, max_kernels_per_session=4))


@pytest.fixture
def log() -> MemoryLog:
    return MemoryLog({SETTINGS.topic_prefix + topic.name: topic.partitions for topic in all_topics(SETTINGS)})


def an_id(name: str) -> str:
    return str(uuid5(UUID(int=0), name))


def request(name: str, **spec: object) -> RequestSession:
    session_id = SessionId(an_id(f"session {name}"))
    return RequestSession(
        at=NOW,
        owner=OWNER,
        session_id=session_id,
        name=name,
        spec=SessionSpec.model_validate({"image": "python", "slots": {"cpu": 1000}} | spec),
        kernels=(Seat.model_validate({"kernel_id": session_id, "role": "main", "index": 1}),),
    )


async def give(log: MemoryLog, command: Command, command_id: str) -> int:
    cause = Cause(OWNER, command_id, command_id)
    [offset] = await log.append([record_of(command, command_id, "test", cause, COMMANDS, command.key)])
    return offset


async def records(log: MemoryLog, partition: Partition) -> list[Record]:
    starts = await log.starts([partition])
    return [r async for batch in read_until(log, starts, await log.ends([partition])) for r in batch]


async def told(log: MemoryLog) -> list[Told]:
    return [read_event(SESSION, record) for record in await records(log, EVENTS)]


async def outcomes(log: MemoryLog) -> dict[int, list[Told]]:
    """By command offset."""
    by_offset: dict[int, list[Told]] = {}
    for each in await told(log):
        if each.command_offset is not None:
            by_offset.setdefault(each.command_offset, []).append(each)
    return by_offset


@asynccontextmanager
async def running(log: MemoryLog, now: Callable[[], datetime] = lambda: NOW, by: str = "a") -> AsyncIterator[Shard]:
    shard = Shard(SETTINGS, log, SESSION, 0, by, now)
    task = asyncio.create_task(shard.run())
    try:
        yield shard
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Fenced):
            await task


async def settled(log: MemoryLog, offset: int) -> list[Told]:
    """The outcome of the command at that offset, once it is there."""
    async with asyncio.timeout(5), log.reader({EVENTS: 0}) as reader:
        seen: list[Told] = []
        while True:
            seen += [read_event(SESSION, record) for record in await reader.batch(at_most=100, within=1)]
            found = [each for each in seen if each.command_offset == offset]
            if found:
                return found


async def test_an_event_says_which_command_it_came_from(log: MemoryLog) -> None:
    async with running(log):
        offset = await give(log, LIMITS, an_id("limits"))
        [limits] = await settled(log, offset)
    assert limits.command_id == an_id("limits")
    assert limits.event_id == str(uuid5(UUID(an_id("limits")), "0"))
    assert limits.record.header("ce_actor") == OWNER
    assert limits.record.header("ce_outcome") == "0/1"


async def test_a_shard_says_first_that_it_opened(log: MemoryLog) -> None:
    async with running(log, by="somebody"):
        await settled(log, await give(log, LIMITS, an_id("limits")))
    opened = (await told(log))[0].event
    assert isinstance(opened, ShardOpened)
    assert (opened.shard, opened.opened_by) == ("session-0", "somebody")


async def test_consequences_leave_in_the_transaction_of_their_event(log: MemoryLog) -> None:
    async with running(log):
        await give(log, LIMITS, an_id("limits"))
        [requested] = await settled(log, await give(log, request("one"), an_id("one")))
    demands = await records(log, Partition(SETTINGS.topic_prefix + commands("scheduling"), 0))
    assert [demand.header("ce_type") for demand in demands] == ["DemandPlacement"]
    assert demands[0].header("ce_causationid") == requested.event_id
    assert demands[0].header("ce_correlationid") == an_id("one")
    assert demands[0].header("ce_actor") == "context:session"


async def test_a_no_is_an_outcome_with_its_code(log: MemoryLog) -> None:
    async with running(log):
        [no] = await settled(log, await give(log, request("one"), an_id("one")))
    assert isinstance(no.event, CommandRefused)
    assert no.event.code == "keypair_not_admitted"


async def test_a_repeated_command_id_points_to_its_first_outcome(log: MemoryLog) -> None:
    async with running(log):
        await give(log, LIMITS, an_id("limits"))
        first = await give(log, request("one"), an_id("one"))
        later = request("one").model_copy(update={"at": NOW + timedelta(seconds=5)})
        [again] = await settled(log, await give(log, later, an_id("one")))
    assert isinstance(again.event, CommandUnneeded)
    assert (again.event.code, again.event.first) == ("repeated", first)


async def test_a_repeated_command_id_is_known_after_the_shard_was_rebuilt(log: MemoryLog) -> None:
    async with running(log):
        await give(log, LIMITS, an_id("limits"))
        first = await give(log, request("one"), an_id("one"))
        await settled(log, first)
    async with running(log, by="b"):
        [again] = await settled(log, await give(log, request("one"), an_id("one")))
    assert isinstance(again.event, CommandUnneeded)
    assert again.event.first == first


async def test_a_command_id_with_other_content_is_refused(log: MemoryLog) -> None:
    async with running(log):
        await give(log, LIMITS, an_id("limits"))
        await give(log, request("one"), an_id("one"))
        [no] = await settled(log, await give(log, request("two"), an_id("one")))
    assert isinstance(no.event, CommandRefused)
    assert no.event.code == "command_id_reused"
    assert len([t for t in await told(log) if isinstance(t.event, SessionRequested)]) == 1


async def test_ids_beyond_the_window_are_forgotten_oldest_first(log: MemoryLog) -> None:
    async with running(log):
        for number in range(SETTINGS.handled_window + 1):
            last = await give(log, LIMITS, an_id(f"limits {number}"))
        await settled(log, last)
        [fresh] = await settled(log, await give(log, LIMITS, an_id("limits 0")))
        [known] = await settled(log, await give(log, LIMITS, an_id("limits 50")))
    assert isinstance(fresh.event, CommandUnneeded)
    assert fresh.event.code == "already_so"
    assert isinstance(known.event, CommandUnneeded)
    assert known.event.code == "repeated"


async def test_every_command_has_one_outcome_through_any_number_of_takeovers(log: MemoryLog) -> None:
    given = [await give(log, LIMITS, an_id("limits"))]
    for number in range(30):
        given.append(await give(log, request(f"s{number}"), an_id(f"s{number}")))
    for turn in range(6):  # each is cut off somewhere in the middle
        async with running(log, by=str(turn)):
            await settled(log, min(given[-1], turn * 5))
    async with running(log, by="last"):
        await settled(log, given[-1])
    by_offset = await outcomes(log)
    assert sorted(by_offset) == given
    assert [len(outcome) for outcome in by_offset.values()] == [1] * len(given)
    requested = [t.event.name for t in await told(log) if isinstance(t.event, SessionRequested)]
    assert requested == [f"s{number}" for number in range(30)]


async def test_a_fenced_shard_ends_and_writes_nothing_more(log: MemoryLog) -> None:
    older = Shard(SETTINGS, log, SESSION, 0, "older", lambda: NOW)
    task = asyncio.create_task(older.run())
    await settled(log, await give(log, LIMITS, an_id("limits")))
    async with running(log, by="newer"):
        offset = await give(log, request("one"), an_id("one"))
        await settled(log, offset)
        with pytest.raises(Fenced):
            await asyncio.wait_for(task, 5)
    assert len((await outcomes(log))[offset]) == 1


async def test_the_chain_holds_over_takeovers_and_breaks_on_any_change(log: MemoryLog) -> None:
    for turn in range(3):
        async with running(log, by=str(turn)):
            await give(log, LIMITS, an_id(f"limits {turn}"))
            await settled(log, await give(log, request(f"s{turn}"), an_id(f"s{turn}")))
    chained = await records(log, EVENTS)
    verify(chained)
    for index in range(len(chained) - 1):
        with pytest.raises(BrokenChain):
            verify([*chained[:index], *chained[index + 1 :]])
        changed = Record(EVENTS, chained[index].offset, chained[index].key, chained[index].headers, b"{}")
        with pytest.raises(BrokenChain):
            verify([*chained[:index], changed, *chained[index + 1 :]])


@pytest.mark.parametrize(
    "spoil",
    [
        lambda record: NewRecord(record.partition, record.key, record.headers, b"no json"),
        lambda record: NewRecord(record.partition, record.key, (), record.value),
        lambda record: NewRecord(record.partition, b"another key", record.headers, record.value),
        lambda record: NewRecord(record.partition, b"\xff\xfe", record.headers, record.value),
        lambda record: NewRecord(
            record.partition, record.key, tuple((n, b"x" if n == "ce_id" else v) for n, v in record.headers), b"{}"
        ),
    ],
)
async def test_a_record_nobody_can_read_is_kept_aside_and_passed(
    log: MemoryLog, spoil: Callable[[NewRecord], NewRecord]
) -> None:
    good = record_of(LIMITS, an_id("x"), "test", Cause(OWNER, an_id("x"), an_id("x")), COMMANDS, OWNER)
    async with running(log):
        [offset] = await log.append([spoil(good)])
        [no] = await settled(log, offset)
        await settled(log, await give(log, LIMITS, an_id("limits")))
    assert isinstance(no.event, CommandRefused)
    assert no.event.code == "unreadable"
    [letter] = await records(log, Partition(SETTINGS.topic_prefix + "dead-letters", 0))
    assert letter.header("refold_place") == f"{COMMANDS}@{offset}"
    assert letter.header("refold_reason")


async def test_a_deadline_that_passes_is_a_command_from_the_clock(log: MemoryLog) -> None:
    clock = [NOW]
    async with running(log, now=lambda: clock[0]):
        await give(log, LIMITS, an_id("limits"))
        await settled(log, await give(log, request("one", pending_timeout_seconds=60), an_id("one")))
        clock[0] += timedelta(seconds=61)
        ended = await _ended(log)
    assert ended.record.header("ce_actor") == "clock"
    assert ended.event.model_dump()["reason"] == "pending-timeout"


async def test_a_deadline_survives_the_shard_that_knew_it(log: MemoryLog) -> None:
    async with running(log):
        await give(log, LIMITS, an_id("limits"))
        await settled(log, await give(log, request("one", pending_timeout_seconds=60), an_id("one")))
    async with running(log, now=lambda: NOW + timedelta(seconds=61), by="b"):
        ended = await _ended(log)
    assert ended.event.model_dump()["reason"] == "pending-timeout"


async def test_a_deadline_that_was_taken_away_does_not_pass(log: MemoryLog) -> None:
    clock = [NOW]
    async with running(log, now=lambda: clock[0]):
        await give(log, LIMITS, an_id("limits"))
        one = request("one", pending_timeout_seconds=60)
        await give(log, one, an_id("one"))
        end = TerminateSession(at=NOW, owner=OWNER, session_id=one.session_id)
        await settled(log, await give(log, end, an_id("end")))
        clock[0] += timedelta(seconds=61)
        await settled(log, await give(log, request("two"), an_id("two")))
    assert "clock" not in [each.record.header("ce_actor") for each in await told(log)]


async def test_a_defect_in_one_decision_does_not_stop_the_others(log: MemoryLog) -> None:
    def decide(command: Command, state: object) -> Sequence[object]:
        if isinstance(command, RequestSession) and command.name == "bad":
            raise ZeroDivisionError
        return list(SESSION.decide(command, state))

    broken = SESSION.__class__(**{**SESSION.__dict__, "decide": decide})
    shard = Shard(SETTINGS, log, broken, 0, "a", lambda: NOW)
    task = asyncio.create_task(shard.run())
    await give(log, LIMITS, an_id("limits"))
    bad = await give(log, request("bad"), an_id("bad"))
    [fine] = await settled(log, await give(log, request("fine"), an_id("fine")))
    [no] = (await outcomes(log))[bad]
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert isinstance(fine.event, SessionRequested)
    assert isinstance(no.event, CommandRefused)
    assert no.event.code == "internal_error"


async def _ended(log: MemoryLog) -> Told:
    async with asyncio.timeout(5), log.reader({EVENTS: 0}) as reader:
        while True:
            for record in await reader.batch(at_most=100, within=1):
                if record.header("ce_type") == "SessionEnded":
                    return read_event(SESSION, record)
