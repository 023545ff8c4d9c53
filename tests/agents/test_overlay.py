"""A session's network over two hosts that are managers of one swarm."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agents.docker.container import container_config
from agents.docker.networks.choice import Networks
from agents.runtime import Task
from tests.agents.engines import Engine, bare, lacking, swarm
from tests.agents.worlds import DOCKER_SOCKET, ProcessWorld, cluster

pytestmark = pytest.mark.docker


@pytest.mark.skipif(not DOCKER_SOCKET, reason="REFOLD_TEST_DOCKER names no daemon's socket")
@pytest.mark.skipif(lacking() is not None, reason=str(lacking()))
async def test_kernels_on_two_hosts_reach_each_other_until_the_last_is_gone(host_folder: Path) -> None:
    async with swarm(host_folder) as engines:
        networks = [Networks(engine.docker, f"refold-agent{at}", "overlay") for at, engine in enumerate(engines)]
        for each in networks:
            assert "cluster:multi-node" in await each.capabilities()
        task = ProcessWorld(host_folder).task("sleep 600")
        tasks = cluster(task, "main1", "sub1", hosts=[engine.address for engine in engines])
        placed = list(zip(tasks, engines, networks, strict=True))
        main, sub = await asyncio.gather(*(started(*each) for each in placed))

        refused = "Connection refused"  # by the other kernel itself: it is found and reached
        assert refused in await knock(engines[0], main, "sub1")
        assert refused in await knock(engines[1], sub, "main1")
        assert refused in engines[0].inside("timeout", "3", *knocking(str(await networks[0].address(main))))

        await engines[1].docker.containers.container(sub["Id"]).delete(force=True)
        await networks[1].left(sub)
        assert await there(engines[1], tasks[1]), "the other is still on it"
        await engines[0].docker.containers.container(main["Id"]).delete(force=True)
        await networks[0].left(main)
        async with asyncio.timeout(5):
            while await there(engines[0], tasks[0]):  # it is listed for some time after it was deleted
                await asyncio.sleep(0.05)


async def started(task: Task, engine: Engine, networks: Networks) -> dict[str, Any]:
    async with networks.attached(task) as attachment:
        config = bare(container_config(task, "refold", 4096, attachment=attachment))
        container = await engine.docker.containers.create(config)
        await container.start()
    return await container.show()


def knocking(host: str) -> list[str]:
    return ["/usr/bin/bash", "-c", f"echo < /dev/tcp/{host}/9"]


async def knock(engine: Engine, container: dict[str, Any], host: str) -> str:
    """What a program in the container is told when it connects to where nobody listens."""
    running = await engine.docker.containers.container(container["Id"]).exec(knocking(host))
    said = bytearray()
    async with asyncio.timeout(10), running.start() as stream:
        while (message := await stream.read_out()) is not None:
            said += message.data
    return said.decode()


async def there(engine: Engine, task: Task) -> bool:
    return any(task.session_id in each["Name"] for each in await engine.docker.networks.list())
