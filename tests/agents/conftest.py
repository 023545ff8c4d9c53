"""A host for each test: runtimes come and go on it."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest

from agents.runtime import Runtime
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, FakeWorld, ProcessWorld, World

WORLDS: Mapping[str, Callable[[Path], World]] = {"fake": FakeWorld, "process": ProcessWorld}


@pytest.fixture
def host_folder() -> Iterator[Path]:
    """Like tmp_path, but kernels that run as another user can walk through it to their home."""
    folder = Path(tempfile.mkdtemp(prefix="refold-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def stock() -> Iterator[Path]:
    """See `DockerWorld`. Not below pytest's own folder: containers' users must be able to walk there."""
    folder = Path(tempfile.mkdtemp(prefix="refold-"))
    folder.chmod(0o711)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(params=["fake", "process", pytest.param("docker", marks=pytest.mark.docker)])
async def world(request: pytest.FixtureRequest, host_folder: Path, stock: Path) -> AsyncIterator[World]:
    if request.param == "docker" and not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder, stock) if request.param == "docker" else WORLDS[request.param](host_folder)
    yield made
    runtime = made.open()
    for running in await runtime.list():
        await runtime.stop(running.kernel_id, running.incarnation, timedelta(0))
    await runtime.close()
    if isinstance(made, DockerWorld):
        await made.clear()


@pytest.fixture
async def runtime(world: World) -> AsyncIterator[Runtime]:
    """The first agent's runtime."""
    opened = world.open()
    yield opened
    await opened.close()
