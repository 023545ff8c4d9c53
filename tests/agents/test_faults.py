"""Whatever fails around an agent, no kernel dies of it, none runs twice, and the log says what happened and why."""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

import agents.__main__ as program
from agents import daemon, fencing, minding, outbox
from agents.fake.runtime import FakeRuntime
from agents.journal import Journal, JournalUnavailable
from agents.orders import FencedOut, Orders
from domain.contexts import CONTEXTS
from domain.messages import Cell, KernelId, SessionId
from domain.placements import AdmitAgent
from domain.session.messages import RestartSession, TerminateSession
from domain.session.status import SessionStatus
from domain.telemetry import Heartbeat
from infra.envelope import Cause, record_of
from infra.log import LogUnavailable, NewRecord, Partition, Reader, Record, Writer
from infra.topics import PLACEMENTS, partition_of
from tests.whole import AGENT, OWNER, Whole, now
from workers.watching import Known, Watch


@pytest.fixture
async def whole(tmp_path: Path) -> AsyncIterator[Whole]:
    whole = Whole(tmp_path)
    async with whole.shards():
        await whole.admit()
        yield whole


def starts(whole: Whole, host: str = "") -> list[tuple[str, int]]:
    """The kernels that began to run on a host, with their incarnations."""
    path = whole.folder / host / "runtime" / "starts.jsonl"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [(line["kernel_id"], line["incarnation"]) for line in lines]


async def running(whole: Whole, name: str, **spec: Any) -> SessionId:
    session = await whole.request(name, **spec)
    await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    return session


async def ended(whole: Whole, session: SessionId) -> str:
    """Why."""
    await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=session))
    return str((await whole.until(session, "SessionEnded")).event.model_dump()["reason"])


class CutLog:
    """A log that can be out of reach of one agent."""

    def __init__(self, whole: Whole) -> None:
        self._log = whole.log
        self.cut = False

    def _reach(self) -> None:
        if self.cut:
            raise LogUnavailable("cut off")

    async def append(self, records: Sequence[NewRecord]) -> Sequence[int]:
        self._reach()
        return await self._log.append(records)

    async def ends(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._reach()
        return await self._log.ends(partitions)

    async def starts(self, partitions: Sequence[Partition]) -> Mapping[Partition, int]:
        self._reach()
        return await self._log.starts(partitions)

    def writer(self, transactional_id: str) -> AbstractAsyncContextManager[Writer]:
        return self._log.writer(transactional_id)

    @asynccontextmanager
    async def reader(self, starts: Mapping[Partition, int]) -> AsyncIterator[Reader]:
        self._reach()
        async with self._log.reader(starts) as reader:
            yield _CutReader(self, reader)


class _CutReader:
    def __init__(self, log: CutLog, reader: Reader) -> None:
        self._log = log
        self._reader = reader

    async def batch(self, at_most: int, within: float) -> Sequence[Record]:
        self._log._reach()
        return await self._reader.batch(at_most, min(within, 0.02))

    def position(self, partition: Partition) -> int:
        return self._reader.position(partition)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """What the agent's clock says, in seconds; it stands still, and pauses are short."""
    reading = [1000.0]
    monkeypatch.setattr(fencing, "boot_time", lambda: reading[0])
    monkeypatch.setattr(daemon, "_FENCE_SECONDS", 0.01)
    for module in (daemon, outbox, minding):
        monkeypatch.setattr(module, "_RETRY_SECONDS", 0.01)
    return reading


@asynccontextmanager
async def replaced(whole: Whole, **fake: Any) -> AsyncIterator[FakeRuntime]:
    """An agent on the first of two hosts, which ends before the block does because there is another of its name."""
    end = ""
    try:
        async with whole.agent(host="first", **fake) as runtime:
            yield runtime
    except FencedOut as error:
        end = str(error)
    assert "another agent registered as agent-1" in end


# -- two agents with one id --------------------------------------------------------------------------------------------


async def test_of_two_agents_with_one_id_the_one_that_started_first_ends_and_touches_no_kernel(whole: Whole) -> None:
    async with replaced(whole) as first:
        kernel = await running(whole, "old")
        async with whole.agent(host="second") as second:
            later = await running(whole, "new")
            assert [each.kernel_id for each in await first.list()] == [kernel]
            assert [each.kernel_id for each in await second.list()] == [later]
    assert [each for each, _ in starts(whole, "first")] == [kernel]
    assert [each for each, _ in starts(whole, "second")] == [later]


async def test_what_was_ordered_of_one_agent_is_not_begun_by_another_of_its_name(whole: Whole) -> None:
    """Not even if the first had not begun yet: nobody can tell. It is said to be gone, and tried under a new number."""
    async with replaced(whole, start_seconds=0.3):
        session = await whole.request("doubtful")
        await whole.until(session, "SessionAdvanced", SessionStatus.CREATING)
        async with whole.agent(host="second"):
            kernel = (await whole.until(session, "KernelEnded")).event.model_dump()
            assert (kernel["incarnation"], kernel["reason"]) == (1, "kernel-gone")
    assert (session, 1) not in starts(whole, "second")


async def test_what_is_ordered_while_an_agent_is_replaced_is_begun_by_one_of_them_at_most(tmp_path: Path) -> None:
    whole, scheduler = Whole(tmp_path), {"scheduling": CONTEXTS["scheduling"]}
    async with whole.shards({name: context for name, context in CONTEXTS.items() if name not in scheduler}):
        await whole.admit()
        async with replaced(whole):
            async with whole.shards(scheduler):
                old = await running(whole, "old")
            async with whole.agent(host="second"):
                await asyncio.sleep(0.1)  # it has registered, and nobody has admitted it
                await whole.give("session", RestartSession(at=now(), owner=OWNER, session_id=old))
                await whole.until(old, "KernelStarted", times=2)
                async with whole.shards(scheduler):
                    await whole.until(old, "KernelEnded")
    assert (starts(whole, "first"), starts(whole, "second")) == ([(old, 1), (old, 2)], [])


async def test_an_agent_that_was_replaced_for_a_while_begins_nothing_of_before(whole: Whole) -> None:
    """What its journal had yet to begin may have been begun elsewhere meanwhile."""
    async with whole.agent(host="first", start_seconds=60):
        session = await whole.request("doubtful")
        await whole.until(session, "SessionAdvanced", SessionStatus.CREATING)
    async with whole.agent(host="second"):
        await whole.until(session, "KernelEnded")
    async with whole.agent(host="first"):
        assert await ended(whole, await running(whole, "after")) == "user-requested"
    assert (session, 1) not in starts(whole, "first")


async def test_the_agent_that_starts_last_goes_on_also_if_its_clock_is_behind(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with replaced(whole):
        await running(whole, "old")
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        async with whole.agent(host="second"):
            await running(whole, "new")
    assert len(starts(whole, "second")) == 1


async def test_an_agent_begins_nothing_before_it_is_admitted(tmp_path: Path) -> None:
    whole, scheduler = Whole(tmp_path), {"scheduling": CONTEXTS["scheduling"]}
    async with whole.shards({name: context for name, context in CONTEXTS.items() if name not in scheduler}):
        await whole.admit()
        async with whole.shards(scheduler), whole.agent():
            await running(whole, "first")
        async with whole.shards(scheduler):
            session = await whole.request("second")
            await whole.until(session, "SessionScheduled")
        async with whole.agent() as runtime:
            await asyncio.sleep(0.1)
            assert session not in {kernel.kernel_id for kernel in await runtime.list()}
            async with whole.shards(scheduler):
                await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)


async def test_an_agent_that_waits_to_be_admitted_ends_when_a_later_one_is(whole: Whole) -> None:
    place = partition_of(whole.settings, PLACEMENTS, AGENT)
    later = AdmitAgent(at=now(), agent_id=AGENT, incarnation=8, journal=2)
    await whole.log.append([record_of(later, "admitted", "test", Cause("test", "c", "c"), place, later.key)])
    async with whole.log.reader({place: 0}) as reader:
        with pytest.raises(FencedOut):
            await Orders(whole.log, place, AGENT).until_admitted(reader, 7, 1, is_certain=True)


def test_an_agent_that_was_replaced_ends_with_a_code_that_says_not_to_start_it_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def replaced(_: object) -> None:
        admitted = AdmitAgent(at=now(), agent_id=AGENT, incarnation=7, journal=1)
        raise ExceptionGroup("loops", [FencedOut(admitted)])

    monkeypatch.setattr(program, "_run", replaced)
    monkeypatch.setattr(program, "configure_logging", lambda *_: None)
    assert CliRunner().invoke(program.app).exit_code == os.EX_CONFIG


# -- cut off -----------------------------------------------------------------------------------------------------------


async def test_an_agent_that_is_cut_off_is_unknown_and_its_sessions_are_not_dead(whole: Whole) -> None:
    watch, cell, heard = Watch(timedelta(seconds=30)), Cell("default"), now()

    async def seconds_pass(seconds: float, *, beats: bool) -> None:
        """As the watch over heartbeats has it."""
        at = heard + timedelta(seconds=seconds)
        [registered] = [each for each in await whole.told("scheduling", AGENT) if hasattr(each.event, "incarnation")]
        incarnation = registered.event.model_dump()["incarnation"]
        beat = Heartbeat(at=at, agent_id=AGENT, cell=cell, incarnation=incarnation, interval_seconds=2, kernels=1)
        known = Known(AGENT, cell, incarnation, lost=False)
        for command in watch.heard(beat, at) if beats else watch.silent([known], at):
            await whole.give("scheduling", command)

    async with whole.agent() as runtime:
        session = await running(whole, "patient")
        await seconds_pass(0, beats=True)
        for seconds in (1, 60, 600):
            await seconds_pass(seconds, beats=False)
        waiting = await whole.request("waiting")
        await until_told(whole, "PlacementDelayed", waiting)
        assert [kernel.kernel_id for kernel in await runtime.list()] == [session]
        assert not [each for each in await whole.told(subject=session) if type(each.event).__name__ == "KernelEnded"]
        await seconds_pass(601, beats=True)
        await whole.until(waiting, "SessionAdvanced", SessionStatus.RUNNING)
        assert await ended(whole, session) == "user-requested"
    told = [type(each.event).__name__ for each in await whole.told("scheduling", AGENT)]
    assert told == ["AgentRegistered", "AgentLost", "AgentFound"], "one second is no silence yet"
    assert len(starts(whole)) == 2


async def until_told(whole: Whole, kind: str, subject: str) -> None:
    async with asyncio.timeout(5):
        while kind not in {type(each.event).__name__ for each in await whole.told("scheduling", subject)}:
            await asyncio.sleep(0.005)


@pytest.mark.parametrize(("seconds", "left"), [(1, {"one", "two", "three"}), (60, {"two", "three"}), (600, {"three"})])
async def test_an_agent_that_is_cut_off_ends_the_kernels_that_ask_for_it_and_says_so(
    whole: Whole, clock: list[float], seconds: float, left: set[str]
) -> None:
    log = CutLog(whole)
    async with whole.agent(log=log) as runtime:
        limits = {"one": 30, "two": 300, "three": None}
        names = {await running(whole, name, fence_after_seconds=limit): name for name, limit in limits.items()}
        log.cut = True
        clock[0] += seconds
        await asyncio.sleep(0.1)
        assert {names[SessionId(kernel.kernel_id)] for kernel in await runtime.list()} == left
        log.cut = False
        for session, name in names.items():
            if name not in left:
                kernel = (await whole.until(session, "KernelEnded")).event.model_dump()
                assert (kernel["reason"], kernel["exit_code"]) == ("fenced", 143)
                assert (await whole.until(session, "SessionEnded")).event.model_dump()["reason"] == "fenced"
            else:
                assert await ended(whole, session) == "user-requested"


@pytest.mark.usefixtures("clock")
async def test_how_long_an_agent_was_cut_off_is_known_to_the_one_that_starts_after_it(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with whole.agent():
        session = await running(whole, "fenced", fence_after_seconds=30)
        await asyncio.sleep(0.15)  # it is heard, and remembers that
    wall = time.time
    monkeypatch.setattr(time, "time", lambda: wall() + 60)
    monkeypatch.setattr(daemon, "GRACE_SECONDS", 1.5)
    log = CutLog(whole)
    log.cut = True
    async with whole.agent(log=log, stop_seconds=60), asyncio.timeout(5):
        while not (whole.folder / "runtime" / "acts.jsonl").exists():
            await asyncio.sleep(0.01)
    monkeypatch.setattr(time, "time", wall)
    async with whole.agent():  # it was killed again before the kernel had ended
        assert (await whole.until(session, "KernelEnded")).event.model_dump()["reason"] == "fenced"


async def test_a_kernel_that_ended_by_itself_was_not_fenced(whole: Whole) -> None:
    async with whole.agent():
        session = await running(whole, "short", image="fake/exit:0-0.3", fence_after_seconds=30)
    journal = Journal(whole.folder / "journal.sqlite")
    with journal.changes():  # by an agent that was killed while it did so
        journal.fence(KernelId(session), 1, 10)
    journal.close()
    await asyncio.sleep(0.4)
    async with whole.agent():
        assert (await whole.until(session, "SessionEnded")).event.model_dump()["reason"] == "self-terminated"


# -- no room for the journal -------------------------------------------------------------------------------------------


def test_a_full_disk_is_said_and_nothing_of_the_change_is_written(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.sqlite")
    [pages] = journal._db.execute("PRAGMA page_count").fetchone()
    journal._db.execute(f"PRAGMA max_page_count = {pages}")

    def write_much() -> None:
        with journal.changes():
            journal.set_fact("small", 1)
            journal.report("session", "1", "x" * 400_000)

    with pytest.raises(JournalUnavailable, match="full"):
        write_much()
    assert journal.fact("small") is None
    journal._db.execute("PRAGMA max_page_count = 1000000")
    write_much()
    assert (journal.fact("small"), len(journal.reports(10))) == (1, 1)


@contextmanager
def full(_: Journal) -> Iterator[None]:
    """In place of `Journal.changes`."""
    raise JournalUnavailable("database or disk is full")
    yield


@pytest.mark.usefixtures("clock")
async def test_while_the_agents_disk_is_full_its_kernels_run_on_and_everything_is_told_later(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = Journal.changes
    async with whole.agent() as runtime:
        short = await running(whole, "short", image="fake/exit:7-0.2")
        long = await running(whole, "long")
        monkeypatch.setattr(Journal, "changes", full)
        new = await whole.request("new")
        await asyncio.sleep(0.4)  # the short one ends meanwhile
        assert [kernel.kernel_id for kernel in await runtime.list()] == [long]
        monkeypatch.setattr(Journal, "changes", changes)
        back = now()
        kernel = await whole.until(short, "KernelEnded")
        assert (kernel.event.model_dump()["exit_code"], kernel.event.at < back) == (7, True)
        await whole.until(new, "SessionAdvanced", SessionStatus.RUNNING)
        assert await ended(whole, long) == "user-requested"
    assert sorted(starts(whole)) == sorted((session, 1) for session in (short, long, new))


@pytest.mark.usefixtures("clock")
async def test_a_report_that_was_sent_and_could_not_be_noted_as_sent_counts_once(
    whole: Whole, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, changes = CutLog(whole), Journal.changes
    async with whole.agent(log=log):
        short = await running(whole, "short", image="fake/exit:7-0.2")
        log.cut = True
        await asyncio.sleep(0.3)
        monkeypatch.setattr(Journal, "changes", full)
        log.cut = False
        await whole.until(short, "SessionEnded")
        await asyncio.sleep(0.05)
        monkeypatch.setattr(Journal, "changes", changes)
        assert await ended(whole, await running(whole, "after")) == "user-requested"
    assert [type(each.event).__name__ for each in await whole.told(subject=short)].count("KernelEnded") == 1
