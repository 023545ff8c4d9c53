"""The judge of the chaos test can say no: each planted defect is caught, and an honest run is not."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.journal import Journal
from domain.contexts import CONTEXTS
from domain.scheduling.messages import PlacementDecided, SchedulingEvents
from domain.session.status import SessionStatus
from domain.vfolder.messages.common import FolderSpec, ScopeLimits
from domain.vfolder.messages.reports import ReportFolderReady, SetScopeLimits
from domain.vfolder.messages.requests import CreateFolder
from domain.vfolder.mounts import FolderId, folder_path
from infra.log import Record
from tests.chaos.checker import Findings, World, judge, read_world
from tests.whole import Whole, an_id, now
from workers.settle import Memory


async def lives(whole: Whole, contexts: Any = CONTEXTS) -> World:
    """Some sessions live and end, with the shards and the agent replaced in the middle."""
    sessions = []
    for turn in range(3):
        async with whole.shards(contexts, by=str(turn)):
            await whole.admit(max_concurrent_sessions=100 + turn)
            async with whole.agent():
                for number in range(4):
                    name = f"s{turn}-{number}"
                    sessions.append(await whole.request(name, image="fake/exit:0-0.1", slots={"cpu": 4000}))
                await whole.until(sessions[-4], "SessionAdvanced", SessionStatus.RUNNING)
    async with whole.shards(contexts, by="last"), whole.agent():
        for session in sessions:
            await whole.until(session, "SessionEnded")
        await asyncio.sleep(0.1)  # the last release is on its way to the scheduler
    return await read_world(whole.log, whole.settings.topic_prefix, 1, whole.given, [whole.folder / "runtime"])


def broken(findings: Findings) -> set[str]:
    return set(findings.broken)


async def test_an_honest_run_is_found_in_order(tmp_path: Path) -> None:
    findings = judge(await lives(Whole(tmp_path)))
    assert not findings, findings


async def test_a_shard_that_forgets_where_it_was_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    replay = Memory.replay

    def forgetful(self: Memory, told: Any) -> Any:
        alarm = replay(self, told)
        self.cursor = 0
        return alarm

    monkeypatch.setattr(Memory, "replay", forgetful)
    assert "a command has one outcome" in broken(judge(await lives(Whole(tmp_path))))


async def test_an_agent_that_starts_what_it_started_before_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Journal, "started", lambda *_: None)  # the agent never notes that something runs,
    monkeypatch.setattr("agents.fake.runtime._read", lambda _: [])  # and its runtime knows nothing of before
    whole = Whole(tmp_path)
    async with whole.shards():
        await whole.admit()
        session = await whole.request("one")
        for _ in range(2):
            async with whole.agent():
                await whole.until(session, "KernelStarted")
                await asyncio.sleep(0.05)
    world = await read_world(whole.log, whole.settings.topic_prefix, 1, whole.given, [whole.folder / "runtime"])
    assert "a kernel runs once" in broken(judge(world, all_ended=False))


async def test_a_scheduler_that_gives_the_same_twice_is_caught(tmp_path: Path) -> None:
    scheduling = CONTEXTS["scheduling"]

    def evolve(state: Any, event: SchedulingEvents) -> Any:
        after = scheduling.evolve(state, event)
        if not isinstance(event, PlacementDecided):
            return after
        # What was decided is remembered, what it takes from the agent is not.
        group = replace(after.groups["default"], agents=state.groups["default"].agents)
        return replace(after, groups=after.groups.set("default", group))

    generous = {**CONTEXTS, "scheduling": replace(scheduling, evolve=evolve)}
    whole = Whole(tmp_path)
    async with whole.shards(generous):
        await whole.admit()
        async with whole.agent():
            for number in range(3):
                session = await whole.request(f"s{number}", slots={"cpu": 4000})
                await whole.until(session, "SessionScheduled")
    world = await read_world(whole.log, whole.settings.topic_prefix, 1, whole.given, [])
    assert "capacity is never exceeded" in broken(judge(world, all_ended=False))


@pytest.mark.parametrize(
    ("spoil", "promise"),
    [
        (lambda events: [*events[:5], *events[6:]], "the chain is intact"),
        (lambda events: [*events[:5], replace(events[5], value=b"{}"), *events[6:]], "the chain is intact"),
        (lambda events: events[:-2], "a command has an outcome"),
    ],
)
async def test_a_changed_log_is_caught(tmp_path: Path, spoil: Any, promise: str) -> None:
    world = await lives(Whole(tmp_path))
    events: Sequence[Record] = world.events["session"]
    assert promise in broken(judge(replace(world, events={**world.events, "session": spoil(events)})))


async def test_a_session_that_never_ends_is_caught(tmp_path: Path) -> None:
    whole = Whole(tmp_path)
    async with whole.shards(), whole.agent():
        await whole.admit()
        await whole.until(await whole.request("for-ever"), "SessionAdvanced", SessionStatus.RUNNING)
    world = await read_world(whole.log, whole.settings.topic_prefix, 1, whole.given, [])
    assert broken(judge(world)) == {"no session is stuck", "capacity comes back"}


async def test_an_acknowledged_command_that_is_nowhere_is_caught(tmp_path: Path) -> None:
    world = await lives(Whole(tmp_path))
    lost = replace(world, acknowledged=[*world.acknowledged, f"lost at {now()}"])
    assert broken(judge(lost)) == {"what was acknowledged is in the log"}


@pytest.mark.parametrize(
    ("on_disk", "promises"),
    [
        ({"made"}, {"no folder is stuck"}),
        ({"made", "begun"}, {"a folder on the disk is in the log", "no folder is stuck"}),
        (set(), {"a folder of the log is on the disk", "no folder is stuck"}),
    ],
)
async def test_a_disk_that_has_other_folders_than_the_log_is_caught(
    tmp_path: Path, on_disk: set[str], promises: set[str]
) -> None:
    whole, scope, host = Whole(tmp_path), f"user:{an_id('ada')}", "local:volume1"
    limits = ScopeLimits(hosts={host: ("create-vfolder",)})
    async with whole.shards():
        await whole.give("vfolder", SetScopeLimits(at=now(), scope=scope, limits=limits))
        for name in ("made", "begun"):
            about = {"at": now(), "scope": scope, "folder_id": FolderId(an_id(name))}
            await whole.give("vfolder", CreateFolder(name=name, spec=FolderSpec(host=host), **about))
            if name == "made":
                await whole.give("vfolder", ReportFolderReady(**about))
        async with asyncio.timeout(10):
            while len(await whole.told("vfolder", an_id("begun"))) < 1:
                await asyncio.sleep(0.005)
    for name in on_disk:
        folder = tmp_path / "volume" / folder_path(FolderId(an_id(name)))
        folder.mkdir(parents=True)
    world = await read_world(whole.log, whole.settings.topic_prefix, 1, whole.given, [], tmp_path / "volume")
    assert broken(judge(world)) == promises
