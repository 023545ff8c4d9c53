"""Every kernel that can have a runner has one, on real processes and in real containers: from the host its socket is
reached, through restarts of the agent and of the kernel."""

import asyncio
import json
import os
import stat
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import aiodocker
import httpx
import pytest

from agents.docker.looks import LOOK_LABEL
from agents.docker.runtime import DockerRuntime
from agents.given import injection
from agents.given.belongings import resource_text
from agents.given.injection import Places, answered, install, runner_command
from agents.runtime import Runtime, Task, utc_now
from tests.agents.runners import Client, Outcome, Refused
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, World

AT_ONCE = timedelta(0)
START_SECONDS_MAX = 20.0


in_kernels = pytest.mark.parametrize(
    "world", ["process", pytest.param("docker", marks=pytest.mark.docker)], indirect=True
)


@contextmanager
def connected(runtime: Runtime, task: Task) -> Iterator[Client]:
    path = runtime.runner(task.kernel_id)
    assert path is not None
    client = Client(path)
    try:
        yield client
    finally:
        client.close()


async def listening(runtime: Runtime, task: Task) -> None:
    """Returns once its runner does."""
    async with asyncio.timeout(START_SECONDS_MAX):
        while True:
            try:
                with connected(runtime, task):
                    return
            except (FileNotFoundError, ConnectionRefusedError):
                await asyncio.sleep(0.02)


async def run(runtime: Runtime, task: Task, code: str, **fields: object) -> Outcome:
    """In the runner of the kernel."""
    await listening(runtime, task)

    def talk() -> Outcome:
        with connected(runtime, task) as client:
            return client.run(code, **fields)

    return await asyncio.to_thread(talk)


@in_kernels
async def test_a_kernel_without_a_command_waits_for_code_in_its_home(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    outcome = await run(runtime, task, "import os; open('made', 'w').close(); print(os.getcwd(), os.environ['HOME'])")
    folder, home = outcome.printed().split()
    assert folder == home
    assert (await run(runtime, task, "", mode="batch", options={"exec": "ls"})).printed() == "made\n"
    await runtime.stop(task.kernel_id, 1, timedelta(seconds=20))
    ended = await runtime.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("killed", 143)


@in_kernels
async def test_code_runs_beside_the_command_and_the_commands_end_is_the_kernels(world: World, runtime: Runtime) -> None:
    task = world.task("echo begun; while [ ! -e go ]; do sleep 0.05; done; echo over; exit 3")
    await runtime.start(task)
    assert (await run(runtime, task, "open('go', 'w').close(); 6 * 7")).printed() == "42\n"
    ended = await runtime.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("exited", 3)
    assert await runtime.output(task.kernel_id) == b"begun\nover\n", "what was run beside it is not the kernel's output"


@in_kernels
async def test_a_command_that_is_not_there_ends_the_kernel_as_in_a_shell(world: World, runtime: Runtime) -> None:
    task = replace(world.task(), command=["/no/such/program"])
    await runtime.start(task)
    ended = await runtime.wait(task.kernel_id, 1)
    assert (ended.reason, ended.exit_code) == ("exited", 127)
    assert b"/no/such/program" in await runtime.output(task.kernel_id)


@in_kernels
async def test_a_new_agent_finds_the_runner_and_its_state(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await run(runtime, task, "x = 41")
    await runtime.close()
    later = world.open()
    assert (await run(later, task, "x + 1")).printed() == "42\n"
    await later.stop(task.kernel_id, 1, AT_ONCE)
    await later.close()


@in_kernels
async def test_a_kernel_that_starts_again_has_its_home_and_a_runner_of_its_own(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await run(runtime, task, "open('kept', 'w').write('text')")
    first = runtime.runner(task.kernel_id)
    await runtime.stop(task.kernel_id, 1, AT_ONCE)  # no time to delete its socket
    again = replace(task, incarnation=2)
    await runtime.start(again)
    assert runtime.runner(task.kernel_id) != first
    assert (await run(runtime, again, "open('kept').read()")).printed() == "'text'\n"
    await runtime.remove(task.kernel_id, 1)
    assert (await run(runtime, again, "1")).printed() == "1\n"
    await runtime.stop(task.kernel_id, 2, AT_ONCE)
    await runtime.remove(task.kernel_id, 2)
    assert runtime.runner(task.kernel_id) is None


@in_kernels
async def test_who_never_ran_has_neither_runner_nor_address(runtime: Runtime) -> None:
    assert runtime.runner(str(uuid4())) is None
    assert await runtime.address(str(uuid4())) is None


@in_kernels
async def test_a_port_of_a_kernel_is_reached_at_its_address(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    code = "import socket; s = socket.create_server(('0.0.0.0', 0)); s.getsockname()[1]"
    port = int((await run(runtime, task, code)).printed())
    address = await runtime.address(task.kernel_id)
    _, writer = await asyncio.open_connection(address, port)
    writer.close()
    await runtime.stop(task.kernel_id, 1, AT_ONCE)
    assert await runtime.address(task.kernel_id) is None


@in_kernels
async def test_only_a_kernel_with_ports_of_its_own_has_a_web_terminal(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    await listening(runtime, task)
    with connected(runtime, task) as client:
        start = partial(client.call, "service-start", service="ttyd", ports=[7681], wait_ms=5000)
        if runtime.name == "process":  # their ports are the host's: anybody there could come, and be this user
            with pytest.raises(Refused, match="no service ttyd"):
                await asyncio.to_thread(start)
            return
        await asyncio.to_thread(start)
    address = await runtime.address(task.kernel_id)
    async with httpx.AsyncClient() as browser:
        assert "terminal.js" in (await browser.get(f"http://{address}:7681/")).text
        assert (await browser.get(f"http://{address}:7681/xterm.js")).status_code == 200


@in_kernels
async def test_the_socket_is_for_the_kernels_user_only(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    uid = int((await run(runtime, task, "import os; os.getuid()")).printed())
    path = runtime.runner(task.kernel_id)
    assert path is not None
    for place in (path, path.parent):
        found = place.stat()
        assert (stat.S_IMODE(found.st_mode), found.st_uid) == (0o700, uid)


@in_kernels
@pytest.mark.skipif(os.geteuid() != 0, reason="without root, kernels have the agent's own user")
async def test_a_kernel_cannot_change_the_code_of_its_runner(world: World, runtime: Runtime) -> None:
    task = world.task()
    await runtime.start(task)
    code = "import os\nfolder = open(f'/proc/{os.getppid()}/cmdline').read().split('\\0')[3]\n"
    code += "os.path.isfile(folder + '/program.py'), [os.access(p, os.W_OK) for p in (folder, folder + '/program.py')]"
    assert (await run(runtime, task, code)).printed() == "(True, [False, False])\n"


@in_kernels
async def test_what_runs_keeps_its_code_when_the_agent_is_upgraded(
    world: World, runtime: Runtime, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = world.task()
    await runtime.start(old)
    await listening(runtime, old)
    await runtime.close()
    for path in injection.SOURCE.glob("*.py"):
        (tmp_path / path.name).write_text(path.read_text().replace("PROTOCOL = 1", "PROTOCOL = 2"))
    monkeypatch.setattr(injection, "SOURCE", tmp_path)

    later, new = world.open(), world.task()
    await later.start(new)
    await listening(later, new)
    with connected(later, new) as client:
        assert client.greeting["protocol"] == 2
    with connected(later, old) as client:
        assert client.greeting["protocol"] == 1
    assert (await run(later, old, "1 + 1")).printed() == "2\n", "modules that are loaded later are there still"
    for task in (old, new):
        await later.stop(task.kernel_id, 1, AT_ONCE)
    await later.close()


@in_kernels
async def test_a_kernels_home_is_deleted_with_its_output_and_not_before(world: World, runtime: Runtime) -> None:
    tasks = [world.task(script) for script in ("touch file", "touch file; echo old", "touch file")]
    for task in tasks:
        await runtime.start(task)
        await runtime.wait(task.kernel_id, 1)
        await runtime.remove(task.kernel_id, 1)
    quiet, loud, kept = (task.kernel_id for task in tasks)
    homes = {path.name for path in world.folder.glob("scratch/*")}
    assert homes >= {quiet, loud, kept}
    assert not set(await runtime.tidy(utc_now() - timedelta(hours=1), ())) & {quiet, loud, kept}
    assert set(await runtime.tidy(utc_now() + timedelta(hours=1), {kept})) >= {quiet, loud}
    assert {path.name for path in world.folder.glob("scratch/*")} & {quiet, loud, kept} == {kept}


@in_kernels
async def test_a_home_is_kept_from_the_end_on_also_where_nothing_was_printed(world: World, runtime: Runtime) -> None:
    task = world.task("touch file")
    await runtime.start(task)
    for path in world.folder.glob(f"scratch/{task.kernel_id}/config/*"):
        os.utime(path, (0, 0))  # as if it had started long ago
    await runtime.wait(task.kernel_id, 1)
    await runtime.remove(task.kernel_id, 1)
    assert await runtime.tidy(utc_now() - timedelta(hours=1), ()) == set()


# -- containers ----------------------------------------------------------------------------------------------------


@pytest.fixture
async def containers(host_folder: Path) -> AsyncIterator[tuple[DockerWorld, DockerRuntime]]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    made = DockerWorld(host_folder)
    runtime = made.open()
    yield made, runtime
    await runtime.close()
    await made.clear()


async def image_of(world: DockerWorld, script: str, labels: dict[str, str] | None = None) -> str:
    """The base image after a change made as root."""
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        config: dict[str, Any] = {
            "Image": world.image,
            "User": "0",
            "Entrypoint": ["sh", "-c", script],
            "HostConfig": {"NetworkMode": "none"},
        }
        container = await docker.containers.create(config)
        await container.start()
        await container.wait()
        change = {
            "User": "1000",
            "Entrypoint": [],
            "Cmd": ["sh", "-c", "echo the image itself"],
            "Labels": labels or {},
        }
        await container.commit(repository=f"refold/{world.deployment}", tag="1", config=change)
        await container.delete()
    return f"docker.io/refold/{world.deployment}:1"


@pytest.fixture
def no_kit(monkeypatch: pytest.MonkeyPatch) -> None:
    """The agent's own Python cannot be brought along."""
    monkeypatch.setattr("agents.docker.injection.python_kit", lambda _: None)


@pytest.mark.docker
@pytest.mark.usefixtures("no_kit")
async def test_an_image_without_python_runs_as_it_is_where_none_can_be_brought(
    containers: tuple[DockerWorld, DockerRuntime],
) -> None:
    world, runtime = containers
    image = await image_of(world, "rm /usr/bin/python3*")
    own, told = replace(world.task(), image=image), replace(world.task("touch file; ls -a; exit 4"), image=image)
    for task in (own, told):
        await runtime.start(task)
        assert runtime.runner(task.kernel_id) is None
    assert (await runtime.wait(own.kernel_id, 1)).exit_code == 0
    assert await runtime.output(own.kernel_id) == b"the image itself\n"
    assert (await runtime.wait(told.kernel_id, 1)).exit_code == 4
    assert (world.folder / "scratch" / told.kernel_id / "home" / "file").exists(), "its home is kept all the same"


@pytest.mark.docker
@pytest.mark.usefixtures("no_kit")
async def test_a_python_without_its_library_is_none(containers: tuple[DockerWorld, DockerRuntime]) -> None:
    world, runtime = containers
    task = replace(world.task("exit 5"), image=await image_of(world, "rm -r /usr/lib/python3*/asyncio"))
    await runtime.start(task)
    assert runtime.runner(task.kernel_id) is None
    assert (await runtime.wait(task.kernel_id, 1)).exit_code == 5


@pytest.mark.docker
async def test_images_are_tried_once(containers: tuple[DockerWorld, DockerRuntime]) -> None:
    world, runtime = containers
    task = world.task()
    await runtime.start(task)
    [known] = (world.folder / "looks").iterdir()
    look = json.loads(known.read_text())
    assert (look["python"], look["shell"]) == ("/usr/bin/python3", "/bin/bash")
    known.write_text(json.dumps(look | {"python": None}))  # as if it had none
    later, other = world.open(), world.task()
    await later.start(other)
    await later.close()
    assert runtime.runner(other.kernel_id) is None, "it was not looked at again"


@pytest.mark.docker
async def test_nothing_is_left_of_a_look_not_even_of_one_that_was_cut_short(
    containers: tuple[DockerWorld, DockerRuntime],
) -> None:
    world, runtime = containers
    label = {LOOK_LABEL: world.deployment}
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as docker:
        await docker.containers.create({"Image": world.image, "Labels": label})
        await runtime.start(world.task())
        filters = json.dumps({"label": [f"{LOOK_LABEL}={world.deployment}"]})
        assert await docker.containers.list(all=True, filters=filters) == []


@pytest.mark.docker
async def test_what_labels_say_of_an_image_its_runner_heeds(containers: tuple[DockerWorld, DockerRuntime]) -> None:
    world, runtime = containers
    labels = {"ai.backend.runtime-type": "c", "ai.backend.features": "batch uid-match"}
    task = replace(world.task(), image=await image_of(world, "true", labels))
    await runtime.start(task)
    await listening(runtime, task)
    with connected(runtime, task) as client:
        assert client.greeting["modes"] == ["batch"]


@pytest.mark.docker
async def test_a_container_reads_what_it_was_given_and_cannot_change_it(
    containers: tuple[DockerWorld, DockerRuntime],
) -> None:
    world, runtime = containers
    given = "/home/config/resource.txt"
    task = world.task(f"exec 2>&1; cat {given}; echo > {given}; id -u; stat -c '%u %a' ~ /run/refold")
    await runtime.start(task)
    await runtime.wait(task.kernel_id, 1)
    printed = (await runtime.output(task.kernel_id)).decode()
    assert resource_text(task) in printed
    assert "Read-only file system" in printed
    uid, home, socket = printed.splitlines()[-3:]
    assert (home, socket) == (f"{uid} 755", f"{uid} 700")


@pytest.mark.docker
async def test_where_the_daemon_does_not_see_the_agents_files_kernels_run_without(
    containers: tuple[DockerWorld, DockerRuntime], monkeypatch: pytest.MonkeyPatch
) -> None:
    world, runtime = containers
    monkeypatch.setattr("agents.docker.injection.install", lambda _: Path("/elsewhere/runner-1"))
    for _ in range(2):
        task = world.task("exit 6")
        await runtime.start(task)
        assert runtime.runner(task.kernel_id) is None
        assert (await runtime.wait(task.kernel_id, 1)).exit_code == 6


# -- words -----------------------------------------------------------------------------------------------------------


def test_amounts_and_shares_are_written_as_people_write_them() -> None:
    given = {"cuda.shares": {"GPU-1": 500, "GPU-2": 1000}}
    task = Task("k", 1, "s", "i", None, {}, "main1", cpu_millis=1500, mem_bytes=1 << 30, devices=given)
    assert resource_text(task) == (
        'SLOTS={"cpu": "1.5", "mem": "1073741824", "cuda.shares": "1.5"}\nCUDA.SHARES_SHARES=GPU-1:0.5,GPU-2:1\n'
    )


@pytest.mark.parametrize(
    ("labels", "modes"),
    [
        ({}, "query,batch"),
        ({"ai.backend.features": "batch query uid-match"}, "query,batch"),
        ({"ai.backend.features": "uid-match"}, ""),
        ({"ai.backend.runtime-type": "app"}, ""),
    ],
)
def test_an_image_says_in_which_modes_it_runs_code(labels: dict[str, str], modes: str) -> None:
    words = runner_command("/python3", Places("/code", "/socket", "/home", "/config"), labels, None)
    assert words[words.index("--modes") + 1] == modes


def test_an_image_says_what_runs_its_code() -> None:
    labels = {"refold.query.jupyter-kernel": "ir", "refold.query.command": "julia '/opt/a b.jl' --quiet"}
    words = runner_command("/python3", Places("/code", "/socket", "/home", "/config"), labels, None)
    assert {"--jupyter-kernel=ir", "--query-command=julia '/opt/a b.jl' --quiet"} <= set(words)


@pytest.mark.parametrize("printed", ["", "\n", "python3", "/a\n/b", "warning\n/usr/bin/python3", "/a\x1b[0m"])
def test_a_look_that_prints_no_path_found_nothing(printed: str) -> None:
    assert answered(printed) is None


def test_the_code_is_copied_once(tmp_path: Path) -> None:
    first = install(tmp_path)
    made = first.stat().st_mtime_ns
    assert install(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]
    assert first.stat().st_mtime_ns == made
    assert {stat.S_IMODE(path.stat().st_mode) for path in first.glob("*.py")} == {0o444}
