"""The private Docker Engine: survives crashes of itself and of us, and leaves nothing behind when it is
stopped."""

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from infra.embedded.docker import PrivateDocker
from infra.embedded.folder import CannotStart


def test_an_ordinary_user_is_told_why_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    with pytest.raises(CannotStart, match="Debian and as root"):
        PrivateDocker(tmp_path)


@pytest.fixture
async def docker() -> AsyncIterator[PrivateDocker]:
    if not os.environ.get("REFOLD_TEST_DOCKER"):
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket, so none is started either")
    with tempfile.TemporaryDirectory(prefix="refold-") as folder:
        try:
            made = PrivateDocker(Path(folder))
        except CannotStart as error:
            pytest.skip(str(error))
        yield made
        await made.stop()


def processes(docker: PrivateDocker) -> set[str]:
    """The names of what runs with a path of this engine in its arguments."""
    found = set[str]()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            argv = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if any(str(docker.folder) in word for word in argv):
            found.add(Path(argv[0]).name)
    return found


def mounts(docker: PrivateDocker) -> list[str]:
    return [line for line in Path("/proc/mounts").read_text().splitlines() if str(docker.folder) in line]


@pytest.mark.docker
async def test_started_twice_it_is_one_and_stopped_nothing_is_left(docker: PrivateDocker) -> None:
    socket = await docker.start()
    assert await PrivateDocker(docker.folder.parent).start() == socket
    assert processes(docker) == {"dockerd", "containerd"}

    await docker.stop()
    assert processes(docker) == set()
    assert mounts(docker) == []
    assert not await asyncio.to_thread(socket.exists)


@pytest.mark.docker
async def test_after_a_crash_it_is_started_again_or_stopped(docker: PrivateDocker) -> None:
    await docker.start()
    await docker.kill()
    assert processes(docker) == {"containerd"}
    await docker.start()
    await docker.kill()
    await docker.stop()
    assert processes(docker) == set()
