"""What is in an image that was made of a kernel's container, and what is not."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import aiodocker
import pytest

from agents.docker.commits import committed_config, config_alone
from agents.docker.runtime import DockerRuntime
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld

BASE: Final[Mapping[str, Any]] = {
    "Env": ["PATH=/opt/bin:/bin", "JAVA_HOME=/opt/java"],
    "Labels": {"ai.backend.role": "COMPUTE"},
    "Entrypoint": ["/entry"],
    "Cmd": ["serve"],
    "User": "1001",
    "WorkingDir": "/srv",
}
CONTAINER: Final[Mapping[str, Any]] = {
    "Env": ["PATH=/mine", "JAVA_HOME=/mine", "TOKEN=secret", "TERM=vt100", "LANG=de_DE"],
    "Labels": {"ai.backend.role": "COMPUTE", "ai.refold.kernel": "k1", "ai.refold.session": "s1"},
    "Entrypoint": ["/opt/refold/python", "runner"],
    "Cmd": None,
    "User": "1000:1000",
}


def test_an_image_of_a_kernel_is_configured_as_the_one_it_was_started_from() -> None:
    made = committed_config(BASE, CONTAINER, {"owner": "user:u1"})
    for field in ("Entrypoint", "Cmd", "User", "WorkingDir"):
        assert made[field] == BASE[field]
    assert {name: text for name, text in made["Labels"].items() if text} == {
        "ai.backend.role": "COMPUTE",
        "owner": "user:u1",
    }

    assert config_alone(BASE, {"owner": "user:u1"}) == {
        **BASE,
        "Labels": {"ai.backend.role": "COMPUTE", "owner": "user:u1"},
    }


def test_of_what_a_kernel_was_given_what_the_daemon_commits_has_the_names_alone() -> None:
    made = committed_config(BASE, CONTAINER, {})
    environ = dict(each.split("=", 1) for each in made["Env"])
    assert environ == {
        "PATH": "/opt/bin:/bin",
        "JAVA_HOME": "/opt/java",
        "TOKEN": "",
        "TERM": "xterm",
        "LANG": "C.UTF-8",
    }
    assert made["Labels"]["ai.refold.kernel"] == ""


def test_where_the_base_says_nothing_what_the_kernel_had_is_not_taken_instead() -> None:
    made = committed_config({}, CONTAINER, {})
    assert (made["Entrypoint"], made["Cmd"], made["User"]) == ([], [], "root")
    assert "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin" in made["Env"]


@pytest.fixture
async def world(host_folder: Path) -> AsyncIterator[DockerWorld]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder)
    yield made
    await made.clear()


@pytest.fixture
async def runtime(world: DockerWorld) -> AsyncIterator[DockerRuntime]:
    opened = world.open()
    yield opened
    await opened.close()


@pytest.mark.docker
async def test_the_next_kernel_finds_the_files_of_the_first_but_nothing_that_one_was_given(
    world: DockerWorld, runtime: DockerRuntime
) -> None:
    script = "echo kept > /tmp/kept; echo private > /home/work/private; echo ready; sleep 600"
    first = replace(world.task(script), environ={"TOKEN": "hunter2"})
    await runtime.start(first)
    async with asyncio.timeout(20):
        while await runtime.output(first.kernel_id) != b"ready\n":
            await asyncio.sleep(0.05)
    name = world.image_name()
    await runtime.commit(first.kernel_id, name, {"ai.backend.customized-image.owner": "user:u1"})
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        image, base = await docker.images.inspect(name), await docker.images.inspect(world.image)
        nameless = await docker.images.list(filters={"dangling": ["true"], "label": ["ai.refold.unfinished"]})
    assert not nameless
    assert "hunter2" not in str(image)
    assert first.kernel_id not in str(image)
    for field in ("Env", "Entrypoint", "Cmd", "User", "WorkingDir"):
        assert image["Config"][field] == base["Config"][field]
    second = replace(world.task('cat /tmp/kept; ls /home/work; echo "[${TOKEN-none}]"'), image=name)
    await runtime.start(second)
    ended = await runtime.wait(second.kernel_id, 1)
    printed = (await runtime.output(second.kernel_id)).decode().splitlines()
    assert (ended.exit_code, printed[0], printed[-1]) == (0, "kept", "[none]")
    assert "private" not in printed


@pytest.mark.docker
async def test_what_an_agent_left_that_died_over_a_commit_is_deleted_by_the_next(
    world: DockerWorld, runtime: DockerRuntime
) -> None:
    task = world.task()
    container_id = (await runtime.start(task)).runtime_id
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        labels = {"Labels": {"ai.refold.unfinished": world.deployment}}
        left = await docker.containers.container(container_id).commit(config=labels)
        await runtime.commit(task.kernel_id, world.image_name(), {})
        with pytest.raises(aiodocker.DockerError):
            await docker.images.inspect(left["Id"])
