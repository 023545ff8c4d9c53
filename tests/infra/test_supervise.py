"""Children are restarted when they crash, stopped in order, and never outlive us."""

import asyncio
import os
import select
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from infra import supervise
from infra.supervise import Child, Crash, Process, Supervisor, last_words, leashed

READY = "print('ready', flush=True)"


def python(name: str, *lines: str, **options: float) -> Child:
    """A child that runs these lines of Python."""
    return Child(name, (sys.executable, "-I", "-S", "-c", "\n".join(lines)), **options)  # type: ignore[arg-type]


class Watched:
    """A supervisor whose reports can be awaited."""

    def __init__(self, logs: Path) -> None:
        self.crashes: asyncio.Queue[Crash] = asyncio.Queue()
        self.supervisor = Supervisor(logs, self.crashes.put_nowait)


@asynccontextmanager
async def watched(logs: Path) -> AsyncIterator[Watched]:
    it = Watched(logs)
    async with it.supervisor:
        yield it


async def said(logs: Path, name: str, text: str) -> None:
    """Returns once the child has written this."""
    while text not in last_words(logs, name, 100):
        await asyncio.sleep(0.01)


async def ended(pid: int) -> None:
    """Returns once no process has this id."""
    try:
        file = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        readable, _, _ = await asyncio.to_thread(select.select, [file], [], [], 10)
        assert readable, f"process {pid} still runs"
    finally:
        os.close(file)


async def test_a_child_that_crashes_is_reported_and_started_again(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        await it.supervisor.start(python("short", "import sys", "print('oh no')", "sys.exit(7)"))
        first, second = await it.crashes.get(), await it.crashes.get()
        assert (first.name, first.exit_code, first.last_words) == ("short", 7, "oh no")
        assert str(first) == "short ended with code 7 (it last said: oh no); starting it again in 0.2 s"
        assert second.back_off_seconds > first.back_off_seconds
        assert it.supervisor.restarts("short") == 1


async def test_a_killed_child_is_reported_by_its_signal(tmp_path: Path) -> None:
    async with watched(tmp_path) as it:
        await it.supervisor.start(python("long", READY, "import signal", "signal.pause()"))
        pid = it.supervisor.pid("long")
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        assert str(await it.crashes.get()) == "long was killed by SIGKILL; starting it again in 0.2 s"


async def test_a_child_that_cannot_be_started_again_is_tried_until_it_can(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervise, "BACK_OFF_SECONDS", (0.01,))
    starts = 0

    async def before() -> None:
        nonlocal starts
        starts += 1
        if starts == 2:
            raise OSError("no space left")

    async with watched(tmp_path) as it:
        await it.supervisor.start(Child("moody", (sys.executable, "-c", "pass"), before=before))
        crashes = [await it.crashes.get() for _ in range(3)]
    assert [(crash.exit_code, crash.last_words) for crash in crashes] == [(0, ""), (None, "no space left"), (0, "")]


async def test_children_stop_in_the_reverse_order_of_their_start(tmp_path: Path) -> None:
    order = tmp_path / "order"

    def child(name: str) -> Child:
        note = f"lambda *_: (open({str(order)!r}, 'a').write('{name} '), sys.exit(0))"
        return python(name, "import signal, sys", f"signal.signal(signal.SIGTERM, {note})", READY, "signal.pause()")

    async with watched(tmp_path) as it:
        for name in ("first", "second", "third"):
            await it.supervisor.start(child(name))
            await said(tmp_path, name, "ready")
    assert order.read_text().split() == ["third", "second", "first"]
    assert it.crashes.empty()


async def test_a_child_that_ignores_the_request_to_stop_is_killed_when_its_grace_is_over(tmp_path: Path) -> None:
    deaf = python(
        "deaf", "import signal", "signal.signal(15, signal.SIG_IGN)", READY, "signal.pause()", stop_seconds=0.1
    )
    process = await Process.start(deaf, tmp_path)
    await said(tmp_path, "deaf", "ready")
    assert await process.stop() == -signal.SIGKILL


async def test_stopping_what_has_ended_is_done_already(tmp_path: Path) -> None:
    process = await Process.start(python("brief", "pass"), tmp_path)
    await process.wait()
    assert await process.stop() == 0
    assert await process.kill() == 0


async def test_cancelling_the_supervised_work_stops_the_children(tmp_path: Path) -> None:
    pids: asyncio.Queue[int] = asyncio.Queue()

    async def work() -> None:
        async with watched(tmp_path) as it:
            await it.supervisor.start(python("child", READY, "import signal", "signal.pause()"))
            pids.put_nowait(it.supervisor.pid("child") or 0)
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    pid = await pids.get()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await ended(pid)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child that its parent died")
async def test_no_child_outlives_a_parent_that_was_killed(tmp_path: Path) -> None:
    grandchild = leashed((sys.executable, "-c", f"{READY}; import signal; signal.pause()"), signal.SIGKILL)
    # The leash names its parent, which here is another process than ours.
    start = f"import os, subprocess; argv = {list(grandchild)!r}; argv[4] = str(os.getpid())"
    parent = python("parent", start, "child = subprocess.Popen(argv)", "print(child.pid, flush=True)", "child.wait()")
    process = await Process.start(parent, tmp_path)
    await said(tmp_path, "parent", "ready")
    pid = int(last_words(tmp_path, "parent", 100).split()[0])
    await process.kill()
    await ended(pid)


async def test_a_grandchild_that_holds_the_output_does_not_hide_the_end_of_the_child(tmp_path: Path) -> None:
    lines = ("import subprocess, sys", f"child = subprocess.Popen([sys.executable, '-c', {READY + '; input()'!r}],")
    process = await Process.start(python("forks", *lines, "    stdin=subprocess.PIPE)", "print(child.pid)"), tmp_path)
    assert await asyncio.wait_for(process.wait(), 10) == 0


async def test_output_is_kept_in_two_files_of_bounded_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervise, "LOG_BYTES_MAX", 1000)
    monkeypatch.setattr(supervise, "READ_BYTES", 100)
    wordy = python("wordy", "for n in range(100): print(f'{n:03}' + '.' * 46, flush=True)", "print('end')")
    await (await Process.start(wordy, tmp_path)).wait()
    assert {name: (tmp_path / name).stat().st_size <= 1000 for name in os.listdir(tmp_path)} == {
        "wordy.log": True,
        "wordy.log.1": True,
    }
    assert last_words(tmp_path, "wordy", 1) == "end"
