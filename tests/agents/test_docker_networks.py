"""Who reaches whom: kernels that are alone, and those of cluster sessions."""

import asyncio
from collections.abc import AsyncIterator, Collection, Mapping
from datetime import timedelta
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any, cast

import aiodocker
import pytest

from agents.devices.plugin import Misconfigured
from agents.docker.networks import choice, made
from agents.docker.networks.choice import ENTRY_POINTS, Networks
from agents.docker.networks.host import HostNetwork
from agents.docker.networks.plugin import Attachment
from agents.docker.runtime import DockerRuntime
from agents.runtime import StartFailed, Task, utc_now
from tests.agents.worlds import DOCKER_SOCKET, DockerWorld, ProcessWorld, cluster

SERVE = """exec python3 -uc '
import socket
server = socket.create_server(("", 8000))
print("serving")
while True:
    asking, _ = server.accept()
    asking.sendall(socket.gethostname().encode())
    asking.close()
'"""
ASK = """
import socket, sys
try:
    print(socket.create_connection((sys.argv[1], 8000), timeout=0.7).recv(99).decode(), end="")
except OSError:
    print("nobody", end="")
"""
NO_DOCKER = cast(aiodocker.Docker, None)


@pytest.fixture
async def docker() -> AsyncIterator[aiodocker.Docker]:
    if not DOCKER_SOCKET:
        pytest.skip("REFOLD_TEST_DOCKER names no daemon's socket")
    async with aiodocker.Docker(f"unix://{DOCKER_SOCKET}") as client:
        yield client


@pytest.fixture
async def world(docker: aiodocker.Docker, host_folder: Path, stock: Path) -> AsyncIterator[DockerWorld]:  # noqa: ARG001
    made = DockerWorld(host_folder, stock)
    yield made
    await made.clear()


@pytest.fixture
async def runtime(world: DockerWorld) -> AsyncIterator[DockerRuntime]:
    opened = world.open()
    yield opened
    await opened.close()


async def ask(docker: aiodocker.Docker, asking: Task, name: str) -> str:
    """Who answers in a kernel under this name or address."""
    container = docker.containers.container(f"refold-{asking.kernel_id}-{asking.incarnation}")
    running = await container.exec(["python3", "-c", ASK, name])
    said = bytearray()
    async with running.start() as stream:
        while (message := await stream.read_out()) is not None:
            said += message.data
    return said.decode()


async def networks(docker: aiodocker.Docker, task: Task) -> set[str]:
    """Those that are named after the task's session."""
    return {each["Name"] for each in await docker.networks.list() if task.session_id in each["Name"]}


async def serving(runtime: DockerRuntime, *tasks: Task) -> None:
    await asyncio.gather(*(runtime.start(task) for task in tasks))
    for task in tasks:
        while b"serving" not in await runtime.output(task.kernel_id):
            await asyncio.sleep(0.02)


async def end(runtime: DockerRuntime, task: Task) -> None:
    await runtime.stop(task.kernel_id, task.incarnation, timedelta(0))
    await runtime.remove(task.kernel_id, task.incarnation)


@pytest.mark.docker
async def test_kernels_of_a_session_and_nobody_else_reach_each_other_by_host_name(
    world: DockerWorld, runtime: DockerRuntime, docker: aiodocker.Docker
) -> None:
    main, sub = cluster(world.task(SERVE), "main1", "sub1")
    alone = world.task(SERVE)
    await serving(runtime, main, sub, alone)
    at = {task.kernel_id: await runtime.address(task.kernel_id) or "" for task in (main, alone)}
    asked = [(main, "sub1"), (sub, "main1"), (main, "main1"), (alone, at[main.kernel_id]), (main, at[alone.kernel_id])]
    answers = await asyncio.gather(*(ask(docker, *each) for each in asked))
    assert answers == ["sub1", "main1", "main1", "nobody", "nobody"]

    reader, writer = await asyncio.open_connection(at[main.kernel_id], 8000)  # from the host
    assert await reader.read() == b"main1"
    writer.close()


@pytest.mark.docker
async def test_a_sessions_network_goes_with_its_last_kernel(
    world: DockerWorld, runtime: DockerRuntime, docker: aiodocker.Docker
) -> None:
    main, sub = cluster(world.task("sleep 600"), "main1", "sub1")
    with pytest.raises(StartFailed):
        await runtime.start(world.broken(main))
    assert await networks(docker, main) == set(), "nor is it left by a start that fails"
    await asyncio.gather(runtime.start(main), runtime.start(sub))
    assert await networks(docker, main) == {f"{world.deployment}-{main.session_id}"}
    await end(runtime, sub)
    assert len(await networks(docker, main)) == 1
    await end(runtime, main)
    assert await networks(docker, main) == set()


@pytest.mark.docker
async def test_a_network_that_a_dead_agent_left_is_cleared_away_but_none_that_is_in_use(
    world: DockerWorld, runtime: DockerRuntime, docker: aiodocker.Docker
) -> None:
    left, used = cluster(world.task("exit 0"), "main1", "sub1")[0], cluster(world.task("sleep 600"), "main1", "sub1")[0]
    await runtime.start(used)
    await runtime.start(left)
    await runtime.wait(left.kernel_id, 1)
    assert await networks(docker, left)
    later = world.open()
    await later.tidy(utc_now() - timedelta(hours=1), {left.kernel_id, used.kernel_id})
    await later.close()
    assert await networks(docker, left) == set()
    assert len(await networks(docker, used)) == 1


@pytest.mark.docker
async def test_a_host_says_which_runtimes_and_clusters_it_can_have(world: DockerWorld) -> None:
    runtime = world.open()
    assert set(await runtime.capabilities()) >= {"runtime:runc", "cluster:single-node"}
    assert "cluster:multi-node" not in await runtime.capabilities()
    main, _ = cluster(world.task(), "main1", "sub1", hosts=["192.0.2.1", "192.0.2.2"])
    with pytest.raises(StartFailed, match="several hosts"):
        await runtime.start(main)
    await runtime.close()
    without_swarm, with_host = world.open("overlay"), world.open("host")
    assert "cluster:multi-node" not in await without_swarm.capabilities()
    assert "cluster:multi-node" in await with_host.capabilities()
    await without_swarm.close()
    await with_host.close()


@pytest.mark.docker
async def test_on_the_hosts_network_kernels_find_the_hosts_of_the_others(
    world: DockerWorld, docker: aiodocker.Docker
) -> None:
    runtime = world.open("host")
    main, _ = cluster(world.task("sleep 600"), "main1", "sub1", hosts=["192.0.2.1", "192.0.2.2"])
    container = docker.containers.container((await runtime.start(main)).runtime_id)
    host = (await container.show())["HostConfig"]
    assert (host["NetworkMode"], host["ExtraHosts"]) == ("host", ["main1:192.0.2.1", "sub1:192.0.2.2"])
    assert await runtime.address(main.kernel_id) == "127.0.0.1"
    await end(runtime, main)
    await runtime.close()


async def test_a_host_that_the_others_cannot_reach_has_no_part_in_the_hosts_network(tmp_path: Path) -> None:
    main, _ = cluster(ProcessWorld(tmp_path).task(), "main1", "sub1", hosts=["192.0.2.1", "127.0.0.1"])
    with pytest.raises(StartFailed, match="REFOLD_AGENT_HOST"):
        await HostNetwork(NO_DOCKER).attach(main)


def test_a_cluster_network_that_is_not_installed_is_refused_at_the_start() -> None:
    with pytest.raises(Misconfigured, match="REFOLD_AGENT_CLUSTER_NETWORK: no cluster network calico"):
        Networks(NO_DOCKER, "refold", "calico")


class Daemon:
    """Of Docker's networks, as far as making one needs it. `refusals`: the status of the first requests to make it."""

    def __init__(self, *refusals: int) -> None:
        self._refusals = list(refusals)
        self.networks = self
        self.there = list[str]()

    async def get(self, name: str) -> None:
        if name not in self.there:
            raise aiodocker.DockerError(404, f"network {name} not found")

    async def create(self, config: Mapping[str, Any]) -> None:
        if self._refusals:
            raise aiodocker.DockerError(self._refusals.pop(0), "Chain 'DOCKER' does not exist")
        self.there.append(config["Name"])


async def test_a_network_is_made_once_the_firewall_of_its_host_is_back() -> None:
    daemon = Daemon(500, 500)
    await made.make(cast(aiodocker.Docker, daemon), {"Name": "n1"})
    assert daemon.there == ["n1"]


@pytest.mark.parametrize("status", [400, 500])
async def test_a_network_that_cannot_be_made_fails_the_start_and_says_why(
    status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(made, "_SEEN_SECONDS_MAX" if status == 400 else "_PASSING_SECONDS_MAX", 0.1)
    with pytest.raises(StartFailed, match="no network n1: Chain 'DOCKER' does not exist"):
        async with asyncio.timeout(0.9):
            await made.make(cast(aiodocker.Docker, Daemon(*[status] * 9)), {"Name": "n1"})


class Fabric:
    """A plugin that notes what it is told."""

    def __init__(self, docker: aiodocker.Docker) -> None:  # noqa: ARG002
        self.dropped = list[str]()

    async def impossible(self) -> str | None:
        return None

    async def attach(self, task: Task) -> Attachment:
        return Attachment(f"fabric-{task.session_id}", hosts={"main1": "192.0.2.1"})

    async def drop(self, name: str) -> None:
        self.dropped.append(name)

    async def leftovers(self) -> Collection[str]:
        return ()

    async def address(self, container: Mapping[str, Any]) -> str | None:
        return str(container["Id"])


async def test_a_network_is_not_deleted_while_a_kernel_is_being_connected_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fabric = Fabric(NO_DOCKER)
    installed = EntryPoint("fabric", "", ENTRY_POINTS)
    monkeypatch.setattr(EntryPoint, "load", lambda _: lambda _docker: fabric)
    monkeypatch.setattr(choice, "entry_points", lambda **asked: [installed] if asked["name"] == "fabric" else [])
    networks = Networks(NO_DOCKER, "refold", "fabric")
    main, sub = cluster(ProcessWorld(tmp_path).task(), "main1", "sub1", hosts=["192.0.2.1", "192.0.2.2"])
    name = f"fabric-{main.session_id}"
    container = {"Id": "c1", "HostConfig": {"NetworkMode": name}}
    assert await networks.capabilities() == ("cluster:single-node", "cluster:multi-node")
    assert await networks.address(container) == "c1"
    async with networks.attached(main) as attachment:
        assert (attachment.network, attachment.hosts) == (name, {"main1": "192.0.2.1"})
        with pytest.raises(StartFailed):
            async with networks.attached(sub):
                raise StartFailed
        await networks.left(container)
        assert fabric.dropped == []
    await networks.left(container)
    assert fabric.dropped == [name]
