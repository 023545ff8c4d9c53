"""The private Docker Engine: survives crashes of itself and of us, leaves nothing behind when it is stopped, and does
nothing to other engines."""

import asyncio
import json
import os
import shutil
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
            made = PrivateDocker(Path(folder), apart=True)  # beside the one of the other tests
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
    """Also those of its sockets' folder."""
    lines = Path("/proc/mounts").read_text().splitlines()
    return [line for line in lines if str(docker.folder) in line or str(docker._run) in line]


def networks(docker: PrivateDocker) -> set[int]:
    """Those that its processes work in, by their inodes."""
    pids = [*docker._processes("dockerd"), *docker._processes("containerd")]
    return {network(str(pid)) for pid in pids}


def network(process: str = "self") -> int:
    return Path(f"/proc/{process}/ns/net").stat().st_ino


async def test_beside_another_engine_in_the_same_network_none_is_started(tmp_path: Path) -> None:
    program = await asyncio.to_thread(shutil.copy, "/bin/sleep", tmp_path / "dockerd")
    other = await asyncio.create_subprocess_exec(program, "60")
    try:
        with tempfile.TemporaryDirectory(prefix="refold-") as folder:
            try:
                docker = PrivateDocker(Path(folder))
            except CannotStart as error:
                pytest.skip(str(error))
            with pytest.raises(CannotStart, match="a Docker Engine runs on this host already"):
                await docker.start()
            assert processes(docker) == set()
    finally:
        other.kill()
        await other.wait()


@pytest.mark.docker
async def test_started_twice_it_is_one_and_stopped_nothing_is_left(docker: PrivateDocker) -> None:
    socket = await docker.start()
    assert await PrivateDocker(docker.folder.parent, apart=True).start() == socket
    assert processes(docker) == {"dockerd", "containerd"}

    await docker.stop()
    assert processes(docker) == set()
    assert mounts(docker) == []
    assert not await asyncio.to_thread(socket.exists)


@pytest.mark.docker
async def test_after_a_crash_it_is_started_again_or_stopped(docker: PrivateDocker) -> None:
    await docker.start()
    at_first = networks(docker)
    await docker.kill()
    assert processes(docker) == {"containerd"}
    await docker.start()
    assert networks(docker) == at_first
    await docker.kill()
    await docker.stop()
    assert processes(docker) == set()
    assert mounts(docker) == []


@pytest.mark.docker
async def test_apart_it_has_a_network_to_itself_and_room_in_it_for_a_thousand_bridges(docker: PrivateDocker) -> None:
    await docker.start()
    assert len(networks(docker)) == 1
    assert network() not in networks(docker)
    pools = json.loads(await docker._docker("info", "--format", "{{json .DefaultAddressPools}}"))
    assert sum(2 ** (pool["Size"] - int(pool["Base"].partition("/")[2])) for pool in pools) >= 1000
