"""What can happen to containers, and to the engine that runs them, and what the log says of it."""

import asyncio
import io
import re
import subprocess
import tarfile
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiodocker
import pytest

from agents.docker import injection as docker_injection
from agents.docker.runtime import DockerRuntime
from domain.messages import SessionId
from domain.placements import StopKernel
from domain.session.messages import TerminateSession
from domain.session.status import SessionStatus
from infra.embedded.docker import PrivateDocker
from infra.embedded.folder import CannotStart
from infra.envelope import Cause, record_of
from infra.topics import PLACEMENTS, partition_of
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld
from tests.whole import AGENT, OWNER, Whole, an_id, now

pytestmark = pytest.mark.docker

SMALL = {"cpu": 100, "mem": 64 << 20}


@pytest.fixture
async def world(host_folder: Path) -> AsyncIterator[DockerWorld]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder)
    yield made
    await made.clear()


@asynccontextmanager
async def working(whole: Whole, runtime: DockerRuntime) -> AsyncIterator[None]:
    """Shards and an agent, which is killed when the block ends."""
    try:
        async with whole.shards():
            await whole.admit()
            async with whole.agent_with(runtime):
                yield
    finally:
        await runtime.close()


async def running(whole: Whole, name: str, script: str = "sleep 600", image: str = DockerWorld.image) -> SessionId:
    session = await whole.request(name, image=image, session_type="batch", startup_command=script, slots=SMALL)
    await whole.until(session, "SessionAdvanced", SessionStatus.RUNNING)
    return session


async def kernel_of(whole: Whole, session: SessionId) -> dict[str, object]:
    """How its kernel ended."""
    event = (await whole.until(session, "KernelEnded")).event.model_dump()
    return {name: event[name] for name in ("reason", "exit_code")}


async def test_what_happens_to_a_container_is_told_with_its_reason(world: DockerWorld, tmp_path: Path) -> None:
    """It is removed behind our back; it ignores SIGTERM; its image is nowhere."""
    whole, runtime = Whole(tmp_path), world.open()
    async with working(whole, runtime):
        stubborn = await running(whole, "stubborn", "trap '' TERM; echo stubborn; while :; do sleep 1; done")
        removed = await running(whole, "removed")
        nowhere = await whole.request("nowhere", image="registry.invalid/no/such:image", slots=SMALL)
        async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
            await docker.containers.container(f"refold-{removed}-1").delete(force=True)
        while await runtime.output(stubborn) != b"stubborn\n":
            await asyncio.sleep(0.05)
        await stop(whole, stubborn, grace=0.5)
        assert await kernel_of(whole, removed) == {"reason": "kernel-gone", "exit_code": None}
        assert await kernel_of(whole, stubborn) == {"reason": "killed", "exit_code": 137}
        assert (await kernel_of(whole, nowhere))["reason"] == "image-unavailable"


async def stop(whole: Whole, session: SessionId, grace: float) -> None:
    """As the control plane orders it, but with less patience."""
    order = StopKernel(
        at=now(),
        agent_id=AGENT,
        owner=OWNER,
        session_id=session,
        kernel_id=session,
        incarnation=1,
        grace_seconds=grace,
    )
    order_id = an_id("order")
    place = partition_of(whole.settings, PLACEMENTS, AGENT)
    await whole.log.append([record_of(order, order_id, "test", Cause("test", order_id, order_id), place, AGENT)])


@pytest.fixture
async def engine() -> AsyncIterator[PrivateDocker]:
    """One of the test's own, which may be killed."""
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket, so none is started either")
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        try:
            made = PrivateDocker(Path(folder), apart=True)
        except CannotStart as error:
            pytest.skip(str(error))
        try:
            await made.start()
            (Path(folder) / "tiny.tar").write_bytes(tiny_image())
            await made._docker("import", f"{folder}/tiny.tar", TINY)
            yield made
        finally:
            await made.stop()


TINY = "refold/tiny:1"


def tiny_image() -> bytes:
    """A shell, `sleep`, and the libraries they need, as this host has them."""
    programs = ["/bin/sh", "/bin/sleep"]
    needed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True).stdout
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for path in {*programs, *re.findall(r"(/\S+) \(0x", needed)}:
            tar.add(Path(path).resolve(), path)
    return buffer.getvalue()


async def test_kernels_outlive_a_daemon_that_is_killed_and_what_ended_meanwhile_is_told(
    engine: PrivateDocker, host_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(docker_injection, "python_kit", lambda _: None)  # no runner is needed, and it takes seconds
    whole = Whole(tmp_path)
    async with working(whole, DockerRuntime(engine.socket, host_folder, deployment="test-restart")):
        long = await running(whole, "long", image=TINY)
        short = await running(whole, "short", "sleep 2; exit 6", image=TINY)
        await engine.kill()
        late = await whole.request("late", image=TINY, session_type="batch", startup_command="exit 3", slots=SMALL)
        await asyncio.sleep(5)  # more than enough for it to end
        down = now()
        await engine.start()
        assert await kernel_of(whole, short) == {"reason": "self-terminated", "exit_code": 6}
        assert (await whole.until(short, "KernelEnded")).event.at < down, "when it ended, not when that was learnt"
        assert await kernel_of(whole, late) == {"reason": "self-terminated", "exit_code": 3}
        assert not [each for each in await whole.told(subject=long) if type(each.event).__name__ == "KernelEnded"]
        await whole.give("session", TerminateSession(at=now(), owner=OWNER, session_id=long))
        assert (await kernel_of(whole, long))["reason"] == "user-requested"
