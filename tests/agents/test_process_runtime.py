"""What the process runtime promises beyond the contract: keepers, users, and everything a kernel leaves
behind."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from agents.devices.plugin import Grant
from agents.process.cpu_groups import find_cpu_groups
from agents.process.keepers import run_keeper
from agents.process.runtime import ProcessRuntime
from agents.runtime import Ended, Task, utc_now
from tests.agents.worlds import LOG_BYTES_MAX, ProcessWorld

AT_ONCE = timedelta(0)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a kernel a user of its own")


@pytest.fixture
def world(host_folder: Path) -> ProcessWorld:
    return ProcessWorld(host_folder)


@pytest.fixture
async def runtime(world: ProcessWorld) -> AsyncIterator[ProcessRuntime]:
    opened = world.open()
    yield opened
    for running in await opened.list():
        await opened.stop(running.kernel_id, running.incarnation, AT_ONCE)


async def run(runtime: ProcessRuntime, task: Task) -> tuple[Ended, str]:
    """Its end and all it printed."""
    await runtime.start(task)
    ended = await runtime.wait(task.kernel_id, task.incarnation)
    return ended, (await runtime.output(task.kernel_id)).decode()


async def printed(runtime: ProcessRuntime, task: Task) -> str:
    """The first thing it prints."""
    async with asyncio.timeout(10):
        while not (text := await runtime.output(task.kernel_id)).endswith(b"\n"):
            await asyncio.sleep(0.02)
    return text.decode().strip()


AGENT = """
import json, os, signal, sys
from pathlib import Path
import uvloop
from agents.process.runtime import ProcessRuntime
from agents.runtime import Task

async def main(folder, task):
    await ProcessRuntime(Path(folder)).start(Task(**task))
    os.kill(os.getpid(), signal.SIGKILL)

uvloop.run(main(sys.argv[1], json.loads(sys.argv[2])))
"""
"""On the loop that real agents run on: it treats the files of its children in its own way."""


async def test_a_kernel_outlives_an_agent_killed_with_9(world: ProcessWorld) -> None:
    task = world.task("sleep 0.7; echo $GREETING; exit 5")
    agent = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-c",
            AGENT,
            str(world.folder),
            json.dumps({name: value for name, value in vars(task).items() if name not in {"devices", "outfit"}}),
        ),
        start_new_session=True,
    )
    assert await agent.wait() == -signal.SIGKILL
    begun = utc_now()

    later = world.open()
    assert [running.kernel_id for running in await later.list()] == [task.kernel_id]
    ended = await later.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("exited", 5)
    assert begun < ended.at < utc_now()
    assert await later.output(task.kernel_id) == b"hello\n"


async def test_a_start_cut_short_by_a_crash_is_started_once(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = world.task("echo ran")
    record = world.folder / "kernels" / task.kernel_id / "1"
    runtime._write_task(record, task, Grant(), None, None)  # as far as an agent came that was killed right then
    assert await runtime.list() == []
    _, text = await run(world.open(), task)
    assert text == "ran\n"


async def test_a_keeper_that_comes_late_runs_nothing(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = world.task("echo ran")
    await run(runtime, task)
    record = world.folder / "kernels" / task.kernel_id / "1"
    (record / "ended.json").unlink()  # as if the first keeper had been killed before it could write that
    assert await run_keeper(record, {}) == "there"
    assert await runtime.output(task.kernel_id) == b"ran\n"
    assert (await runtime.wait(task.kernel_id, 1)).reason == "gone"


async def test_agents_that_start_the_same_at_once_run_it_once(world: ProcessWorld) -> None:
    task = world.task("echo ran; sleep 600")
    agents = [world.open() for _ in range(5)]
    assert len(set(await asyncio.gather(*(agent.start(task) for agent in agents)))) == 1
    assert await printed(agents[0], task) == "ran"
    await agents[0].stop(task.kernel_id, 1, AT_ONCE)


async def test_a_kernel_whose_keeper_was_killed_is_gone_with_all_it_started(
    world: ProcessWorld, runtime: ProcessRuntime
) -> None:
    task = world.task("setsid sleep 600 & echo $!; sleep 600")
    await runtime.start(task)
    child = int(await printed(runtime, task))
    lock = world.folder / "kernels" / task.kernel_id / "1" / "lock"
    keeper = keeper_of(lock)
    os.kill(keeper, signal.SIGKILL)
    ended = await runtime.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("gone", None)
    assert await world.open().wait(task.kernel_id, 1) == ended, "told the same way ever after"
    await dead(child)
    await runtime.remove(task.kernel_id, 1)
    if groups := find_cpu_groups(world.folder):
        assert not groups.is_there(task.kernel_id, 1)


async def test_stopping_ends_what_left_the_group_too(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = world.task("setsid setsid sh -c 'trap \"\" TERM; echo $$; sleep 600; sleep 600' & sleep 600")
    await runtime.start(task)
    child = int(await printed(runtime, task))
    await runtime.stop(task.kernel_id, 1, timedelta(seconds=20))
    await dead(child)


async def test_what_is_left_when_a_kernel_ends_by_itself_goes_too(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    ended, text = await run(runtime, world.task("setsid sleep 600 & echo $!; exit 4"))
    assert ended.exit_code == 4
    await dead(int(text))


async def test_one_that_prints_without_end_is_bounded_and_can_be_stopped(
    world: ProcessWorld, runtime: ProcessRuntime
) -> None:
    task = world.task("yes")
    await runtime.start(task)
    await printed(runtime, task)
    async with asyncio.timeout(5):
        await runtime.stop(task.kernel_id, 1, timedelta(seconds=20))
    kept = sum(path.stat().st_size for path in (world.folder / "output" / task.kernel_id).iterdir())
    assert 0 < kept <= LOG_BYTES_MAX


async def test_the_environment_is_the_tasks_and_nothing_of_the_agents(
    world: ProcessWorld, runtime: ProcessRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFOLD_MASTER_KEY", "secret")
    task = world.task("pwd; env")
    _, text = await run(runtime, task)
    home, *lines = text.splitlines()
    environ = dict(line.split("=", 1) for line in lines)
    assert environ["HOME"] == home
    assert environ["GREETING"] == "hello"
    assert environ["CUDA_VISIBLE_DEVICES"] == "", "a kernel without a GPU sees none"
    assert environ["USER"] == "work"
    assert "REFOLD_MASTER_KEY" not in environ


async def test_the_environment_is_written_nowhere(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = world.task('echo "${#TOKEN}"; sleep 600')
    task = replace(task, environ={"TOKEN": "a secret value"})
    await runtime.start(task)
    assert await printed(runtime, task) == "14", "the kernel has it"
    files = [file.read_bytes() for file in world.folder.rglob("*") if file.is_file()]
    assert any(b"sleep 600" in file for file in files)
    assert not any(b"a secret value" in file for file in files)


async def test_the_home_is_kept_for_the_next_incarnation(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = world.task("echo kept > file")
    await run(runtime, task)
    await runtime.remove(task.kernel_id, 1)
    _, text = await run(runtime, replace(task, incarnation=2, command=["sh", "-c", "cat file"]))
    assert text == "kept\n"


@as_root
async def test_each_kernel_is_a_user_of_its_own_with_nothing_but_its_home(
    world: ProcessWorld, runtime: ProcessRuntime
) -> None:
    first = world.task("echo private > file; id -u; hostname; grep NoNewPrivs /proc/self/status")
    _, text = await run(runtime, first)
    uid, hostname, no_new_privileges = text.splitlines()
    home = world.folder / "scratch" / first.kernel_id / "home"
    assert int(uid) > 1000
    assert hostname == "main1"
    assert no_new_privileges.split() == ["NoNewPrivs:", "1"]

    record = world.folder / "kernels" / first.kernel_id
    _, text = await run(runtime, world.task(f"id -u; cat {home}/file {record}/1/task.json; ls {record}"))
    assert text.splitlines()[0] != uid
    assert text.count("Permission denied") == 3
    assert "private" not in text


@as_root
async def test_the_number_of_processes_is_limited(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 600 & done; echo all"
    _, text = await run(runtime, replace(world.task(script), pids_max=8))
    assert "fork" in text


async def test_its_share_of_the_processor_is_limited_where_the_host_allows_it(
    world: ProcessWorld, runtime: ProcessRuntime
) -> None:
    groups = find_cpu_groups(world.folder)
    if groups is None:
        pytest.skip("this host lets us make no control groups")
    task = replace(world.task("while :; do :; done & while :; do :; done"), cpu_millis=300)
    await runtime.start(task)
    group = groups.make(task.kernel_id, task.incarnation, task.cpu_millis)
    assert group is not None
    async with asyncio.timeout(20):
        while "nr_throttled 0\n" in (group / "cpu.stat").read_text():
            await asyncio.sleep(0.05)
    await runtime.stop(task.kernel_id, task.incarnation, AT_ONCE)
    assert not group.exists(), "nothing of it is left"


async def test_the_memory_of_a_process_is_limited(world: ProcessWorld, runtime: ProcessRuntime) -> None:
    task = replace(world.task("head -c 200000000 /dev/zero | tail -c 190000000 | wc -c"), mem_bytes=64 << 20)
    _, text = await run(runtime, task)
    assert text.endswith("\n0\n")
    assert "memory" in text


def keeper_of(lock: Path) -> int:
    """As the host's table of locks has it."""
    inode = str(lock.stat().st_ino)
    for line in Path("/proc/locks").read_text().splitlines():
        fields = line.split()
        if fields[5].endswith(":" + inode):
            return int(fields[4])
    raise AssertionError("nobody holds the lock")


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


async def dead(pid: int) -> None:
    """Returns once the process is no more (or a zombie of whoever adopts orphans here)."""
    async with asyncio.timeout(5):
        while alive(pid):
            await asyncio.sleep(0.02)
