"""What the Docker runtime promises beyond the contract, on a real daemon; and what it does when that is
away."""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import aiodocker
import pytest

from agents.docker.container import container_config
from agents.docker.runtime import DockerRuntime
from agents.runtime import ImageUnavailable, RuntimeUnavailable, StartFailed, utc_now
from domain.placements import RuntimeClass
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld

pytestmark = pytest.mark.docker


@pytest.fixture
async def world(host_folder: Path, stock: Path) -> AsyncIterator[DockerWorld]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder, stock)
    yield made
    await made.clear()


@pytest.fixture
async def runtime(world: DockerWorld) -> AsyncIterator[DockerRuntime]:
    opened = world.open()
    yield opened
    await opened.close()


async def test_a_kernel_that_takes_too_much_memory_is_told_as_oom(world: DockerWorld, runtime: DockerRuntime) -> None:
    hog = replace(world.task(), command=["python3", "-c", "bytearray(512 << 20)"], mem_bytes=32 << 20)
    await runtime.start(hog)
    ended = await runtime.wait(hog.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("oom", 137)


async def test_a_kernel_that_lost_only_a_child_to_the_memory_limit_exited(
    world: DockerWorld, runtime: DockerRuntime
) -> None:
    task = replace(world.task("python3 -c 'bytearray(512 << 20)'; exit 0"), mem_bytes=32 << 20)
    await runtime.start(task)
    ended = await runtime.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("exited", 0)


async def test_a_kernel_finds_its_environment_and_its_name(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = world.task("echo $GREETING $USER $HOME; cat /etc/hostname; pwd; touch file && ls")
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    printed = (await runtime.output(task.kernel_id)).decode().splitlines()
    assert printed == ["hello work /home/work", "main1", "/home/work", "file"]


async def test_shared_memory_is_as_big_as_asked_for(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = replace(world.task("df --block-size=1 --output=size /dev/shm | tail -1"), shm_bytes=32 << 20)
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    assert int(await runtime.output(task.kernel_id)) == 32 << 20


async def test_a_kernel_of_a_runtime_class_that_the_daemon_lacks_fails_to_start(
    world: DockerWorld, runtime: DockerRuntime
) -> None:
    able = await runtime.capabilities()
    lacking = next(each for each in RuntimeClass if f"runtime:{each.value}" not in able)
    with pytest.raises(StartFailed, match=lacking.value):
        await runtime.start(replace(world.task(), runtime_class=lacking))


async def test_output_that_is_not_text_does_no_harm(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = world.task(r"printf '\377\000\n'; echo after")
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    unreadable = "\ufffd".encode()  # the daemon's own log is text
    assert await runtime.output(task.kernel_id) == unreadable + b"\0\nafter\n"


async def test_stdout_and_stderr_are_kept_together(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = world.task("echo out; echo err >&2")
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    assert sorted((await runtime.output(task.kernel_id)).splitlines()) == [b"err", b"out"]


async def test_a_container_somebody_else_removed_is_gone_but_its_output_is_kept(
    world: DockerWorld, runtime: DockerRuntime
) -> None:
    task = world.task("echo hello")
    container_id = (await runtime.start(task)).runtime_id
    await runtime.wait(task.kernel_id, 1)
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        await docker.containers.container(container_id).delete()
    assert (await runtime.wait(task.kernel_id, 1)).reason == "gone"
    assert await runtime.output(task.kernel_id) == b"hello\n"


async def test_a_wait_ends_when_somebody_removes_the_container(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = world.task()
    container_id = (await runtime.start(task)).runtime_id
    waiting = asyncio.ensure_future(runtime.wait(task.kernel_id, 1))
    await asyncio.sleep(0.1)
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        await docker.containers.container(container_id).delete(force=True)
    assert (await waiting).reason == "gone"
    assert (await runtime.wait(task.kernel_id, 1)).reason == "gone"


async def test_another_deployments_kernels_are_not_ours(world: DockerWorld, runtime: DockerRuntime) -> None:
    task = world.task()
    await runtime.start(task)
    elsewhere = DockerWorld(world.folder / "other")
    other = elsewhere.open()
    assert await other.list() == []
    with pytest.raises(StartFailed):
        await other.start(task)
    await other.close()
    await elsewhere.clear()


async def test_a_container_that_was_made_but_not_started_is_started(world: DockerWorld, runtime: DockerRuntime) -> None:
    first = world.task("exit 0")
    await runtime.start(first)  # makes the network, too
    task = world.task("sleep 600")
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        config = container_config(task, world.deployment, 4096)
        created = await docker.containers.create(config, name=f"refold-{task.kernel_id}-1")
    assert task.kernel_id not in {each.kernel_id for each in await runtime.list()}
    assert (await runtime.start(task)).runtime_id == created.id
    assert task.kernel_id in {each.kernel_id for each in await runtime.list()}


async def test_an_image_that_is_nowhere_is_unavailable(world: DockerWorld, runtime: DockerRuntime) -> None:
    nowhere = "registry.invalid/no/such:image"
    assert not await runtime.has_image(nowhere)
    with pytest.raises(ImageUnavailable):
        await runtime.start(replace(world.task(), image=nowhere))
    with pytest.raises(ImageUnavailable):
        await runtime.pull(nowhere, lambda *_: None)


async def test_a_canonical_name_finds_the_image_that_is_here(world: DockerWorld, runtime: DockerRuntime) -> None:
    assert await runtime.has_image(f"docker.io/{world.image}")
    await runtime.pull(f"docker.io/{world.image}", lambda *_: None)
    await runtime.start(replace(world.task(), image=f"docker.io/{world.image}"))


class Door:
    """A socket before the daemon's that can be shut, as if the daemon were gone."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._inside = set[asyncio.StreamWriter]()

    async def open(self) -> None:
        self._server = await asyncio.start_unix_server(self._enter, self.path)

    async def shut(self) -> None:
        self._server.close()
        for writer in list(self._inside):
            writer.close()
        os.unlink(self.path)
        await asyncio.sleep(0)

    async def _enter(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, ahead = await asyncio.open_unix_connection(DOCKER_SOCKET)
        self._inside |= {writer, ahead}
        await asyncio.gather(self._pass(reader, ahead), self._pass(behind, writer))
        self._inside -= {writer, ahead}

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        try:
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        except OSError:
            pass
        finally:
            target.close()


async def test_while_the_daemon_is_away_calls_say_so_and_waits_go_on(world: DockerWorld) -> None:
    door = Door(world.folder / "door.sock")
    await door.open()
    runtime = DockerRuntime(door.path, world.folder, deployment=world.deployment)
    task = world.task("until [ -e go ]; do sleep 0.05; done; exit 6")
    finished = world.task("echo kept")
    await runtime.start(finished)
    await runtime.wait(finished.kernel_id, 1)
    await runtime.start(task)
    waiting = asyncio.ensure_future(runtime.wait(task.kernel_id, 1))

    await door.shut()
    with pytest.raises(RuntimeUnavailable):
        await runtime.list()
    with pytest.raises(RuntimeUnavailable):
        await runtime.start(task)
    with pytest.raises(RuntimeUnavailable):
        await runtime.stop(task.kernel_id, 1, timedelta(0))
    with pytest.raises(RuntimeUnavailable):
        await runtime.output(task.kernel_id)
    assert await runtime.output(finished.kernel_id) == b"kept\n"
    (world.folder / "scratch" / task.kernel_id / "home" / "go").touch()
    await asyncio.sleep(2)
    assert not waiting.done()

    opened_at = utc_now()
    await door.open()
    ended = await waiting
    assert (ended.reason, ended.exit_code) == ("exited", 6)
    assert ended.at < opened_at, "when it ended, not when that was learnt"
    await runtime.close()
    await door.shut()
