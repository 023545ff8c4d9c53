"""What every runtime promises (agents/runtime.py), tried on each of them."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import timedelta
from uuid import uuid4

import pytest

from agents.runtime import (
    AlreadyEnded,
    CommitFailed,
    ImageInUse,
    ImageUnavailable,
    Runtime,
    RuntimeFailure,
    StartFailed,
    Task,
    no_progress,
    utc_now,
)
from domain.placements import RuntimeClass
from domain.session.status import ClusterMode
from tests.agents.worlds import LOG_BYTES_MAX, World, cluster

GRACE = timedelta(seconds=20)
"""Long enough that a test that needed it would be seen to hang."""
NOW = timedelta(seconds=1.0)
"""How far the end a runtime tells may be from when it was seen."""


def key(task: Task) -> tuple[str, int]:
    return task.kernel_id, task.incarnation


async def listed(runtime: Runtime) -> set[tuple[str, int]]:
    return {(running.kernel_id, running.incarnation) for running in await runtime.list()}


async def printed(runtime: Runtime, task: Task, wanted: bytes) -> None:
    """Returns once that, and nothing else, is the kernel's output: runtimes do not tell when something is
    printed."""
    async with asyncio.timeout(10):
        while await runtime.output(task.kernel_id) != wanted:
            await asyncio.sleep(0.02)


async def test_what_was_started_is_listed_until_it_is_stopped(world: World, runtime: Runtime) -> None:
    task = world.task()
    before = utc_now()
    running = await runtime.start(task)
    assert [each for each in await runtime.list() if each.kernel_id == task.kernel_id] == [running]
    assert (running.incarnation, running.session_id) == (1, task.session_id)
    assert before - NOW <= running.started_at <= utc_now() + NOW

    await runtime.stop(*key(task), GRACE)
    assert key(task) not in await listed(runtime)


async def test_nothing_ends_before_it_started(world: World, runtime: Runtime) -> None:
    task = world.task("exit 0")
    running = await runtime.start(task)
    ended = await runtime.wait(*key(task))
    assert running.started_at <= ended.at


async def test_tidying_up_deletes_old_output_but_not_that_of_kernels_to_keep(world: World, runtime: Runtime) -> None:
    if runtime.name == "fake":
        pytest.skip("remembers everything")
    old, kept = world.task("echo old"), world.task("echo kept")
    for task in (old, kept):
        await runtime.start(task)
        await runtime.wait(*key(task))
        await runtime.remove(*key(task))
    assert not await runtime.tidy(utc_now() - timedelta(hours=1), {kept.kernel_id})
    assert set(await runtime.tidy(utc_now() + timedelta(hours=1), {kept.kernel_id})) == {old.kernel_id}
    assert await runtime.output(old.kernel_id) == b""
    assert await runtime.output(kept.kernel_id) == b"kept\n"


async def test_starting_what_runs_changes_nothing(world: World, runtime: Runtime) -> None:
    task = world.task("echo started; sleep 600")
    first = await runtime.start(task)
    assert await runtime.start(task) == first
    assert await runtime.start(replace(task, command=["sh", "-c", "exit 1"])) == first
    await printed(runtime, task, b"started\n")
    await runtime.stop(*key(task), timedelta(0))
    assert await runtime.output(task.kernel_id) == b"started\n"


async def test_two_starts_at_once_are_one(world: World, runtime: Runtime) -> None:
    task = world.task("echo started; sleep 600")
    assert len(set(await asyncio.gather(*(runtime.start(task) for _ in range(4))))) == 1
    await printed(runtime, task, b"started\n")
    await runtime.stop(*key(task), timedelta(0))
    assert await runtime.output(task.kernel_id) == b"started\n"


async def test_stopping_is_sigterm_and_counts_as_killed(world: World, runtime: Runtime) -> None:
    task = world.task("sleep 600")
    await runtime.start(task)
    waiting = asyncio.ensure_future(runtime.wait(*key(task)))
    await asyncio.sleep(0)
    await runtime.stop(*key(task), GRACE)
    ended = await waiting
    assert (ended.reason, ended.exit_code) == ("killed", 143)
    assert abs(ended.at - utc_now()) < NOW


async def test_a_kernel_deaf_to_sigterm_is_killed_after_the_grace(world: World, runtime: Runtime) -> None:
    task = world.task("trap '' TERM; echo deaf; sleep 600; sleep 600")
    await runtime.start(task)
    await printed(runtime, task, b"deaf\n")
    asked = utc_now()
    await runtime.stop(*key(task), timedelta(seconds=1))
    ended = await runtime.wait(*key(task))
    assert (ended.reason, ended.exit_code) == ("killed", 137)
    assert ended.at - asked > timedelta(seconds=0.9)
    assert key(task) not in await listed(runtime)


async def test_stopping_twice_is_stopping_once(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await asyncio.gather(runtime.stop(*key(task), GRACE), runtime.stop(*key(task), GRACE))
    ended = await runtime.wait(*key(task))
    await runtime.stop(*key(task), GRACE)
    assert await runtime.wait(*key(task)) == ended


async def test_stopping_what_is_not_there_is_done_already(runtime: Runtime) -> None:
    await runtime.stop(str(uuid4()), 1, GRACE)


@pytest.mark.parametrize("code", [0, 3])
async def test_a_kernel_that_ends_by_itself_tells_its_exit_code(world: World, runtime: Runtime, code: int) -> None:
    task = world.task(f"sleep 0.3; exit {code}")
    await runtime.start(task)
    ended = await runtime.wait(*key(task))
    assert (ended.reason, ended.exit_code) == ("exited", code)
    assert abs(ended.at - utc_now()) < NOW
    assert await runtime.wait(*key(task)) == ended, "asked again, the answer is the same"
    assert key(task) not in await listed(runtime)


async def test_what_ended_is_never_run_a_second_time(world: World, runtime: Runtime) -> None:
    task = world.task("echo ran; exit 3")
    await runtime.start(task)
    ended = await runtime.wait(*key(task))
    for agent in (runtime, world.open()):
        with pytest.raises(AlreadyEnded) as refused:
            await agent.start(task)
        assert refused.value.ended == ended
        assert await agent.output(task.kernel_id) == b"ran\n"
        await agent.close()


async def test_the_next_incarnation_runs_and_its_output_comes_after(world: World, runtime: Runtime) -> None:
    task = world.task("echo first")
    await runtime.start(task)
    await runtime.wait(*key(task))
    again = replace(task, incarnation=2, command=["sh", "-c", "echo second"])
    await runtime.start(again)
    await runtime.wait(*key(again))
    await runtime.remove(*key(again))
    assert await runtime.output(task.kernel_id) == b"first\nsecond\n"
    await runtime.remove(*key(task))
    assert await runtime.output(task.kernel_id) == b"first\nsecond\n"


async def test_a_new_agent_adopts_what_runs(world: World, runtime: Runtime) -> None:
    task = world.task("sleep 600")
    runtime_id = await runtime.start(task)
    await runtime.close()

    later = world.open()
    assert key(task) in await listed(later)
    assert await later.start(task) == runtime_id
    waiting = asyncio.ensure_future(later.wait(*key(task)))
    await later.stop(*key(task), GRACE)
    assert (await waiting).reason == "killed"
    await later.close()


async def test_the_end_is_the_true_one_though_no_agent_was_there(world: World, runtime: Runtime) -> None:
    task = world.task("sleep 0.5; exit 7")
    ordered = utc_now()
    await runtime.start(task)
    await runtime.close()
    await asyncio.sleep(3)  # the host's own time passes, and a busy one takes its time: there is nobody to ask
    asked = utc_now()

    later = world.open()
    ended = await later.wait(*key(task))
    assert (ended.reason, ended.exit_code) == ("exited", 7)
    assert ordered + timedelta(seconds=0.5) < ended.at < asked
    await later.close()


async def test_that_it_was_stopped_is_known_to_a_new_agent(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await runtime.stop(*key(task), GRACE)
    ended = await runtime.wait(*key(task))
    await runtime.close()
    later = world.open()
    assert await later.wait(*key(task)) == ended
    assert ended.reason == "killed"
    await later.close()


async def test_output_outlives_removal(world: World, runtime: Runtime) -> None:
    task = world.task("echo hello; exit 0")
    await runtime.start(task)
    await runtime.wait(*key(task))
    for _ in range(2):
        await runtime.remove(*key(task))
        assert await runtime.output(task.kernel_id) == b"hello\n"
    later = world.open()
    assert await later.output(task.kernel_id) == b"hello\n"
    await later.close()


async def test_output_is_bounded_and_the_latest_is_kept(world: World, runtime: Runtime) -> None:
    task = world.task("seq 20000")
    await runtime.start(task)
    await runtime.wait(*key(task))
    for _ in range(2):
        kept = await runtime.output(task.kernel_id)
        assert LOG_BYTES_MAX // 16 <= len(kept) <= LOG_BYTES_MAX
        assert kept.endswith(b"\n19999\n20000\n")
        await runtime.remove(*key(task))


async def test_output_can_be_read_while_it_runs(world: World, runtime: Runtime) -> None:
    task = world.task("echo working; sleep 600")
    await runtime.start(task)
    await printed(runtime, task, b"working\n")


async def test_a_kernel_that_never_was_has_no_output(runtime: Runtime) -> None:
    assert await runtime.output(str(uuid4())) == b""


async def test_nothing_known_of_it_is_gone(world: World, runtime: Runtime) -> None:
    assert (await runtime.wait(str(uuid4()), 1)).reason == "gone"
    task = world.task("exit 0")
    await runtime.start(task)
    await runtime.wait(*key(task))
    await runtime.remove(*key(task))
    assert (await runtime.wait(*key(task))).reason == "gone"


async def test_what_runs_is_not_removed(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await runtime.remove(*key(task))
    assert key(task) in await listed(runtime)


async def test_a_start_that_fails_leaves_nothing_and_may_be_repeated(world: World, runtime: Runtime) -> None:
    task = world.task()
    for _ in range(2):
        with pytest.raises(StartFailed):
            await runtime.start(world.broken(task))
        assert key(task) not in await listed(runtime)
    await runtime.start(task)
    assert key(task) in await listed(runtime)


async def test_an_image_is_pulled_with_progress_or_refused(world: World, runtime: Runtime) -> None:
    if not world.images:
        assert await runtime.has_image(world.image)
        return
    seen = list[tuple[int, int]]()
    await runtime.pull(world.image, lambda done, total: seen.append((done, total)))
    assert await runtime.has_image(world.image)
    assert not await runtime.has_image("fake/pull-fail")
    with pytest.raises(RuntimeFailure):
        await runtime.pull("fake/pull-fail", lambda *_: None)


async def test_an_image_is_listed_under_its_canonical_name_until_it_is_removed(world: World, runtime: Runtime) -> None:
    if not world.images:
        assert await runtime.images() == ()
        return
    name = await world.spare_image()
    [found] = [image for image in await runtime.images() if image.reference == name]
    assert found.architecture in ("amd64", "arm64")
    assert found.labels["ai.backend.role"] == "COMPUTE"
    assert await runtime.has_image(name)
    for _ in range(2):  # what is not here is removed already
        await runtime.remove_image(name)
        assert not await runtime.has_image(name)
        assert name not in {image.reference for image in await runtime.images()}


async def test_a_kernel_is_made_an_image_as_long_as_it_runs_and_runs_on(world: World, runtime: Runtime) -> None:
    task, name = world.task(), world.image_name()
    await runtime.start(task)
    if not world.images:
        with pytest.raises(CommitFailed):
            await runtime.commit(task.kernel_id, name, {})
        with pytest.raises(ImageUnavailable):
            await runtime.push(name, no_progress)
        assert await runtime.image_space() is None
        return
    made = await runtime.commit(task.kernel_id, name, {"made": "here"})
    [here] = [image for image in await runtime.images() if image.reference == name]
    assert (made.reference, made.digest, made.labels["made"]) == (name, here.digest, "here")
    assert not here.has_origin, "nothing could bring it back"
    assert key(task) in await listed(runtime)
    space = await runtime.image_space()
    assert space is not None
    assert 0 < space.images <= space.disk
    again = replace(world.task(), image=name)
    await runtime.start(again)
    await runtime.stop(*key(task), timedelta(0))
    await runtime.stop(*key(again), timedelta(0))
    with pytest.raises(CommitFailed):
        await runtime.commit(task.kernel_id, name, {})


async def test_an_image_that_a_kernel_runs_from_is_not_removed(world: World, runtime: Runtime) -> None:
    if not world.images:
        await runtime.remove_image(world.image)
        return
    name = await world.spare_image()
    task = replace(world.task(), image=name)
    await runtime.start(task)
    with pytest.raises(ImageInUse):
        await runtime.remove_image(name)
    assert await runtime.has_image(name)
    await runtime.stop(*key(task), timedelta(0))
    await runtime.remove(*key(task))
    await runtime.remove_image(name)
    assert not await runtime.has_image(name)


async def test_what_a_runtime_can_do_is_said_in_words_that_sessions_ask_for(runtime: Runtime) -> None:
    kinds = {f"cluster:{mode.value}" for mode in ClusterMode} | {f"runtime:{each.value}" for each in RuntimeClass}
    assert "cluster:single-node" in await runtime.capabilities()
    assert set(await runtime.capabilities()) <= kinds


async def test_kernels_of_one_session_start_and_end_each_by_itself(world: World, runtime: Runtime) -> None:
    main, sub = cluster(world.task("sleep 600"), "main1", "sub1")
    await asyncio.gather(runtime.start(main), runtime.start(sub))
    assert {key(main), key(sub)} <= await listed(runtime)
    await runtime.stop(*key(sub), timedelta(0))
    await runtime.remove(*key(sub))
    assert key(main) in await listed(runtime)
    again = replace(sub, incarnation=2)
    await runtime.start(again)
    assert {key(main), key(again)} <= await listed(runtime)


async def test_capacity_is_whole_numbers_of_cpu_and_bytes(runtime: Runtime) -> None:
    capacity = await runtime.capacity()
    assert int(capacity["cpu"]) >= 1
    assert int(capacity["mem"]) > 64 << 20


async def test_waiting_can_be_given_up(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    waiting = asyncio.ensure_future(runtime.wait(*key(task)))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    assert key(task) in await listed(runtime)
