"""The fake runtime beyond the contract: what it can be told to do, and the record by which anyone can check
an agent."""

import asyncio
import json
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agents.fake.runtime import FakeRuntime, Plan, plan
from agents.runtime import AlreadyEnded, ImageUnavailable, StartFailed
from tests.agents.worlds import FakeWorld


def starts(folder: Path) -> Counter[tuple[str, int]]:
    lines = (folder / "starts.jsonl").read_text().splitlines()
    return Counter((line["kernel_id"], line["incarnation"]) for line in map(json.loads, lines))


@pytest.mark.parametrize(
    ("image", "command", "expected"),
    [
        ("fake/exit:3", None, Plan(seconds=0, exit_code=3)),
        ("docker.io/fake/exit:0-1.5", None, Plan(seconds=1.5, exit_code=0)),
        ("fake/oom:2", None, Plan(seconds=2, exit_code=137, reason="oom")),
        ("fake/gone:2", None, Plan(seconds=2, exit_code=None, reason="gone")),
        ("python:3", None, Plan()),
        ("notfake/exit:3", None, Plan()),
        ("python:3", ["exit", "3"], Plan(seconds=0, exit_code=3)),
        ("python:3", ["sleep", "0.5"], Plan(seconds=0.5)),
        ("python:3", ["sh", "-c", "sleep 1; sleep 2 && exit 4; sleep 9"], Plan(seconds=3, exit_code=4)),
        ("python:3", ["sh", "-c", "echo a b; sleep 1; false"], Plan(1, 1, prints=[(0, "a b\n")])),
        ("python:3", ["sleep", "infinity"], Plan()),
        ("python:3", ["python", "train.py"], Plan(seconds=0)),
    ],
)
def test_image_and_command_say_what_a_kernel_does(image: str, command: list[str] | None, expected: Plan) -> None:
    assert replace(plan(image, command), prints=list(plan(image, command).prints)) == replace(
        expected, prints=list(expected.prints)
    )


async def test_a_kernel_that_ran_stands_in_the_record_once(tmp_path: Path) -> None:
    world = FakeWorld(tmp_path)
    running, ended = world.task(), world.task("exit 0")
    for _ in range(3):  # three agents, each asked twice
        runtime = world.open()
        for _ in range(2):
            await runtime.start(running)
            with suppress(AlreadyEnded):
                await runtime.start(ended)
    again = replace(running, incarnation=2)
    await runtime.start(again)
    assert starts(tmp_path) == {(running.kernel_id, 1): 1, (running.kernel_id, 2): 1, (ended.kernel_id, 1): 1}


async def test_a_line_torn_by_a_crash_did_not_happen(tmp_path: Path) -> None:
    world = FakeWorld(tmp_path)
    task = world.task()
    await world.open().start(task)
    with (tmp_path / "starts.jsonl").open("a") as file:
        file.write('{"kernel_id": "half')
    runtime = world.open()
    assert [running.kernel_id for running in await runtime.list()] == [task.kernel_id]
    await runtime.start(world.task())
    assert starts(tmp_path).total() == 2


async def test_a_stop_that_has_begun_is_carried_through(tmp_path: Path) -> None:
    task = FakeWorld(tmp_path).task()
    slow = FakeRuntime(tmp_path, stop_seconds=0.2)
    await slow.start(task)
    stopping = asyncio.ensure_future(slow.stop(task.kernel_id, 1, timedelta(seconds=5)))
    await asyncio.sleep(0)
    stopping.cancel()
    ended = await FakeRuntime(tmp_path).wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("killed", 143)


async def test_two_starts_during_a_slow_start_are_one(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path, start_seconds=0.05)
    task = FakeWorld(tmp_path).task()
    await asyncio.gather(runtime.start(task), runtime.start(task))
    assert starts(tmp_path) == {(task.kernel_id, 1): 1}


async def test_each_nth_start_fails_as_told(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path, fail_start_every=3)
    world = FakeWorld(tmp_path)
    outcomes = list[bool]()
    for _ in range(6):
        try:
            await runtime.start(world.task())
            outcomes.append(True)
        except StartFailed:
            outcomes.append(False)
    assert outcomes == [True, True, False, True, True, False]
    assert starts(tmp_path).total() == 4


async def test_each_nth_pull_fails_as_told(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path, fail_pull_every=2)
    await runtime.pull("a", lambda *_: None)
    with pytest.raises(ImageUnavailable):
        await runtime.pull("b", lambda *_: None)
    assert (await runtime.has_image("a"), await runtime.has_image("b")) == (True, False)


async def test_each_nth_kernel_is_lost_as_told(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path, lose_every=2, lose_after=0.05)
    world = FakeWorld(tmp_path)
    kept, lost = world.task(), world.task()
    await runtime.start(kept)
    await runtime.start(lost)
    assert (await runtime.wait(lost.kernel_id, 1)).reason == "gone"
    assert [running.kernel_id for running in await runtime.list()] == [kept.kernel_id]


async def test_a_lifetime_ends_what_would_run_until_stopped(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path, lifetime=0.05)
    task = FakeWorld(tmp_path).task()
    await runtime.start(task)
    assert (await runtime.wait(task.kernel_id, 1)).exit_code == 0


async def test_starts_are_cheap(tmp_path: Path) -> None:
    runtime = FakeRuntime(tmp_path)
    tasks = [FakeWorld(tmp_path).task() for _ in range(1000)]
    begun = time.perf_counter()
    for task in tasks:
        await runtime.start(task)
    assert time.perf_counter() - begun < 2, "500 starts per second at the least"
