"""Homes of limited size: a file system for each, which the host mounts."""

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from agents.__main__ import _runtime as choose_runtime
from agents.devices.host import HostDevices
from agents.devices.plugin import Misconfigured
from agents.given import homes
from agents.given.homes import Homes
from domain.messages import AgentId
from infra.settings import Settings
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld

LIMIT = 32 << 20
FILL = "exec 2>&1; head -c 64M /dev/zero > big; echo status $?; stat -c %s big"


def mounted(home: Path) -> bool:
    return os.path.ismount(home)


@pytest.fixture
def limited(tmp_path: Path) -> Iterator[Homes]:
    made = Homes(tmp_path, LIMIT)
    try:
        made.check()
    except Misconfigured as error:
        pytest.skip(str(error))
    yield made
    made.delete("k1")


@pytest.fixture
async def world(host_folder: Path, stock: Path, limited: Homes) -> AsyncIterator[DockerWorld]:  # noqa: ARG001
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder, stock)
    yield made
    await made.clear()
    for kernel_id in os.listdir(host_folder / "scratch"):
        Homes(host_folder / "scratch").delete(kernel_id)


@pytest.mark.docker
async def test_a_kernel_that_fills_its_home_is_told_that_the_disk_is_full_and_hurts_nobody_else(
    world: DockerWorld,
) -> None:
    runtime = world.open(scratch_bytes_max=LIMIT)
    greedy, other = world.task(FILL), world.task("echo fine > file; cat file")
    for task in (greedy, other):
        await runtime.start(task)
    for task in (greedy, other):
        assert (await runtime.wait(task.kernel_id, 1)).reason == "exited"
    refusal, status, size = (await runtime.output(greedy.kernel_id)).decode().splitlines()
    assert "No space left on device" in refusal
    assert status == "status 1"
    assert LIMIT // 2 < int(size) < LIMIT
    assert await runtime.output(other.kernel_id) == b"fine\n"
    image = world.folder / "scratch" / greedy.kernel_id / "home.img"
    assert image.stat().st_blocks * 512 <= image.stat().st_size == LIMIT
    for task in (greedy, other):
        await runtime.remove(task.kernel_id, 1)
    assert not mounted(image.parent / "home"), "a kernel that ended holds nothing"
    await runtime.close()


def test_a_home_is_its_owners_and_empty_at_first(limited: Homes) -> None:
    home = limited.make("k1", 1, (1000, 1000))
    assert (home.stat().st_uid, home.stat().st_gid, home.stat().st_mode & 0o777) == (1000, 1000, 0o755)
    assert os.listdir(home) == []


def test_a_home_that_two_starts_make_is_mounted_once_and_until_the_last_has_ended(limited: Homes) -> None:
    home = limited.make("k1", 1, None)
    limited.make("k1", 2, None)
    (home / "file").write_text("kept")
    limited.release("k1", 1)
    assert mounted(home)
    limited.release("k1", 2)
    assert not mounted(home)
    assert (limited.make("k1", 3, None) / "file").read_text() == "kept"


def test_a_home_keeps_the_limit_it_began_with(limited: Homes, tmp_path: Path) -> None:
    Homes(tmp_path).make("k1", 1, None).joinpath("file").touch()
    assert limited.make("k1", 2, None).joinpath("file").exists()
    assert not mounted(tmp_path / "k1" / "home")


def test_a_home_of_a_kernel_that_is_forgotten_leaves_nothing(limited: Homes, tmp_path: Path) -> None:
    limited.make("k1", 1, None)
    limited.delete("k1")
    assert os.listdir(tmp_path) == []
    assert str(tmp_path) not in subprocess.run(["losetup", "-l"], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize(("user", "path", "why"), [(1000, homes.PATH, "only root"), (0, "/nowhere", r"mkfs\.ext4")])
def test_an_agent_that_cannot_limit_homes_does_not_start_with_a_limit(
    user: int, path: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: user)
    monkeypatch.setattr(homes, "PATH", path)
    Homes(tmp_path / "scratch").check()
    with pytest.raises(Misconfigured, match=f"REFOLD_AGENT_SCRATCH_BYTES_MAX: .*{why}"):
        Homes(tmp_path / "scratch", LIMIT).check()


def test_nor_does_one_whose_kernels_are_processes(tmp_path: Path) -> None:
    config = Settings(agent_runtime="process", agent_scratch_bytes_max=LIMIT)
    with pytest.raises(Misconfigured, match="only the docker runtime"):
        choose_runtime(config, AgentId("a1"), tmp_path, HostDevices())
